"""WebP, AVIF and HEIC files whose end is zeros, as a copy or download that stalled leaves them.

Their decoders take the zeros for pixels and show grey or black. Compressed pixels never end in so
many zeros.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import IO

from dna_pipeline.media.formats.jpeg_end import ZEROS_IN_PLACE

_ZEROS = bytes(256)
_WEBP_PIXELS = frozenset((b"VP8 ", b"VP8L", b"ALPH", b"ANMF"))


def is_webp_whole(file: IO[bytes]) -> bool:
    """True if the file is as long as its header says, or longer."""
    return _webp_end(file) <= file.seek(0, io.SEEK_END)


def _webp_end(file: IO[bytes]) -> int:
    file.seek(4)
    return 8 + int.from_bytes(file.read(4), "little")


def webp_fault(file: IO[bytes]) -> str:
    """Say that zeros are in the place of a WebP's pixels, and what to do; "" if they are not."""
    at, end = 12, _webp_end(file)
    while at + 8 <= end:
        file.seek(at)
        head = file.read(8)
        after = at + 8 + int.from_bytes(head[4:], "little")
        if head[:4] in _WEBP_PIXELS and _ends_in_zeros(file, at + 8, min(after, end)):
            return ZEROS_IN_PLACE
        at = after + after % 2
    return ""


def iso_fault(file: IO[bytes]) -> str:
    """Say that zeros are in the place of an AVIF's or HEIC's pixels, and what to do; or ""."""
    for kind, begin, end in _boxes(file):
        if kind == b"mdat" and _ends_in_zeros(file, begin, end):
            return ZEROS_IN_PLACE
    return ""


def _boxes(file: IO[bytes]) -> Iterator[tuple[bytes, int, int]]:
    """Type of each outermost box, and where its content begins and ends (ISO/IEC 14496-12, 4.2)."""
    length, at = file.seek(0, io.SEEK_END), 0
    while at + 8 <= length:
        file.seek(at)
        head = file.read(16)
        size, begin = int.from_bytes(head[:4], "big"), at + 8
        if size == 1:
            size, begin = int.from_bytes(head[8:], "big"), at + 16
        end = length if size == 0 else at + size
        if end <= at:
            return
        yield head[4:8], begin, min(end, length)
        at = end


def _ends_in_zeros(file: IO[bytes], begin: int, end: int) -> bool:
    if end - begin < len(_ZEROS):
        return False
    file.seek(end - len(_ZEROS))
    return file.read(len(_ZEROS)) == _ZEROS
