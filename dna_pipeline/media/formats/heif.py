"""HEIC and HEIF pictures, as phones take them, through libheif (pi-heif).

libheif turns and mirrors the picture as the file's own properties (`irot`, `imir`) ask, so what
EXIF and XMP say of an orientation is dropped: it is a copy of the same, for programs that do not
know HEIF (ISO/IEC 23008-12, 6.5.10). The opener is used by itself and not registered with Pillow:
no other file ever comes to this decoder.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from dna_pipeline.base.errors import ImageUnreadable
from dna_pipeline.media.colour import h273

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

    from dna_pipeline.media.colour.colour_space import ColourSpace

FORMAT = "HEIF"

_MEND = "export it as PNG or JPEG"
_UNREAD = ("Unsupported feature", "Unsupported codec", "Unsupported file-type")
_CUT = ("end of file", "nsufficient input data", "File size too small", "Cannot read full")


@dataclass(frozen=True, slots=True)
class Photo:
    """A picture whose header is read, and what the file says of its colours.

    Attributes:
        icc: its profile.
        space: where there is no profile; None if it is sRGB.
        remarks: sentences for the manifest.
    """

    image: ImageFile
    icc: bytes | None
    space: ColourSpace | None
    remarks: list[str] = field(default_factory=list[str])


def open_header(file: IO[bytes]) -> Photo:
    """The primary picture, no pixel decoded yet. The whole file is read into memory.

    Raises:
        ImageUnreadable: libheif cannot read it, with its reason.
    """
    import pi_heif

    half_typed: Any = pi_heif
    for unused in ("THUMBNAILS", "DEPTH_IMAGES", "AUX_IMAGES"):
        setattr(half_typed.options, unused, False)
    file.seek(0)
    try:
        image = half_typed.HeifImageFile(file)
    except SyntaxError as error:
        raise ImageUnreadable(why_not(str(error))) from error
    icc, numbers = image.info.get("icc_profile"), image.info.get("nclx_profile")
    image.info = {}
    if not numbers:
        return Photo(image, icc, None)
    primaries, transfer = h273.shown_as(
        numbers["color_primaries"], numbers["transfer_characteristics"]
    )
    space = h273.colour_space(primaries, transfer)
    return Photo(image, icc, space, h273.hdr_remarks("HEIC", transfer) if not icc else [])


def why_not(reason: str) -> str:
    """Say why an HEIC is not read, and what to do; `reason` is libheif's."""
    if any(sign in reason for sign in _UNREAD):
        return f"this HEIF picture is packed in a way that is not read ({reason}): {_MEND}"
    if any(sign in reason for sign in _CUT):
        return f"the HEIC photo is truncated ({reason}): copy it again from where it is whole"
    return f"the HEIC photo is damaged ({reason}): copy or export it again"
