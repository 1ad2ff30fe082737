"""Colour spaces by the numbers of ITU-T H.273, which PNG (`cICP`) and HEIF (`nclx`) use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dna_pipeline.media.colour.primaries import D65, REC_709, Chromaticities

if TYPE_CHECKING:
    from dna_pipeline.media.colour.colour_space import ColourSpace, Curve

_ILLUMINANT_C = (0.310, 0.316)
PRIMARIES: dict[int, Chromaticities] = {
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
"""Primaries and white by their numbers in table 2."""

SRGB_PRIMARIES, SRGB_CURVE = 1, 13

_PQ, _HLG = 16, 18
_NO_VIDEO = frozenset((4, 5, 8, _PQ, 17, _HLG))
"""Curves whose light screens show as it is: powers, linear light, cinema and HDR."""


def colour_space(primaries: int, transfer: int, *, is_narrow: bool = False) -> ColourSpace | None:
    """The colour space of these numbers; None if it is sRGB.

    Raises:
        ValueError: one of the numbers is not read.
    """
    if primaries not in PRIMARIES:
        raise ValueError(f"no primaries have the number {primaries}")
    if (primaries, transfer, is_narrow) == (SRGB_PRIMARIES, SRGB_CURVE, False):
        return None
    from dna_pipeline.media.colour.colour_space import ColourSpace, matrix_to_srgb

    curve = _curve(transfer)
    matrix = matrix_to_srgb(PRIMARIES[primaries])
    return ColourSpace((curve, curve, curve), matrix, is_narrow, is_scene=transfer == _HLG)


def _curve(transfer: int) -> Curve:
    """The curve by its number in table 3. Raises ValueError."""
    from dna_pipeline.media.colour import colour_space as spaces

    camera = dict.fromkeys((1, 6, 14, 15), spaces.rec709)
    others = {
        4: spaces.power(2.2),
        5: spaces.power(2.8),
        7: spaces.smpte240,
        8: spaces.power(1.0),
        SRGB_CURVE: spaces.srgb,
        _PQ: spaces.pq,
        17: spaces.dci,
        _HLG: spaces.hlg,
    }
    curves = camera | others
    if transfer not in curves:
        raise ValueError(f"no curve that is read has the number {transfer}")
    return curves[transfer]


def shown_as(primaries: int, transfer: int) -> tuple[int, int]:
    """The numbers by which screens show a photo or a video with these.

    The curves of SDR video describe the camera; what is shown is sRGB. So is what is not declared,
    or has a number that nobody knows.
    """
    return (
        primaries if primaries in PRIMARIES else SRGB_PRIMARIES,
        transfer if transfer in _NO_VIDEO else SRGB_CURVE,
    )


def hdr_remarks(name: str, transfer: int) -> list[str]:
    """A sentence for the manifest if the curve is one of HDR; `name` is that of the format."""
    if transfer not in (_PQ, _HLG):
        return []
    curve = "PQ" if transfer == _PQ else "HLG"
    return [
        f"The {name} is an HDR picture ({curve}): 203 cd/m² became white, and what is brighter was "
        "clipped."
    ]
