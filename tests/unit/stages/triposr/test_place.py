"""Where the mesh of the `triposr` stage stands, how large it is, and where it looks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image, ImageDraw

from dna_pipeline.providers.triposr.provider import TripoSRModel
from tests.triposr_stage import TINY, Given, Make, colors, load, names, stage

pytestmark = pytest.mark.usefixtures("one_thread")


def test_each_format_and_its_facts(make: Make) -> None:
    """In the order asked for; the first is what a next stage would read."""
    ctx = make()
    files = stage(formats=["stl", "glb", "ply", "obj"], preview=False).run(ctx)
    assert [file.path.name for file in files] == [
        "robot.stl", "robot.glb", "robot.ply", "robot.obj",
    ]  # fmt: skip
    assert names(ctx) == sorted(file.path.name for file in files)
    assert {file.role for file in files} == {"mesh"}
    for file in files:
        found = trimesh.load(file.path, process=False, force="mesh")
        assert len(found.faces) == file.facts["faces"]
        np.testing.assert_allclose(found.bounds, file.facts["bounds"], atol=2e-6)


def test_by_default_a_mesh_stands_on_the_ground_one_metre_long(make: Make) -> None:
    (mesh,) = stage(preview=False).run(make())
    found = load(mesh.path.read_bytes())
    low, high = np.asarray(found.bounds)
    assert low[1] == 0
    np.testing.assert_allclose((low + high)[[0, 2]], 0, atol=1e-6)
    assert (high - low).max() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(mesh.facts["bounds"], found.bounds, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("origin", ["base", "center", None])
def test_size_and_origin(make: Make, origin: str | None) -> None:
    (own,) = stage(preview=False, scale=None, origin=None).run(make())
    raw = load(own.path.read_bytes())
    (mesh,) = stage(preview=False, scale=1.8, origin=origin).run(make())
    found = load(mesh.path.read_bytes())
    assert found.extents.max() == pytest.approx(1.8, rel=1e-6)
    placement = mesh.facts["placement"]
    expected = raw.vertices * placement["scale"] + placement["offset"]
    np.testing.assert_allclose(found.vertices, expected, atol=3e-6)
    middle = found.bounds.mean(axis=0) if origin else placement["offset"]
    if origin == "base":
        middle[1] = found.bounds[0][1]
    np.testing.assert_allclose(middle, 0, atol=1e-6)


def test_the_front_looks_along_z_and_up_is_y(make: Make) -> None:
    """The nose faces the viewer at +Z; the hat is up; what the picture has right is at +X."""

    ctx = make(provider=Given(path=TINY))
    own = stage(resolution=64, preview=False, scale=None, origin=None)
    found = load(own.run(ctx)[0].path.read_bytes())
    paint = colors(found)
    for color, tip in (
        ((1, 0, 0), (0, 0, 0.72)),
        ((0, 1, 0), (0, 0.82, 0)),
        ((0, 0, 1), (0.62, 0, 0)),
    ):
        part = found.vertices[(paint == color).all(axis=1)]
        assert len(part) > 20
        axis = int(np.argmax(tip))
        assert part[:, axis].max() == pytest.approx(max(tip), abs=0.01)
        np.testing.assert_allclose(np.delete(part.mean(axis=0), axis), 0, atol=0.02)
    assert found.volume > 4 / 3 * np.pi * 0.39**3


@pytest.mark.slow
def test_what_the_picture_has_right_and_up_is_so_from_the_front(
    models_dir: Path, make: Make
) -> None:
    """A red head, a blue foot, and a green arm on the right of the picture."""
    picture = Image.new("RGBA", (300, 300))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((130, 90, 170, 220), fill=(128, 128, 128, 255))
    draw.ellipse((110, 20, 190, 100), fill=(230, 20, 20, 255))
    draw.rectangle((170, 130, 270, 165), fill=(20, 200, 20, 255))
    draw.rectangle((120, 200, 180, 280), fill=(20, 20, 230, 255))
    ctx = make(picture, TripoSRModel(path=models_dir / "triposr-base"))
    mesh, _ = stage(resolution=64, origin="center").run(ctx)
    assert mesh.facts["watertight"] is True
    found = load(mesh.path.read_bytes())
    assert found.volume > 0
    strongest, paint = colors(found).argmax(axis=1), colors(found)
    vivid = paint.max(axis=1) > 4 * np.sort(paint, axis=1)[:, 1]
    front = found.vertices[:, 2] > 0.02
    red, green, blue = (
        found.vertices[vivid & front & (strongest == channel)].mean(axis=0) for channel in range(3)
    )
    assert red[1] > 0.2 > -0.2 > blue[1]
    assert green[0] > 0.1 > -0.1 > red[0]
    assert red[0] == pytest.approx(blue[0], abs=0.05)
