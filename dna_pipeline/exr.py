"""OpenEXR pictures: which layer of the file is the picture, and how its light becomes sRGB.

    headers of all parts → the beauty layer → every part decoded → the light within the display
        window → alpha divided out → clipped → sRGB, 8 bits

The values are taken for scene-linear light with Rec. 709 primaries (a `chromaticities` attribute
has no say) and shown as the view transform "Standard" does: the sRGB curve of IEC 61966-2-1, what
is brighter than white clipped to white, no exposure and no filmic shoulder.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING, Any

from PIL import Image

from dna_pipeline.errors import ImageTooLarge, ImageUnreadable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Values = NDArray[np.floating[Any]]

MAGIC = b"\x76\x2f\x31\x01"

MAX_DECODED_BYTES = 4 << 30
"""All layers of a file are decoded, since only so is it known to be whole. Enough for 32 passes of
RGBA in 32 bits at 3840 x 2160 px. `probe.MEMORY_BYTES` lets the decoder have that and what it needs
besides."""

_BEAUTY = (
    "",
    "combined",
    "composite",
    "beauty",
    "rgba",
    "rgb",
    "c",
    "ci",
    "color",
    "colour",
    "main",
)
"""Names of the layer that is the picture, the surest first: none at all (most renderers), Blender,
Arnold and Redshift, Nuke, Karma, RenderMan."""

_VIEWS = ("left", "right")
_DATA = re.compile(r"crypto|normal|position|vector|motion|velocity|depth|^(n|p|z|uv|id)$")
"""Layers that hold numbers in R, G and B, and are no picture even where nothing else is there."""

_OUT_OF_MEMORY = re.compile("MemoryError|bad_alloc|Unable to allocate")
_COMPONENTS = {"red": "r", "green": "g", "blue": "b", "alpha": "a"}
_HINT = "Write the beauty or combined layer, or R, G, B without a layer name."
_FIRST = len(_BEAUTY)
_UNKNOWN = _FIRST + 1
_STRIP_PIXELS = 1 << 20
"""So many pixels are brought to sRGB at once: each takes about 100 bytes meanwhile."""
_MOST_NAMED = 12


@dataclass(frozen=True, slots=True)
class _Window:
    """Pixels of a plane: the first column and row, and the ones behind the last."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top


@dataclass(frozen=True, slots=True)
class Layer:
    """One picture of a file.

    Attributes:
        part: its part's number.
        parts: how many parts the file has.
        name: as people know it; "" for the channels without a layer name.
        channels: full channel names by what they hold: r, g, b, a, y, z, …
        siblings: how many layers the file has.
        window: where its pixels lie.
        display: the picture's frame; what lies outside of `window` is black or transparent.
        is_first: no layer name, and in the file's first part.
        has_full_samples: each of its channels has a sample for each pixel.
    """

    part: int
    parts: int
    name: str
    channels: dict[str, str]
    siblings: int
    window: _Window
    display: _Window
    is_first: bool
    has_full_samples: bool

    @property
    def last_word(self) -> str:
        """The last part of its name, in small letters; Blender puts the view layer before it and
        the view behind it."""
        words = [word for word in self.name.lower().split(".") if word not in _VIEWS]
        return words[-1] if words else ""

    @property
    def colour(self) -> list[str]:
        """The names of its red, green and blue channels; its luminance thrice; or nothing."""
        if self.channels.keys() >= {"r", "g", "b"}:
            return [self.channels[key] for key in "rgb"]
        # Where there is an X too, Y is a coordinate.
        if "y" in self.channels and "x" not in self.channels:
            return [self.channels["y"]] * 3
        return []

    @property
    def size(self) -> tuple[int, int]:
        return self.display.width, self.display.height

    @property
    def remark(self) -> str:
        """A sentence for the manifest."""
        layer = f'layer "{_printable(self.name)}"' if self.name else "the layer without a name"
        return (
            f"The input is an EXR: {layer} (of {self.siblings}) was taken for scene-linear "
            "light and clipped to sRGB."
        )


def find_layer(file: IO[bytes]) -> Layer:
    """The layer that is the picture, by the headers alone.

    Raises:
        ImageUnreadable: there is none, it is unclear which, or the header is damaged.
        ImageTooLarge: the layers together would decode to more than `MAX_DECODED_BYTES`.
        OSError: the disk is at fault.
    """
    parts = _read(file)
    _check_headers([part.header for part in parts])
    layers = [layer for number, part in enumerate(parts) for layer in _layers(number, part, parts)]
    pictures = [layer for layer in layers if layer.colour and not _DATA.search(layer.last_word)]
    best = min(pictures, key=_rank, default=None)
    if best is None or (len(pictures) > 1 and _rank(best)[0] == _UNKNOWN):
        reason = "several layers could be the picture" if pictures else "no layer is a picture"
        raise ImageUnreadable(f"{reason}; it has: {_listed(layers)}", hint=_HINT)
    if not best.has_full_samples:
        raise ImageUnreadable("its colour is sampled more coarsely than its pixels", hint=_HINT)
    return replace(best, siblings=len(layers))


def decode(file: IO[bytes], layer: Layer) -> Image.Image:
    """The layer as RGB, or as RGBA with straight alpha where it has alpha.

    NaN and light below zero become black, endless light white; light where alpha is 0 (a glow that
    covers nothing) is lost, since straight alpha cannot hold it.

    Raises:
        ImageUnreadable: a part of the file, this layer's or another, is damaged or breaks off.
        MemoryError: this process may not have as much memory as its layers take.
        OSError: the disk is at fault.
    """
    import numpy as np

    planes = _read(file, layer.parts)[layer.part].channels
    light = [planes[name].pixels for name in layer.colour]
    alpha = planes[layer.channels["a"]].pixels if "a" in layer.channels else None
    if any(plane.dtype.kind != "f" for plane in light):
        raise ImageUnreadable("its picture holds whole numbers, not light", hint=_HINT)
    own, frame = layer.window, layer.display
    depth = 3 if alpha is None else 4
    result = np.zeros((frame.height, frame.width, depth), np.uint8)
    left, right = max(own.left, frame.left), min(own.right, frame.right)
    top, bottom = max(own.top, frame.top), min(own.bottom, frame.bottom)
    step = max(1, _STRIP_PIXELS // max(1, right - left))
    for row in range(top, bottom, step) if left < right else ():
        rows = slice(row, min(row + step, bottom))
        here = _within(rows, left, right, own)
        strip = np.stack([plane[here] for plane in light], -1).astype(np.float32)
        cover = None if alpha is None else alpha[here].astype(np.float32)
        result[_within(rows, left, right, frame)] = _to_bytes(strip, cover)
    return Image.fromarray(result)


def _within(rows: slice, left: int, right: int, window: _Window) -> tuple[slice, slice]:
    """The place of these rows and columns in the array of a window."""
    return (
        slice(rows.start - window.top, rows.stop - window.top),
        slice(left - window.left, right - window.left),
    )


def _to_bytes(light: Values, alpha: Values | None) -> NDArray[np.uint8]:
    """sRGB (rows, columns, 3), or 4 with alpha, of premultiplied light (rows, columns, 3)."""
    import numpy as np

    light = np.nan_to_num(light, nan=0.0, posinf=np.inf, neginf=0.0)
    if alpha is None:
        return _rounded(_srgb(light.clip(0, 1)))
    alpha = np.nan_to_num(alpha, nan=0.0, posinf=np.inf, neginf=0.0).clip(0, 1)
    cover = alpha[..., None]
    # What is brighter than its cover would be brighter than white once the cover is divided out.
    straight = light.clip(0, cover) / np.where(cover > 0, cover, 1)
    return np.concatenate([_rounded(_srgb(straight)), _rounded(cover)], -1)


def _srgb(linear: Values) -> Values:
    """The curve of IEC 61966-2-1; 0 to 1 in and out."""
    import numpy as np

    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def _rounded(values: Values) -> NDArray[np.uint8]:
    import numpy as np

    return (values * 255 + 0.5).astype(np.uint8)


class _Source:
    """Hands the file to the library, which would lose what the disk says is wrong with it."""

    def __init__(self, file: IO[bytes]) -> None:
        self.fault: OSError | None = None
        self.tell = file.tell
        self.seek = file.seek
        self._file = file

    def read(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except OSError as error:
            self.fault = error
            raise


def _read(file: IO[bytes], whole: int = 0) -> list[Any]:
    """The headers of the file's parts; with `whole`, the number of its parts, their pixels too."""
    import OpenEXR

    library: Any = OpenEXR
    source, said = _Source(file), io.StringIO()
    parts: list[Any] = []
    file.seek(0)
    try:
        with contextlib.redirect_stdout(said):
            parts = library.File(source, separate_channels=True, header_only=not whole).parts
    except RuntimeError as error:
        if _OUT_OF_MEMORY.search(str(error)):
            raise MemoryError from error
        if source.fault is None:
            raise ImageUnreadable("an EXR file whose header is truncated or damaged") from error
    if source.fault is not None:
        raise source.fault
    if len(parts) < whole:
        # The library prints what is wrong with a part, and leaves the part out.
        text = said.getvalue().strip()
        if _OUT_OF_MEMORY.search(text):
            raise MemoryError
        reason = _printable(text.rpartition(" - ")[2])
        raise ImageUnreadable(f"image file is truncated or damaged: {reason}")
    return parts


def _check_headers(headers: list[dict[str, Any]]) -> None:
    """Refuse what would take too much memory to decode. Sample types are unknown yet: 4 bytes."""
    import OpenEXR

    library: Any = OpenEXR
    if any(header.get("type") in (library.deepscanline, library.deeptile) for header in headers):
        raise ImageUnreadable("it holds deep samples", hint="Flatten it to one sample a pixel.")
    decoded = sum(4 * _area(header) * len(header["channels"]) for header in headers)
    if decoded > MAX_DECODED_BYTES:
        raise ImageTooLarge(
            f"its layers decode to {decoded} bytes, at 4 bytes a sample; "
            f"at most {MAX_DECODED_BYTES} bytes ({MAX_DECODED_BYTES / (1 << 30):.3g} GiB) are read",
            hint="Write fewer layers, or the beauty layer into a file of its own.",
        )


def _area(header: dict[str, Any]) -> int:
    """Pixels that are in memory when a part is decoded: its own, and those of a tile, which a
    hostile header may make larger than the picture."""
    window, tiles = _window(header["dataWindow"]), header.get("tiles")
    own = window.width * window.height
    return own + (tiles.xSize * tiles.ySize if tiles is not None else 0)


def _layers(number: int, part: Any, parts: list[Any]) -> Iterator[Layer]:
    """The layers of a part: its channels by what stands before the last dot of their names."""
    header = part.header
    groups: dict[str, dict[str, Any]] = {}
    for channel in header["channels"]:
        name: str = channel.name
        prefix, _, component = name.rpartition(".")
        component = component.lower()
        groups.setdefault(prefix, {})[_COMPONENTS.get(component, component)] = channel
    # In a file of several parts, a part is a layer; in one of one part its name says nothing.
    title = str(header.get("name", "")) if len(parts) > 1 else ""
    for prefix, channels in groups.items():
        yield Layer(
            part=number,
            parts=len(parts),
            name=prefix or title,
            channels={key: channel.name for key, channel in channels.items()},
            siblings=0,
            window=_window(header["dataWindow"]),
            display=_window(header["displayWindow"]),
            is_first=number == 0 and not prefix,
            has_full_samples=all(c.xSampling == c.ySampling == 1 for c in channels.values()),
        )


def _rank(layer: Layer) -> tuple[int, bool]:
    """Lower is surer. Blender's compositor has its own `Combined`, which beats a view layer's."""
    if layer.last_word in _BEAUTY:
        return _BEAUTY.index(layer.last_word), not layer.name.lower().startswith("composite")
    return (_FIRST if layer.is_first else _UNKNOWN), True


def _window(box: tuple[Any, Any]) -> _Window:
    """Of a header's box, whose last column and row belong to it."""
    (left, top), (right, bottom) = ([int(value) for value in corner] for corner in box)
    return _Window(left, top, right + 1, bottom + 1)


def _listed(layers: list[Layer]) -> str:
    named = [
        f"{_printable(layer.name) or 'no name'} ({_printable(', '.join(layer.channels.values()))})"
        for layer in layers[:_MOST_NAMED]
    ]
    return "; ".join(named) + (" …" if len(layers) > _MOST_NAMED else "")


def _printable(name: str) -> str:
    """Safe in a message: the name is somebody else's text."""
    return "".join(char if char.isprintable() else "?" for char in name[:100])
