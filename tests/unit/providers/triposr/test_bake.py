"""Textures: the same by OpenGL and numpy, no foreign colour at seams, and the field's look."""

from __future__ import annotations

from collections.abc import Callable

import moderngl
import numpy as np
import pytest
import torch

from dna_pipeline.media.meshes import gl, texels
from dna_pipeline.media.meshes.decimate import decimate
from dna_pipeline.media.meshes.mesh import vertex_normals
from dna_pipeline.media.meshes.texels import Texels
from dna_pipeline.media.meshes.unwrap import Layout, lay_out
from dna_pipeline.providers.triposr import bake as module
from dna_pipeline.providers.triposr import surface
from dna_pipeline.providers.triposr.bake import bake, fill
from dna_pipeline.providers.triposr.field import Field
from tests.conftest import load_script

pytestmark = pytest.mark.usefixtures("one_thread")

bench = load_script("benches.bake")
SIZE = 256


@pytest.fixture(scope="module")
def small(robot: Field) -> tuple[np.ndarray, np.ndarray, Layout]:
    mesh = surface.extract(robot, 64).mesh
    vertices, faces = decimate(mesh.vertices, mesh.faces, 3000)
    return vertices, faces, lay_out(vertices, faces, SIZE)


@pytest.mark.slow
def test_both_rasterisers_give_the_same_texels(
    small: tuple[np.ndarray, np.ndarray, Layout], lacking: Callable[[str], None]
) -> None:
    vertices, _, layout = small
    given = vertices[layout.vertex], layout.texcoords, layout.faces, SIZE
    try:
        drawn = texels.locate_on_gpu(*given)
    except gl.NoOpenGL as error:
        lacking(str(error))
        return
    here = texels.locate_on_cpu(*given)
    both = drawn.covered & here.covered
    # Those whose centre lies on a rim are the driver's to give.
    assert (drawn.covered ^ here.covered).sum() <= 1e-4 * both.sum()
    places = [at.positions[both[at.covered]] for at in (drawn, here)]
    np.testing.assert_allclose(*places, rtol=0, atol=1e-5)


@pytest.mark.parametrize("way", ["cpu", "gpu"])
def test_each_texel_lies_where_its_coordinates_say(
    way: str, request: pytest.FixtureRequest
) -> None:
    if way == "gpu":
        request.getfixturevalue("opengl")
    found = getattr(texels, f"locate_on_{way}")(*square())
    assert found.covered[:32, :32].all()
    assert found.covered.sum() == 32 * 32
    row, column = np.nonzero(found.covered)
    expected = np.column_stack([(column + 0.5) / 64, (row + 0.5) / 64, 0 * row])
    np.testing.assert_allclose(found.positions, expected, atol=1e-6)


def square() -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Two faces on the texture's left upper quarter, their positions their coordinates."""
    corners = np.array([[0, 0], [0.5, 0], [0.5, 0.5], [0, 0.5]], np.float32)
    positions = np.column_stack([corners, np.zeros(4)]).astype(np.float32)
    return positions, corners, np.array([[0, 1, 2], [0, 2, 3]], np.int32), 64


@pytest.mark.usefixtures("opengl")
@pytest.mark.parametrize("fault", ["GLSL Compiler failed", "GL_OUT_OF_MEMORY", "nothing was drawn"])
def test_where_opengl_fails_numpy_finds_the_texels(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fault == "GL_OUT_OF_MEMORY":  # there is no calling for it
        answers = iter(["GL_NO_ERROR", "GL_NO_ERROR", fault])
        monkeypatch.setattr(moderngl.Context, "error", property(lambda _: next(answers)))
    elif fault == "nothing was drawn":
        empty = texels._FRAGMENT_SHADER.replace("void main() {", "void main() { discard;")
        monkeypatch.setattr(texels, "_FRAGMENT_SHADER", empty)
    else:
        monkeypatch.setattr(texels, "_FRAGMENT_SHADER", "no program")
    found = texels.locate(*square())
    assert fault in (found.fault or "")
    np.testing.assert_array_equal(found.covered, texels.locate_on_cpu(*square()).covered)


def test_uncovered_texels_take_the_nearest_colour() -> None:
    covered = np.zeros((32, 32), bool)
    covered[4:8, 4:8] = covered[20:28, 20:28] = True
    colors = np.repeat(np.array([[10, 20, 30], [200, 100, 50]], np.uint8), [16, 64], axis=0)
    texture = fill(Texels(covered, np.zeros((80, 3), np.float32)), colors)
    assert (texture[covered] == colors).all()
    assert (texture[:10, :10] == colors[0]).all()
    assert (texture[18:, 18:] == colors[-1]).all()


@pytest.mark.slow
def test_normals_are_smooth_across_seams_and_progress_rises(
    robot: Field, small: tuple[np.ndarray, np.ndarray, Layout], monkeypatch: pytest.MonkeyPatch
) -> None:
    vertices, faces, layout = small
    monkeypatch.setattr(module, "unwrap", lambda *given: layout)
    monkeypatch.setattr(module, "_POINTS_PER_REPORT", 1 << 13)
    seen: list[tuple[int, int]] = []
    made = bake(robot, vertices, faces, SIZE, 1 << 13, lambda *at: seen.append(at)).mesh
    smooth = vertex_normals(vertices, faces)
    assert len(made.vertices) > len(vertices)
    np.testing.assert_array_equal(made.normals, smooth[layout.vertex])
    np.testing.assert_array_equal(made.vertices[made.faces], vertices[faces])
    assert len(seen) > 2
    assert seen == sorted(seen)
    assert seen[-1] == (100, 100)


@pytest.mark.slow
def test_it_looks_like_its_field(
    robot: Field, small: tuple[np.ndarray, np.ndarray, Layout], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From four sides, against volume rendering. 28 dB inside: the mesh with the field's own
    colours in every pixel has 31.7 at 256³, since a surface shows one depth of a soft volume. A
    texture that is mirrored or turned upside down has less than 20."""
    vertices, faces, layout = small
    monkeypatch.setattr(module, "unwrap", lambda *given: layout)
    made = bake(robot, vertices, faces, SIZE).mesh
    found = bench.agreement(robot, made, 48)
    assert found["inside_db"] > 28
    assert found["whole_db"] > 19


def test_the_field_is_read_at_the_texels(robot: Field) -> None:
    points = torch.linspace(-0.4, 0.4, 300).view(100, 3)
    colors = module.paint(robot, points.numpy())
    expected = robot.density_and_color(points)[1] * 255
    assert np.abs(colors - expected.numpy()).max() <= 0.5 + 1e-3


@pytest.mark.parametrize(("value", "expected"), [(1.7, 255), (-0.2, 0)])
def test_colours_beyond_the_range_are_cut(
    robot: Field, value: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not every activation keeps to it; 1.7 would come round to another colour."""
    monkeypatch.setattr(module, "colors_at", lambda field, points, chunk: points + value)
    colors = module.paint(robot, np.zeros((10, 3), np.float32))
    assert (colors == expected).all()
