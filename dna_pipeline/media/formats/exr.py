"""OpenEXR pictures: how a file is read, and how the light of its picture becomes sRGB.

    headers of all parts → the beauty layer (`exr_layers`) → every part decoded → the light within
        the display window → linear light → Rec. 709 primaries (`exr_colour`) → alpha divided out →
        clipped → sRGB, 8 bits

The values are taken for scene-linear light, unless the file names a curve, and shown as the view
transform "Standard" does: the sRGB curve of IEC 61966-2-1, what is brighter than white clipped to
white, no exposure and no filmic shoulder.
"""

from __future__ import annotations

import contextlib
import io
import re
from typing import IO, TYPE_CHECKING, Any

from PIL import Image

from dna_pipeline.base.errors import ImageTooLarge, ImageUnreadable
from dna_pipeline.media.formats.exr_colour import ColourSpace, colour_space
from dna_pipeline.media.formats.exr_layers import Layer, Window, find_picture, printable, window_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Values = NDArray[np.floating[Any]]


MAX_DECODED_BYTES = 4 << 30
"""All layers of a file are decoded, since only so is it known to be whole. Enough for 32 passes of
RGBA in 32 bits at 3840 x 2160 px. `probe.MEMORY_BYTES` lets the decoder have that and what it needs
besides."""

_OUT_OF_MEMORY = re.compile("MemoryError|bad_alloc|Unable to allocate")
_STRIP_PIXELS = 1 << 20
"""Pixels that are brought to sRGB at once: each takes about 100 bytes meanwhile."""
_WITHOUT_ALPHA = (
    "The EXR's alpha is nowhere above 0 although there is light, so it says nothing: the picture "
    "was taken for opaque."
)


def find_layer(file: IO[bytes]) -> Layer:
    """The layer that is the picture, by the headers alone.

    Raises:
        ImageUnreadable: there is none, it is unclear which, or the header is damaged.
        ImageTooLarge: the layers together would decode to more than `MAX_DECODED_BYTES`.
        OSError: the disk is at fault.
    """
    headers = [part.header for part in _read(file)]
    _check_headers(headers)
    return find_picture(headers)


def decode(file: IO[bytes], layer: Layer) -> tuple[Image.Image, list[str]]:
    """The layer as RGB, or as RGBA with straight alpha where it has alpha; and sentences for the
    manifest.

    NaN and light below zero become black, endless light white; light where alpha is 0 (a glow that
    covers nothing) is lost, since straight alpha cannot hold it. Alpha that is 0 everywhere says
    nothing where there is light, and the picture is opaque.

    Raises:
        ImageUnreadable: a part of the file, this layer's or another, is damaged or breaks off.
        MemoryError: this process may not have as much memory as its layers take.
        OSError: the disk is at fault.
    """
    import numpy as np

    part = _read(file, layer.parts)[layer.part]
    colour = [part.channels[name] for name in layer.colour]
    alpha = part.channels[layer.channels["a"]] if "a" in layer.channels else None
    if any(channel.pixels.dtype.kind != "f" for channel in colour):
        raise ImageUnreadable(
            f"{layer.label} holds whole numbers, not light",
            hint="Write the beauty or combined layer in half or float, as Red, Green and Blue.",
        )
    space = colour_space(part.header)
    # White and its shades are the same in every space.
    remarks = [layer.remark, *layer.notes, "" if layer.is_grey else space.remark]
    remarks.append(space.curve_remark)
    if alpha is not None and _is_zero(alpha.pixels):
        result = _to_srgb(layer, space, colour, None)
        if result.any():
            remarks.append(_WITHOUT_ALPHA)
        else:
            result = np.zeros((*result.shape[:2], 4), np.uint8)
    else:
        result = _to_srgb(layer, space, colour, alpha)
    return Image.fromarray(result), [remark for remark in remarks if remark]


def _is_zero(alpha: Values) -> bool:
    """True if no pixel's alpha is a number that would be shown as more than 0 of 255."""
    import numpy as np

    most = float(np.fmax.reduce(alpha, axis=None))
    return not most * 255 + 0.5 >= 1


def _to_srgb(layer: Layer, space: ColourSpace, colour: list[Any], alpha: Any) -> NDArray[np.uint8]:
    """sRGB (rows, columns, 3), or 4 with alpha, of the layer's frame.

    Args:
        colour: red, green and blue, or Y, RY and BY, as the library has them.
        alpha: None where it is opaque.
    """
    import numpy as np

    own, frame = layer.window, layer.display
    depth = 3 if alpha is None else 4
    result = np.zeros((frame.height, frame.width, depth), np.uint8)
    left, right = max(own.left, frame.left), min(own.right, frame.right)
    top, bottom = max(own.top, frame.top), min(own.bottom, frame.bottom)
    step = max(1, _STRIP_PIXELS // max(1, right - left))
    for row in range(top, bottom, step) if left < right else ():
        rows = slice(row, min(row + step, bottom))
        here = _within(rows, left, right, own)
        light = np.stack([_samples(channel, here) for channel in colour], -1).astype(np.float32)
        if layer.has_chroma:
            light = space.from_luminance_chroma(light)
        cover = None if alpha is None else _samples(alpha, here).astype(np.float32)
        light = space.to_linear(light, cover)
        if not layer.is_grey:
            light = space.to_rec709(light)
        result[_within(rows, left, right, frame)] = _to_bytes(light, cover)
    return result


def _samples(channel: Any, here: tuple[slice, slice]) -> Values:
    """Values of a channel at these rows and columns of the layer's window.

    A channel may have fewer samples than pixels, as chroma has: one at each second row and column,
    from the first on. Between them they are interpolated.
    """
    import numpy as np

    rows, columns = here
    values: Values = channel.pixels
    if channel.xSampling == channel.ySampling == 1:
        return values[rows, columns]
    for along, step in ((rows, channel.ySampling), (columns, channel.xSampling)):
        place = np.arange(along.start, along.stop, dtype=np.float32) / step
        before = place.astype(np.intp)
        after = np.minimum(before + 1, len(values) - 1)
        share = (place - before)[:, None]
        # Rows are interpolated, then, of the transposed plane, columns.
        values = (values[before] * (1 - share) + values[after] * share).T
    return values


def _within(rows: slice, left: int, right: int, window: Window) -> tuple[slice, slice]:
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
        reason = printable(text.rpartition(" - ")[2])
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
    window, tiles = window_of(header["dataWindow"]), header.get("tiles")
    own = window.width * window.height
    return own + (tiles.xSize * tiles.ySize if tiles is not None else 0)
