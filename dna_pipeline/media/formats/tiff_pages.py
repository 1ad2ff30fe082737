"""Finds the page of a TIFF that is the picture.

A TIFF is a chain of pages. Programs put smaller copies of the picture and masks among them, which
`NewSubfileType`, or the older `SubfileType`, marks as such (TIFF 6.0, pages 35 and 40).
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import IO, Any, cast

from dna_pipeline.media.formats import tiff_tags

_NEW_SUBFILE_TYPE, _SUBFILE_TYPE, _IMAGE_WIDTH = 254, 255, 256
_REDUCED, _MASK = 1, 4
_OLD_REDUCED = 2
_SHORT, _LONG = 3, 4

MAX_PAGES = 10_000
"""Pages that are looked at: a file of a few MB can chain a million of them."""

_MAX_ENTRIES = 64
"""Tags that are looked at of each page. They are sorted, and the ones looked for come first."""


@dataclass(frozen=True, slots=True)
class Pages:
    """The pages of a TIFF.

    Attributes:
        header: the header as it would be if the picture were the first page.
        remark: a sentence for the manifest where there was a choice; else "".
    """

    header: bytes
    remark: str

    def picture(self, file: IO[bytes]) -> IO[bytes]:
        """The file with the picture as its first page."""
        file.seek(0)
        if file.read(len(self.header)) == self.header:
            return file
        return cast("IO[bytes]", _WithHeader(file, self.header))


def find(file: IO[bytes]) -> Pages | None:
    """Choose the first page that is neither a smaller copy nor a mask, else the first.

    Returns:
        None if the file is no TIFF, or has no page that can be read.
    """
    try:
        header = tiff_tags.read_header(file)
    except tiff_tags.Broken:
        return None
    pages = _walk(file, header)
    if not pages:
        return None
    chosen = next((at for at, (_, kind) in enumerate(pages) if kind == ""), 0)
    offset = pages[chosen][0]
    file.seek(0)
    start = file.read(header.width) + offset.to_bytes(header.width, header.order)
    return Pages(start, _remark([kind for _, kind in pages], chosen))


def _walk(file: IO[bytes], header: tiff_tags.Header) -> list[tuple[int, str]]:
    """Offset and kind ("" for a picture) of each page, up to the end of the chain or a loop."""
    pages: list[tuple[int, str]] = []
    visited: set[int] = set()
    offset = header.first
    while offset and offset not in visited and len(pages) < MAX_PAGES:
        visited.add(offset)
        try:
            directory = tiff_tags.read_directory(file, header, offset, _MAX_ENTRIES)
        except tiff_tags.Broken:
            break
        tags = {entry.tag: _number(header, entry) for entry in directory}
        if _IMAGE_WIDTH not in tags:
            break  # not a page: the chain leads astray
        pages.append((offset, _kind(tags)))
        offset = directory.following
    return pages


def _number(header: tiff_tags.Header, entry: tiff_tags.Entry) -> int:
    """The value of a tag that has one of 16 or 32 bits; 0 for the others."""
    size = {_SHORT: 2, _LONG: 4}.get(entry.kind, 0)
    return header.number(entry.field[:size])


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
