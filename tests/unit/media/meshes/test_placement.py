"""Size and origin, in TripoSR's axes."""

from __future__ import annotations

import numpy as np
import pytest

from dna_pipeline.media.meshes.placement import place

POINTS = np.float32([[-0.1, 0.2, -0.3], [0.3, 0.4, 0.5], [0.0, 0.25, 0.1]])


def test_nothing_asked_changes_nothing():
    placement = place(POINTS, None, None)
    assert (placement.factor, placement.offset) == (1.0, (0.0, 0.0, 0.0))
    np.testing.assert_array_equal(placement.apply(POINTS), POINTS)


@pytest.mark.parametrize("size", [None, 1.0, 0.02, 180.0])
def test_base_stands_on_the_ground(size: float | None):
    found = place(POINTS, size, "base").apply(POINTS)
    low, high = found.min(axis=0), found.max(axis=0)
    assert low[2] == 0
    assert high[2] == pytest.approx(size or 0.8, rel=1e-6)
    np.testing.assert_allclose(low[:2], -high[:2], rtol=1e-5)


def test_center_is_the_middle():
    found = place(POINTS, 2.0, "center").apply(POINTS)
    np.testing.assert_allclose(found.min(axis=0), -found.max(axis=0), atol=1e-6)
    assert np.ptp(found, axis=0).max() == pytest.approx(2, rel=1e-6)


def test_a_size_alone_grows_about_the_middle_of_the_box():
    np.testing.assert_allclose(place(POINTS, 1.6, None).apply(POINTS), POINTS * 2, rtol=1e-6)


def test_shapes_stay():
    """The same factor along each axis, and float32 comes out."""
    found = place(POINTS, 3.0, "base").apply(POINTS)
    np.testing.assert_allclose(np.diff(found, axis=0), np.diff(POINTS, axis=0) * 3.75, rtol=1e-5)
    assert found.dtype == np.float32
