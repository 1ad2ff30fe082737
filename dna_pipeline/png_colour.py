"""Which colour space a PNG is in, by the chunks that say it (PNG, third edition, 4.3).

The first of these that is understood counts: cICP, iCCP, sRGB, gAMA with cHRM. A chunk that is
damaged or makes no sense is passed over with a remark, and kept from Pillow, which would refuse the
whole picture for it.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

from dna_pipeline.primaries import ADOBE_RGB, D65, REC_709, Chromaticities

if TYPE_CHECKING:
    from dna_pipeline.colour_space import ColourSpace, Curve

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SIZES = {b"cICP": 4, b"sRGB": 1, b"gAMA": 4, b"cHRM": 32}
_MAX_PROFILE_BYTES = 64 << 20

_SRGB_GAMMA = 0.45455
_SRGB_GAMMA_TOLERANCE = 0.01
_GAMMAS = (0.1, 10.0)
"""The range of `gAMA` that a picture can have; what lies outside was written by mistake."""

_ILLUMINANT_C = (0.310, 0.316)
_PRIMARIES: dict[int, Chromaticities] = {
    1: REC_709,
    4: (0.67, 0.33, 0.21, 0.71, 0.14, 0.08, *_ILLUMINANT_C),
    5: (0.64, 0.33, 0.29, 0.60, 0.15, 0.06, *D65),
    6: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, *D65),
    7: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, *D65),
    8: (0.681, 0.319, 0.243, 0.692, 0.145, 0.049, *_ILLUMINANT_C),
    9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, *D65),
    11: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.314, 0.351),
    12: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, *D65),
    22: (0.630, 0.340, 0.295, 0.605, 0.155, 0.077, *D65),
}
"""Primaries and white by their number in ITU-T H.273, table 2."""

_SRGB_CURVE, _PQ, _HLG = 13, 16, 18


@dataclass(slots=True)
class PngColour:
    """What a PNG says about its colours.

    Attributes:
        space: None if the picture is in sRGB, or in the space of its ICC profile.
        overrules_profile: `space` counts even where there is an ICC profile.
        remarks: sentences for the manifest.
        file: the PNG without the chunks that are damaged.
    """

    file: IO[bytes]
    space: ColourSpace | None = None
    overrules_profile: bool = False
    remarks: list[str] = field(default_factory=list[str])


def read(file: IO[bytes]) -> PngColour | None:
    """Find the colour space of a file; None if it is no PNG."""
    file.seek(0)
    if file.read(8) != _SIGNATURE:
        return None
    colour = PngColour(file)
    chunks, damaged = _chunks(file, colour.remarks)
    if damaged:
        colour.file = io.BufferedReader(_Without(file, damaged))
    if b"cICP" in chunks and _take_cicp(colour, chunks[b"cICP"]):
        return colour
    if b"sRGB" not in chunks:
        before = len(colour.remarks)
        _take_gamma(colour, chunks)
        if b"iCCP" in chunks:  # which most likely counts instead
            del colour.remarks[before:]
    return colour


def _chunks(file: IO[bytes], remarks: list[str]) -> tuple[dict[bytes, bytes], list[range]]:
    """The sound colour chunks before the pixels, and where the damaged ones lie."""
    chunks: dict[bytes, bytes] = {}
    damaged: list[range] = []
    at = len(_SIGNATURE)
    while len(head := file.read(8)) == 8 and (name := head[4:]) != b"IDAT":
        size = int.from_bytes(head[:4], "big")
        if name in _SIZES or (name == b"iCCP" and size <= _MAX_PROFILE_BYTES):
            data, checksum = file.read(size), file.read(4)
            if len(checksum) < 4:
                break  # cut off: Pillow says so
            if _is_sound(name, data, checksum):
                chunks.setdefault(name, data)
            else:
                damaged.append(range(at, at + size + 12))
                remarks.append(f"The PNG's {name.decode()} chunk is damaged and was ignored.")
        at += size + 12
        file.seek(at)
    return chunks, damaged


def _is_sound(name: bytes, data: bytes, checksum: bytes) -> bool:
    if zlib.crc32(name + data) != int.from_bytes(checksum, "big"):
        return False
    if name == b"iCCP":
        _, _, rest = data.partition(b"\0")
        return rest[:1] == b"\0"  # the only method of compression there is
    return len(data) == _SIZES[name]


def _take_cicp(colour: PngColour, data: bytes) -> bool:
    """Use the numbers of ITU-T H.273; False if they are not understood."""
    primaries, transfer, matrix, full_range = data
    curve = _curve(transfer)
    if primaries not in _PRIMARIES or curve is None or matrix != 0 or full_range > 1:
        numbers = ", ".join(map(str, data))
        colour.remarks.append(
            f"The PNG's cICP chunk ({numbers}) is not understood and was ignored."
        )
        return False
    colour.overrules_profile = True
    if transfer in (_PQ, _HLG):
        colour.remarks.append(
            f"The PNG is an HDR picture ({'PQ' if transfer == _PQ else 'HLG'}): 203 cd/m² became "
            "white, and what is brighter was clipped."
        )
    if (primaries, transfer, full_range) != (1, _SRGB_CURVE, 1):
        from dna_pipeline.colour_space import ColourSpace, matrix_to_srgb

        to_srgb = matrix_to_srgb(_PRIMARIES[primaries])
        colour.space = ColourSpace(
            (curve, curve, curve), to_srgb, full_range == 0, transfer == _HLG
        )
    return True


def _curve(transfer: int) -> Curve | None:
    """The curve by its number in ITU-T H.273, table 3; None if there is none that is read."""
    from dna_pipeline import colour_space as spaces

    camera = dict.fromkeys((1, 6, 14, 15), spaces.rec709)
    others = {
        4: spaces.power(2.2),
        5: spaces.power(2.8),
        7: spaces.smpte240,
        8: spaces.power(1.0),
        _SRGB_CURVE: spaces.srgb,
        _PQ: spaces.pq,
        17: spaces.dci,
        _HLG: spaces.hlg,
    }
    return (camera | others).get(transfer)


def _take_gamma(colour: PngColour, chunks: dict[bytes, bytes]) -> None:
    """Use gAMA and cHRM, each of which may be missing: then it is that of sRGB."""
    gamma = _gamma(colour, chunks)
    primaries = _primaries(colour, chunks)
    if gamma is None and primaries is None:
        return
    from dna_pipeline import colour_space as spaces

    curve: Curve = spaces.srgb if gamma is None else spaces.power(1 / gamma)
    matrix = None
    if primaries is not None:
        matrix = spaces.matrix_to_srgb(primaries)
        if gamma is None and b"gAMA" in chunks and spaces.is_like(primaries, ADOBE_RGB):
            curve = spaces.power(1 / _SRGB_GAMMA)  # Adobe RGB has no other curve
    if matrix is not None or gamma is not None:
        colour.space = spaces.ColourSpace((curve, curve, curve), matrix)


def _gamma(colour: PngColour, chunks: dict[bytes, bytes]) -> float | None:
    """The exponent by which the picture was encoded; None if that was sRGB's curve."""
    if b"gAMA" not in chunks:
        return None
    gamma = int.from_bytes(chunks[b"gAMA"], "big") / 100_000
    if not _GAMMAS[0] <= gamma <= _GAMMAS[1]:
        colour.remarks.append(f"The PNG's gAMA chunk ({gamma:g}) makes no sense and was ignored.")
        return None
    return None if abs(gamma - _SRGB_GAMMA) <= _SRGB_GAMMA_TOLERANCE else gamma


def _primaries(colour: PngColour, chunks: dict[bytes, bytes]) -> Chromaticities | None:
    """Primaries and white of the cHRM chunk; None if they are those of sRGB."""
    if b"cHRM" not in chunks:
        return None
    from dna_pipeline.colour_space import matrix_to_srgb

    numbers = struct.unpack(">8I", chunks[b"cHRM"])
    x0, y0, x1, y1, x2, y2, x3, y3 = (number / 100_000 for number in numbers)
    chromaticities = (x1, y1, x2, y2, x3, y3, x0, y0)  # the chunk begins with white
    try:
        matrix = matrix_to_srgb(chromaticities)
    except ValueError as error:
        colour.remarks.append(f"The PNG's cHRM chunk was ignored: {error}.")
        return None
    return None if matrix is None else chromaticities


class _Without(io.RawIOBase):
    """A file without some of its parts."""

    def __init__(self, file: IO[bytes], gaps: list[range]) -> None:
        self._file = file
        self._gaps = gaps
        self._size = file.seek(0, io.SEEK_END) - sum(map(len, gaps))
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        place, end = self._at, len(buffer) + self._at
        for gap in self._gaps:
            if gap.start <= place:
                place, end = place + len(gap), end + len(gap)
            else:
                end = min(end, gap.start)
        self._file.seek(place)
        data = self._file.read(max(0, end - place))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
