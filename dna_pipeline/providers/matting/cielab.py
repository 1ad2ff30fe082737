"""CIELAB: colours in a space where equal distances look about equally different."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from dna_pipeline.media.masks import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TO_XYZ = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
"""Linear sRGB → XYZ, ITU-R BT.709 primaries with D65."""
_WHITE = (0.95047, 1.0, 1.08883)
"""XYZ of D65."""


def to_lab(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """sRGB (h, w, 3) → L* in [0, 100], a*, b* (h, w, 3), relative to D65; CIE 15:2004, 8.2.1.

    Linear light comes from a table of 256 values, since the roots are what takes the time.
    """
    light = _linear()[rgb]
    matrix = (np.array(_TO_XYZ) / np.array(_WHITE)[:, None]).astype(np.float32)
    relative = light.reshape(-1, 3) @ matrix.T
    root = np.cbrt(relative)
    dark = relative <= np.float32(216 / 24389)
    if dark.any():
        root[dark] = relative[dark] * np.float32(841 / 108) + np.float32(4 / 29)
    x, y, z = root.T
    lab = np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)
    return lab.reshape(rgb.shape)


def slope(lab: NDArray[np.float32], blur: float) -> NDArray[np.float32]:
    """Change of colour (h, w) at each pixel of a blurred picture, CIELAB units per pixel.

    Args:
        blur: standard deviation of the Gaussian, in pixels.
    """
    squares = np.zeros(lab.shape[:2], np.float32)
    for channel in range(3):
        # A plane of its own is filtered faster than every third value.
        plane = np.ascontiguousarray(lab[..., channel])
        squares += ndimage().gaussian_gradient_magnitude(plane, blur) ** 2
    return np.sqrt(squares)


@cache
def _linear() -> NDArray[np.float32]:
    """Linear light of each 8-bit value of sRGB, IEC 61966-2-1."""
    value = np.arange(256) / 255
    curve = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return curve.astype(np.float32)
