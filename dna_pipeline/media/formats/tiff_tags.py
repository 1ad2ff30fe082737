"""Reads the tags of a TIFF's pages (TIFF 6.0, section 2; BigTIFF), and leaves broken ones out.

A tag that nothing here uses may point behind the end of the file, as where a program wrote it
wrongly. Pillow then also passes over sound tags that come after it, the colour profile or the
size of the picture among them.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Literal, NamedTuple

_MAX_TAGS = 4096
_MAX_VALUES = 64
_MAX_COPY_BYTES = 1 << 30
"""A larger file is not copied to leave a tag out."""

_WHOLE = frozenset((1, 2, 3, 4, 6, 7, 8, 9, 13, 16, 17, 18))
_BYTES = frozenset((1, 2, 6, 7))
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
    """The file is no TIFF, or breaks off before the end of a list of tags."""


class Entry(NamedTuple):
    """One tag: where its entry lies, its number, its type, how many values it has, and the field
    that holds them or says where they are."""

    place: int
    tag: int
    kind: int
    length: int
    field: bytes


@dataclass(frozen=True, slots=True)
class Header:
    """How the numbers of a file are written, and where its first page begins."""

    order: Literal["little", "big"]
    is_big: bool
    first: int

    @property
    def width(self) -> int:
        """Bytes of an offset."""
        return 8 if self.is_big else 4

    @property
    def head_bytes(self) -> int:
        """Bytes of the number of tags."""
        return 8 if self.is_big else 2

    @property
    def sign(self) -> str:
        """The byte order as `struct` and NumPy write it."""
        return "<" if self.order == "little" else ">"

    def number(self, data: bytes) -> int:
        """A number in the byte order of the file."""
        return int.from_bytes(data, self.order)


@dataclass(frozen=True, slots=True)
class Directory:
    """The list of tags of a page.

    Attributes:
        place: where it begins, with the number of tags.
        count: that number; there may be fewer entries, where only some were read.
        following: where the next page begins; 0 if there is none.
    """

    header: Header
    place: int
    count: int
    entries: list[Entry]
    following: int

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)


def read_header(file: IO[bytes]) -> Header:
    """The header of a TIFF. Raises `Broken`."""
    file.seek(0)
    mark = _exactly(file, 4)
    if mark[:2] not in (b"II", b"MM"):
        raise Broken
    order: Literal["little", "big"] = "little" if mark[:2] == b"II" else "big"
    is_big = b"+" in mark[2:]
    file.seek(8 if is_big else 4)
    return Header(order, is_big, int.from_bytes(_exactly(file, 8 if is_big else 4), order))


def read_directory(file: IO[bytes], header: Header, place: int, most: int = _MAX_TAGS) -> Directory:
    """A page's first tags, at most as many as asked for, or as there are where the file breaks off.

    Raises:
        Broken: there is no list of tags at this place.
    """
    count = header.number(_at(file, place, header.head_bytes))
    begin = place + header.head_bytes
    layout = struct.Struct(header.sign + ("HHQ8s" if header.is_big else "HHI4s"))
    table = file.read(min(count, most) * layout.size)
    table = table[: len(table) - len(table) % layout.size]
    entries = [
        Entry(begin + number * layout.size, *fields)
        for number, fields in enumerate(layout.iter_unpack(table))
    ]
    following = 0
    with suppress(Broken):
        following = header.number(_at(file, begin + count * layout.size, header.width))
    return Directory(header, place, count, entries, following)


def read(file: IO[bytes]) -> Directory:
    """The tags of the first page. Raises `Broken`."""
    header = read_header(file)
    directory = read_directory(file, header, header.first)
    if len(directory.entries) < min(directory.count, _MAX_TAGS):
        raise Broken
    return directory


class Page:
    """The tags of a TIFF's first page, read from the file when they are asked for.

    There are none where the file is no TIFF, or breaks off before them.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._entries: dict[int, Entry] = {}
        with suppress(Broken):
            directory = read(file)
            self.header = directory.header
            self._entries = {entry.tag: entry for entry in directory}

    def __bool__(self) -> bool:
        return bool(self._entries)

    def __contains__(self, tag: int) -> bool:
        return tag in self._entries

    def values(self, tag: int, most: int = _MAX_VALUES) -> tuple[int, ...]:
        """The first values of a tag of whole numbers or bytes; none of another kind."""
        kind = self._entries[tag].kind if tag in self else 0
        if kind not in _WHOLE:
            return ()
        size = _SIZES[kind]
        data = self._bytes(self._entries[tag], most * size)
        code = {1: "B", 2: "H", 4: "I", 8: "Q"}[size]
        return struct.unpack(f"{self.header.sign}{len(data) // size}{code}", data)

    def first(self, tag: int, default: int = 0) -> int:
        """The tag's first value."""
        return (self.values(tag, 1) or (default,))[0]

    def data(self, tag: int, most: int) -> bytes | None:
        """The bytes of a tag; None if it has none, or more than `most`."""
        entry = self._entries.get(tag)
        if entry is None or entry.kind not in _BYTES or entry.length > most:
            return None
        return self._bytes(entry, most)

    def _bytes(self, entry: Entry, most: int) -> bytes:
        """The values as they lie in the file, whole ones only."""
        size = _SIZES[entry.kind]
        length = min(entry.length * size, most)
        data = entry.field[:length]
        if entry.length * size > self.header.width:
            data = b""
            with suppress(Broken):
                _seek(self._file, self.header.number(entry.field))
                data = self._file.read(length)
        return data[: len(data) - len(data) % size]


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
    header = directory.header
    size = file.seek(0, os.SEEK_END)
    sound = [entry for entry in directory if not _is_broken(entry, header, size)]
    if len(sound) == len(directory.entries) or size > _MAX_COPY_BYTES:
        return file
    file.seek(0)
    data = bytearray(file.read())
    length = 4 + 2 * header.width
    table = b"".join(bytes(data[e.place : e.place + length]) for e in sound)
    begin = directory.place + header.head_bytes
    end = begin + length * len(directory.entries)
    after = bytes(data[end : end + header.width])
    data[directory.place : begin] = len(sound).to_bytes(header.head_bytes, header.order)
    data[begin : begin + len(table) + len(after)] = table + after
    return io.BytesIO(data)


def _is_broken(entry: Entry, header: Header, size: int) -> bool:
    if entry.tag in _NEEDED:
        return False
    if entry.tag == _XMP and entry.kind not in (1, 2, 7):
        return True  # Pillow takes it for a text
    length = entry.length * _SIZES.get(entry.kind, 0)
    return length > header.width and header.number(entry.field) + length > size


def _at(file: IO[bytes], place: int, size: int) -> bytes:
    _seek(file, place)
    return _exactly(file, size)


def _seek(file: IO[bytes], place: int) -> None:
    try:
        file.seek(place)
    except (OverflowError, ValueError, OSError) as error:  # farther than any file reaches
        raise Broken from error


def _exactly(file: IO[bytes], size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise Broken
    return data
