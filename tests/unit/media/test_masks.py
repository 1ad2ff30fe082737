"""Masks, beside scipy's distance transform."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from dna_pipeline.media.masks import box, dilated, eroded, large_parts, touching

distance_to_false: Any = ndimage.distance_transform_edt


@pytest.mark.parametrize("radius", [1, 2, 3, 5, 10, 40])
@pytest.mark.parametrize("shape", [(31, 47), (5, 9), (1, 20), (20, 1)])
def test_discs(radius: int, shape: tuple[int, int]) -> None:
    mask = np.random.default_rng(radius).random(shape) < 0.06
    mask[0, 0] = True
    assert np.array_equal(dilated(mask, radius), distance_to_false(~mask) <= radius)
    assert np.array_equal(eroded(~mask, radius), distance_to_false(~mask) > radius)


def test_a_disc_of_nothing_and_of_all() -> None:
    nothing = np.zeros((4, 6), bool)
    assert not dilated(nothing, 2).any()
    assert eroded(~nothing, 2).all()


def test_parts_that_touch() -> None:
    mask = np.array([[1, 1, 0, 1], [0, 0, 0, 1], [1, 0, 0, 0]], bool)
    seed = np.zeros_like(mask)
    seed[0, 0] = seed[2, 1] = True
    assert np.array_equal(touching(mask, seed), [[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])


def test_large_parts_and_their_box() -> None:
    mask = np.zeros((20, 30), bool)
    mask[3:8, 10:20] = True
    mask[8, 20] = True  # hangs on by a corner
    mask[15, 2] = True
    large = large_parts(mask, 0.01)
    assert large.sum() == 51
    assert box(large, 0) == (slice(3, 9), slice(10, 21))
    assert box(large, 4) == (slice(0, 13), slice(6, 25))
