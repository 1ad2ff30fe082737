"""Recognition of an ONNX file by the outermost fields of its protocol buffer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO

_FIELDS = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26})
"""Numbers of the fields of `ModelProto`."""

_IR_VERSION, _GRAPH = 1, 7
_VARINT, _BYTES = 0, 2
_MAX_FIELDS = 10_000


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """An ONNX file. `damage` is a clause as in `headers.Header`."""

    damage: str = ""


def examine(file: IO[bytes], size: int) -> OnnxFile | None:
    """Walk over the fields of the file without reading the graph; None if it is no ONNX file."""
    file.seek(0)
    numbers: set[int] = set()
    for _ in range(_MAX_FIELDS):
        if file.tell() >= size:
            break
        number, end = _next_field(file)
        if number not in _FIELDS:
            return None
        numbers.add(number)
        if end > size:
            is_sure = {_IR_VERSION, _GRAPH} <= numbers
            return OnnxFile(f"it has {size:,} of at least {end:,} bytes") if is_sure else None
        file.seek(end)
    return OnnxFile() if {_IR_VERSION, _GRAPH} <= numbers else None


def _next_field(file: IO[bytes]) -> tuple[int, int]:
    """Number of the field that begins here, 0 if none does, and the place where it ends."""
    tag = _varint(file)
    kind, value = tag & 7, 0
    if kind in (_VARINT, _BYTES):
        value = _varint(file)
    if tag < 0 or value < 0 or kind not in (_VARINT, _BYTES):
        return 0, 0
    return tag >> 3, file.tell() + (value if kind == _BYTES else 0)


def _varint(file: IO[bytes]) -> int:
    """The number that is written here in groups of seven bits; -1 if there is none."""
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            return -1
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    return -1
