"""A PNG without the chunks that nothing here uses, so that none of them can refuse the picture.

A decoder that meets a text of a gigabyte, a broken checksum of a time stamp or a misnumbered frame
of an animation gives the whole file up. It is given a view of the file in which there are only the
pixels, their palette and transparency, and how the picture is turned. The chunks that say how
colours are meant are handed over apart from it, checked. Texts are not decompressed, and no pixel
is copied: the view reads from the file itself.

Chunks that decide what the picture looks like are never left out: a damaged palette or
transparency is the decoder's to refuse.
"""

from __future__ import annotations

import io
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

SIGNATURE = b"\x89PNG\r\n\x1a\n"

MAX_PROFILE_BYTES = 16 << 20
"""Large profiles of printers have 4 MiB; one of more than this is taken for damage."""

_COLOURS = {b"cICP": 4, b"sRGB": 1, b"gAMA": 4, b"cHRM": 32}
"""Chunks that say how colours are meant, beside iCCP, and their bytes."""

_MAX_EXIF_BYTES = 1 << 20

_ORIENTATIONS = (b"Raw profile type exif", b"XML:com.adobe.xmp")
"""Texts in which some programs say how the picture is turned; these are kept if they are small."""

_MAX_TEXT_BYTES = 1 << 18
_MAX_UNPACKED_BYTES = 1 << 19
_MAX_COMPRESSED_BYTES = 32 << 20


@dataclass(slots=True)
class Png:
    """A PNG's view for a decoder.

    Attributes:
        file: what a decoder is to read.
        colours: the data of the sound chunks before the pixels that say how colours are meant, by
            their names: cICP, iCCP (the profile, unpacked), sRGB, gAMA, cHRM.
        damaged: names of those among these chunks that are damaged.
        late: names of those that stand behind the pixels, where they do not count.
        frames: 1, or of an animation the number of its pictures, the still one counted.
        is_whole: the chunks lead to IEND.
    """

    file: IO[bytes]
    colours: dict[bytes, bytes]
    damaged: list[str]
    late: list[str]
    frames: int
    is_whole: bool


def view(file: IO[bytes]) -> Png:
    """Look through the chunks of a PNG. A file that breaks off or is misshapen stays so."""
    return _Walk(file).run()


class _Walk:
    """One pass over the chunks."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._spans: list[tuple[int, int]] = [(0, len(SIGNATURE))]
        """Begin and end of the parts of the file that are kept."""
        self._behind: list[tuple[int, int]] = []
        """Kept chunks from between those of pixels, which a decoder wants in one row."""
        self._kinds: set[bytes] = set()
        self._colours: dict[bytes, bytes] = {}
        self._damaged: list[str] = []
        self._late: list[str] = []
        self._is_whole = False
        self._controls = 0
        self._is_default_extra = False

    def run(self) -> Png:
        for kind, at, end in self._chunks():
            if not self._is_kept(kind, at, end):
                continue
            if kind == b"IEND":
                for span in self._behind:
                    self._keep(*span)
            if b"IDAT" in self._kinds and kind not in (b"IDAT", b"IEND"):
                self._behind.append((at, end))
            else:
                self._keep(at, end)
        frames = max(1, self._controls + self._is_default_extra)
        view = io.BufferedReader(_Spans(self._file, self._spans))
        return Png(view, self._colours, self._damaged, self._late, frames, self._is_whole)

    def _chunks(self) -> Iterator[tuple[bytes, int, int]]:
        """Type, begin and end of each chunk; what cannot be parsed counts as the last one."""
        at, kind = len(SIGNATURE), b""
        while kind != b"IEND":
            self._file.seek(at)
            head = self._file.read(8)
            kind, end = head[4:], at + 12 + int.from_bytes(head[:4], "big")
            self._is_whole = kind == b"IEND"
            if len(head) < 8 or not (kind.isascii() and kind.isalpha()):
                kind, end = b"IEND", self._file.seek(0, io.SEEK_END)
            yield kind, at, end
            at = end

    def _is_kept(self, kind: bytes, at: int, end: int) -> bool:
        """True for a chunk that the decoder should see."""
        is_first = kind not in self._kinds
        self._kinds.add(kind)
        if kind == b"fcTL":
            self._controls += 1
        elif kind == b"IDAT" and is_first:
            self._is_default_extra = b"acTL" in self._kinds and not self._controls
        elif kind == b"iCCP" or kind in _COLOURS:
            self._take_colour(kind, at, end)
        if kind == b"tRNS":
            return is_first
        if kind[:1].isupper():
            return True
        if kind in (b"tEXt", b"zTXt", b"iTXt"):
            return end - at <= _MAX_TEXT_BYTES and self._is_orientation(kind, at, end)
        if kind == b"eXIf":
            return is_first and end - at <= _MAX_EXIF_BYTES and self._data(at, end) is not None
        return False

    def _take_colour(self, kind: bytes, at: int, end: int) -> None:
        """Keep the data of the first sound chunk of its kind; behind the pixels, none counts."""
        if kind in self._colours:
            return
        if b"IDAT" in self._kinds:
            if (name := kind.decode()) not in (*self._late, *self._damaged):
                self._late.append(name)
            return
        data = None
        if kind == b"iCCP":
            data = self._profile(at, end)
        elif end - at - 12 == _COLOURS[kind]:
            data = self._data(at, end)
        if data is not None:
            self._colours[kind] = data
        elif (name := kind.decode()) not in self._damaged:
            self._damaged.append(name)

    def _is_orientation(self, kind: bytes, at: int, end: int) -> bool:
        """True for a sound text that may say how the picture is turned."""
        key, _, text = (self._data(at, end) or b"").partition(b"\0")
        if key not in _ORIENTATIONS or key in self._kinds:
            return False
        self._kinds.add(key)
        if kind == b"zTXt":
            return text[:1] == b"\0" and _unpacked(text[1:], _MAX_UNPACKED_BYTES) is not None
        if kind == b"iTXt" and text[:1] != b"\0":
            packed = text[2:].split(b"\0", 2)[-1]
            return _unpacked(packed, _MAX_UNPACKED_BYTES) is not None
        return True

    def _data(self, at: int, end: int) -> bytes | None:
        """A chunk's data; None if its checksum is not right or the file ends before it does."""
        self._file.seek(at + 4)
        chunk = self._file.read(end - at - 4)
        if len(chunk) < end - at - 4 or zlib.crc32(chunk[:-4]) != int.from_bytes(chunk[-4:], "big"):
            return None
        return chunk[4:-4]

    def _profile(self, at: int, end: int) -> bytes | None:
        if end - at > _MAX_COMPRESSED_BYTES or (data := self._data(at, end)) is None:
            return None
        _, _, packed = data.partition(b"\0")
        return _unpacked(packed[1:], MAX_PROFILE_BYTES) if packed[:1] == b"\0" else None

    def _keep(self, begin: int, end: int) -> None:
        last_begin, last_end = self._spans[-1]
        if begin == last_end:
            self._spans[-1] = (last_begin, end)
        elif begin < end:
            self._spans.append((begin, end))


def _unpacked(data: bytes, most: int) -> bytes | None:
    """The data without its compression; None if it is damaged or has more bytes than allowed."""
    unpacking = zlib.decompressobj()
    try:
        result = unpacking.decompress(data, most)
    except zlib.error:
        return None
    return result if unpacking.eof else None


class _Spans(io.RawIOBase):
    """Parts of a file, as if they lay one behind the other. It does not close that file."""

    def __init__(self, file: IO[bytes], spans: list[tuple[int, int]]) -> None:
        self._file = file
        self._spans = spans
        self._starts = [0]
        for begin, end in spans:
            self._starts.append(self._starts[-1] + end - begin)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._starts[-1]}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        number = bisect_right(self._starts, self._at) - 1
        if number >= len(self._spans):
            return 0
        begin, end = self._spans[number]
        inside = begin + self._at - self._starts[number]
        self._file.seek(inside)
        data = self._file.read(min(len(buffer), end - inside))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
