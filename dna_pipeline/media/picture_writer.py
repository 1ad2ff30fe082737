"""Pictures written as PNG, WebP or JPEG, with the text that says how they were made.

AUTOMATIC1111's text `parameters` is a text of that name in a PNG (tEXt or iTXt), and the
UserComment of EXIF in the others. Marks are put in afterwards: see `media/marks`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from PIL import ExifTags, Image, PngImagePlugin

from dna_pipeline.base.files import write_atomic
from dna_pipeline.media.flat import flattened
from dna_pipeline.media.images import PNG_OPTIONS

FormatName = Literal["png", "webp", "jpeg"]

PARAMETERS = "parameters"
"""The text in which AUTOMATIC1111 keeps how a picture was made."""
_UNICODE = b"UNICODE\0"
"""Start of an EXIF UserComment in UTF-16 (EXIF 3.0, 4.6.6); AUTOMATIC1111 writes big endian."""
_MAX_SEGMENT_BYTES = 65_533
"""Most bytes of a JPEG's segment."""
LOSSLESS_QUALITY = 100
"""The quality at which a WebP is lossless."""
FULL_COLOUR_QUALITY = 90
"""Least quality at which a JPEG keeps the colour of each pixel (4:4:4, else 4:2:0)."""
FLATTENED = "A JPEG has no transparency, so the picture was put on white in it."
TEXT_LEFT_OUT = (
    "The text with the prompt and the parameters is too long for a JPEG, so it was left out; the "
    "manifest has them all."
)


@dataclass(frozen=True, slots=True)
class PictureFormat:
    """A format that pictures are written in.

    Attributes:
        suffix: end of the file's name.
        media_type: as registered with IANA.
        max_side_px: longest side that a file can hold.
    """

    suffix: str
    media_type: str
    max_side_px: int


FORMATS: dict[FormatName, PictureFormat] = {
    "png": PictureFormat(".png", "image/png", 2**31 - 1),
    "webp": PictureFormat(".webp", "image/webp", 16_383),
    "jpeg": PictureFormat(".jpg", "image/jpeg", 65_535),
}


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a picture is written.

    Attributes:
        quality: 1 to 100. PNG ignores it, and WebP is lossless at 100.
    """

    format: FormatName = "png"
    quality: int = LOSSLESS_QUALITY

    @property
    def kind(self) -> PictureFormat:
        return FORMATS[self.format]


def is_lossless(name: FormatName, quality: int) -> bool:
    """True if a picture can be read back as it was, its transparency too."""
    return name == "png" or (name == "webp" and quality == LOSSLESS_QUALITY)


def save_picture(
    picture: Image.Image, path: Path, encoding: Encoding, parameters: str = ""
) -> list[str]:
    """Write a picture (RGB or RGBA) whole or not at all; equal arguments give equal bytes.

    Args:
        parameters: how it was made, in AUTOMATIC1111's form; "" to say nothing of it.

    Returns:
        Sentences for the manifest about what the file could not hold.
    """
    save, remarks = _WRITERS[encoding.format](picture, encoding.quality, parameters)
    write_atomic(path, save)
    return remarks


_Save = Callable[[IO[bytes]], Any]


def _png(picture: Image.Image, _quality: int, parameters: str) -> tuple[_Save, list[str]]:
    info = PngImagePlugin.PngInfo()
    if parameters:
        info.add_text(PARAMETERS, parameters.replace("\0", ""))
    options: dict[str, Any] = {"pnginfo": info, "icc_profile": None, **PNG_OPTIONS}
    return lambda file: picture.save(file, "PNG", **options), []


def _webp(picture: Image.Image, quality: int, parameters: str) -> tuple[_Save, list[str]]:
    # At most 100 of effort, for lossless files, would take ten times as long for 3 % less.
    is_exact = quality == LOSSLESS_QUALITY
    options: dict[str, Any] = {
        "lossless": is_exact,
        "exact": is_exact,
        "quality": 50 if is_exact else quality,
        "alpha_quality": 100,
        "method": 4,
        "exif": _exif(parameters),
        "icc_profile": None,
    }
    return lambda file: picture.save(file, "WEBP", **options), []


def _jpeg(picture: Image.Image, quality: int, parameters: str) -> tuple[_Save, list[str]]:
    remarks: list[str] = []
    flat = flattened(picture)
    if picture.mode == "RGBA":
        remarks.append(FLATTENED)
    exif = _exif(parameters)
    if len(exif) > _MAX_SEGMENT_BYTES:
        exif = b""
        remarks.append(TEXT_LEFT_OUT)
    options: dict[str, Any] = {
        "quality": quality,
        "subsampling": 0 if quality >= FULL_COLOUR_QUALITY else 2,
        "exif": exif,
        "icc_profile": None,
    }
    return lambda file: flat.save(file, "JPEG", **options), remarks


_WRITERS = {"png": _png, "webp": _webp, "jpeg": _jpeg}


def _exif(text: str) -> bytes:
    """EXIF with that text as its UserComment; empty without one."""
    if not text:
        return b""
    comment = _UNICODE + text.replace("\0", "").encode("utf-16-be", "replace")
    exif = Image.Exif()
    exif[ExifTags.IFD.Exif] = {int(ExifTags.Base.UserComment): comment}
    return exif.tobytes()
