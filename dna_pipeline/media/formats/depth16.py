"""Pixels of 16 bits a channel, rounded to 8: Pillow's own conversion drops the low bytes of colour
and clips grey at 255. Where the picture is not in sRGB, it is converted first, and then rounded.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from PIL import Image

from dna_pipeline.base.errors import ImageUnreadable
from dna_pipeline.media.formats import tiff_samples

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.ImageFile import ImageFile

    from dna_pipeline.media.colour.colour_space import ColourSpace

    Samples = NDArray[np.uint8 | np.uint16]

_SWAPPED = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
"""The byte order by which Pillow, which keeps the high byte of each value, keeps the low one."""

_PLANES = 2
_PLANAR_CONFIGURATION = 284


def colours(image: ImageFile) -> str:
    """The mode of a picture with 16 bits a channel, alpha left out: L, RGB or CMYK; "" for others.

    Its header alone needs to be read.
    """
    raw = _raw_mode(image)
    if image.mode.startswith("I;16") or raw.startswith("LA"):
        return "L"
    return image.mode.removesuffix("A") if raw else ""


def load(image: ImageFile, again: Callable[[], ImageFile], space: ColourSpace | None) -> None:
    """Decode the picture; where it is colour of 16 bits, the nearest of 8 bits.

    Args:
        again: opens the same file once more, its header read.
        space: what to convert colour of 16 bits from; None leaves the colours as they are.

    Raises:
        ImageUnreadable: an uncompressed TIFF whose 16-bit channels lie in planes: Pillow takes
            them for 8 bits.
        What Pillow raises.
    """
    raw = _raw_mode(image)
    if not raw:
        image.load()
    elif raw == "LA;16B":
        _load_grey_with_alpha(image, space)
    else:
        straight = raw.replace("a", "A")
        low = again()
        _read_as(image, straight)
        _read_as(low, straight[:-1] + _SWAPPED[raw[-1]])
        image.load()
        low.load()
        _join(image, low, space, is_premultiplied=straight != raw)


def _load_grey_with_alpha(image: ImageFile, space: ColourSpace | None) -> None:
    """Read the two channels of 16 bits as four of 8."""
    import numpy as np

    _read_as(image, "RGBA")
    image.load()
    values = np.asarray(image).copy().view(">u2")
    grey = to_eight(values[..., 0].astype(np.uint16), space)
    if grey.ndim == 2:
        grey = np.stack([grey] * 3, -1)
    image.paste(Image.fromarray(np.dstack([grey, to_eight(values[..., 1].astype(np.uint16))])))


def _raw_mode(image: ImageFile) -> str:
    """How Pillow names the pixels of a 16-bit colour file, e.g. RGB;16B; "" for all others."""
    args = image.tile[0].args if image.tile else ""
    raw = str(args[0] if isinstance(args, tuple) else args)
    tags = getattr(image, "tag_v2", None)
    bits = tags.get(258, ()) if tags is not None else ()
    in_planes = tags is not None and tags.get(_PLANAR_CONFIGURATION) == _PLANES
    if in_planes and max(bits) > 8 and image.tile[0].codec_name != "libtiff":
        raise ImageUnreadable(
            "its 16-bit channels lie in separate planes",
            hint="Save the TIFF with interleaved channels, or as PNG.",
        )
    is_wide = raw[-4:] in (";16B", ";16L", ";16N")
    return raw if is_wide and not image.mode.startswith("I") else ""


def _read_as(image: ImageFile, raw: str) -> None:
    image.tile = [
        tile._replace(args=(raw, *tile.args[1:]) if isinstance(tile.args, tuple) else raw)
        for tile in image.tile
    ]


def _join(
    image: ImageFile, low: ImageFile, space: ColourSpace | None, *, is_premultiplied: bool
) -> None:
    """Round `image`, which holds the high bytes; a transparent colour becomes alpha."""
    import numpy as np

    high_bytes, low_bytes = np.asarray(image), np.asarray(low)
    if space is None and not is_premultiplied:
        pixels = _rounded(high_bytes, low_bytes)
    else:
        values = (high_bytes.astype(np.uint16) << 8 | low_bytes).astype(np.uint16, copy=False)
        colours, alpha = values[..., :3], values[..., 3:]
        if is_premultiplied:
            colours = tiff_samples.divided(colours, alpha[..., 0])
        pixels = np.concatenate([to_eight(colours, space), to_eight(alpha)], -1)
    key = image.info.pop("transparency", None)
    image.paste(Image.fromarray(pixels, image.mode))
    if isinstance(key, tuple):
        colour = np.array(cast("tuple[int, ...]", key), np.uint16)
        is_key = (high_bytes == colour >> 8) & (low_bytes == (colour & 0xFF))
        image.putalpha(Image.fromarray(np.where(is_key.all(-1), 0, 255).astype(np.uint8)))


def _rounded(high: NDArray[np.uint8], low: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """round((256 high + low) / 257), which is high + round((low - high) / 257)."""
    import numpy as np

    difference = low.astype(np.int16) - high
    return (high + (difference > 128).astype(np.uint8)) - (difference < -128).astype(np.uint8)


def to_eight(samples: Samples, space: ColourSpace | None = None) -> NDArray[np.uint8]:
    """The nearest samples of 8 bits, in sRGB if a space is given: grey has three channels then."""
    import numpy as np

    if space is not None:
        return space.pixels(samples)
    if samples.dtype == np.uint8:
        return samples.astype(np.uint8, copy=False)
    return ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)


def grey(image: Image.Image, space: ColourSpace | None = None) -> Image.Image:
    """L of a picture with 16-bit grey, or RGB if a space is given; with alpha where one of its
    values is transparent.
    """
    import numpy as np

    values = np.asarray(image).astype(np.uint16)
    result = Image.fromarray(to_eight(values, space))
    key = image.info.get("transparency")
    if isinstance(key, int):
        result.putalpha(Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))
    return result
