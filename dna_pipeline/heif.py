"""HEIC and HEIF pictures, as phones take them, through libheif (pi-heif).

libheif turns and mirrors the picture as the file's own properties (`irot`, `imir`) ask, so what
EXIF and XMP say of an orientation is dropped: it is a copy of the same, for programs that do not
know HEIF (ISO/IEC 23008-12, 6.5.10). The opener is used by itself and not registered with Pillow:
no other file ever comes to this decoder.
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any

from dna_pipeline import nclx
from dna_pipeline.errors import ImageUnreadable

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

FORMAT = "HEIF"

_HDR_REMARK = "an HDR picture: light brighter than white was clipped"
_MEND = "export it as PNG or JPEG"
_UNREAD = ("Unsupported feature", "Unsupported codec", "Unsupported file-type")
_CUT = ("end of file", "nsufficient input data", "File size too small", "Cannot read full")


def open_header(file: IO[bytes]) -> ImageFile:
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
    colours = image.info.get("nclx_profile")
    profile = image.info.get("icc_profile") or nclx.profile(colours)
    is_hdr = bool(colours) and colours["transfer_characteristics"] in nclx.HDR
    image.info = {"icc_profile": profile, "remark": _HDR_REMARK if is_hdr else ""}
    return image


def why_not(reason: str) -> str:
    """Say why an HEIC is not read, and what to do; `reason` is libheif's."""
    if any(sign in reason for sign in _UNREAD):
        return f"this HEIF picture is packed in a way that is not read ({reason}): {_MEND}"
    if any(sign in reason for sign in _CUT):
        return f"the HEIC photo is truncated ({reason}): copy it again from where it is whole"
    return f"the HEIC photo is damaged ({reason}): copy or export it again"
