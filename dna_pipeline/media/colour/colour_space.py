"""Colour spaces of red, green and blue, and the way from their samples to 8-bit sRGB.

    sample → curve → linear light → matrix → linear light with the primaries of sRGB → 8-bit sRGB

The way is computed from the samples as they are stored, 8 or 16 bits, and rounded once, at its end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from dna_pipeline.media.colour.primaries import (
    REC_709,
    Chromaticities,
    Matrix,
    Vector,
    are_close,
    matrix_to_rec709,
    rgb_to_xyz,
    white_of,
)

Floats: TypeAlias = NDArray[np.float64]
Light: TypeAlias = NDArray[np.float64 | np.float32]
Bytes: TypeAlias = NDArray[np.uint8]
Samples: TypeAlias = NDArray[np.uint8 | np.uint16]
Curve: TypeAlias = Callable[[Floats], Floats]
"""From samples in 0 to 1 to linear light."""

SDR_WHITE_CD_M2 = 203.0
"""The brightness of white paper in HDR pictures (ITU-R BT.2408); it becomes white in sRGB."""

HLG_PEAK_CD_M2 = 1000.0
HLG_SYSTEM_GAMMA = 1.2

_SAME_CHROMATICITY = 0.002
_SAME_MATRIX = 0.002
_BAND_SAMPLES = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class ColourSpace:
    """How samples become light, and that light sRGB.

    Attributes:
        curves: for red, green and blue.
        matrix: from linear light to linear light with sRGB's primaries; None if they are sRGB's.
        is_narrow: black lies at 16/256 of the range and white at 235/256, as in video.
        is_scene: the curves give the light before the camera, which a display brightens (HLG).
    """

    curves: tuple[Curve, Curve, Curve]
    matrix: Matrix | None = None
    is_narrow: bool = False
    is_scene: bool = False

    def pixels(self, samples: Samples) -> Bytes:
        """Convert to sRGB.

        Args:
            samples: (height, width, 3), or (height, width) where red, green and blue are equal.

        Returns:
            (height, width, 3), rounded to the nearest.
        """
        levels = int(np.iinfo(samples.dtype).max) + 1
        light = self._light_of_levels(levels)
        if samples.ndim == 2:
            return _encoded(self._mixed(light.T))[samples]
        if self.matrix is None and not self.is_scene:
            tables = _encoded(light)
            return np.stack([tables[at][samples[..., at]] for at in range(3)], -1)
        return self._in_bands(samples, light.astype(np.float32))

    def _light_of_levels(self, levels: int) -> Floats:
        """(3, levels): the light of each value that a sample can have."""
        values = np.arange(levels, dtype=np.float64)
        if self.is_narrow:
            step = levels / 256
            values = np.clip((values - 16 * step) / (219 * step), 0, 1)
        else:
            values /= levels - 1
        return np.stack([curve(values) for curve in self.curves])

    def _in_bands(self, samples: Samples, light: NDArray[np.float32]) -> Bytes:
        """A few rows at a time, so that the light of a large picture never lies in memory."""
        result = np.empty(samples.shape, np.uint8)
        rows = max(1, _BAND_SAMPLES // (3 * samples.shape[1]))
        for top in range(0, len(samples), rows):
            band = samples[top : top + rows]
            mixed = self._mixed(np.stack([light[at][band[..., at]] for at in range(3)], -1))
            result[top : top + rows] = _encoded(mixed)
        return result

    def _mixed(self, light: Light) -> Light:
        """(..., 3): the same light with sRGB's primaries, as a display shows it."""
        if self.matrix is not None:
            light = np.matmul(light, np.array(self.matrix, light.dtype).T)
        if self.is_scene:
            light = light * _hlg_gain(light)
        return light


def _hlg_gain(light: Light) -> Light:
    """How much an HLG display brightens scene light (ITU-R BT.2100, the OOTF), over SDR white.

    The luminance is the same in any primaries, so it is taken from those of sRGB.
    """
    luminance = np.maximum(light @ np.array([0.2126, 0.7152, 0.0722], light.dtype), 0)
    brightness = HLG_PEAK_CD_M2 / SDR_WHITE_CD_M2 * luminance ** (HLG_SYSTEM_GAMMA - 1)
    return brightness[..., np.newaxis]


def _encoded(light: Light) -> Bytes:
    """Linear light as 8-bit sRGB (IEC 61966-2-1), what is out of range clipped."""
    clipped = np.clip(light, 0, 1)
    curved = np.where(clipped <= 0.0031308, 12.92 * clipped, 1.055 * clipped ** (1 / 2.4) - 0.055)
    return np.rint(curved * 255).astype(np.uint8)


def power(exponent: float) -> Curve:
    """The curve `sample ** exponent`."""
    return lambda values: values**exponent


def srgb(values: Floats) -> Floats:
    """The curve of sRGB (IEC 61966-2-1)."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def rec709(values: Floats) -> Floats:
    """The camera's curve of Rec. 709, 601 and 2020, inverted (ITU-T H.273: 1, 6, 14, 15)."""
    return np.where(values < 0.081243, values / 4.5, ((values + 0.099297) / 1.099297) ** (1 / 0.45))


def smpte240(values: Floats) -> Floats:
    """The camera's curve of SMPTE ST 240, inverted (ITU-T H.273: 7)."""
    return np.where(values < 0.0912, values / 4.0, ((values + 0.1115) / 1.1115) ** (1 / 0.45))


def dci(values: Floats) -> Floats:
    """The curve of digital cinema (SMPTE ST 428-1): 48 cd/m² are white."""
    return 52.37 / 48 * values**2.6


def pq(values: Floats) -> Floats:
    """The curve of PQ (SMPTE ST 2084), over SDR white."""
    root = values ** (32 / 2523)
    light = np.maximum(root - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * root)
    return 10_000 / SDR_WHITE_CD_M2 * light ** (8192 / 1305)


def hlg(values: Floats) -> Floats:
    """The camera's curve of HLG (ARIB STD-B67), inverted: the light of the scene."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(values <= 0.5, values**2 / 3, (np.exp((values - c) / a) + b) / 12)


def matrix_to_srgb(chromaticities: Chromaticities) -> Matrix | None:
    """The way to sRGB's primaries, white to white (Bradford); None if these are sRGB's.

    Raises:
        ValueError: no primaries can be where these are.
    """
    points = zip(chromaticities[::2], chromaticities[1::2], strict=True)
    if not all(0 <= x <= 1 and 0 < y <= 1 and x + y <= 1.0001 for x, y in points):
        raise ValueError("no light has these chromaticities")
    if is_like(chromaticities, REC_709):
        return None
    to_xyz = rgb_to_xyz(chromaticities)
    return matrix_from_xyz(to_xyz, white_of(to_xyz))


def matrix_from_xyz(to_xyz: Matrix, white: Vector) -> Matrix | None:
    """The way to sRGB's primaries from a matrix to CIE XYZ; None if it hardly changes anything.

    Args:
        white: CIE XYZ of what becomes white.
    """
    matrix = matrix_to_rec709(to_xyz, white)
    differences = (
        abs(value - (row == column))
        for row, values in enumerate(matrix)
        for column, value in enumerate(values)
    )
    return None if max(differences) < _SAME_MATRIX else matrix


def is_like(one: Chromaticities, other: Chromaticities) -> bool:
    """True if the difference is no more than that of rounding."""
    return are_close(one, other, _SAME_CHROMATICITY)
