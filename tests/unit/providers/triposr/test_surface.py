"""Marching cubes on the dense grid."""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh

from dna_pipeline.media.meshes.mesh import Mesh, vertex_normals
from dna_pipeline.providers.triposr import surface
from dna_pipeline.providers.triposr.field import Field

GOLDEN = Path(__file__).parents[3] / "golden"


def to_trimesh(mesh: Mesh) -> trimesh.Trimesh:
    return trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)


def test_density_grid(tiny_field: Field, expected: Mapping[str, Any]) -> None:
    grid = surface.density_grid(tiny_field, 40)
    assert grid.dtype == np.float32
    np.testing.assert_allclose(grid, expected["density_grid"], rtol=1e-4)


def test_the_mesh_of_the_small_model(tiny_field: Field, expected: Mapping[str, Any]) -> None:
    mesh = surface.extract(tiny_field, 40).mesh
    assert mesh.vertices.shape == (int(expected["mesh_vertices"]), 3)
    assert mesh.faces.shape == (int(expected["mesh_faces"]), 3)
    np.testing.assert_allclose(mesh.vertices, expected["mesh_vertices_xyz"], rtol=0, atol=5e-5)
    solid = to_trimesh(mesh)
    np.testing.assert_allclose(solid.bounds, expected["mesh_bounds"], rtol=1e-5)
    assert solid.area == pytest.approx(float(expected["mesh_area"]), rel=1e-5)


def test_vertex_colors(tiny_field: Field, expected: Mapping[str, Any]) -> None:
    """The golden colours are cut to whole numbers of [0, 1]: 1 where a channel is saturated."""
    colors = surface.extract(tiny_field, 40).mesh.colors
    points = torch.as_tensor(expected["mesh_vertices_xyz"])
    np.testing.assert_allclose(colors, tiny_field.density_and_color(points)[1], atol=5e-3)
    saturated = expected["mesh_colors"][:, :3] == 1
    assert saturated.any()
    assert colors[saturated].min() > 1 - 1e-5
    assert colors.min() >= 0
    assert colors.max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize("scene", ["robot", "knot"])
def test_scenes(scene: str) -> None:
    expected = json.loads((GOLDEN / "scenes" / f"{scene}.expected.json").read_text())
    field = Field.from_npz(GOLDEN / "scenes" / f"{scene}.npz")
    found = surface.extract(field, 128)
    assert found.inside == expected["inside_128"]
    assert len(found.mesh.vertices) == expected["vertices_128"]
    assert len(found.mesh.faces) == expected["faces_128"]
    solid = to_trimesh(found.mesh)
    assert solid.is_watertight == expected["watertight_128"]
    assert solid.area == pytest.approx(expected["area_128"], rel=1e-5)
    assert solid.volume == pytest.approx(expected["volume_128"], rel=1e-5)  # outward: positive
    assert solid.body_count == expected["components_128"]


def test_progress_counts_every_chunk(robot: Field) -> None:
    seen: list[tuple[int, int]] = []
    surface.extract(robot, 20, chunk_size=3000, progress=lambda *step: seen.append(step))
    assert seen == [(3000, 8000), (6000, 8000), (8000, 8000)]


def test_chunks_change_nothing(robot: Field) -> None:
    small, large = (surface.extract(robot, 24, chunk_size=size).mesh for size in (333, 50_000))
    np.testing.assert_array_equal(small.faces, large.faces)
    np.testing.assert_allclose(small.vertices, large.vertices, atol=1e-5)
    np.testing.assert_allclose(small.colors, large.colors, atol=1e-4)


def test_progress_cancels(robot: Field) -> None:
    class Cancelled(Exception):
        pass

    def cancel(done: int, total: int) -> None:
        assert done < total
        raise Cancelled

    with pytest.raises(Cancelled):
        surface.extract(robot, 20, chunk_size=1000, progress=cancel)


@pytest.mark.parametrize("threshold", [1e30, 0.0])
def test_nothing_crosses_the_threshold(robot: Field, threshold: float) -> None:
    with pytest.raises(surface.EmptySurface, match=r"densities from .* to .* do not cross"):
        surface.extract(robot, 16, threshold)


@pytest.mark.parametrize("resolution", [32, 128])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_scene_that_is_no_numbers(robot: Field, bad: float, resolution: int) -> None:
    code = robot.scene_code.clone()
    code[0, 0, 30, 30] = bad
    field = Field(code, robot.decoder, robot.renderer, computed_in=torch.float16)
    with pytest.raises(surface.NonFiniteField, match=r"scene codes .* computed in float16"):
        surface.extract(field, resolution)


def test_densities_that_are_no_numbers(robot: Field) -> None:
    decoder = copy.deepcopy(robot.decoder)
    decoder.first.bias.fill_(float("nan"))
    field = Field(robot.scene_code, decoder, robot.renderer)
    for resolution, points in ((32, 32**3), (128, 65**3)):
        message = f"{points} of {points} densities are not finite"
        with pytest.raises(surface.NonFiniteField, match=message):
            surface.extract(field, resolution)


def test_a_grid_has_two_ends(robot: Field) -> None:
    with pytest.raises(ValueError, match="at least 2"):
        surface.density_grid(robot, 1)


def test_vertex_normals_of_a_ball() -> None:
    ball = trimesh.creation.icosphere(subdivisions=3)
    vertices = np.vstack([ball.vertices, [[9, 9, 9]]]).astype(np.float32)
    normals = vertex_normals(vertices, ball.faces.astype(np.int32))
    np.testing.assert_allclose(normals[:-1], ball.vertices, atol=0.02)
    np.testing.assert_array_equal(normals[-1], [0, 0, 1])  # used by no face
