"""An ICC profile for the colours that a video codec's numbers declare (`nclx`, ITU-T H.273).

Phones and cameras that write no ICC profile into their HEIF files say with three numbers which
primaries and which curve a picture has. As a profile they are applied by the same code as all
others. Of HDR curves (PQ, HLG) what is brighter than the white of paper, 203 cd/m² by ITU-R
BT.2408, is clipped, as with EXR.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_AS_SRGB = frozenset((1, 6, 11, 12, 13, 14, 15))
"""Curves that are shown as sRGB: its own, and those of SDR video, which screens treat alike."""

_BT709, _UNKNOWN = 1, frozenset((0, 2, 3))
_PQ, _HLG = 16, 18
HDR = frozenset((_PQ, _HLG))

_PAPER_WHITE_NITS = 203.0
_CURVE_POINTS = 2048
_D50 = (0.96422, 1.0, 0.82521)
_BRADFORD = ((0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296))

Matrix = Sequence[Sequence[float]]


def profile(nclx: Mapping[str, Any] | None) -> bytes | None:
    """The colours as an ICC profile; None where they are sRGB's, or not declared.

    Args:
        nclx: as pi-heif has it: the numbers of H.273, and the primaries' chromaticities.
    """
    if not nclx:
        return None
    primaries, transfer = nclx["color_primaries"], nclx["transfer_characteristics"]
    curve = _curve(transfer)
    is_srgb_like = primaries == _BT709 or primaries in _UNKNOWN
    if is_srgb_like and curve is _srgb:
        return None
    names = ("red", "green", "blue", "white")
    corners = [(nclx[f"color_primary_{n}_x"], nclx[f"color_primary_{n}_y"]) for n in names]
    if is_srgb_like:
        corners = [(0.64, 0.33), (0.30, 0.60), (0.15, 0.06), (0.3127, 0.3290)]
    if min(y for _, y in corners) <= 0:
        return None
    return _icc(_to_d50(corners), curve)


def _curve(transfer: int) -> Callable[[float], float]:
    """From the signal, 0 to 1, to linear light, where 1 is white."""
    curves: dict[int, Callable[[float], float]] = {
        4: lambda x: x**2.2, 5: lambda x: x**2.8, 8: lambda x: x, _PQ: _pq, _HLG: _hlg,
    }  # fmt: skip
    return curves.get(transfer, _srgb)


def _srgb(signal: float) -> float:
    return signal / 12.92 if signal <= 0.04045 else ((signal + 0.055) / 1.055) ** 2.4


def _pq(signal: float) -> float:
    """The EOTF of SMPTE ST 2084."""
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    root = signal ** (1 / m2)
    nits = 10_000 * (max(root - c1, 0.0) / (c2 - c3 * root)) ** (1 / m1)
    return nits / _PAPER_WHITE_NITS


def _hlg(signal: float) -> float:
    """The EOTF of ITU-R BT.2100 for a screen of 1000 cd/m², channel by channel."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    light = signal**2 / 3 if signal <= 0.5 else (math.exp((signal - c) / a) + b) / 12
    return 1000 * light**1.2 / _PAPER_WHITE_NITS


def _to_d50(corners: Sequence[tuple[float, float]]) -> Matrix:
    """XYZ of the three primaries, adapted to the white of ICC; a column for each."""
    xyz = [(x / y, 1.0, (1 - x - y) / y) for x, y in corners]
    columns, white = [list(column) for column in zip(*xyz[:3], strict=True)], xyz[3]
    scale = _times(_inverse(columns), white)
    scaled = [[value * factor for value, factor in zip(row, scale, strict=True)] for row in columns]
    cones = zip(_times(_BRADFORD, _D50), _times(_BRADFORD, white), strict=True)
    diagonal = [there / here for there, here in cones]
    adapted = [
        [diagonal[i] * value for value in row] for i, row in enumerate(_product(_BRADFORD, scaled))
    ]
    return _product(_inverse(_BRADFORD), adapted)


def _times(matrix: Matrix, vector: Sequence[float]) -> list[float]:
    return [sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix]


def _product(one: Matrix, other: Matrix) -> list[list[float]]:
    columns = list(zip(*other, strict=True))
    return [[sum(a * b for a, b in zip(row, c, strict=True)) for c in columns] for row in one]


def _inverse(matrix: Matrix) -> list[list[float]]:
    import numpy as np

    inverse: list[list[float]] = np.linalg.inv(np.array(matrix, np.float64)).tolist()
    return inverse


def _icc(primaries: Matrix, curve: Callable[[float], float]) -> bytes:
    """A display profile of version 2 with a matrix and one curve (ICC.1:2001-04)."""
    last = _CURVE_POINTS - 1
    points = [round(min(curve(i / last), 1.0) * 65535) for i in range(_CURVE_POINTS)]
    trc = b"curv\0\0\0\0" + struct.pack(f">I{_CURVE_POINTS}H", _CURVE_POINTS, *points)
    tags = {b"wtpt": _xyz(_D50), b"rTRC": trc, b"gTRC": trc, b"bTRC": trc}
    for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), zip(*primaries, strict=True), strict=True):
        tags[name] = _xyz(column)
    offset, table, body = 132 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += name + struct.pack(">II", offset + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = bytearray(128)
    head[0:4] = struct.pack(">I", offset + len(body))
    head[8:24] = b"\x02\x40\0\0mntrRGB XYZ "
    head[36:40] = b"acsp"
    head[68:80] = _xyz(_D50)[8:]
    return bytes(head) + table + body


def _xyz(values: Sequence[float]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))
