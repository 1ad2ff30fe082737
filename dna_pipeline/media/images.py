"""Pictures in and out, safely: whatever lands in a watched folder is somebody else's file.

    file → page, colour space → header (format, size, mode checked) → decoded to its end → 8 bits
         → upright → sRGB → RGB, or RGBA where something shows through

Pixels of 16 bits are brought to sRGB before they are rounded to 8.

The content decides which decoder reads a file, never its name. Only the formats in `FORMATS`, HEIF
(`formats/heif.py`) and OpenEXR (`formats/exr.py`) are ever tried; of all else it is said what it is
(`formats/file_kinds.py`). Metadata that nothing here uses never refuses a picture. Every fault of a
file becomes `ImageUnreadable`, `ImageTooSmall` or `ImageTooLarge`; faults of the disk (a file that
is gone, a share that is away) stay `OSError`, and a lack of memory `MemoryError`, since the picture
is not to blame for them.
"""

from __future__ import annotations

import errno
import threading
import warnings
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import ExifTags, Image

from dna_pipeline.base.errors import ImageTooLarge, ImageUnreadable, JobError
from dna_pipeline.base.files import write_atomic
from dna_pipeline.media.alpha import without_idle_alpha
from dna_pipeline.media.colour import profiles
from dna_pipeline.media.formats import depth16, picture_words
from dna_pipeline.media.formats.picture_files import (
    DEEP_MODES,
    EXR,
    FORMATS,
    GREY_MODES,
    MAX_PIXELS,
    MAX_SIDE_PX,
    MIN_SIDE_PX,
    Decoded,
    decode,
    frames_remark,
)

if TYPE_CHECKING:
    from dna_pipeline.media.colour.colour_space import ColourSpace

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "MAX_SIDE_PX",
    "MIN_SIDE_PX",
    "ImageFacts",
    "load_image",
    "probe",
    "save_png",
]

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
    """The format, size and number of frames of a picture file.

    Attributes:
        format: one of `FORMATS`, HEIF or EXR.
        width, height: pixels, after the rotation that EXIF asks for.
    """

    format: str
    width: int
    height: int


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
        result = _to_srgb(upright, decoded.icc, decoded.space, decoded.alpha)
        if remarks is not None:
            remarks += [*decoded.remarks, *frames_remark(decoded)]
        # Of an EXR that was decided on its light.
        return result if decoded.image.format == EXR else without_idle_alpha(result, remarks)


def probe(path: Path) -> ImageFacts:
    """The facts of a picture file, after decoding it to its end. Raises as `load_image` does."""
    with _opened(path) as decoded:
        image = decoded.image
        turned = _orientation(image) in (5, 6, 7, 8)
        width, height = image.size[::-1] if turned else image.size
        name = "JPEG" if image.format == "MPO" else str(image.format)
        return ImageFacts(name, width, height)


PNG_OPTIONS = {"compress_level": 1, "compress_type": 3}
"""Settings of zlib: the fastest level, and only runs of equal bytes are looked for (Z_RLE).

Behind PNG's filters, photographs and drawn pictures hardly repeat themselves otherwise. So files
are about as large as at Pillow's own level 6 (98 % for a photograph, 105 % for a matte), and take a
fifth to two fifths of the time.
"""


def save_png(image: Image.Image, path: Path) -> None:
    """Write a PNG whole or not at all; the same pixels give the same bytes."""
    write_atomic(path, lambda file: image.save(file, "PNG", icc_profile=None, **PNG_OPTIONS))


@contextmanager
def _opened(path: Path) -> Generator[Decoded]:
    """The file's first frame, decoded; whatever goes wrong inside is mapped to our errors."""
    with path.open("rb") as file, _quiet():
        try:
            yield decode(file)
        except (JobError, MemoryError):
            raise
        except Image.DecompressionBombError as error:
            raise ImageTooLarge(picture_words.text(error)) from error
        except OSError as error:
            if error.errno in _DISK_FAULTS:
                raise
            raise ImageUnreadable(picture_words.damage(file, error)) from error
        except Exception as error:
            # Pillow's decoders raise nearly everything on a damaged file: SyntaxError,
            # struct.error, zlib.error, KeyError, OverflowError, …
            raise ImageUnreadable(picture_words.damage(file, error)) from error


@contextmanager
def _quiet() -> Generator[None]:
    """Pillow warns of damaged metadata and large sizes; the first is harmless, the second ours."""
    with _decoding, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    turn = _UPRIGHT.get(orientation)
    return image if turn is None else image.transpose(turn)


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation, 1 to 8; 1 where the metadata cannot be read."""
    with suppress(Exception):
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    return 1


def _eight_bits(image: Image.Image, exact: ColourSpace | None) -> Image.Image:
    """The same picture as L, LA, RGB, RGBA, CMYK or LAB with 8 bits a channel."""
    if image.mode in DEEP_MODES:
        return depth16.grey(image, exact)
    if image.mode in ("CMYK", "LAB"):
        return image
    colour = "L" if image.mode in GREY_MODES else "RGB"
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
