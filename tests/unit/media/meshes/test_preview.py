"""The preview picture: framed, upright, lit, repeatable."""

import numpy as np
import pytest
import trimesh

from dna_pipeline.media.meshes.mesh import Mesh
from dna_pipeline.media.meshes.preview import render_preview


def colored(solid: trimesh.Trimesh, color: tuple[float, float, float] = (0.8, 0.8, 0.8)) -> Mesh:
    colors = np.tile(np.array(color, np.float32), (len(solid.vertices), 1))
    return Mesh(solid.vertices.astype(np.float32), solid.faces.astype(np.int32), colors)


def box_of(alpha: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(alpha)
    return rows.min(), rows.max() + 1, columns.min(), columns.max() + 1


@pytest.mark.parametrize("extents", [(1, 1, 1), (0.2, 0.3, 4), (5, 1, 0.1), (0.1, 4, 0.2)])
def test_the_mesh_fills_the_frame_and_stands_in_its_middle(
    extents: tuple[float, float, float],
) -> None:
    box = trimesh.creation.box(extents)
    box.apply_translation([3, -2, 7])
    image = render_preview(colored(box), 256)
    assert image.mode == "RGBA"
    assert image.size == (256, 256)
    top, bottom, left, right = box_of(np.asarray(image)[..., 3] > 0)
    assert max(bottom - top, right - left) == pytest.approx(0.92 * 256, abs=3)
    assert abs(top + bottom - 256) <= 3
    assert abs(left + right - 256) <= 3


def test_front_and_up() -> None:
    """A blue ball on top, a red one in front, a green one at the picture's right."""
    parts = []
    for place, color in [((0, 0, 1), (0, 0, 1)), ((1, 0, 0), (1, 0, 0)), ((0, 1, 0), (0, 1, 0))]:
        ball = trimesh.creation.icosphere(subdivisions=2, radius=0.3)
        ball.apply_translation(place)
        parts.append((ball, color))
    joined = trimesh.util.concatenate([ball for ball, _ in parts])
    colors = np.concatenate([np.tile(color, (len(ball.vertices), 1)) for ball, color in parts])
    mesh = Mesh(
        joined.vertices.astype(np.float32), joined.faces.astype(np.int32), colors.astype(np.float32)
    )
    pixels = np.asarray(render_preview(mesh, 128, azimuth_deg=20)).astype(int)
    places = {}
    for channel, name in enumerate(("red", "green", "blue")):
        others = [c for c in range(3) if c != channel]
        mask = (pixels[..., channel] > 60) & (pixels[..., others].max(axis=2) < 30)
        places[name] = np.argwhere(mask).mean(axis=0)
    assert places["blue"][0] < min(places["red"][0], places["green"][0]) - 20
    assert places["green"][1] > places["red"][1] + 20


def test_light_comes_from_above() -> None:
    ball = trimesh.creation.icosphere(subdivisions=4)
    pixels = np.asarray(render_preview(colored(ball), 128)).astype(int)
    assert pixels[30, 64, 0] > pixels[98, 64, 0] + 30
    assert pixels[98, 64, 0] > 40  # the shadow is lit too


def test_edges_are_smooth_and_keep_their_color() -> None:
    pixels = np.asarray(render_preview(colored(trimesh.creation.icosphere(4), (1, 0, 0)), 128))
    edge = (pixels[..., 3] > 0) & (pixels[..., 3] < 255)
    assert edge.sum() > 100
    assert pixels[edge][:, 1:3].max() == 0  # no grey or white bled in
    assert (pixels[pixels[..., 3] == 0] == 0).all()


def test_the_inside_of_an_open_mesh_is_lit() -> None:
    ball = trimesh.creation.icosphere(subdivisions=4)
    half = trimesh.Trimesh(ball.vertices, ball.faces[ball.triangles_center[:, 0] < 0])
    pixels = np.asarray(render_preview(colored(half), 128, azimuth_deg=0, elevation_deg=0))
    assert pixels[64, 64, :3].min() > 100


@pytest.mark.slow
def test_the_same_bytes_every_time() -> None:
    mesh = colored(trimesh.creation.torus(1, 0.3))
    assert render_preview(mesh).tobytes() == render_preview(mesh).tobytes()


def test_a_mesh_without_faces() -> None:
    empty = np.zeros((0, 3), np.float32)
    with pytest.raises(ValueError, match="without faces"):
        render_preview(Mesh(empty, empty.astype(np.int32), empty))


def test_a_closed_mesh_looks_the_same_without_the_faces_that_are_turned_away():
    knot = colored(trimesh.creation.torus(0.5, 0.2, 24, 48), (0.2, 0.6, 0.9))
    whole = np.asarray(render_preview(knot, 128)).astype(int)
    front = np.asarray(render_preview(knot, 128, closed=True)).astype(int)
    assert (abs(whole - front).max(axis=2) > 2).mean() < 0.002
    assert abs(whole - front).mean() < 0.02
