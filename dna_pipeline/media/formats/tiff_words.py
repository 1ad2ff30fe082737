"""Says what of a TIFF cannot be read, from the tags of its picture's page (TIFF 6.0, BigTIFF).

Cameras' raw files are TIFFs whose first page is a thumbnail, which must not be taken for the
picture; and a decoder only says that it does not know some combination of numbers.
"""

from __future__ import annotations

from typing import IO

from dna_pipeline.media.formats import tiff_pages
from dna_pipeline.media.formats.tiff_tags import Page

_NEW_SUBFILE_TYPE, _BITS, _COMPRESSION, _PHOTOMETRIC, _MAKE = 254, 258, 259, 262, 271
_SAMPLES, _SUB_IFDS, _SAMPLE_FORMAT, _DNG_VERSION = 277, 330, 339, 50706

_READ = frozenset((1, 2, 3, 4, 5, 7, 8, 32773, 32946))
"""Compressions that every reader has."""

_COMPRESSIONS = {
    6: "JPEG of the kind before 1995",
    9: "JBIG", 10: "JBIG", 34661: "JBIG", 34715: "JBIG2",
    32766: "NeXT's", 32809: "ThunderScan", 32895: "IT8's", 32908: "Pixar's", 32909: "Pixar's",
    33003: "JPEG 2000", 33004: "JPEG 2000", 33005: "JPEG 2000", 34712: "JPEG 2000",
    34887: "LERC", 34892: "JPEG (lossy DNG)", 34925: "LZMA", 34933: "PNG",
    22610: "JPEG XR", 34934: "JPEG XR", 34676: "SGI's LogLuv", 34677: "SGI's LogLuv",
    50000: "Zstandard", 34926: "Zstandard", 50001: "WebP", 34927: "WebP",
    50002: "JPEG XL", 52546: "JPEG XL", 65000: "that of Leica's raw files",
}  # fmt: skip

_PHOTOMETRICS = {
    4: "a transparency mask", 9: "ICC Lab", 10: "ITU Lab",
    32803: "the mosaic of a camera's sensor", 34892: "linear raw colours", 51177: "a depth map",
    32844: "LogL", 32845: "LogLuv",
}  # fmt: skip


def is_raw(file: IO[bytes], head: bytes) -> bool:
    """True for a raw file of a camera that begins as a TIFF does: the first page is a small copy
    made by a camera, or the mosaic of a sensor."""
    page = Page(file)
    if head[8:10] == b"CR" or _DNG_VERSION in page:
        return True
    if page.first(_PHOTOMETRIC) in (32803, 34892):
        return True
    is_thumbnail = bool(page.first(_NEW_SUBFILE_TYPE) & 1)
    return is_thumbnail and _MAKE in page and _SUB_IFDS in page


def why_not(file: IO[bytes], reason: str) -> str:
    """Say why the TIFF is not read, and what to do; `reason` is the decoder's.

    Its kind of number comes before its compression: saved without that it would still not be read.
    """
    pages = tiff_pages.find(file)
    page = Page(file if pages is None else pages.picture(file))
    return _numbers(page) or _packing(page) or _damage(page, reason)


def _numbers(page: Page) -> str:
    bits, form = max(page.values(_BITS) or (1,)), page.first(_SAMPLE_FORMAT, 1)
    if form in (3, 6):
        return (
            f"its pixels are floating-point numbers ({bits} bits), which are read from OpenEXR "
            "only: save it as OpenEXR, or as a TIFF with 16 bits a channel"
        )
    if bits > 16:
        return (
            f"its pixels are whole numbers of {bits} bits, and no way to show them is given: "
            "save it with 8 or 16 bits a channel"
        )
    if form in (2, 5):
        return (
            "its pixels may be negative (signed numbers), as heights and measurements are: "
            "save it with 8 or 16 bits a channel, unsigned"
        )
    return ""


def _packing(page: Page) -> str:
    number = page.first(_COMPRESSION, 1)
    if number in _READ:
        return ""
    name = _COMPRESSIONS.get(number, f"number {number}")
    return (
        f"this TIFF's compression ({name}) is not read: save it with LZW or ZIP compression or "
        "none, or as PNG"
    )


def _damage(page: Page, reason: str) -> str:
    if not page:
        return f"the TIFF is broken or cut off before its list of pages: copy it again ({reason})"
    bits = page.values(_BITS) or (1,)
    colour = _PHOTOMETRICS.get(page.first(_PHOTOMETRIC), "")
    number = page.first(_SAMPLES, 1)
    what = f"{number} channel{'s' if number > 1 else ''} of {'/'.join(map(str, bits[:8]))} bits"
    return (
        f"this TIFF cannot be read ({what}{', ' + colour if colour else ''}; {reason}): save it as "
        "RGB or grey with 8 or 16 bits a channel, or as PNG"
    )
