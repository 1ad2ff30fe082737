"""One mesh in every format, coloured and textured: the same thing in each, in its axes."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from PIL import Image

from dna_pipeline.base.errors import NonFiniteOutput
from dna_pipeline.base.files import Artifact
from dna_pipeline.media.meshes import export
from dna_pipeline.media.meshes.mesh import Mesh, TexturedMesh
from dna_pipeline.media.meshes.orientation import srgb_to_linear, to_gltf, to_z_up
from dna_pipeline.media.meshes.placement import place
from dna_pipeline.providers.triposr import surface
from dna_pipeline.providers.triposr.field import Field
from tests.meshes import signpost, textured

SCENES = Path(__file__).parents[3] / "golden" / "scenes"
ALL = ("glb", "obj", "ply", "stl")

pytestmark = pytest.mark.usefixtures("one_thread")


def write(
    folder: Path, mesh: Mesh | TexturedMesh, formats: Sequence[str] = ALL, **given: Any
) -> list[Artifact]:
    folder.mkdir(exist_ok=True)
    placement = place(mesh.vertices, 2.0, "base")
    return export.write(mesh, lambda end: folder / f"a.b{end}", formats, placement, **given)


def load(file: Artifact) -> trimesh.Trimesh:
    return trimesh.load(file.path, process=False, force="mesh")


@pytest.mark.parametrize("make", [signpost, textured])
def test_each_format_stands_upright_in_its_axes(tmp_path: Path, make: Any):
    """Two metres tall on the ground; the nose at the front, the arm at the right."""
    files = [file for file in write(tmp_path, make()) if file.role == "mesh"]
    assert [file.path.name for file in files] == [f"a.b.{kind}" for kind in ALL]
    for file in files:
        mesh = load(file)
        up, front = (1, 2) if file.path.suffix in (".glb", ".obj") else (2, 1)
        face = 1 if front == 2 else -1
        low, high = mesh.bounds
        assert (low[up], high[up]) == (0, pytest.approx(2))
        assert high[0] > -low[0] > 0 or high[0] == -low[0]
        nose = mesh.vertices[np.argmax(face * mesh.vertices[:, front])]
        assert nose[up] > 1.4
        arm = mesh.vertices[np.argmax(mesh.vertices[:, 0])]
        assert 1 < arm[up] < 1.4
        assert mesh.volume > 0
        assert (file.facts["up"], file.facts["front"]) == (
            ("+Y", "+Z") if up == 1 else ("+Z", "-Y")
        )
        np.testing.assert_allclose(file.facts["bounds"], mesh.bounds, atol=1e-6)


def test_placement_in_each_files_axes(tmp_path: Path):
    mesh = signpost()
    placement = place(mesh.vertices, None, None)
    moved = [load(file) for file in write(tmp_path / "a", mesh)]
    raw = export.write(mesh, lambda end: tmp_path / f"r{end}", ALL, placement)
    for file, own, there in zip(write(tmp_path / "a", mesh), map(load, raw), moved, strict=True):
        told = file.facts["placement"]
        expected = own.vertices * told["scale"] + told["offset"]
        np.testing.assert_allclose(there.vertices, expected, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_what_is_told_of_the_place_is_as_fine_as_the_mesh(tmp_path: Path, scale: float):
    mesh = signpost()
    placement = place(mesh.vertices, scale, "base")
    (file,) = export.write(mesh, lambda end: tmp_path / f"r{end}", ["glb"], placement)
    np.testing.assert_allclose(file.facts["bounds"], load(file).bounds, atol=2e-6 * scale)
    told = file.facts["placement"]
    expected = to_gltf(mesh.vertices) * told["scale"] + told["offset"]
    np.testing.assert_allclose(load(file).vertices, expected, atol=2e-6 * scale)


def test_facts(tmp_path: Path):
    """The same of a mesh and of the one whose seams double its vertices, but for their number."""
    plain, *_ = write(tmp_path, signpost(), ["glb"], facts={"cut_by_box": False})
    seamed, *_ = write(tmp_path, textured(), ["glb"])
    assert (plain.facts["vertices"], seamed.facts["vertices"]) == (24, 108)
    for file in (plain, seamed):
        facts = file.facts
        assert (facts["faces"], facts["watertight"], facts["components"]) == (36, True, 3)
        volume = 8 * (0.04 + 0.003 + 0.004)
        assert facts["volume"] == pytest.approx(volume, rel=1e-5)
        assert facts["area"] == pytest.approx(4 * (0.88 + 0.14 + 0.18), rel=1e-5)
    assert plain.facts["cut_by_box"] is False
    assert json.loads(json.dumps(plain.facts)) == plain.facts


def test_an_open_mesh_has_no_volume(tmp_path: Path):
    mesh = signpost()
    (file,) = write(tmp_path, Mesh(mesh.vertices, mesh.faces[1:], mesh.colors), ["glb"])
    assert (file.facts["watertight"], file.facts["volume"]) == (False, None)


def test_colours_of_each_format(tmp_path: Path):
    """Linear in glTF, sRGB elsewhere."""
    mesh = signpost()
    glb, obj, ply, _ = write(tmp_path, mesh)
    (shown,) = trimesh.load(glb.path, process=False).geometry.values()
    linear = shown.visual.vertex_attributes["color"][:, :3] / 65535
    np.testing.assert_allclose(linear, srgb_to_linear(mesh.colors), atol=1e-5)
    rows = [line.split()[4:] for line in obj.path.read_text().splitlines() if line[:2] == "v "]
    np.testing.assert_allclose(np.array(rows, float), mesh.colors, atol=1e-5)
    bytes_ = load(ply).visual.vertex_colors[:, :3]
    np.testing.assert_array_equal(bytes_, np.rint(mesh.colors * 255))


def test_the_texture_of_each_format(tmp_path: Path):
    """Embedded in the .glb, beside the .obj and the .ply, whose vertices have its colours too."""
    mesh = textured()
    files = write(tmp_path, mesh, facts={"texture": {"size": 12}})
    assert ["texture" in file.facts for file in files[:4]] == [True, True, True, False]
    assert [(file.path.name, file.role, file.media_type) for file in files] == [
        ("a.b.glb", "mesh", "model/gltf-binary"),
        ("a.b.obj", "mesh", "model/obj"),
        ("a.b.ply", "mesh", "model/ply"),
        ("a.b.stl", "mesh", "model/stl"),
        ("a.b.mtl", "material", "model/mtl"),
        ("a.b.texture.png", "texture", "image/png"),
    ]
    assert files[-1].facts == {"width": 12, "height": 12}
    with Image.open(files[-1].path) as picture:
        np.testing.assert_array_equal(np.asarray(picture), mesh.texture)
    assert load(files[0]).visual.material.baseColorTexture.size == (12, 12)
    assert files[-1].path.read_bytes() in files[0].path.read_bytes()
    assert load(files[1]).visual.material.image.size == (12, 12)
    expected = np.rint(signpost().colors[signpost().faces.ravel()] * 255)
    header, body = files[2].path.read_bytes().split(b"end_header\n")
    assert b"comment TextureFile a.b.texture.png\n" in header
    points = np.frombuffer(body, np.dtype([("p", "V24"), ("c", "u1", 3), ("t", "V8")]), 108)
    np.testing.assert_array_equal(points["c"], expected)


def test_normals_of_a_textured_mesh_are_its_own(tmp_path: Path):
    """Smooth across the seams; computed anew they would be flat."""
    mesh = textured()
    glb, obj, ply, *_ = write(tmp_path, mesh)
    (shown,) = trimesh.load(glb.path, process=False).geometry.values()
    np.testing.assert_allclose(shown.vertex_normals, to_gltf(mesh.normals), atol=1e-6)
    rows = [line.split()[1:] for line in obj.path.read_text().splitlines() if line[:3] == "vn "]
    np.testing.assert_allclose(np.array(rows, float), to_gltf(mesh.normals), atol=1e-4)
    body = ply.path.read_bytes().split(b"end_header\n")[1]
    points = np.frombuffer(body, np.dtype([("p", "V12"), ("n", "<f4", 3), ("rest", "V11")]), 108)
    np.testing.assert_array_equal(points["n"], to_z_up(mesh.normals))


@pytest.mark.parametrize(
    ("formats", "beside"),
    [
        (["glb"], []),
        (["stl"], []),
        (["ply"], ["a.b.texture.png"]),
        (["obj", "glb"], ["a.b.mtl", "a.b.texture.png"]),
    ],
)
def test_only_what_is_needed_lies_beside(tmp_path: Path, formats: list[str], beside: list[str]):
    files = write(tmp_path, textured(), formats)
    assert [file.path.name for file in files[len(formats) :]] == beside
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f.path.name for f in files)


def test_a_texture_that_no_file_holds_is_not_encoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made: list[int] = []
    encode = export._png
    monkeypatch.setattr(export, "_png", lambda mesh: (made.append(1), encode(mesh))[1])
    write(tmp_path, textured(), ["stl"])
    assert made == []
    write(tmp_path, textured())
    assert made == [1]


def test_texture_coordinates_at_the_border_are_within(tmp_path: Path):
    mesh = textured()
    mesh.texcoords[:] = np.where(mesh.texcoords > 0.5, 1.0, 0.0)
    write(tmp_path, mesh, ["ply"])


@pytest.mark.parametrize("make", [signpost, textured])
def test_two_runs_give_the_same_bytes(tmp_path: Path, make: Any):
    one, two = (write(tmp_path / name, make(), recipe={"a": 1}) for name in ("one", "two"))
    assert [f.path.read_bytes() for f in one] == [f.path.read_bytes() for f in two]
    assert [f.facts for f in one] == [f.facts for f in two]


def test_the_recipe_is_in_the_glb(tmp_path: Path):
    recipe = {"input": {"sha256": "0" * 64}, "stages": [{"id": "triposr", "model": None}]}
    (file,) = write(tmp_path, signpost(), ["glb"], recipe=recipe)
    scene = trimesh.load(io.BytesIO(file.path.read_bytes()), file_type="glb")
    (mesh,) = scene.geometry.values()
    assert mesh.metadata["dna_pipeline"] == recipe


@pytest.mark.slow
@pytest.mark.parametrize("scene", ["robot", "knot"])
def test_scenes(scene: str, tmp_path: Path, validate_gltf: Callable[[bytes], dict[str, Any]]):
    """Closed, outward, each normal on the side of its faces, and nothing for Khronos to say."""
    made = surface.extract(Field.from_npz(SCENES / f"{scene}.npz"), 64).mesh
    files = write(tmp_path, made)
    report = validate_gltf(files[0].path.read_bytes())
    assert report["issues"]["messages"] == []
    assert report["info"]["totalTriangleCount"] == len(made.faces)
    for file in files:
        assert file.facts["watertight"] is True
        found = load(file)
        assert found.extents.max() == pytest.approx(2, abs=1e-5)
        if file.path.suffix == ".stl":
            continue  # its triangles share no vertices
        assert found.is_watertight
        assert found.is_winding_consistent
        assert found.volume == pytest.approx(file.facts["volume"], rel=1e-4)
        assert found.area == pytest.approx(file.facts["area"], rel=1e-4)
        normals = np.asarray(found.vertex_normals)
        np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-3)
        agreement = np.einsum("fcd,fd->fc", normals[found.faces], found.face_normals)
        assert (agreement > 0).mean() > 0.99


# --- the gates ---


def test_a_sound_mesh_passes():
    mesh, warnings = signpost(), []
    found, facts = export.checked(mesh, 0.87, 0.0, warnings.append)
    assert found is mesh
    assert facts == {"cut_by_box": False, "cut_sides": []}
    assert warnings == []


@pytest.mark.parametrize("what", ["vertices", "colors"])
def test_numbers_that_are_none_fail(what: str):
    mesh = signpost()
    getattr(mesh, what)[5, 1] = np.inf
    with pytest.raises(NonFiniteOutput, match="1 of 24"):
        export.checked(mesh, 0.87, 0.0, print)


def test_small_components_are_counted():
    mesh, facts = export.checked(signpost(), 0.87, 0.18, print)
    assert facts["removed"] == {"components": 1, "faces": 12}
    assert len(mesh.faces) == 24


def test_only_what_is_left_can_be_cut():
    """The arm reaches the right of a box just so large, and goes with the nose as too small."""
    warnings: list[str] = []
    _, facts = export.checked(signpost(), 0.5, 0.0, warnings.append)
    assert facts["cut_sides"] == ["right", "bottom", "top"]
    assert "reaches the right, bottom and top of the box" in warnings[0]
    assert to_gltf(signpost().vertices)[:, 0].max() == pytest.approx(0.5)
    _, facts = export.checked(signpost(), 0.5, 0.21, warnings.append)
    assert facts["cut_sides"] == ["bottom", "top"]


def read_strictly(folder: Path, name: str) -> Image.Image:
    """The texture of an OBJ as readers find it that keep to the format, like tinyobjloader.

    A line's words end at white space, its rest after `#` is a comment; `mtllib` and `map_Kd` name
    files beside it, and a word that begins with a hyphen is an option.
    """

    def told(file: str, key: str) -> list[str]:
        (words,) = (
            words[1:]
            for line in (folder / file).read_bytes().replace(b"\\\n", b" ").decode().split("\n")
            if (words := line.partition("#")[0].split())[:1] == [key]
        )
        return words

    (material_file,) = told(name, "mtllib")
    (texture,) = told(material_file, "map_Kd")
    assert not texture.startswith("-")
    assert told(name, "usemtl") == told(material_file, "newmtl")
    assert len(told(name, "o")) == 1
    return Image.open(folder / texture)


@pytest.mark.parametrize(
    "stem",
    [
        "my chair",
        "a.b",
        "shot #3",
        'it\'s "x"',
        "-s 2",
        "--help",
        "椅子\u3000é",
        "a  b .c",
        "$HOME",
    ],
)
def test_an_obj_of_any_name_finds_what_lies_beside_it(tmp_path: Path, stem: str):
    mesh = textured()
    placement = place(mesh.vertices, 2.0, "base")
    files = export.write(mesh, lambda end: tmp_path / f"{stem}{end}", ["obj", "ply"], placement)
    assert files[0].path.name == f"{stem}.obj"
    assert {file.path for file in files} == set(tmp_path.iterdir())
    with read_strictly(tmp_path, f"{stem}.obj") as picture:
        np.testing.assert_array_equal(np.asarray(picture), mesh.texture)
    assert load(files[0]).visual.material.image.size == (12, 12)
    header = files[1].path.read_bytes().split(b"end_header\n")[0].decode()
    (texture,) = [line.split(" ")[2:] for line in header.splitlines() if "TextureFile" in line]
    assert texture == [files[-1].path.name]


def test_the_companions_of_two_files_do_not_meet(tmp_path: Path):
    """A stage's work folder may hold the files of one stem only, a result those of several."""
    mesh = textured()
    placement = place(mesh.vertices, 2.0, "base")
    stems = ("my chair.one", "my chair.two")
    files = [
        file.path
        for stem in stems
        for file in export.write(
            mesh, lambda end, stem=stem: tmp_path / f"{stem}{end}", ["obj"], placement
        )
    ]
    assert len(set(files)) == len(files) == 6
