"""Pictures in and out, safely: whatever lands in a watched folder is somebody else's file.

    file → page, colour space → header (format, size, mode checked) → decoded to its end → 8 bits
         → upright → sRGB → RGB, or RGBA where something shows through

Pixels of 16 bits are brought to sRGB before they are rounded to 8.

The content decides which decoder reads a file, never its name. Only the formats in `FORMATS`, HEIF
(`heif.py`) and OpenEXR (`exr.py`) are ever tried; of all else it is said what it is
(`file_kinds.py`). Metadata that nothing here uses never refuses a picture. Every fault of a file
becomes `ImageUnreadable`, `ImageTooSmall` or `ImageTooLarge`; faults of the disk (a file that is
gone, a share that is away) stay `OSError`, and a lack of memory `MemoryError`, since the picture is
not to blame for them.
"""

from __future__ import annotations

import errno
import io
import threading
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

from PIL import ExifTags, Image, PngImagePlugin, features

from dna_pipeline import (
    exif_colour,
    exr,
    file_kinds,
    heif,
    jpeg_words,
    png_chunks,
    png_colour,
    profiles,
    sixteen,
    tiff_pages,
    tiff_samples,
    tiff_tags,
    tiff_words,
)
from dna_pipeline.alpha import without_idle_alpha
from dna_pipeline.artifact import write_atomic
from dna_pipeline.errors import ImageTooLarge, ImageTooSmall, ImageUnreadable, JobError

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

    from dna_pipeline.colour_space import ColourSpace

_AVIF = ("AVIF",) if features.check("avif") else ()
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", *_AVIF)
"""Pillow's names of the formats that its own decoders read."""

_EXR = "EXR"

MIN_SIDE_PX = 16
MAX_SIDE_PX = 32_768
MAX_PIXELS = 100_000_000

_GREY_MODES = frozenset(("1", "L", "LA", "La"))
_DEEP_MODES = frozenset(("I;16", "I;16L", "I;16B", "I;16N"))
_MODES = frozenset(("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB"))
_DISK_FAULTS = frozenset(
    (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ETIMEDOUT)
)
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_decoding = threading.Lock()
"""`warnings.catch_warnings` swaps state of the whole process, so only one thread may be in it."""


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What a picture file holds.

    Attributes:
        format: one of `FORMATS`, HEIF or EXR.
        width, height: pixels, after the rotation that EXIF asks for.
        frames: 1, or the number of frames or pages; only one is ever used.
    """

    format: str
    width: int
    height: int
    frames: int


@dataclass(slots=True)
class _Decoded:
    """A picture as it comes from its decoder.

    Attributes:
        space: what its pixels of 8 bits are converted from, where no ICC profile says so.
        exact: what its grey of 16 bits is converted from.
        alpha: what shows through, where the picture's mode has no room for it.
        pages: how many pages or frames the file has; 0 where Pillow is to count them.
    """

    image: Image.Image
    space: ColourSpace | None = None
    exact: ColourSpace | None = None
    alpha: Image.Image | None = None
    remarks: list[str] = field(default_factory=list[str])
    pages: int = 0


def load_image(path: Path, remarks: list[str] | None = None) -> Image.Image:
    """The first frame, upright, in sRGB: RGB, or RGBA where its alpha is not opaque all over.

    The result holds 8-bit pixels only: no metadata, no open file.

    Args:
        remarks: gets a sentence for the manifest where there was a choice in reading the file.

    Raises:
        ImageUnreadable, ImageTooSmall, ImageTooLarge: the file is at fault.
        OSError: the disk is. MemoryError: there is too little of it for this picture.
    """
    with _opened(path) as decoded:
        flat = _eight_bits(decoded.image, decoded.exact)
        upright = _upright(flat, _orientation(decoded.image))
        icc = decoded.image.info.get("icc_profile")
        result = _to_srgb(upright, icc, decoded.space, decoded.alpha)
        if remarks is not None:
            remarks += [*decoded.remarks, *_frames_remark(decoded)]
        # Of an EXR that was decided on its light.
        return result if decoded.image.format == _EXR else without_idle_alpha(result, remarks)


def probe(path: Path) -> ImageFacts:
    """What the file holds, after decoding it to its end. Raises as `load_image` does."""
    with _opened(path) as decoded:
        image = decoded.image
        turned = _orientation(image) in (5, 6, 7, 8)
        width, height = image.size[::-1] if turned else image.size
        name = "JPEG" if image.format == "MPO" else str(image.format)
        return ImageFacts(name, width, height, _frames(decoded))


def save_png(image: Image.Image, path: Path, text: Mapping[str, str] | None = None) -> None:
    """Write a PNG whole or not at all; the same pixels and text give the same bytes.

    Args:
        text: chunks put before the pixels, in this order: tEXt, or iTXt where a value is not
            Latin-1. Keys are 1 to 79 Latin-1 characters.
    """
    info = PngImagePlugin.PngInfo()
    for key, value in (text or {}).items():
        info.add_text(key, value.replace("\0", ""))
    write_atomic(path, lambda file: image.save(file, "PNG", pnginfo=info, icc_profile=None))


@contextmanager
def _opened(path: Path) -> Generator[_Decoded]:
    """The file's first frame, decoded; whatever goes wrong inside is mapped to our errors."""
    with path.open("rb") as file, _quiet():
        try:
            is_exr = file.read(len(exr.MAGIC)) == exr.MAGIC
            yield _decoded_exr(file) if is_exr else _decoded(file)
        except (JobError, MemoryError):
            raise
        except Image.DecompressionBombError as error:
            raise ImageTooLarge(_text(error)) from error
        except OSError as error:
            if error.errno in _DISK_FAULTS:
                raise
            raise ImageUnreadable(_damage(file, error)) from error
        except Exception as error:
            # Pillow's decoders raise nearly everything on a damaged file: SyntaxError,
            # struct.error, zlib.error, KeyError, OverflowError, …
            raise ImageUnreadable(_damage(file, error)) from error


def _decoded(file: IO[bytes]) -> _Decoded:
    head = file_kinds.read_head(file)
    name = file_kinds.format_of(head)
    if not name or (name == "AVIF" and not _AVIF):
        raise ImageUnreadable(file_kinds.describe(file))
    if name == "TIFF":
        return _decoded_tiff(file, head)
    if name == "PNG":
        return _decoded_png(file)
    decoded = _decoded_by_pillow(name, file)
    if name == heif.FORMAT and decoded.image.info["remark"]:
        decoded.remarks.append(decoded.image.info["remark"])
    return decoded


def _decoded_png(file: IO[bytes]) -> _Decoded:
    colour, png = png_colour.read(file), png_chunks.view(file)
    assert colour is not None
    decoded = _decoded_by_pillow("PNG", png.file, colour.space, png.icc, colour.overrules_profile)
    decoded.remarks += colour.remarks
    decoded.pages = png.frames
    _check_end(decoded.image, file)
    return decoded


def _decoded_by_pillow(
    name: str,
    file: IO[bytes],
    space: ColourSpace | None = None,
    icc: bytes | None = None,
    overrules_profile: bool = False,
) -> _Decoded:
    image = _open_header(name, file)
    if name == "PNG":
        image.info["icc_profile"] = icc
    if overrules_profile:
        image.info.pop("icc_profile", None)
    space = space or exif_colour.space(image)
    exact = None
    if deep := sixteen.colours(image):
        exact = profiles.exact_space(image.info.get("icc_profile"), deep, space)
    if exact is not None:
        image.info.pop("icc_profile", None)
        space = None
    sixteen.load(image, lambda: _open_header(name, file), exact)
    _check_size(*image.size)  # an HEIC may turn out larger than its header says
    if name == "GIF":
        _check_end(image, file)
    return _Decoded(image, space, exact)


def _decoded_tiff(file: IO[bytes], head: bytes) -> _Decoded:
    if tiff_words.is_raw(file, head):
        raise ImageUnreadable(file_kinds.sentence(file_kinds.RAW))
    pages = tiff_pages.find(file)
    picture = tiff_tags.without_broken(file if pages is None else pages.picture(file))
    layout = tiff_samples.layout(picture)
    if layout is None:
        decoded = _decoded_by_pillow("TIFF", picture)
    else:
        _check_size(*layout.size)
        decoded = _decoded_samples(layout, tiff_samples.read(picture, layout))
    if pages is not None:
        decoded.pages = pages.count
        decoded.remarks += [pages.remark] if pages.remark else []
    return decoded


def _decoded_samples(layout: tiff_samples.Layout, picture: tiff_samples.Picture) -> _Decoded:
    exact = profiles.exact_space(layout.profile, layout.mode, None) if layout.bits == 16 else None
    pixels = sixteen.to_eight(picture.colours, exact)
    image = Image.fromarray(pixels, "CMYK" if layout.mode == "CMYK" else None)
    if exact is None:
        image.info["icc_profile"] = layout.profile
    image.format = "TIFF"
    alpha = None
    if picture.alpha is not None:
        alpha = Image.fromarray(sixteen.to_eight(picture.alpha))
    return _Decoded(image, alpha=alpha)


def _decoded_exr(file: IO[bytes]) -> _Decoded:
    layer = exr.find_layer(file)
    _check_size(*layer.size)
    image = exr.decode(file, layer)
    image.format = _EXR
    return _Decoded(image, remarks=list(image.info["remarks"]))


@contextmanager
def _quiet() -> Generator[None]:
    """Pillow warns of damaged metadata and large sizes; the first is harmless, the second ours."""
    with _decoding, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _open_header(name: str, file: IO[bytes]) -> ImageFile:
    """The picture with its header read and found acceptable, no pixel decoded yet."""
    image = _open_as(name, file)
    _check_size(*image.size)
    if image.mode not in _MODES | _GREY_MODES | _DEEP_MODES:
        raise ImageUnreadable(
            _why_not(name, file, f"its pixels are of kind {image.mode!r}"),
            hint="Export it with 8 or 16 bits a channel.",
        )
    return image


def _open_as(name: str, file: IO[bytes]) -> ImageFile:
    """Open a file by the decoder that its first bytes ask for."""
    if name == heif.FORMAT:
        return heif.open_header(file)
    file.seek(0)
    try:
        return Image.open(file, formats=(name.upper(),))
    except (Image.UnidentifiedImageError, SyntaxError) as error:
        raise ImageUnreadable(_why_not(name, file, "its header cannot be read")) from error


def _why_not(name: str, file: IO[bytes], reason: str) -> str:
    """Why a file that begins as one of this format does is not read, for people."""
    if name == "TIFF":
        return tiff_words.why_not(file, reason)
    if name == "JPEG":
        return jpeg_words.why_not(file, reason)
    return f"the {name} is broken or cut off at its start ({reason}): copy or export it again"


def _damage(file: IO[bytes], error: Exception) -> str:
    """Say what is wrong with a file whose pixels cannot be decoded, and what to do."""
    reason, name = _text(error), file_kinds.format_of(file_kinds.read_head(file))
    if name == _EXR:
        return reason
    if "truncated" in reason:
        return f"{reason}: the file ends too early; copy it again from where it is whole"
    if name == heif.FORMAT:
        return heif.why_not(reason)
    if name in ("TIFF", "JPEG"):
        return _why_not(name, file, reason)
    return f"the {name} is damaged ({reason}): copy or export it again"


def _check_size(width: int, height: int) -> None:
    if width > MAX_SIDE_PX or height > MAX_SIDE_PX or width * height > MAX_PIXELS:
        raise ImageTooLarge(
            f"{width} x {height} px; at most {MAX_SIDE_PX} px a side and {MAX_PIXELS} px in all"
        )
    if min(width, height) < MIN_SIDE_PX:
        raise ImageTooSmall(f"{width} x {height} px")


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    turn = _UPRIGHT.get(orientation)
    return image if turn is None else image.transpose(turn)


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation, 1 to 8; 1 where the metadata cannot be read."""
    with suppress(Exception):
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    return 1


def _frames(decoded: _Decoded) -> int:
    return decoded.pages or int(getattr(decoded.image, "n_frames", 1))


def _frames_remark(decoded: _Decoded) -> list[str]:
    """A sentence on the frames that are left out; an MPO's are other views of the same picture."""
    name = decoded.image.format
    if name in ("TIFF", "MPO") or (count := _frames(decoded)) < 2:
        return []
    if name == heif.FORMAT:
        return [f"The HEIF has {count} pictures; only the primary one was taken."]
    return [f"The {name} has {count} frames; only the first was taken."]


def _check_end(image: ImageFile, file: IO[bytes]) -> None:
    """Refuse a file whose pixels are all there but that goes on behind them and then breaks off.

    Pillow stops reading at the last pixel of the first frame; a copy that is still under way, or
    was cut off, would pass as whole.
    """
    walk = {"PNG": _png_is_whole, "GIF": _gif_is_whole}.get(str(image.format))
    if walk is not None and not walk(file):
        raise ImageUnreadable("image file is truncated: it breaks off before its end mark")


def _png_is_whole(file: IO[bytes]) -> bool:
    """True if the chunks lead to IEND."""
    file.seek(8)
    while len(head := file.read(8)) == 8:
        if head[4:] == b"IEND":
            return True
        file.seek(int.from_bytes(head[:4], "big") + 4, io.SEEK_CUR)
    return False


def _gif_is_whole(file: IO[bytes]) -> bool:
    """True if the blocks lead to the trailer, or to the end of the file between two blocks.

    The second is what some encoders write. What follows the last block of GIF is not looked at.
    """
    file.seek(10)
    palette = _gif_palette_bytes(_byte(file))
    file.seek(2 + palette, io.SEEK_CUR)
    while (kind := file.read(1)) in (b"!", b","):
        if kind == b"!":
            file.seek(1, io.SEEK_CUR)
        else:
            file.seek(8, io.SEEK_CUR)
            palette = _gif_palette_bytes(_byte(file))
            file.seek(palette + 1, io.SEEK_CUR)
        if not _skip_gif_data(file):
            return False
    return True


def _gif_palette_bytes(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _skip_gif_data(file: IO[bytes]) -> bool:
    """Pass a run of sub-blocks; False if the file ends before the empty one that closes it."""
    while size := _byte(file):
        if size < 0 or len(file.read(size)) < size:
            return False
    return True


def _byte(file: IO[bytes]) -> int:
    """The next byte; -1 at the end of the file."""
    byte = file.read(1)
    return byte[0] if byte else -1


def _eight_bits(image: Image.Image, exact: ColourSpace | None) -> Image.Image:
    """The same picture as L, LA, RGB, RGBA, CMYK or LAB with 8 bits a channel."""
    if image.mode in _DEEP_MODES:
        return sixteen.grey(image, exact)
    if image.mode in ("CMYK", "LAB"):
        return image
    colour = "L" if image.mode in _GREY_MODES else "RGB"
    return image.convert(f"{colour}A" if image.has_transparency_data else colour)


def _to_srgb(
    image: Image.Image, icc: object, space: ColourSpace | None, alpha: Image.Image | None
) -> Image.Image:
    """RGB, or RGBA if something shows through, with the embedded profile or the space applied."""
    if image.mode in ("LA", "RGBA"):
        alpha = image.getchannel("A")
    colour = image.convert(image.mode[:-1]) if image.mode in ("LA", "RGBA") else image
    result = profiles.applied(colour, icc) or _from_space(colour, space) or _unmanaged(colour)
    if alpha is not None and alpha.getextrema() != (255, 255):
        result.putalpha(alpha)
    result.info = {}
    return result


def _from_space(colour: Image.Image, space: ColourSpace | None) -> Image.Image | None:
    if space is None or colour.mode not in ("L", "RGB"):
        return None
    import numpy as np

    return Image.fromarray(space.pixels(np.asarray(colour)))


def _unmanaged(colour: Image.Image) -> Image.Image:
    return profiles.lab(colour) if colour.mode == "LAB" else colour.convert("RGB")
