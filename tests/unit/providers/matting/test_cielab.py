"""CIELAB, beside scikit-image."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage
from skimage import color

from dna_pipeline.providers.matting.cielab import slope, to_lab

rgb2lab: Any = color.rgb2lab


def test_all_kinds_of_colours() -> None:
    steps = np.linspace(0, 255, 18).round().astype(np.uint8)
    rgb = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(18, -1, 3)
    rgb[0, :16] = np.arange(16)[:, None]  # near black the curve is straight
    lab = to_lab(rgb)
    assert lab.dtype == np.float32
    np.testing.assert_allclose(lab, rgb2lab(rgb / 255), atol=2e-3)
    np.testing.assert_allclose(
        to_lab(np.full((1, 1, 3), 255, np.uint8))[0, 0], [100, 0, 0], atol=1e-2
    )


def test_the_slope_of_a_ramp_and_of_nothing() -> None:
    lab = np.zeros((40, 50, 3), np.float32)
    assert not slope(lab, 1.5).any()
    lab[..., 0] = np.arange(50) * 0.3
    lab[..., 2] = np.arange(50) * 0.4
    np.testing.assert_allclose(slope(lab, 1.5)[10:-10, 10:-10], 0.5, rtol=1e-3)
    noise = np.random.default_rng(0).random((30, 30, 3)).astype(np.float32)
    expected = sum(ndimage.gaussian_gradient_magnitude(noise[..., k], 2) ** 2 for k in range(3))
    np.testing.assert_allclose(slope(noise, 2), np.sqrt(expected), rtol=1e-4)
