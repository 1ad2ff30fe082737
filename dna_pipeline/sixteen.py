"""Pixels of 16 bits a channel, rounded to 8: Pillow's own conversion drops the low bytes of colour
and clips grey at 255.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from PIL import Image

from dna_pipeline.errors import ImageUnreadable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.ImageFile import ImageFile

_SWAPPED = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
"""The byte order by which Pillow, which keeps the high byte of each value, keeps the low one."""

_PLANES = 2
_PLANAR_CONFIGURATION = 284


def load(image: ImageFile, again: Callable[[], ImageFile]) -> None:
    """Decode the picture; where it is colour of 16 bits, the nearest of 8 bits.

    Premultiplied TIFFs are left to Pillow, which divides the alpha out before it drops bits.

    Args:
        again: opens the same file once more, its header read.

    Raises:
        ImageUnreadable: an uncompressed TIFF whose 16-bit channels lie in planes: Pillow takes
            them for 8 bits.
        What Pillow raises.
    """
    raw = _raw_mode(image)
    if not raw or raw.startswith("RGBa"):
        image.load()
    elif raw == "LA;16B":
        _read_as(image, "RGBA")
        image.load()
        import numpy as np

        values = np.asarray(image)
        grey, alpha = (_rounded(values[..., at], values[..., at + 1]) for at in (0, 2))
        image.paste(Image.fromarray(np.stack([grey, grey, grey, alpha], -1)))
    else:
        low = again()
        _read_as(low, raw[:-1] + _SWAPPED[raw[-1]])
        image.load()
        low.load()
        _join(image, low)


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


def _join(image: ImageFile, low: ImageFile) -> None:
    """Round `image`, which holds the high bytes; a transparent colour becomes alpha."""
    import numpy as np

    high_bytes, low_bytes = np.asarray(image), np.asarray(low)
    rounded = Image.fromarray(_rounded(high_bytes, low_bytes), image.mode)
    key = image.info.pop("transparency", None)
    image.paste(rounded)
    if isinstance(key, tuple):
        colour = np.array(cast("tuple[int, ...]", key), np.uint16)
        is_key = (high_bytes == colour >> 8) & (low_bytes == (colour & 0xFF))
        image.putalpha(Image.fromarray(np.where(is_key.all(-1), 0, 255).astype(np.uint8)))


def _rounded(high: NDArray[np.uint8], low: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """round((256 high + low) / 257), which is high + round((low - high) / 257)."""
    import numpy as np

    difference = low.astype(np.int16) - high
    return (high + (difference > 128).astype(np.uint8)) - (difference < -128).astype(np.uint8)


def grey(image: Image.Image) -> Image.Image:
    """L of a picture with 16-bit grey; LA where one of its values is transparent."""
    import numpy as np

    values = np.asarray(image).astype(np.uint32)
    result = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    key = image.info.get("transparency")
    if isinstance(key, int):
        opaque = Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8))
        return Image.merge("LA", (result, opaque))
    return result
