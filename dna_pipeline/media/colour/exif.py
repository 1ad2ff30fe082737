"""The colour space that a camera names in EXIF, where it embeds no profile.

Cameras set to Adobe RGB often write no ICC profile, but mark the file by the rules of DCF 2.0: the
colour space is "uncalibrated" and the interoperability index is R03. Some write colour space 2.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from PIL import ExifTags

from dna_pipeline.media.colour.primaries import ADOBE_RGB

if TYPE_CHECKING:
    from PIL import Image

    from dna_pipeline.media.colour.colour_space import ColourSpace

_ADOBE_RGB, _UNCALIBRATED = 2, 0xFFFF
_INDEX = 1


def space(image: Image.Image) -> ColourSpace | None:
    """Adobe RGB if the metadata of a JPEG says so; else None."""
    if image.format not in ("JPEG", "MPO") or not _is_adobe_rgb(image):
        return None
    from dna_pipeline.media.colour import colour_space as spaces

    curve = spaces.power(563 / 256)
    return spaces.ColourSpace((curve, curve, curve), spaces.matrix_to_srgb(ADOBE_RGB))


def _is_adobe_rgb(image: Image.Image) -> bool:
    with suppress(Exception):  # what is wrong with the metadata is not wrong with the picture
        exif = image.getexif()
        space = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.ColorSpace)
        if space == _UNCALIBRATED:
            index = str(exif.get_ifd(ExifTags.IFD.Interop).get(_INDEX, ""))
            return index.startswith("R03")
        return space == _ADOBE_RGB
    return False
