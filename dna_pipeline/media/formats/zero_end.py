"""WebP, AVIF and HEIC files whose end is zeros, as a copy or download that stalled leaves them.

Their decoders take the zeros for pixels and show grey or black. The pixels of a whole AVIF or HEIC
never end in so many zeros. Those of a whole WebP do where a large part of it is flat, since its
coder writes a flat block as a fraction of a zero bit (RFC 6386, 7). But then its decoder needs
every one of these zeros, while zeros in place of other pixels last for more than the picture.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import IO

from PIL import WebPImagePlugin

from dna_pipeline.media.formats.jpeg_end import ZEROS_IN_PLACE

_ZEROS = bytes(256)
_WEBP_PIXELS = frozenset((b"VP8 ", b"VP8L"))
_WEBP_FRAME = b"ANMF"
_WEBP_FRAME_BYTES = 16
"""Length of what stands in an `ANMF` chunk before the chunks of its frame."""
_UNREAD_BYTES = 32
"""More bytes than an encoder writes behind the last pixel."""


def is_webp_whole(file: IO[bytes]) -> bool:
    """True if the file is as long as its header says, or longer."""
    return _webp_end(file) <= file.seek(0, io.SEEK_END)


def _webp_end(file: IO[bytes]) -> int:
    file.seek(4)
    return 8 + int.from_bytes(file.read(4), "little")


def webp_fault(file: IO[bytes]) -> str:
    """Say that zeros are in the place of a WebP's pixels, and what to do; "" if they are not.

    Alpha is not looked at: its chunk comes before that of the colours, so that a file without its
    end has none of these, and uncompressed alpha is zeros wherever the picture is transparent.
    """
    at, end = 12, _webp_end(file)
    while at + 8 <= end:
        file.seek(at)
        head = file.read(8)
        begin, after = at + 8, at + 8 + int.from_bytes(head[4:], "little")
        if head[:4] in _WEBP_PIXELS and _has_unread_zeros(file, head[:4], begin, min(after, end)):
            return ZEROS_IN_PLACE
        is_frame = head[:4] == _WEBP_FRAME
        at = begin + _WEBP_FRAME_BYTES if is_frame else after + after % 2
    return ""


def _has_unread_zeros(file: IO[bytes], kind: bytes, begin: int, end: int) -> bool:
    """True if a chunk of pixels ends in many zeros, and decodes without the last of them."""
    if not _ends_in_zeros(file, begin, end):
        return False
    file.seek(begin)
    pixels = file.read(end - begin - _UNREAD_BYTES)
    chunk = kind + len(pixels).to_bytes(4, "little") + pixels + bytes(len(pixels) % 2)
    body = b"WEBP" + chunk
    shorter = io.BytesIO(b"RIFF" + len(body).to_bytes(4, "little") + body)
    try:
        WebPImagePlugin.WebPImageFile(shorter).load()
    except (OSError, EOFError, SyntaxError):
        return False
    return True


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
