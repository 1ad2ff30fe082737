"""Says what of a JPEG cannot be read, from its frame header (ITU-T T.81, B.2.2)."""

from __future__ import annotations

from typing import IO

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
"""Markers of frame headers; the other three are of tables and an extension."""

_LOSSLESS = frozenset((0xC3, 0xC7, 0xCB, 0xCF))
_HIERARCHICAL = frozenset((0xC5, 0xC6, 0xCD, 0xCE))
_JPEG_LS = 0xF7
_ALONE = frozenset((0x01, *range(0xD0, 0xD8)))
"""Markers that no length follows."""

_END, _SCAN = 0xD9, 0xDA
_SAVE = "save it as an ordinary (baseline) JPEG, or as PNG"


def why_not(file: IO[bytes], reason: str) -> str:
    """Say why the JPEG is not read, and what to do; `reason` is the decoder's."""
    marker, frame = _frame(file)
    if marker is None:
        return (
            f"the JPEG is truncated or broken before its picture begins: copy it again ({reason})"
        )
    if marker == _JPEG_LS:
        return f"it is a JPEG-LS image, which is not read: {_SAVE}"
    if marker in _LOSSLESS:
        return f"it is a lossless JPEG (as in raw files and medicine), which is not read: {_SAVE}"
    if marker in _HIERARCHICAL:
        return f"it is a hierarchical JPEG, which is not read: {_SAVE}"
    if frame and frame[0] != 8:
        return f"it is a JPEG of {frame[0]} bits a channel; those of 8 bits are read: {_SAVE}"
    if len(frame) > 5 and frame[5] not in (1, 3, 4):
        return f"it is a JPEG of {frame[5]} channels; those of 1, 3 or 4 are read: {_SAVE}"
    return f"the JPEG is damaged ({reason}): copy or export it again"


def _frame(file: IO[bytes]) -> tuple[int | None, bytes]:
    """The frame header's marker, and the header; None where there is none before the pixels."""
    file.seek(2)
    while (byte := file.read(1)) == b"\xff":
        while (byte := file.read(1)) == b"\xff":
            pass
        marker = byte[0] if byte else _END
        if marker in (_END, _SCAN):
            return None, b""
        if marker in _ALONE:
            continue
        length = int.from_bytes(file.read(2), "big") - 2
        if marker in _FRAMES:
            return marker, file.read(max(0, length))
        if length < 0:
            break
        file.seek(length, 1)
    return None, b""
