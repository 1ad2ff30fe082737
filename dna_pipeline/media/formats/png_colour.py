"""Finds the colour space of a PNG, by the chunks that name it (PNG, third edition, 4.3).

The first of these that is understood counts: cICP, iCCP, sRGB, gAMA with cHRM. Of a chunk that is
damaged or makes no sense there is a remark, and it is passed over.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dna_pipeline.media.colour import h273
from dna_pipeline.media.colour.primaries import ADOBE_RGB, Chromaticities

if TYPE_CHECKING:
    from dna_pipeline.media.colour.colour_space import ColourSpace, Curve
    from dna_pipeline.media.formats.png_chunks import Png

_SRGB_GAMMA = 0.45455
_SRGB_GAMMA_TOLERANCE = 0.01
_GAMMAS = (0.1, 10.0)
"""The range of `gAMA` that a picture can have; what lies outside was written by mistake."""


@dataclass(slots=True)
class PngColour:
    """The colour information of a PNG.

    Attributes:
        icc: its profile, where that counts.
        space: None if the picture is in sRGB; counts where there is no profile that is of use.
        remarks: sentences for the manifest.
    """

    icc: bytes | None = None
    space: ColourSpace | None = None
    remarks: list[str] = field(default_factory=list[str])


def interpret(png: Png) -> PngColour:
    """Find the colour space of a PNG."""
    chunks = png.colours
    colour = PngColour()
    colour.remarks += [
        f"The PNG's {name} chunk is damaged and was ignored." for name in png.damaged
    ]
    colour.remarks += [
        f"The PNG's {name} chunk stands behind the pixels, where none counts, and was ignored."
        for name in png.late
    ]
    if b"cICP" in chunks and _take_cicp(colour, chunks[b"cICP"]):
        return colour
    colour.icc = chunks.get(b"iCCP")
    if b"sRGB" not in chunks:
        before = len(colour.remarks)
        _take_gamma(colour, chunks)
        if colour.icc is not None:  # which most likely counts instead
            del colour.remarks[before:]
    return colour


def _take_cicp(colour: PngColour, data: bytes) -> bool:
    """Use the numbers of ITU-T H.273; False if they are not understood."""
    primaries, transfer, matrix, full_range = data
    try:
        if matrix != 0 or full_range > 1:
            raise ValueError("not RGB")
        colour.space = h273.colour_space(primaries, transfer, is_narrow=full_range == 0)
    except ValueError:
        numbers = ", ".join(map(str, data))
        colour.remarks.append(
            f"The PNG's cICP chunk ({numbers}) is not understood and was ignored."
        )
        return False
    colour.remarks += h273.hdr_remarks("PNG", transfer)
    return True


def _take_gamma(colour: PngColour, chunks: dict[bytes, bytes]) -> None:
    """Use gAMA and cHRM, each of which may be missing: then it is that of sRGB."""
    gamma = _gamma(colour, chunks)
    primaries = _primaries(colour, chunks)
    if gamma is None and primaries is None:
        return
    from dna_pipeline.media.colour import colour_space as spaces

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
    from dna_pipeline.media.colour.colour_space import matrix_to_srgb

    numbers = struct.unpack(">8I", chunks[b"cHRM"])
    x0, y0, x1, y1, x2, y2, x3, y3 = (number / 100_000 for number in numbers)
    chromaticities = (x1, y1, x2, y2, x3, y3, x0, y0)  # the chunk begins with white
    try:
        matrix = matrix_to_srgb(chromaticities)
    except ValueError as error:
        colour.remarks.append(f"The PNG's cHRM chunk was ignored: {error}.")
        return None
    return None if matrix is None else chromaticities
