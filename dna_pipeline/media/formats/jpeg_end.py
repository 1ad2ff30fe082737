"""Checks that a JPEG's pixels are all there (ITU-T T.81, annex B).

libjpeg fills what is missing with grey and only warns, and Pillow drops the warning. A download
that stalled leaves zeros where the end should be, a lost block of a disk leaves them in the middle.
So the markers are followed to the end mark, and pixels that may be filled in are decoded once more,
with other bytes in the place of the missing ones: a whole picture does not change by that.
"""

from __future__ import annotations

import io
import random
import re
from typing import IO

from PIL import Image, ImageChops

ZEROS_IN_PLACE = "the file's end is missing (zeros are in its place): copy it again"
_CUT = "image file is truncated: it breaks off before its end mark; copy it again"
_SHORT = "image file is truncated: its pixels end before the picture does; copy it again"
_HOLE = "the JPEG is damaged (a part of its pixels is overwritten with zeros): copy it again"

_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])", re.DOTALL)
"""A marker that is neither a byte of pixels nor a restart between them."""
_SOI, _EOI, _SOS, _DHT, _DRI = 0xD8, 0xD9, 0xDA, 0xC4, 0xDD
_SEGMENTS = frozenset((*range(0xC0, 0xD0), *range(0xDA, 0xF0), 0xFE)) - {0xC8}
_SEQUENTIAL = frozenset((0xC0, 0xC1))
_HUFFMAN_FRAMES = frozenset((0xC0, 0xC1, 0xC2))

_HOLE_BYTES = 1024
"""Length of a run of zeros that counts as a possible hole; flat parts of a picture may have such
runs, too."""
_OTHER = random.Random(0).randbytes(8192).replace(b"\xff", b"\x7f")
"""Bytes that decode to anything but what a decoder fills in."""
_REPLACED_BYTES = 32
_CHANGED_SHARE = 0.002
_BLOCK = 8


class _Markers:
    """The segments of a JPEG up to its end mark.

    Attributes:
        scans: begin and end of each run of compressed pixels.
        end: where the end mark is; None without one.
    """

    def __init__(self, data: bytes) -> None:
        self.scans: list[tuple[int, int]] = []
        self.end: int | None = None
        self.frame = 0
        self.has_restarts = False
        self.has_zero_block = False
        """A table codes "no more of this block" by zero bits alone."""
        at, scan = 2, 0
        while (match := _MARKER.search(data, at)) is not None:
            marker, at = match[1][0], match.end()
            size = int.from_bytes(data[at : at + 2], "big")
            is_segment = marker in _SEGMENTS and size >= 2
            if scan and not is_segment and marker != _EOI:
                continue  # damage within the pixels
            if scan:
                self.scans.append((scan, match.start()))
                scan = 0
            if marker == _EOI:
                self.end = match.start()
                return
            if is_segment:
                self._take(marker, data[at + 2 : at + size])
                at += size
            if marker == _SOS:
                scan = at
        if scan:
            self.scans.append((scan, len(data)))

    def _take(self, marker: int, segment: bytes) -> None:
        if marker == _DHT:
            self._take_tables(segment)
        elif marker == _DRI:
            self.has_restarts = any(segment[:2])
        elif 0xC0 <= marker <= 0xCF and marker != 0xCC:
            self.frame = marker

    def _take_tables(self, segment: bytes) -> None:
        """Look whether the first code of a table, which is all zeros, ends a block of pixels."""
        while len(segment) > 17:
            count = sum(segment[1:17])
            self.has_zero_block |= segment[0] >= 0x10 and segment[17] == 0
            segment = segment[17 + count :]


def fault(file: IO[bytes], image: Image.Image) -> str:
    """Say what of the pixels is missing, and what to do; "" if nothing seems to be.

    Not noticed are: in progressive JPEGs and those with restart marks, zeros in the middle where
    flat colour may be meant; other bytes than zeros in the middle; and the loss of a few blocks.

    Args:
        image: the decoded picture.
    """
    file.seek(0)
    data = file.read()
    markers = _Markers(data)
    if markers.end is None:
        return ZEROS_IN_PLACE if data.endswith(bytes(16)) else _CUT
    if markers.frame not in _HUFFMAN_FRAMES or not markers.scans:
        return ""
    begin, end = markers.scans[-1]
    has_hole = any(bytes(_HOLE_BYTES) in data[slice(*scan)] for scan in markers.scans)
    if has_hole and markers.frame in _SEQUENTIAL and not markers.has_zero_block:
        return ZEROS_IN_PLACE if data[begin:end].endswith(bytes(_HOLE_BYTES)) else _HOLE
    is_open = has_hole and not markers.has_restarts and markers.frame in _SEQUENTIAL
    if not is_open and not _is_last_block_flat(image):
        return ""
    small = _small(data)
    if _differ(small, _small(data[:end] + _OTHER + data[end:])):
        return _HOLE if is_open else _SHORT
    if not is_open or data[begin:end].endswith(bytes(_REPLACED_BYTES)):
        return ""
    place = max(begin, end - _REPLACED_BYTES)
    is_read = small.tobytes() != _small(data[:place] + _OTHER + data[end:]).tobytes()
    return "" if is_read else _HOLE


def _is_last_block_flat(image: Image.Image) -> bool:
    """True if the pixels of the last block are equal, as filled-in ones are."""
    width, height = image.size
    left, top = (side - 1 - (side - 1) % _BLOCK for side in (width, height))
    block = image.crop((left, top, width, height)).convert("RGB")
    first = Image.new("RGB", block.size, block.getpixel((0, 0)))
    return block.tobytes() == first.tobytes()


def _small(data: bytes) -> Image.Image:
    """An eighth of the picture's size, of the first coefficient of each block alone."""
    image = Image.open(io.BytesIO(data), formats=("JPEG",))
    image.draft(image.mode, (max(1, image.width // 8), max(1, image.height // 8)))
    image.load()
    return image


def _differ(one: Image.Image, other: Image.Image) -> bool:
    change = ImageChops.difference(one.convert("RGB"), other.convert("RGB")).convert("L")
    changed = one.width * one.height - change.histogram()[0]
    return changed > _CHANGED_SHARE * one.width * one.height
