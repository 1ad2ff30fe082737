"""The samples of those TIFFs whose layout Pillow does not read, or reads wrongly.

These are grey of 16 bits with alpha or with 0 for white, CMYK with alpha, 16 bits in planes, and
surplus channels in other numbers than Pillow expects. libtiff decompresses them all the same: each
is laid before it as a grey picture of 8 bits whose rows are as many bytes long. What the bytes mean
is worked out here.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from PIL import Image, TiffImagePlugin

from dna_pipeline.base.errors import ImageUnreadable
from dna_pipeline.media.formats.tiff_tags import Page

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.uint8 | np.uint16]

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_STRIP_OFFSETS, _ORIENTATION, _CHANNELS, _ROWS_PER_STRIP, _STRIP_BYTES = 273, 274, 277, 278, 279
_PLANAR, _PREDICTOR = 284, 317
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES = 322, 323, 324, 325
_EXTRA_SAMPLES, _SAMPLE_FORMAT = 338, 339
_ICC_PROFILE = 34675

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _CMYK = 0, 1, 2, 5
_COLOURS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _CMYK: 4}
_UNSPECIFIED, _PREMULTIPLIED, _STRAIGHT = 0, 1, 2
_LOSSLESS = frozenset((1, 5, 8, 32946, 32773, 34925, 50000))
"""No compression, LZW, Deflate (two numbers), PackBits, LZMA, Zstandard."""
_MAX_CHANNELS = 16
_MAX_PIECES = 1 << 20
_AGAIN = "copy or export it again"
_MAX_PROFILE_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Layout:
    """How the samples of a page lie in the file.

    Attributes:
        extras: what each channel after the colours is, as in the tag ExtraSamples.
        has_named_extras: the file has that tag.
        pieces: offset and size in bytes of each strip or tile.
        piece_px: width and height of a strip or a tile.
    """

    width: int
    height: int
    bits: int
    photometric: int
    extras: tuple[int, ...]
    has_named_extras: bool
    compression: int
    predictor: int
    in_planes: bool
    is_tiled: bool
    piece_px: tuple[int, int]
    pieces: Sequence[tuple[int, int]]
    orientation: int
    profile: bytes | None
    order: str

    @property
    def size(self) -> tuple[int, int]:
        return self.width, self.height

    @property
    def colours(self) -> int:
        return _COLOURS[self.photometric]

    @property
    def channels(self) -> int:
        return self.colours + len(self.extras)

    @property
    def mode(self) -> str:
        """The Pillow mode of the colours."""
        return {1: "L", 3: "RGB", 4: "CMYK"}[self.colours]


@dataclass(frozen=True, slots=True)
class Picture:
    """Samples of 8 or 16 bits, upright: black is 0 in grey and RGB, and alpha is divided out.

    Attributes:
        colours: (height, width), or (height, width, 3 or 4).
        alpha: (height, width), or None.
    """

    colours: Samples
    alpha: Samples | None


def layout(file: IO[bytes]) -> Layout | None:
    """The layout of a TIFF's first page; None if Pillow reads it rightly, or nothing here does."""
    read_layout = _layout(Page(file))
    return read_layout if read_layout is not None and _is_beyond_pillow(read_layout) else None


def _layout(page: Page) -> Layout | None:
    """Read the tags; None if they name anything that is not read here."""
    photometric = page.first(_PHOTOMETRIC, -1)
    compression = page.first(_COMPRESSION, 1)
    channels, bits = page.first(_CHANNELS, 1), set(page.values(_BITS))
    if photometric not in _COLOURS or compression not in _LOSSLESS:
        return None
    if not _COLOURS[photometric] <= channels <= _MAX_CHANNELS or bits not in ({8}, {16}):
        return None
    if set(page.values(_SAMPLE_FORMAT) or (1,)) != {1}:
        return None
    is_tiled = _TILE_OFFSETS in page
    width, height = page.first(_WIDTH), page.first(_HEIGHT)
    piece = (width, min(height, page.first(_ROWS_PER_STRIP, height)))
    if is_tiled:
        piece = (page.first(_TILE_WIDTH), page.first(_TILE_HEIGHT))
    offsets = page.values(_TILE_OFFSETS if is_tiled else _STRIP_OFFSETS, _MAX_PIECES)
    sizes = page.values(_TILE_BYTES if is_tiled else _STRIP_BYTES, _MAX_PIECES)
    if min(width, height, *piece) < 1 or len(offsets) != len(sizes):
        return None
    extra_samples = page.values(_EXTRA_SAMPLES)
    return Layout(
        width,
        height,
        bits.pop(),
        photometric,
        _extras(extra_samples, photometric, channels - _COLOURS[photometric]),
        _EXTRA_SAMPLES in page,
        compression,
        page.first(_PREDICTOR, 1),
        channels > 1 and page.first(_PLANAR, 1) == 2,
        is_tiled,
        piece,
        list(zip(offsets, sizes, strict=True)),
        page.first(_ORIENTATION, 1),
        page.data(_ICC_PROFILE, _MAX_PROFILE_BYTES),
        page.header.sign,
    )


def _extras(extra_samples: tuple[int, ...], photometric: int, count: int) -> tuple[int, ...]:
    """The kinds of the surplus channels.

    Where the file does not say, the first is alpha, as other programs take it; but not for CMYK,
    where it is as likely a spot colour.
    """
    if not extra_samples and count and photometric != _CMYK:
        extra_samples = (_STRAIGHT,)
    return (*extra_samples, *[_UNSPECIFIED] * count)[:count]


def _is_beyond_pillow(layout: Layout) -> bool:
    extras, is_deep = layout.extras, layout.bits == 16
    if layout.in_planes:
        return is_deep or bool(extras)
    if layout.photometric == _WHITE_IS_ZERO:
        return is_deep or bool(extras)
    if not extras:
        return False
    if layout.photometric == _RGB:
        return len(extras) > 1 and (is_deep or not layout.has_named_extras or _are_unusual(extras))
    is_usual = layout.has_named_extras and not is_deep
    if layout.photometric == _CMYK:
        return not is_usual or any(extras) or len(extras) > 2
    return not is_usual or len(extras) > 1


def _are_unusual(extras: tuple[int, ...]) -> bool:
    return len(extras) > 3 or any(extras[1:])


def read(file: IO[bytes], layout: Layout) -> Picture:
    """Decode the samples. Raises ImageUnreadable where the file breaks off or is wrong."""
    import numpy as np

    across = -(-layout.width // layout.piece_px[0])
    down = -(-layout.height // layout.piece_px[1])
    planes = layout.channels if layout.in_planes else 1
    count = across * down
    if len(layout.pieces) != count * planes:
        raise ImageUnreadable(
            f"the TIFF is damaged: it lists fewer or more strips than its picture has; {_AGAIN}"
        )
    channels = layout.channels // planes
    parts = [
        _plane(file, layout, layout.pieces[at * count : (at + 1) * count], channels)
        for at in range(planes)
    ]
    samples = parts[0] if planes == 1 else np.concatenate(parts, -1)
    return _picture(samples, layout)


def _plane(
    file: IO[bytes], layout: Layout, pieces: Sequence[tuple[int, int]], channels: int
) -> Samples:
    """The samples of these strips or tiles: (height, width, channels)."""
    import numpy as np

    stretch = channels * layout.bits // 8
    grey = _decoded(_as_grey(file, layout, pieces, stretch))
    bytes_ = np.array(grey).reshape(layout.height, layout.width * stretch)
    samples = bytes_.view(f"{layout.order}u{layout.bits // 8}")
    samples = samples.reshape(layout.height, layout.width, channels)
    if layout.bits == 16:
        samples = samples.astype(np.uint16, copy=False)
    if layout.predictor == 2:
        for left in range(0, layout.width, layout.piece_px[0]):
            tile = samples[:, left : left + layout.piece_px[0]]
            np.cumsum(tile, axis=1, dtype=samples.dtype, out=tile)
    return samples


def _decoded(tiff: io.BytesIO) -> Image.Image:
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None  # the size was checked, and the rows are stretched here
    try:
        image = TiffImagePlugin.TiffImageFile(tiff)
        image.load()
        return image
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _as_grey(
    file: IO[bytes], layout: Layout, pieces: Sequence[tuple[int, int]], stretch: int
) -> io.BytesIO:
    """A TIFF of these strips or tiles in which each pixel is `stretch` grey ones of 8 bits."""
    if layout.predictor not in (1, 2):
        raise ImageUnreadable(
            f"the TIFF's predictor {layout.predictor} is not one for whole numbers"
        )
    file_bytes = file.seek(0, io.SEEK_END)
    if sum(size for _, size in pieces) > file_bytes:
        raise ImageUnreadable(
            f"image file is truncated: its strips are larger than the file; {_AGAIN}"
        )
    tiff, offsets = io.BytesIO(b"II*\0" + bytes(4)), list[int]()
    tiff.seek(8)
    for offset, size in pieces:
        file.seek(offset)
        data = file.read(size)
        if len(data) < size:
            raise ImageUnreadable(f"image file is truncated: a strip lies behind its end; {_AGAIN}")
        offsets.append(tiff.tell())
        tiff.write(data)
    width, height = layout.piece_px
    tags = {
        _WIDTH: [layout.width * stretch],
        _HEIGHT: [layout.height],
        _BITS: [8],
        _COMPRESSION: [layout.compression],
        _PHOTOMETRIC: [_BLACK_IS_ZERO],
        _CHANNELS: [1],
    }
    sizes = [size for _, size in pieces]
    if layout.is_tiled:
        tags |= {_TILE_WIDTH: [width * stretch], _TILE_HEIGHT: [height]}
        tags |= {_TILE_OFFSETS: offsets, _TILE_BYTES: sizes}
    else:
        tags |= {_STRIP_OFFSETS: offsets, _ROWS_PER_STRIP: [height], _STRIP_BYTES: sizes}
    _write_page(tiff, tags)
    return tiff


def _write_page(tiff: io.BytesIO, tags: dict[int, list[int]]) -> None:
    """Append a page of these tags, as numbers of 32 bits, and make it the first."""
    tiff.write(bytes(tiff.tell() % 2))
    places: dict[int, int] = {}
    for tag, values in tags.items():
        places[tag] = values[0] if len(values) == 1 else tiff.tell()
        if len(values) > 1:
            tiff.write(struct.pack(f"<{len(values)}I", *values))
    page = tiff.tell()
    tiff.write(struct.pack("<H", len(tags)))
    for tag, values in sorted(tags.items()):
        tiff.write(struct.pack("<HHII", tag, 4, len(values), places[tag]))
    tiff.write(bytes(4))
    tiff.seek(4)
    tiff.write(struct.pack("<I", page))
    tiff.seek(0)


def _picture(samples: Samples, layout: Layout) -> Picture:
    colours, alpha = samples[..., : layout.colours], None
    kinds = [kind for kind in layout.extras if kind != _UNSPECIFIED]
    if kinds:
        alpha = samples[..., layout.colours + layout.extras.index(kinds[0])]
        if kinds[0] == _PREMULTIPLIED:
            colours = divided(colours, alpha)
    if layout.photometric == _WHITE_IS_ZERO:
        colours = ~colours
    if layout.colours == 1:
        colours = colours[..., 0]
    turn = _UPRIGHT.get(layout.orientation, lambda values: values)
    return Picture(turn(colours), None if alpha is None else turn(alpha))


def divided(colours: Samples, alpha: Samples) -> Samples:
    """Colours (height, width, n) from premultiplied ones; 0 where alpha is 0."""
    import numpy as np

    full = int(np.iinfo(colours.dtype).max)
    result = np.empty_like(colours)
    for row in range(len(colours)):
        share = np.maximum(alpha[row], 1)[:, np.newaxis].astype(np.float64)
        result[row] = np.minimum(np.rint(colours[row].astype(np.float64) * full / share), full)
        result[row][alpha[row] == 0] = 0
    return result


def _turned(quarters: int, is_mirrored: bool) -> Callable[[Samples], Samples]:
    def turn(values: Samples) -> Samples:
        import numpy as np

        mirrored = values[:, ::-1] if is_mirrored else values
        return np.rot90(mirrored, quarters)

    return turn


_UPRIGHT = {
    2: _turned(0, True),
    3: _turned(2, False),
    4: _turned(2, True),
    5: _turned(1, True),
    6: _turned(3, False),
    7: _turned(3, True),
    8: _turned(1, False),
}
"""Functions that turn a picture upright, by its orientation; a quarter turns it to the left."""
