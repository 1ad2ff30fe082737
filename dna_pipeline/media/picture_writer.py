"""Pictures written as PNG, WebP or JPEG, with the texts and the marks that go into them.

`save_picture` is the only place that puts metadata into such a file:

| | text `parameters` | other texts | XMP packet |
|---|---|---|---|
| PNG | tEXt or iTXt | tEXt or iTXt | iTXt `XML:com.adobe.xmp` |
| WebP | EXIF UserComment | left out | chunk `XMP ` |
| JPEG | EXIF UserComment | left out | segment APP1 |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from PIL import ExifTags, Image, PngImagePlugin

from dna_pipeline.base.files import write_atomic
from dna_pipeline.media.images import PNG_OPTIONS

FormatName = Literal["png", "webp", "jpeg"]

XMP_KEYWORD = "XML:com.adobe.xmp"
"""Keyword of a PNG's iTXt chunk with an XMP packet (XMP specification, part 3, 1.1.5)."""
PARAMETERS = "parameters"
"""The text in which AUTOMATIC1111 keeps how a picture was made."""
_UNICODE = b"UNICODE\0"
"""Start of an EXIF UserComment in UTF-16 (EXIF 3.0, 4.6.6); AUTOMATIC1111 writes big endian."""
_MAX_SEGMENT_BYTES = 65_533
_MAX_XMP_BYTES = _MAX_SEGMENT_BYTES - len(b"http://ns.adobe.com/xap/1.0/\0")
"""Most bytes of a JPEG's segment, and of an XMP packet in one."""
LOSSLESS_QUALITY = 100
"""The quality at which a WebP is lossless."""
FULL_COLOUR_QUALITY = 90
"""Least quality at which a JPEG keeps the colour of each pixel (4:4:4, else 4:2:0)."""
FLATTENED = "A JPEG has no transparency, so the picture was put on white in it."
TEXT_LEFT_OUT = (
    "The text with the prompt and the parameters is too long for a JPEG, so it was left out; the "
    "manifest has them all."
)
MARK_LEFT_OUT = "The XMP packet is too long for a JPEG, so it was left out."


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


@dataclass(frozen=True, slots=True)
class Metadata:
    """Texts by their names, such as `parameters`, and an XMP packet."""

    texts: Mapping[str, str]
    xmp: bytes | None = None


def is_lossless(name: FormatName, quality: int) -> bool:
    """True if a picture can be read back as it was, its transparency too."""
    return name == "png" or (name == "webp" and quality == LOSSLESS_QUALITY)


def save_picture(
    picture: Image.Image, path: Path, encoding: Encoding, metadata: Metadata
) -> list[str]:
    """Write a picture (RGB or RGBA) whole or not at all; equal arguments give equal bytes.

    Returns:
        Sentences for the manifest about what the file could not hold.
    """
    save, remarks = _WRITERS[encoding.format](picture, encoding.quality, metadata)
    write_atomic(path, save)
    return remarks


_Save = Callable[[IO[bytes]], Any]


def _png(picture: Image.Image, _quality: int, metadata: Metadata) -> tuple[_Save, list[str]]:
    info = PngImagePlugin.PngInfo()
    for key, value in metadata.texts.items():
        info.add_text(key, value.replace("\0", ""))
    if metadata.xmp is not None:
        info.add_itxt(XMP_KEYWORD, metadata.xmp.decode())
    options: dict[str, Any] = {"pnginfo": info, "icc_profile": None, **PNG_OPTIONS}
    return lambda file: picture.save(file, "PNG", **options), []


def _webp(picture: Image.Image, quality: int, metadata: Metadata) -> tuple[_Save, list[str]]:
    # At most 100 of effort, for lossless files, would take ten times as long for 3 % less.
    is_exact = quality == LOSSLESS_QUALITY
    options: dict[str, Any] = {
        "lossless": is_exact,
        "exact": is_exact,
        "quality": 50 if is_exact else quality,
        "alpha_quality": 100,
        "method": 4,
        "exif": _exif(metadata.texts),
        "xmp": metadata.xmp or b"",
        "icc_profile": None,
    }
    return lambda file: picture.save(file, "WEBP", **options), []


def _jpeg(picture: Image.Image, quality: int, metadata: Metadata) -> tuple[_Save, list[str]]:
    remarks: list[str] = []
    flat = picture.convert("RGB")
    if picture.mode == "RGBA":
        paper = Image.new("RGBA", picture.size, "white")
        flat = Image.alpha_composite(paper, picture).convert("RGB")
        remarks.append(FLATTENED)
    exif, xmp = _exif(metadata.texts), metadata.xmp
    if len(exif) > _MAX_SEGMENT_BYTES:
        exif = b""
        remarks.append(TEXT_LEFT_OUT)
    if xmp is not None and len(xmp) > _MAX_XMP_BYTES:
        xmp = None
        remarks.append(MARK_LEFT_OUT)
    options: dict[str, Any] = {
        "quality": quality,
        "subsampling": 0 if quality >= FULL_COLOUR_QUALITY else 2,
        "exif": exif,
        "xmp": xmp or b"",
        "icc_profile": None,
    }
    return lambda file: flat.save(file, "JPEG", **options), remarks


_WRITERS = {"png": _png, "webp": _webp, "jpeg": _jpeg}


def _exif(texts: Mapping[str, str]) -> bytes:
    """EXIF with the text `parameters` as its UserComment; empty without one."""
    text = texts.get(PARAMETERS)
    if not text:
        return b""
    comment = _UNICODE + text.replace("\0", "").encode("utf-16-be", "replace")
    exif = Image.Exif()
    exif[ExifTags.IFD.Exif] = {int(ExifTags.Base.UserComment): comment}
    return exif.tobytes()
