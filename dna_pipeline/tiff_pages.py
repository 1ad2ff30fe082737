"""Which page of a TIFF is the picture.

A TIFF is a chain of pages. Programs put smaller copies of the picture and masks among them, which
`NewSubfileType`, or the older `SubfileType`, marks as such (TIFF 6.0, pages 35 and 40).
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import IO, Any, cast

_NEW_SUBFILE_TYPE, _SUBFILE_TYPE, _IMAGE_WIDTH = 254, 255, 256
_REDUCED, _MASK = 1, 4
_OLD_REDUCED = 2
_BIG = 43

MAX_PAGES = 10_000
"""Pages that are looked at: a file of a few MB can chain a million of them."""

_MAX_ENTRIES = 64
"""Tags that are looked at of each page. They are sorted, and the ones looked for come first."""


@dataclass(frozen=True, slots=True)
class Pages:
    """The pages of a TIFF.

    Attributes:
        header: the header as it would be if the picture were the first page.
        offset: where the picture's page begins.
        count: how many pages there are, at most `MAX_PAGES`.
        remark: a sentence for the manifest where there was a choice; else "".
    """

    header: bytes
    offset: int
    count: int
    remark: str

    def picture(self, file: IO[bytes]) -> IO[bytes]:
        """The file with the picture as its first page."""
        file.seek(0)
        if file.read(len(self.header)) == self.header:
            return file
        return cast("IO[bytes]", _WithHeader(file, self.header))


@dataclass(frozen=True, slots=True)
class _Format:
    """How the numbers of a file are laid out: classic TIFF and BigTIFF, either byte order."""

    order: str
    is_big: bool

    @property
    def offset(self) -> struct.Struct:
        return struct.Struct(self.order + ("Q" if self.is_big else "I"))

    @property
    def count(self) -> struct.Struct:
        return struct.Struct(self.order + ("Q" if self.is_big else "H"))

    @property
    def entry(self) -> struct.Struct:
        """Tag, type, number of values, and the first value of 16 bits or the last of 32."""
        return struct.Struct(self.order + ("HHQ8s" if self.is_big else "HHI4s"))


def find(file: IO[bytes]) -> Pages | None:
    """Choose the first page that is neither a smaller copy nor a mask, else the first.

    Returns:
        None if the file is no TIFF, or has no page that can be read.
    """
    file.seek(0)
    head = file.read(16)
    if head[:2] not in (b"II", b"MM") or not {42, _BIG} & set(head[2:4]):
        return None
    layout = _Format("<" if head[:2] == b"II" else ">", _BIG in head[2:4])
    size = 16 if layout.is_big else 8
    try:
        pages = _walk(file, layout, layout.offset.unpack_from(head, size // 2)[0])
    except (struct.error, OSError, OverflowError):
        return None
    if not pages:
        return None
    chosen = next((at for at, (_, kind) in enumerate(pages) if kind == ""), 0)
    header = head[: size // 2] + layout.offset.pack(pages[chosen][0])
    return Pages(header, pages[chosen][0], len(pages), _remark([kind for _, kind in pages], chosen))


def _walk(file: IO[bytes], layout: _Format, offset: int) -> list[tuple[int, str]]:
    """Where each page begins, and what it is ("" for a picture), up to the end or a loop."""
    pages: list[tuple[int, str]] = []
    visited: set[int] = set()
    while offset and offset not in visited and len(pages) < MAX_PAGES:
        visited.add(offset)
        file.seek(offset)
        head = file.read(layout.count.size)
        if len(head) < layout.count.size:
            break
        (count,) = layout.count.unpack(head)
        tags = _tags(file.read(min(count, _MAX_ENTRIES) * layout.entry.size), layout)
        if _IMAGE_WIDTH not in tags:
            break  # not a page: the chain leads astray
        pages.append((offset, _kind(tags)))
        file.seek(offset + layout.count.size + count * layout.entry.size)
        tail = file.read(layout.offset.size)
        offset = layout.offset.unpack(tail)[0] if len(tail) == layout.offset.size else 0
    return pages


def _tags(data: bytes, layout: _Format) -> dict[int, int]:
    """The value of each tag that has one value of 16 or 32 bits; 0 for the others."""
    tags: dict[int, int] = {}
    whole = len(data) - len(data) % layout.entry.size
    for tag, kind, _, value in layout.entry.iter_unpack(data[:whole]):
        code = {3: "H", 4: "I"}.get(kind)
        tags[tag] = struct.unpack_from(layout.order + code, value)[0] if code else 0
    return tags


def _kind(tags: dict[int, int]) -> str:
    flags = tags.get(_NEW_SUBFILE_TYPE, 0)
    if flags & _MASK:
        return "a mask"
    if flags & _REDUCED or tags.get(_SUBFILE_TYPE) == _OLD_REDUCED:
        return "a smaller copy"
    return ""


def _remark(kinds: list[str], chosen: int) -> str:
    """A sentence on the choice. Smaller copies and masks behind the picture are as expected."""
    count = f"{len(kinds):,}" if len(kinds) < MAX_PAGES else f"at least {MAX_PAGES:,}"
    if chosen > 0:
        earlier = "those before it are marked as smaller copies or masks"
        if chosen == 1:
            earlier = f"the one before it is marked as {kinds[0]}"
        return f"Page {chosen + 1} of the TIFF's {count} pages was taken, since {earlier}."
    if kinds.count("") > 1:
        return f"The TIFF has {count} pages; only the first was taken."
    return ""


class _WithHeader(io.RawIOBase):
    """A file whose first bytes are others.

    It has the descriptor of the real file, by which libtiff reads the pixels: from the page whose
    offset Pillow gives it, whatever the header says.
    """

    def __init__(self, file: IO[bytes], header: bytes) -> None:
        self._file = file
        self._header = header

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._file.fileno()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        at = self._file.tell()
        data = self._file.read(len(buffer))
        if at < len(self._header):
            data = (self._header[at:] + data[len(self._header) - at :])[: len(data)]
        buffer[: len(data)] = data
        return len(data)
