"""Reads the tags of a TIFF's first page (TIFF 6.0, section 2; BigTIFF), and leaves broken ones out.

A tag that nothing here uses may point behind the end of the file, as where a program wrote it
wrongly. Pillow then also passes over sound tags that come after it, the colour profile or the
size of the picture among them.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Literal

_MAX_TAGS = 4096
_MAX_VALUES = 64
_MAX_COPY_BYTES = 1 << 30
"""A larger file is not copied to leave a tag out."""

_WHOLE = frozenset((1, 3, 4, 6, 8, 9, 13, 16, 17, 18, 2, 7))
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4,
          16: 8, 17: 8, 18: 8}  # fmt: skip
"""Bytes of a value of each type."""

_NEEDED = frozenset(
    (254, 255, 256, 257, 258, 259, 262, 263, 266, 273, 274, 277, 278, 279, 284, 292, 293, 317, 318,
     319, 320, 321, 322, 323, 324, 325, 332, 334, 336, 338, 339, 340, 341, 347, 529, 530, 531, 532,
     34675)
)  # fmt: skip
"""Tags that say what the picture looks like; broken, they are the decoder's to refuse."""


_XMP = 700


class Broken(Exception):
    """The file is no TIFF, or breaks off before the end of its first list of tags."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One tag: where its entry lies, its type, its number of values, and the field that holds
    them or says where they are."""

    place: int
    tag: int
    kind: int
    count: int
    field: bytes


@dataclass(frozen=True, slots=True)
class Directory:
    """The list of tags of a page, which begins at `place` with their number."""

    order: Literal["little", "big"]
    is_big: bool
    place: int
    entries: tuple[Entry, ...]

    @property
    def width(self) -> int:
        """Bytes of an offset."""
        return 8 if self.is_big else 4

    @property
    def head_bytes(self) -> int:
        """Bytes of the number of tags."""
        return 8 if self.is_big else 2

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def number(self, data: bytes) -> int:
        """A number in the byte order of the file."""
        return int.from_bytes(data, self.order)


def read(file: IO[bytes]) -> Directory:
    """The tags of the first page. Raises `Broken`."""
    file.seek(0)
    mark = _exactly(file, 4)
    order: Literal["little", "big"] = "little" if mark[:2] == b"II" else "big"
    start = Directory(order, b"+" in mark[2:], 0, ())
    file.seek(start.width)
    place = start.number(_exactly(file, start.width))
    try:
        file.seek(place)
    except (OverflowError, ValueError) as error:
        raise Broken from error
    count = min(start.number(_exactly(file, start.head_bytes)), _MAX_TAGS)
    size = start.width + 4 + start.width
    table = _exactly(file, count * size)
    entries: list[Entry] = []
    for at in range(0, count * size, size):
        raw = table[at : at + size]
        entries.append(
            Entry(
                place + start.head_bytes + at,
                start.number(raw[0:2]),
                start.number(raw[2:4]),
                start.number(raw[4 : 4 + start.width]),
                raw[4 + start.width :],
            )
        )
    return Directory(order, start.is_big, place, tuple(entries))


def values(file: IO[bytes], directory: Directory, entry: Entry) -> tuple[int, ...]:
    """The first values of a tag of whole numbers or bytes; none of another kind."""
    size = _SIZES.get(entry.kind, 0)
    if not size or entry.kind not in _WHOLE:
        return ()
    data, wanted = entry.field, min(entry.count, _MAX_VALUES) * size
    if entry.count * size > directory.width:
        data = _at(file, directory.number(data), wanted)
    whole = min(wanted, len(data)) // size * size
    return tuple(directory.number(data[at : at + size]) for at in range(0, whole, size))


def without_broken(file: IO[bytes]) -> IO[bytes]:
    """The file, or a copy without the unused tags that reach behind its end or are no text
    where one is due.

    Raises:
        MemoryError: there is not enough for the copy.
    """
    try:
        directory = read(file)
    except Broken:
        return file
    size = file.seek(0, os.SEEK_END)
    kept = [entry for entry in directory if not _is_broken(entry, directory, size)]
    if len(kept) == len(directory.entries) or size > _MAX_COPY_BYTES:
        return file
    file.seek(0)
    data = bytearray(file.read())
    length = 4 + 2 * directory.width
    table = b"".join(bytes(data[e.place : e.place + length]) for e in kept)
    begin = directory.place + directory.head_bytes
    end = begin + length * len(directory.entries)
    after = bytes(data[end : end + directory.width])
    data[directory.place : begin] = len(kept).to_bytes(directory.head_bytes, directory.order)
    data[begin : begin + len(table) + len(after)] = table + after
    return io.BytesIO(data)


def _is_broken(entry: Entry, directory: Directory, size: int) -> bool:
    if entry.tag in _NEEDED:
        return False
    if entry.tag == _XMP and entry.kind not in (1, 2, 7):
        return True  # Pillow takes it for a text
    length = entry.count * _SIZES.get(entry.kind, 0)
    return length > directory.width and directory.number(entry.field) + length > size


def _at(file: IO[bytes], place: int, size: int) -> bytes:
    try:
        file.seek(place)
    except (OverflowError, ValueError):
        return b""
    return file.read(size)


def _exactly(file: IO[bytes], size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise Broken
    return data
