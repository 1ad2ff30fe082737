"""From an open file to a decoded picture, and what is to be known of its colours.

    file → what it is (`file_kinds`) → by its format:
        TIFF  raw file? → page (`tiff_pages`) → unusual samples (`tiff_samples`), or Pillow
        PNG   one view of its chunks (`png_chunks`) → colours (`png_colour`) → Pillow
        HEIF  libheif (`heif`)
        EXR   layer → light → sRGB (`exr`)
        else  Pillow

Every decoder is called by the name of its format; none ever sees a file that begins like another's.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

from PIL import Image, features

from dna_pipeline.base.errors import ImageTooLarge, ImageTooSmall, ImageUnreadable
from dna_pipeline.media.colour import exif, profiles
from dna_pipeline.media.formats import (
    depth16,
    exr,
    file_kinds,
    gif_end,
    heif,
    jpeg_end,
    picture_words,
    png_chunks,
    png_colour,
    tiff_pages,
    tiff_samples,
    tiff_tags,
    tiff_words,
    zero_end,
)

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

    from dna_pipeline.media.colour.colour_space import ColourSpace

_AVIF = ("AVIF",) if features.check("avif") else ()
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", *_AVIF)
"""Pillow's names of the formats that its own decoders read."""

EXR = "EXR"

MIN_SIDE_PX = 16
MAX_SIDE_PX = 32_768
MAX_PIXELS = 100_000_000

GREY_MODES = frozenset(("1", "L", "LA", "La"))
DEEP_MODES = frozenset(("I;16", "I;16L", "I;16B", "I;16N"))
_MODES = frozenset(("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB"))
_NO_END = (
    "image file is truncated: it breaks off before its end mark; copy it again from where it is "
    "whole"
)
_SHORT = (
    "image file is truncated: it is shorter than its header says; copy it again from where it is "
    "whole"
)


@dataclass(slots=True)
class Decoded:
    """A picture as it comes from its decoder.

    Attributes:
        icc: the ICC profile that its pixels of 8 bits are converted from, if it is of use.
        space: what they are converted from, where there is no such profile.
        exact: what its grey of 16 bits is converted from.
        alpha: what shows through, where the picture's mode has no room for it.
        remarks: sentences for the manifest on what was taken of the file.
        frames: how many frames a PNG has; 0 where Pillow is to count them.
    """

    image: Image.Image
    icc: object = None
    space: ColourSpace | None = None
    exact: ColourSpace | None = None
    alpha: Image.Image | None = None
    remarks: list[str] = field(default_factory=list[str])
    frames: int = 0


def decode(file: IO[bytes]) -> Decoded:
    """Decode the picture to its end.

    Raises:
        ImageUnreadable, ImageTooSmall, ImageTooLarge: the file is at fault.
        What the decoders raise.
    """
    head = file_kinds.read_head(file)
    name = file_kinds.format_of(head)
    if not name or (name == "AVIF" and not _AVIF):
        raise ImageUnreadable(file_kinds.describe(file))
    if name == "TIFF":
        return _tiff(file, head)
    if name in (own := {"PNG": _png, heif.FORMAT: _heif, EXR: _exr}):
        return own[name](file)
    if name == "WebP" and not zero_end.is_webp_whole(file):
        raise ImageUnreadable(_SHORT)
    decoded = _by_pillow(name, file)
    # Pillow stops at the last pixel of the first frame; what follows may be missing.
    if name == "GIF" and not gif_end.is_whole(file):
        raise ImageUnreadable(_NO_END)
    _check_end(name, file, decoded.image)
    return decoded


def _check_end(name: str, file: IO[bytes], image: Image.Image) -> None:
    """Refuse a file that was decoded although its end is missing, or zeros are in its place."""
    fault = ""
    if name == "JPEG":
        fault = jpeg_end.fault(file, image)
    elif name == "WebP":
        fault = zero_end.webp_fault(file)
    elif name in ("AVIF", heif.FORMAT):
        fault = zero_end.iso_fault(file)
    if fault:
        raise ImageUnreadable(fault)


def _tiff(file: IO[bytes], head: bytes) -> Decoded:
    if tiff_words.is_raw(file, head):
        raise ImageUnreadable(file_kinds.sentence(file_kinds.RAW))
    pages = tiff_pages.find(file)
    picture = tiff_tags.without_broken(file if pages is None else pages.picture(file))
    layout = tiff_samples.layout(picture)
    if layout is None:
        decoded = _by_pillow("TIFF", picture)
    else:
        check_size(*layout.size)
        decoded = _samples(layout, tiff_samples.read(picture, layout))
    if pages is not None and pages.remark:
        decoded.remarks.append(pages.remark)
    return decoded


def _samples(layout: tiff_samples.Layout, picture: tiff_samples.Picture) -> Decoded:
    exact = profiles.exact_space(layout.profile, layout.mode, None) if layout.bits == 16 else None
    pixels = depth16.to_eight(picture.colours, exact)
    image = Image.fromarray(pixels, "CMYK" if layout.mode == "CMYK" else None)
    image.format = "TIFF"
    alpha = None
    if picture.alpha is not None:
        alpha = Image.fromarray(depth16.to_eight(picture.alpha))
    remarks = profiles.remarks(layout.profile, layout.mode)
    icc = layout.profile if exact is None else None
    return Decoded(image, icc, alpha=alpha, remarks=remarks)


def _png(file: IO[bytes]) -> Decoded:
    png = png_chunks.view(file)
    colour = png_colour.interpret(png)
    decoded = _by_pillow("PNG", png.file, colour.icc, colour.space)
    if not png.is_whole:
        raise ImageUnreadable(_NO_END)
    decoded.remarks += colour.remarks
    decoded.frames = png.frames
    return decoded


def _heif(file: IO[bytes]) -> Decoded:
    photo = heif.open_header(file)
    check_size(*photo.image.size)
    photo.image.load()
    check_size(*photo.image.size)  # it may turn out larger than its header says
    _check_end(heif.FORMAT, file, photo.image)
    remarks = [*photo.remarks, *profiles.remarks(photo.icc, photo.image.mode)]
    return Decoded(photo.image, photo.icc, photo.space, remarks=remarks)


def _exr(file: IO[bytes]) -> Decoded:
    layer = exr.find_layer(file)
    check_size(*layer.size)
    image, remarks = exr.decode(file, layer)
    image.format = EXR
    return Decoded(image, remarks=remarks)


def _by_pillow(
    name: str, file: IO[bytes], icc: bytes | None = None, space: ColourSpace | None = None
) -> Decoded:
    """Decode a file by the decoder of one format.

    Args:
        icc, space: what a PNG says of its colours.
    """
    image = _open_header(name, file)
    profile = image.info.get("icc_profile") if icc is None else icc
    remarks = profiles.remarks(profile, image.mode)
    space = space or exif.space(image)
    exact = None
    if deep := depth16.colours(image):
        exact = profiles.exact_space(profile, deep, space)
    depth16.load(image, lambda: _open_header(name, file), exact)
    if exact is not None:
        return Decoded(image, exact=exact, remarks=remarks)
    return Decoded(image, profile, space, remarks=remarks)


def _open_header(name: str, file: IO[bytes]) -> ImageFile:
    """The picture with its header read and found acceptable, no pixel decoded yet."""
    file.seek(0)
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # `check_size` names the sides
    try:
        image = Image.open(file, formats=(name.upper(),))
    except (Image.UnidentifiedImageError, SyntaxError) as error:
        reason = picture_words.why_not(name, file, "its header cannot be read")
        raise ImageUnreadable(reason) from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    check_size(*image.size)
    if image.mode not in _MODES | GREY_MODES | DEEP_MODES:
        raise ImageUnreadable(
            picture_words.why_not(name, file, f"its pixels are of kind {image.mode!r}"),
            hint="Export it with 8 or 16 bits a channel.",
        )
    return image


def check_size(width: int, height: int) -> None:
    if width > MAX_SIDE_PX or height > MAX_SIDE_PX or width * height > MAX_PIXELS:
        raise ImageTooLarge(
            f"{width} x {height} px; at most {MAX_SIDE_PX} px a side and {MAX_PIXELS} px in all"
        )
    if min(width, height) < MIN_SIDE_PX:
        raise ImageTooSmall(f"{width} x {height} px")


def frames_remark(decoded: Decoded) -> list[str]:
    """A sentence on the frames that are left out; an MPO's are other views of the same picture."""
    name = decoded.image.format
    if name in ("TIFF", "MPO") or (count := _count_frames(decoded)) < 2:
        return []
    if name == heif.FORMAT:
        return [f"The HEIF has {count} pictures; only the primary one was taken."]
    return [f"The {name} has {count} frames; only the first was taken."]


def _count_frames(decoded: Decoded) -> int:
    """Count frames; 1 if a later one is damaged, since only the first is used.

    Pillow reads a GIF to its end to count them.
    """
    with suppress(Exception):
        return decoded.frames or int(getattr(decoded.image, "n_frames", 1))
    return 1
