"""Each format in a real Blender, imported with the options as they come, and exported again."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from dna_pipeline.media.meshes import export
from dna_pipeline.media.meshes.gltf import ROUGHNESS
from dna_pipeline.media.meshes.mesh import Mesh, TexturedMesh
from dna_pipeline.media.meshes.placement import place
from tests.meshes import signpost, textured

pytestmark = pytest.mark.slow

FORMATS = ("glb", "obj", "ply", "stl")
RECIPE: dict[str, Any] = {
    "version": "0.1.0",
    "input": {"sha256": "0" * 64},
    "stages": [{"id": "triposr", "model": None, "params": {"formats": ["glb"], "scale": 2.0}}],
}
PLAIN, TEXTURED = "plain", "a stühl"
"""The second with what file formats of the nineties may stumble over."""


@pytest.fixture(scope="module")
def folder(blender_python: Path, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """Where Blender imported all files and exported the .glb among them to `again/`.

    Of several processes that share the tests, one starts Blender.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "meshes-in-blender"
    with FileLock(folder.with_suffix(".lock")):
        if not folder.exists():
            folder.mkdir()
            import_all(blender_python, folder)
    return folder


def import_all(blender_python: Path, folder: Path) -> None:
    (folder / "again").mkdir()
    for name, mesh in ((PLAIN, signpost()), (TEXTURED, textured())):
        placement = place(mesh.vertices, 2.0, "base")
        path = lambda end, name=name: folder / f"{name}{end}"  # noqa: E731
        export.write(mesh, path, FORMATS, placement, recipe=RECIPE)
    script = Path(__file__).with_name("meshes_in_blender.py")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [blender_python, script, folder],
        env=environment, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert (folder / "seen.json").exists(), done.stdout + done.stderr


@pytest.fixture(scope="module")
def seen(folder: Path) -> dict[str, Any]:
    """What Blender told of each file, by its name."""
    return json.loads((folder / "seen.json").read_bytes())


def expected(mesh: Mesh | TexturedMesh) -> np.ndarray:
    """The vertices two units tall on the ground; Blender's front is -Y, its up +Z."""
    x, y, z = (2 * mesh.vertices.T).tolist()
    y_middle = (max(y) + min(y)) / 2
    x_middle = (max(x) + min(x)) / 2
    return np.stack(
        [np.subtract(y, y_middle), np.subtract(x_middle, x), np.subtract(z, min(z))], axis=1
    )


@pytest.mark.parametrize("name", [PLAIN, TEXTURED])
@pytest.mark.parametrize("kind", FORMATS)
def test_it_comes_upright_facing_the_front_and_in_its_size(seen: Any, name: str, kind: str):
    made = signpost() if name == PLAIN else textured()
    found = seen[f"{name}.{kind}"]
    points, corners = np.array(found["points"]), np.array(found["faces"])
    np.testing.assert_allclose(points[corners], expected(made)[made.faces], atol=1e-5)
    assert points[:, 2].max() == pytest.approx(2)
    nose = points[points[:, 1].argmin()]
    assert nose[2] > 1.4


@pytest.mark.parametrize("name", [PLAIN, TEXTURED])
@pytest.mark.parametrize("kind", FORMATS)
def test_normals_point_outward(seen: Any, name: str, kind: str):
    found = seen[f"{name}.{kind}"]
    points, normals = np.array(found["points"]), np.array(found["normals"])
    triangle = points[np.array(found["faces"])]
    flat = np.cross(triangle[:, 1] - triangle[:, 0], triangle[:, 2] - triangle[:, 0])
    volume = np.einsum("ij,ij->", triangle[:, 0], flat) / 6
    assert volume == pytest.approx(8 * 0.047, rel=1e-4)
    at_corners = normals[np.array(found["faces"])]
    assert (np.einsum("fcd,fd->fc", at_corners, flat) > 0).all()


@pytest.mark.parametrize(
    "file", [f"{PLAIN}.glb", f"{PLAIN}.obj", f"{PLAIN}.ply", f"{TEXTURED}.ply"]
)
def test_vertex_colours_are_those_of_the_field(seen: Any, file: str):
    """Read back in sRGB; a step of eight bits is allowed, since Blender rounds to them."""
    made, found = signpost(), seen[file]
    (colors,) = found["colors"]
    faces = np.array(found["faces"])
    per_corner = len(colors) == faces.size and len(colors) != len(found["points"])
    of_faces = np.array(colors).reshape(-1, 3, 3) if per_corner else np.array(colors)[faces]
    np.testing.assert_allclose(of_faces, made.colors[made.faces], atol=1 / 255)
    assert {tuple(c) for c in made.colors.tolist()} == {(0.5, 0.5, 0.5), (1, 0, 0), (0, 0.25, 0)}


@pytest.mark.parametrize("kind", ["glb", "obj", "ply"])
def test_the_texel_at_each_corner_is_that_of_the_field(seen: Any, kind: str):
    found = seen[f"{TEXTURED}.{kind}"]
    picture = next(
        iter(seen[f"{TEXTURED}.glb" if kind == "ply" else f"{TEXTURED}.{kind}"]["images"].values())
    )
    assert (picture["space"], picture["size"]) == ("sRGB", [12, 12])
    pixels = np.array(picture["pixels"]).reshape(12, 12, 4)[..., :3]  # the lowest row first
    (uvs,) = found["uvs"]
    column, row = (np.array(uvs) * 12).astype(int).T
    np.testing.assert_allclose(
        pixels[row, column].reshape(-1, 3, 3), signpost().colors[signpost().faces], atol=1 / 255
    )
    told = textured().texcoords[np.array(found["corners"])]
    np.testing.assert_allclose(np.array(uvs), told * [1, -1] + [0, 1], atol=1e-5)


@pytest.mark.parametrize(
    ("file", "base_color"),
    [
        (f"{PLAIN}.glb", "VERTEX_COLOR"),
        (f"{TEXTURED}.glb", "TEX_IMAGE"),
        (f"{TEXTURED}.obj", "TEX_IMAGE"),
    ],
)
def test_a_matte_material_shows_the_colours(seen: Any, file: str, base_color: str):
    found = seen[file]["material"]
    assert found["base_color"] == base_color
    assert found["roughness"] == pytest.approx(ROUGHNESS)
    assert found["metallic"] == 0


@pytest.mark.parametrize("name", [PLAIN, TEXTURED])
def test_the_recipe_comes_along(seen: Any, name: str):
    assert seen[f"{name}.glb"]["recipe"] == RECIPE


@pytest.mark.parametrize("name", [PLAIN, TEXTURED])
def test_what_blender_exports_again_is_sound(
    folder: Path, name: str, validate_gltf: Callable[[bytes], dict[str, Any]]
):
    report = validate_gltf((folder / "again" / f"{name}.glb").read_bytes())
    assert report["issues"]["numErrors"] == 0
    assert report["info"]["totalTriangleCount"] == 36
    assert report["info"]["hasTextures"] is (name == TEXTURED)
