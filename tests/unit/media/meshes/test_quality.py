"""Pieces, sizes and the box, on solids whose numbers are known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import trimesh

from dna_pipeline.media.meshes.mesh import Mesh, is_watertight
from dna_pipeline.media.meshes.quality import Removed, cut_sides, measure, welded, without_small

RADIUS = 0.87


def boxes(*sides: float) -> Mesh:
    """Cubes of these sides in a row, their faces mixed; each has its side as its colour's red."""
    vertices, faces, colors = [], [], []
    for at, side in enumerate(sides):
        cube = trimesh.creation.box((side,) * 3)
        faces.append(np.asarray(cube.faces) + 8 * at)
        vertices.append(np.asarray(cube.vertices) + np.array([3 * at, 0, 0]))
        colors.append(np.tile([side, 0, 0], (8, 1)))
    order = np.random.default_rng(0).permutation(12 * len(sides))
    return Mesh(
        np.concatenate(vertices).astype(np.float32),
        np.concatenate(faces)[order].astype(np.int32),
        np.concatenate(colors).astype(np.float32),
    )


def test_measures_of_boxes():
    mesh = boxes(1, 0.5)
    found = measure(mesh.vertices, mesh.faces)
    assert (found.watertight, found.components) == (True, 2)
    assert found.area == pytest.approx(6 + 1.5)
    assert found.volume == pytest.approx(1 + 0.125)


def test_the_volume_does_not_hang_on_the_place():
    mesh = boxes(1)
    found = measure(mesh.vertices + np.float32(5), mesh.faces)
    assert found.volume == pytest.approx(1, abs=1e-5)


def test_an_open_mesh_has_no_volume():
    mesh = boxes(1)
    found = measure(mesh.vertices, mesh.faces[1:])
    assert (found.watertight, found.components, found.volume) == (False, 1, None)
    assert found.area == pytest.approx(5.5)


def test_vertices_that_no_face_uses_are_no_components():
    mesh = boxes(1, 1, 1)
    middle = (mesh.faces // 8 == 1).all(axis=1)
    assert measure(mesh.vertices, mesh.faces[~middle]).components == 2


def test_seams_are_joined():
    """A sphere cut along its meridian, as an unwrapping does it."""
    ball = trimesh.creation.icosphere(subdivisions=2)
    vertices, faces = np.asarray(ball.vertices, np.float32), np.asarray(ball.faces, np.int32)
    vertices[vertices == 0] = 0.0
    right = vertices[faces].mean(axis=1)[:, 0] > 0
    other = vertices.copy()
    other[other == 0] = -0.0  # the same place
    cut = np.where(right[:, None], faces + len(vertices), faces)
    both = np.concatenate([vertices, other])
    assert not is_watertight(cut)
    joined = welded(both, cut)
    assert is_watertight(joined)
    assert len(joined) == len(faces)
    found = measure(both, joined)
    assert found.components == 1
    assert found.volume == pytest.approx(ball.volume, rel=1e-5)


def test_faces_that_are_lines_once_joined_are_left_out():
    vertices = np.float32([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 0, 0]])
    faces = np.int32([[0, 1, 2], [0, 1, 3]])
    assert len(welded(vertices, faces)) == 1


# --- closed or open ---


@pytest.mark.parametrize(
    ("change", "closed"),
    [
        (lambda f: f, True),
        (lambda f: f[:, ::-1], True),
        (lambda f: np.vstack([f, f + 42]), True),
        (lambda f: f[1:], False),
        (lambda f: np.vstack([f, f]), False),
        (lambda f: np.vstack([f[1:], f[:1, ::-1]]), False),
        (lambda f: f[:1], False),
    ],
)
def test_watertight(change: Callable[[np.ndarray], np.ndarray], closed: bool) -> None:
    ball = trimesh.creation.icosphere(subdivisions=1)
    faces = change(np.asarray(ball.faces)).astype(np.int32)
    assert is_watertight(faces) is closed


# --- small components ---


@pytest.mark.parametrize(
    ("least", "sides"),
    [
        (0.0, [1, 0.5, 0.1, 0.3]),
        (0.01, [1, 0.5, 0.1, 0.3]),
        (0.011, [1, 0.5, 0.3]),
        (0.1, [1, 0.5]),
        (1.0, [1]),
    ],
)
def test_small_components_go(least: float, sides: list[float]):
    """A cube of a tenth of the side has a hundredth of the area."""
    mesh = boxes(1, 0.5, 0.1, 0.3)
    rest, removed = without_small(mesh, least)
    gone = 4 - len(sides)
    assert removed == Removed(gone, 12 * gone)
    assert len(rest.faces) == 12 * len(sides)
    assert len(rest.vertices) == len(rest.colors) == 8 * len(sides)
    np.testing.assert_allclose(np.unique(rest.colors[:, 0]), np.unique(np.float32(sides)))
    assert is_watertight(rest.faces)
    assert (rest.faces.dtype, rest.vertices.dtype) == (np.int32, np.float32)
    kept = np.isin(mesh.colors[mesh.faces][:, 0, 0], np.float32(sides))
    np.testing.assert_array_equal(rest.vertices[rest.faces], mesh.vertices[mesh.faces[kept]])


# --- the box ---


def test_a_mesh_within_the_box_is_not_cut():
    vertices = boxes(1).vertices * np.float32(2 * RADIUS * 0.999)
    assert cut_sides(vertices, RADIUS) == []


@pytest.mark.parametrize(
    ("axis", "end", "side"),
    [
        (0, -1, "back"), (0, 1, "front"), (1, -1, "left"), (1, 1, "right"), (2, -1, "bottom"),
        (2, 1, "top"),
    ],
)  # fmt: skip
def test_the_side_that_cuts_is_named(axis: int, end: int, side: str):
    """TripoSR's front is +x, the picture's right +y, up +z."""
    vertices = boxes(1).vertices
    vertices[:, axis] += end * (RADIUS - 0.5)
    assert cut_sides(vertices, RADIUS) == [side]


def test_a_side_reached_but_for_rounding_counts():
    vertices = boxes(1).vertices
    vertices[:, 2] += np.nextafter(np.float32(RADIUS), np.float32(0)) - np.float32(0.5)
    assert vertices.max() < RADIUS
    assert cut_sides(vertices, RADIUS) == ["top"]
