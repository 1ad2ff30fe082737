"""Primaries of colour spaces: matrices between their linear light, CIE XYZ and Rec. 709.

Matrices are tuples of rows, since the library behind numpy.linalg takes 32 MB and more for buffers
in a decoder whose memory is limited.
"""

from __future__ import annotations

Vector = tuple[float, float, float]
Matrix = tuple[Vector, Vector, Vector]
Chromaticities = tuple[float, float, float, float, float, float, float, float]
"""CIE 1931 x and y of red, green, blue and white."""

D65 = (0.3127, 0.3290)
REC_709: Chromaticities = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, *D65)
ADOBE_RGB: Chromaticities = (0.64, 0.33, 0.21, 0.71, 0.15, 0.06, *D65)

D50_XYZ: Vector = (0.9642, 1.0, 0.8249)
"""White of ICC's connection space."""

_BRADFORD = ((0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296))
"""Cone responses of XYZ by Bradford, as ICC.1 (annex E) and ACES use them."""

_LEAST_DETERMINANT = 1e-3
"""Twice the area of the triangle of the primaries; that of Rec. 709 is 0.22."""
_MOST_COORDINATE = 10.0
"""No camera's and no display's primary has x or y above 1.5."""


def are_close(one: Chromaticities, other: Chromaticities, tolerance: float) -> bool:
    """True if no coordinate differs by more than the tolerance."""
    return all(abs(a - b) <= tolerance for a, b in zip(one, other, strict=True))


def matrix_to_rec709(to_xyz: Matrix, white: Vector) -> Matrix:
    """The matrix from linear light to that of Rec. 709, its white adapted by Bradford.

    Args:
        to_xyz: from that linear light to CIE XYZ.
        white: CIE XYZ of what becomes white.

    Raises:
        ZeroDivisionError: that white excites no cone of one kind.
    """
    rec709 = rgb_to_xyz(REC_709)
    return _product(_inverse(rec709), _product(_adaptation(white, white_of(rec709)), to_xyz))


def rgb_to_xyz(chromaticities: Chromaticities) -> Matrix:
    """The matrix from RGB to CIE XYZ, with the luminance of white at 1: SMPTE RP 177.

    Raises:
        ValueError: white is no mixture of the primaries, or they lie on a line.
        ZeroDivisionError: white has no luminance.
    """
    if not all(abs(value) <= _MOST_COORDINATE for value in chromaticities):  # nor NaN
        raise ValueError("no light has these chromaticities")
    points = [
        (x, y, 1 - x - y) for x, y in zip(chromaticities[::2], chromaticities[1::2], strict=True)
    ]
    red, green, blue, (x, y, z) = points
    primaries = _transposed((red, green, blue))
    if abs(_dot(red, _cross(green, blue))) < _LEAST_DETERMINANT:
        raise ValueError("the primaries lie on a line")
    amounts = _times(_inverse(primaries), (x / y, 1.0, z / y))
    if min(amounts) <= 0:
        raise ValueError("white lies outside the primaries")
    first, second, third = (
        (row[0] * amounts[0], row[1] * amounts[1], row[2] * amounts[2]) for row in primaries
    )
    return first, second, third


def white_of(to_xyz: Matrix) -> Vector:
    """CIE XYZ of white: equal red, green and blue."""
    return _times(to_xyz, (1.0, 1.0, 1.0))


def _adaptation(white: Vector, target: Vector) -> Matrix:
    """The matrix from XYZ under one white to XYZ under another: Bradford's."""
    have, want = _times(_BRADFORD, white), _times(_BRADFORD, target)
    long, medium, short = (
        (row[0] * gain, row[1] * gain, row[2] * gain)
        for row, gain in zip(
            _BRADFORD, (w / h for w, h in zip(want, have, strict=True)), strict=True
        )
    )
    return _product(_inverse(_BRADFORD), (long, medium, short))


def _dot(one: Vector, other: Vector) -> float:
    return one[0] * other[0] + one[1] * other[1] + one[2] * other[2]


def _cross(one: Vector, other: Vector) -> Vector:
    (a, b, c), (d, e, f) = one, other
    return b * f - c * e, c * d - a * f, a * e - b * d


def _times(matrix: Matrix, vector: Vector) -> Vector:
    return _dot(matrix[0], vector), _dot(matrix[1], vector), _dot(matrix[2], vector)


def _transposed(matrix: Matrix) -> Matrix:
    (a, b, c), (d, e, f), (g, h, i) = matrix
    return (a, d, g), (b, e, h), (c, f, i)


def _product(one: Matrix, other: Matrix) -> Matrix:
    columns = _transposed(other)
    return _times(columns, one[0]), _times(columns, one[1]), _times(columns, one[2])


def _inverse(matrix: Matrix) -> Matrix:
    first, second, third = matrix
    determinant = _dot(first, _cross(second, third))
    (a, b, c), (d, e, f), (g, h, i) = _transposed(
        (_cross(second, third), _cross(third, first), _cross(first, second))
    )
    return (
        (a / determinant, b / determinant, c / determinant),
        (d / determinant, e / determinant, f / determinant),
        (g / determinant, h / determinant, i / determinant),
    )
