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

Floats: TypeAlias = NDArray[np.float64]
Light: TypeAlias = NDArray[np.float64 | np.float32]
Bytes: TypeAlias = NDArray[np.uint8]
Samples: TypeAlias = NDArray[np.uint8 | np.uint16]
Curve: TypeAlias = Callable[[Floats], Floats]
"""From samples in 0 to 1 to linear light."""

Chromaticities: TypeAlias = tuple[float, float, float, float, float, float, float, float]
"""CIE x and y of white, red, green and blue."""

D65 = (0.3127, 0.3290)
REC709: Chromaticities = (*D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
ADOBE_RGB: Chromaticities = (*D65, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)

SDR_WHITE_CD_M2 = 203.0
"""The brightness of white paper in HDR pictures (ITU-R BT.2408); it becomes white in sRGB."""

HLG_PEAK_CD_M2 = 1000.0
HLG_SYSTEM_GAMMA = 1.2

D50_XYZ: Floats = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
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
    matrix: Floats | None = None
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
            light = np.matmul(light, self.matrix.T.astype(light.dtype))
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


def matrix_to_srgb(chromaticities: Chromaticities) -> Floats | None:
    """The way to sRGB's primaries, white to white (Bradford); None if these are sRGB's.

    Raises:
        ValueError: no primaries can be where these are.
    """
    if are_close(chromaticities, REC709):
        return None
    white = _xyz(chromaticities[:2])
    return matrix_from_xyz(_rgb_to_xyz(chromaticities), white)


def matrix_from_xyz(to_xyz: Floats, white: Floats) -> Floats | None:
    """The way to sRGB's primaries from a matrix to CIE XYZ; None if it is hardly one.

    Args:
        white: CIE XYZ of what becomes white.
    """
    adapted = _adaptation(white, _xyz(D65)) @ to_xyz
    matrix = np.linalg.inv(_rgb_to_xyz(REC709)) @ adapted
    return None if np.abs(matrix - np.eye(3)).max() < _SAME_MATRIX else matrix


def are_close(one: Chromaticities, other: Chromaticities) -> bool:
    """True if the difference is no more than that of rounding."""
    return all(abs(a - b) <= _SAME_CHROMATICITY for a, b in zip(one, other, strict=True))


def _rgb_to_xyz(chromaticities: Chromaticities) -> Floats:
    """(3, 3): from linear light to CIE XYZ (SMPTE RP 177)."""
    white, *primaries = (_xyz(chromaticities[at : at + 2]) for at in (0, 2, 4, 6))
    directions = np.stack(primaries, -1)
    if abs(np.linalg.det(directions)) < 1e-4:
        raise ValueError("the primaries lie on a line")
    shares = np.linalg.solve(directions, white)
    if shares.min() <= 0:
        raise ValueError("white lies outside the primaries")
    return directions * shares


def _xyz(chromaticity: tuple[float, ...]) -> Floats:
    """CIE XYZ of brightness 1."""
    x, y = chromaticity
    if not (0 <= x <= 1 and 0 < y <= 1 and x + y <= 1.0001):
        raise ValueError("no light has that chromaticity")
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _adaptation(white: Floats, target: Floats) -> Floats:
    gains = (_BRADFORD @ target) / (_BRADFORD @ white)
    return np.linalg.inv(_BRADFORD) @ np.diag(gains) @ _BRADFORD
