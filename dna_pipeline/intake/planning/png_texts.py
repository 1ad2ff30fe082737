"""Texts in a PNG, read chunk by chunk: the daemon decodes no pictures of others in its process."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_BYTES = 4_000_000
"""Longest text that is read; and of all texts of a file together, no more are read after it."""

MAX_TEXTS = 200
"""Most texts of one file that are read."""

_TEXTS = (b"tEXt", b"zTXt", b"iTXt")


def png_texts(path: Path) -> dict[str, str] | None:
    """Texts of a PNG by their keywords; None for any other file. Damaged texts are passed over.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return texts_in_png(file)


def texts_in_png(file: IO[bytes]) -> dict[str, str] | None:
    """As `png_texts`, of a file that is open at its start."""
    texts: dict[str, str] = {}
    chars = 0
    if file.read(len(SIGNATURE)) != SIGNATURE:
        return None
    for kind, data in islice(_text_chunks(file), MAX_TEXTS):
        keyword, _, rest = data.partition(b"\0")
        name = keyword.decode("latin-1")
        if name in texts or chars > MAX_BYTES:
            continue
        try:
            texts[name] = _decoded(kind, rest)
        except (ValueError, zlib.error):
            continue
        chars += len(texts[name])
    return texts


def _text_chunks(file: IO[bytes]) -> Iterator[tuple[bytes, bytes]]:
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"IEND":
            return
        if kind in _TEXTS and length <= MAX_BYTES:
            yield kind, file.read(length)
            file.seek(4, 1)
        else:
            file.seek(length + 4, 1)


def _decoded(kind: bytes, rest: bytes) -> str:
    """The text of a chunk from what follows its keyword. Raises ValueError or `zlib.error`."""
    if kind == b"tEXt":
        return _latin_or_utf8(rest)
    if kind == b"zTXt":
        return _latin_or_utf8(_inflated(rest[1:]))
    is_compressed, rest = rest[:1] == b"\1", rest[2:]
    _language, _, rest = rest.partition(b"\0")
    _translated, _, text = rest.partition(b"\0")
    return (_inflated(text) if is_compressed else text).decode("utf-8")


def _latin_or_utf8(data: bytes) -> str:
    """Text of a chunk that should be in Latin-1, and that some programs write in UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _inflated(data: bytes) -> bytes:
    """Raises ValueError for a text that is too long or breaks off."""
    reader = zlib.decompressobj()
    text = reader.decompress(data, MAX_BYTES)
    if not reader.eof:
        raise ValueError("too long, or it breaks off")
    return text
