"""Checks that a GIF ends where its blocks end (GIF89a, appendix A).

A decoder of the first frame stops at its last pixel, and a copy that is still under way, or was cut
off, would pass as whole.
"""

from __future__ import annotations

import io
from typing import IO


def is_whole(file: IO[bytes]) -> bool:
    """True if the blocks lead to the trailer, or to the end of the file between two blocks.

    The second is what some encoders write. What follows the last block of GIF is not looked at.
    """
    file.seek(10)
    palette = _palette_bytes(_byte(file))
    file.seek(2 + palette, io.SEEK_CUR)
    while (kind := file.read(1)) in (b"!", b","):
        if kind == b"!":
            file.seek(1, io.SEEK_CUR)
        else:
            file.seek(8, io.SEEK_CUR)
            palette = _palette_bytes(_byte(file))
            file.seek(palette + 1, io.SEEK_CUR)
        if not _skip_data(file):
            return False
    return True


def _palette_bytes(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _skip_data(file: IO[bytes]) -> bool:
    """Pass a run of sub-blocks; False if the file ends before the empty one that closes it."""
    while size := _byte(file):
        if size < 0 or len(file.read(size)) < size:
            return False
    return True


def _byte(file: IO[bytes]) -> int:
    """The next byte; -1 at the end of the file."""
    byte = file.read(1)
    return byte[0] if byte else -1
