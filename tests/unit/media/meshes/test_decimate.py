"""Fewer triangles: as whole as before, on the same surface, the same each time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh

from dna_pipeline.media.meshes import decimate as module
from dna_pipeline.media.meshes.decimate import decimate
from dna_pipeline.media.meshes.mesh import border_loops, is_manifold, is_watertight
from dna_pipeline.providers.triposr import surface
from dna_pipeline.providers.triposr.field import Field

pytestmark = pytest.mark.usefixtures("one_thread")

SCENES = Path(__file__).parents[3] / "golden" / "scenes"


@pytest.mark.slow
@pytest.mark.parametrize("scene", ["robot", "knot"])
def test_scenes_stay_whole(scene: str) -> None:
    mesh = surface.extract(Field.from_npz(SCENES / f"{scene}.npz"), 64).mesh
    before = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    for target, part in ((len(mesh.faces) // 2, 0.01), (2000, 0.05), (500, 0.15)):
        vertices, faces = decimate(mesh.vertices, mesh.faces, target)
        assert 0.9 * target < len(faces) <= target
        assert is_watertight(faces)
        assert (vertices.dtype, faces.dtype) == (np.float32, np.int32)
        assert sorted(set(faces.ravel())) == list(range(len(vertices)))
        after = trimesh.Trimesh(vertices, faces, process=False)
        assert after.euler_number == before.euler_number
        assert after.volume == pytest.approx(before.volume, rel=part)
        assert after.area_faces.min() > 1e-10
        again = decimate(mesh.vertices, mesh.faces, target)
        assert all(np.array_equal(*pair) for pair in zip((vertices, faces), again, strict=True))


def test_few_faces_are_left_untouched() -> None:
    ball = trimesh.creation.icosphere(subdivisions=1)
    vertices, faces = np.asarray(ball.vertices, np.float32), np.asarray(ball.faces, np.int32)
    assert decimate(vertices, faces, len(faces)) == (vertices, faces)


def test_flaps_go() -> None:
    """Two faces back to back, hung on an edge of a ball: what a bad contraction leaves."""
    ball = np.asarray(trimesh.creation.icosphere(subdivisions=1).faces, np.int32)
    a, b = ball[0, :2]
    flap = np.array([[a, b, 42], [b, a, 42]], np.int32)
    faces = np.vstack([ball, flap])
    assert not is_watertight(faces)
    assert np.array_equal(module._unfolded(faces), ball)


def test_vertices_at_one_place_are_joined() -> None:
    ball = trimesh.creation.icosphere(subdivisions=2)
    vertices, faces = np.array(ball.vertices, np.float32), np.asarray(ball.faces, np.int32)
    vertices[faces[7, 0]] = vertices[faces[7, 1]]
    joined, left = module._joined(vertices, faces)
    assert (len(joined), len(left)) == (len(vertices) - 1, len(faces) - 2)
    assert is_watertight(left)


def sheet() -> tuple[np.ndarray, np.ndarray]:
    """A wavy square of 30 × 30 vertices."""
    side = 30
    y, x = np.mgrid[:side, :side].reshape(2, -1) / side
    vertices = np.stack([x, y, 0.1 * np.sin(5 * x)], axis=1).astype(np.float32)
    corner = (np.arange(side - 1)[:, None] * side + np.arange(side - 1)).ravel()
    lower = np.stack([corner, corner + 1, corner + side], axis=1)
    upper = np.stack([corner + 1, corner + side + 1, corner + side], axis=1)
    return vertices, np.vstack([lower, upper]).astype(np.int32)


def test_an_open_mesh_stays_as_it_is_open() -> None:
    vertices, faces = sheet()
    fewer, left = decimate(vertices, faces, 200)
    assert len(left) <= 200
    assert is_manifold(left)
    assert np.ptp(fewer[:, :2], axis=0) == pytest.approx(np.ptp(vertices[:, :2], axis=0), abs=0.01)


def test_an_open_mesh_gets_no_more_holes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in its inside, and not in a closed one beside it."""
    (vertices, faces), ball = sheet(), trimesh.creation.icosphere(subdivisions=2)
    both = np.vstack([vertices, ball.vertices]).astype(np.float32)
    all_faces = np.vstack([faces, ball.faces + len(vertices)]).astype(np.int32)
    assert is_manifold(all_faces)
    assert border_loops(all_faces) == 1
    for torn in (400, len(faces) + 7):
        left = np.delete(all_faces, torn, axis=0)
        assert is_manifold(left)
        monkeypatch.setattr(module, "_simplified", lambda *_, left=left: (both, left))
        assert decimate(both, all_faces, 100) == (both, all_faces)


def test_holes_that_touch_are_two() -> None:
    ball = np.asarray(trimesh.creation.icosphere(subdivisions=2).faces, np.int32)
    assert border_loops(ball) == 0
    around = np.flatnonzero((ball == ball[0, 0]).any(axis=1))
    opposite = next(at for at in around if len(np.intersect1d(ball[at], ball[0])) == 1)
    assert border_loops(np.delete(ball, [0], axis=0)) == 1
    assert border_loops(np.delete(ball, [0, opposite], axis=0)) == 2


def test_between_its_ways_it_can_be_cancelled() -> None:
    """The library itself tells nothing and holds Python's lock."""
    ball = trimesh.creation.icosphere(subdivisions=3)
    given = np.asarray(ball.vertices, np.float32), np.asarray(ball.faces, np.int32), 100

    def stop(done: int, total: int) -> None:
        raise KeyError(f"{done} of {total}")

    with pytest.raises(KeyError, match="0 of 4"):
        decimate(*given, stop)


def test_what_cannot_stay_whole_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    ball = trimesh.creation.icosphere(subdivisions=2)
    vertices, faces = np.asarray(ball.vertices, np.float32), np.asarray(ball.faces, np.int32)
    tried: list[float] = []

    def torn(vertices, faces, target, aggressiveness):
        tried.append(aggressiveness)
        return vertices, faces[1:]

    monkeypatch.setattr(module, "_simplified", torn)
    assert decimate(vertices, faces, 100) == (vertices, faces)
    assert len(tried) > 1


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        ({5: 80, 6: 80, 4: 320, 3: 320}, 80),
        ({5: 320, 6: 80, 4: 320, 3: 320}, 80),
        ({5: 79, 6: 80, 4: 320, 3: 320}, 80),
        ({5: 79, 6: 1280, 4: 320, 3: 1280}, 320),
    ],
)
def test_a_way_that_leads_to_the_target_or_nearest_to_it(
    left: dict[int, int], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faces by how rough the pass is; 79 are a torn ball."""

    def ball(subdivisions: int) -> tuple[np.ndarray, np.ndarray]:
        made = trimesh.creation.icosphere(subdivisions=subdivisions)
        return np.asarray(made.vertices, np.float32), np.asarray(made.faces, np.int32)

    balls = {len(faces): (vertices, faces) for vertices, faces in map(ball, (1, 2, 3))}
    balls[79] = (balls[80][0], balls[80][1][1:])
    monkeypatch.setattr(
        module, "_simplified", lambda vertices, faces, target, rough: balls[left[round(rough)]]
    )
    assert len(decimate(*ball(4), 100)[1]) == expected
