"""The UserComment in the EXIF of a JPEG or WebP, where programs write how they made a picture.

Read byte by byte: the daemon decodes no pictures of others in its process. AUTOMATIC1111 writes it
into the EXIF's own directory, in UTF-16; Fooocus writes UTF-8 into the first one. EXIF is a small
TIFF (EXIF 3.0, 4.5); JPEG holds it in APP1, WebP in a chunk `EXIF`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

from dna_pipeline.config.image_metadata import USER_COMMENT

MAX_BYTES = 4_000_000
"""Largest EXIF that is read."""

_COMMENT_TAG, _EXIF_TAG = 0x9286, 0x8769
_MAX_ENTRIES = 1000
_PREFIX = b"Exif\0\0"
_CODE_BYTES = 8
"""Length of the code before a comment that names its characters."""


def exif_texts(path: Path) -> dict[str, str] | None:
    """The comment by the name `UserComment`; empty without one, or if it cannot be read. None for a
    file that is neither JPEG nor WebP.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return texts_in_exif(file)


def texts_in_exif(file: IO[bytes]) -> dict[str, str] | None:
    """As `exif_texts`, of a file that is open at its start."""
    head = file.read(12)
    if head[:3] == b"\xff\xd8\xff":
        blocks = _of_jpeg(file)
    elif head[:4] == b"RIFF" and head[8:] == b"WEBP":
        blocks = _of_webp(file)
    else:
        return None
    for block in blocks:
        if text := _text_in(block.removeprefix(_PREFIX)):
            return {USER_COMMENT: text}
    return {}


def _of_jpeg(file: IO[bytes]) -> Iterator[bytes]:
    """The EXIF of the segments before the pixels."""
    file.seek(2)
    while (mark := file.read(4)) and len(mark) == 4 and mark[0] == 0xFF and mark[1] != 0xDA:
        length = int.from_bytes(mark[2:], "big") - 2
        if length < 0:
            return
        start = file.tell()
        if mark[1] == 0xE1 and file.read(len(_PREFIX)) == _PREFIX:
            yield file.read(length - len(_PREFIX))
        file.seek(start + length)


def _of_webp(file: IO[bytes]) -> Iterator[bytes]:
    file.seek(12)
    while len(head := file.read(8)) == 8:
        (length,) = struct.unpack("<I", head[4:])
        start = file.tell()
        if head[:4] == b"EXIF" and length <= MAX_BYTES:
            yield file.read(length)
        file.seek(start + length + length % 2)


def _text_in(tiff: bytes) -> str:
    """The comment of either directory; "" if there is none that can be read."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    with suppress(struct.error, UnicodeError):
        if order is not None:
            (first,) = struct.unpack_from(f"{order}I", tiff, 4)
            entries = _entries(tiff, order, first)
            if (place := entries.get(_EXIF_TAG)) is not None:
                (at,) = struct.unpack_from(f"{order}I", tiff, place[0])
                entries |= _entries(tiff, order, at)
            if (place := entries.get(_COMMENT_TAG)) is not None:
                start, count = place
                return _decoded(tiff[start : start + count])
    return ""


def _entries(tiff: bytes, order: str, at: int) -> dict[int, tuple[int, int]]:
    """Place and number of bytes of the values of a directory that are needed here, by tag."""
    (count,) = struct.unpack_from(f"{order}H", tiff, at)
    places: dict[int, tuple[int, int]] = {}
    for index in range(min(count, _MAX_ENTRIES)):
        entry = at + 2 + 12 * index
        tag, _kind, length = struct.unpack_from(f"{order}HHI", tiff, entry)
        if tag == _EXIF_TAG:
            places[tag] = (entry + 8, 4)
        elif tag == _COMMENT_TAG:
            # Up to four bytes stand in the entry itself, more at the place that it names.
            (far,) = struct.unpack_from(f"{order}I", tiff, entry + 8)
            places[tag] = (entry + 8 if length <= 4 else far, length)
    return places


def _decoded(comment: bytes) -> str:
    """The text of a comment. Raises `UnicodeError`."""
    code, text = comment[:_CODE_BYTES], comment[_CODE_BYTES:]
    if code == b"UNICODE\0":
        decoded = _utf_16(text)
    elif code in (b"ASCII\0\0\0", bytes(_CODE_BYTES)):
        decoded = text.decode("utf-8")
    else:
        decoded = comment.decode("utf-8")
    return decoded.strip("\0 ")


def _utf_16(text: bytes) -> str:
    """Text in UTF-16 of either byte order. EXIF does not say which, and few texts begin with a
    mark; AUTOMATIC1111 writes big endian. Latin letters and digits have zeros as high bytes."""
    if text[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return text.decode("utf-16")
    is_little = text[1::2].count(0) > text[::2].count(0)
    return text.decode("utf-16-le" if is_little else "utf-16-be")
