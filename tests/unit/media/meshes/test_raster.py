"""The rasteriser against shapes whose pictures are known."""

import time

import numpy as np
import pytest
import trimesh

from dna_pipeline.media.meshes.raster import rasterize

QUAD = np.array([[0, 1, 2], [0, 2, 3]], np.int32)


def test_a_rectangle_covers_its_pixels_once() -> None:
    corners = np.array([[2, 3], [9, 3], [9, 7], [2, 7]], float)
    fragments = rasterize(corners, np.ones(4), QUAD, 12, 10)
    expected = np.zeros((10, 12), bool)
    expected[3:7, 2:9] = True
    np.testing.assert_array_equal(fragments.covered, expected)
    assert set(np.unique(fragments.face)) == {-1, 0, 1}


@pytest.mark.parametrize("turn", [1, -1])
def test_both_sides_are_drawn(turn: int) -> None:
    corners = np.array([[0, 0], [8, 0], [8, 8], [0, 8]], float)
    assert rasterize(corners, np.ones(4), QUAD[:, ::turn], 8, 8).covered.all()


def test_interpolation_is_affine_at_equal_depth() -> None:
    corners = np.array([[0, 0], [64, 0], [64, 48], [0, 48]], float)
    fragments = rasterize(corners, np.full(4, 3.0), QUAD, 64, 48)
    places = fragments.interpolate(corners, QUAD).reshape(48, 64, 2)
    y, x = np.mgrid[:48, :64] + 0.5
    np.testing.assert_allclose(places, np.stack([x, y], axis=2), atol=1e-3)


def test_interpolation_is_perspective_correct() -> None:
    """A floor that recedes: at screen height between its ends, 1 / depth is affine."""
    corners = np.array([[0, 100], [100, 100], [100, 0], [0, 0]], float)
    depth = np.array([1.0, 1.0, 10.0, 10.0])
    fragments = rasterize(corners, depth, QUAD, 100, 100)
    found = fragments.interpolate(depth[:, None], QUAD)[:, 0].reshape(100, 100)
    share = (np.arange(100) + 0.5) / 100
    expected = 1 / (share / 1 + (1 - share) / 10)
    np.testing.assert_allclose(found, np.repeat(expected[:, None], 100, axis=1), rtol=1e-4)


def test_the_nearest_wins_pixel_by_pixel() -> None:
    """Two sloped rectangles that cross in the middle."""
    corners = np.array([[0, 0], [10, 0], [10, 4], [0, 4]], float)
    positions = np.vstack([corners, corners])
    depth = np.array([1, 3, 3, 1, 3, 1, 1, 3], float)
    faces = np.vstack([QUAD, QUAD + 4])
    for order in (faces, faces[::-1]):
        fragments = rasterize(positions, depth, order, 10, 4)
        first = np.isin(order[fragments.face], range(4)).all(axis=2)
        np.testing.assert_array_equal(first, np.arange(10)[None].repeat(4, axis=0) < 5)


def test_ties_go_to_the_lower_face() -> None:
    corners = np.array([[0, 0], [4, 0], [4, 4], [0, 4]], float)
    faces = np.vstack([QUAD, QUAD])
    assert rasterize(corners, np.ones(4), faces, 4, 4).face.max() == 1


def test_a_disc_has_its_area_and_no_holes() -> None:
    """A fan of thin triangles: every pixel within the circle is covered, none far beyond."""
    steps = np.linspace(0, 2 * np.pi, 721)[:-1]
    rim = np.stack([np.cos(steps), np.sin(steps)], axis=1) * 90.3 + 100
    positions = np.vstack([[[100.0, 100.0]], rim])
    spokes = np.arange(720)
    faces = np.stack([np.zeros(720), 1 + spokes, 1 + (spokes + 1) % 720], axis=1).astype(np.int32)
    covered = rasterize(positions, np.ones(721), faces, 200, 200).covered
    y, x = np.mgrid[:200, :200] + 0.5
    radius = np.hypot(x - 100, y - 100)
    assert covered[radius < 90.25].all()
    assert not covered[radius > 90.31].any()


def test_parts_outside_the_picture_are_cut() -> None:
    corners = np.array([[-500, -500], [700, -500], [700, 700], [-500, 700]], float)
    assert rasterize(corners, np.ones(4), QUAD, 7, 5).covered.all()
    assert not rasterize(corners + 2000, np.ones(4), QUAD, 7, 5).covered.any()


@pytest.mark.parametrize("depth", [0.0, -1.0, np.nan, np.inf])
def test_triangles_behind_the_camera_are_left_out(depth: float) -> None:
    corners = np.array([[0, 0], [8, 0], [8, 8], [0, 8]], float)
    depths = np.array([1.0, depth, 1.0, 1.0])
    fragments = rasterize(corners, depths, QUAD, 8, 8)
    assert set(np.unique(fragments.face)) == {-1, 1}  # the face that does not use the corner


def test_triangles_without_area_draw_nothing() -> None:
    line = np.array([[0, 0], [4, 4], [8, 8]], float)
    assert not rasterize(line, np.ones(3), np.array([[0, 1, 2]], np.int32), 8, 8).covered.any()
    empty = np.zeros((0, 3), np.int32)
    assert not rasterize(line, np.ones(3), empty, 8, 8).covered.any()


def test_a_ball_against_its_equation() -> None:
    """Seen along z without perspective: covered within the circle, depth on the sphere."""
    ball = trimesh.creation.icosphere(subdivisions=6)
    positions = ball.vertices[:, :2] * 80 + 100
    fragments = rasterize(positions, 5 - ball.vertices[:, 2], ball.faces, 200, 200)
    y, x = (np.mgrid[:200, :200] + 0.5 - 100) / 80
    inner = np.hypot(x, y) < 0.98
    assert fragments.covered[inner].all()
    assert not fragments.covered[np.hypot(x, y) > 1.001].any()
    height = np.zeros((200, 200))
    height[fragments.covered] = fragments.interpolate(ball.vertices[:, 2:], ball.faces)[:, 0]
    np.testing.assert_allclose(height[inner], np.sqrt(1 - x[inner] ** 2 - y[inner] ** 2), atol=0.01)


@pytest.mark.slow
def test_a_hundred_thousand_triangles_take_about_a_second() -> None:
    """A loose bound: a loop in Python over triangles would take minutes."""
    ball = trimesh.creation.icosphere(subdivisions=7)
    assert len(ball.faces) > 300_000
    positions = ball.vertices[:, :2] * 500 + 512
    start = time.perf_counter()
    fragments = rasterize(positions, 5 - ball.vertices[:, 2], ball.faces, 1024, 1024)
    assert time.perf_counter() - start < 20
    assert fragments.covered.sum() == pytest.approx(np.pi * 500**2, rel=1e-3)
