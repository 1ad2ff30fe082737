"""OBJ, PLY and STL, read back by trimesh and by hand."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import trimesh
from PIL import Image

from dna_pipeline.media.meshes import obj_ply_stl

BALL = trimesh.creation.icosphere(subdivisions=2)
VERTICES = np.asarray(BALL.vertices, np.float32) * np.float32(1 / 3)
NORMALS = np.roll(np.asarray(BALL.vertices, np.float32), 1, axis=1)
"""Of unit length, but none that could be worked out from the faces."""
FACES = np.asarray(BALL.faces, np.int32)
COLORS = np.abs(NORMALS)
TEXCOORDS = np.abs(NORMALS[:, :2]) * np.float32(0.9)


def obj(**given: Any) -> bytes:
    return obj_ply_stl.obj(VERTICES, NORMALS, FACES, name="my ball", **given)


def ply(**given: Any) -> bytes:
    return obj_ply_stl.ply(VERTICES, NORMALS, FACES, colors=COLORS, **given)


def lines(data: bytes, word: str) -> list[list[str]]:
    """What stands in the lines that begin with that word."""
    rows = [line.split(" ") for line in data.decode().splitlines()]
    return [row[1:] for row in rows if row[0] == word]


# --- OBJ ---


def test_obj_with_colours():
    data = obj(colors=COLORS)
    found = np.array(lines(data, "v"), float)
    np.testing.assert_allclose(found[:, :3], VERTICES, rtol=1e-6)
    np.testing.assert_allclose(found[:, 3:], COLORS, atol=1e-5)
    np.testing.assert_allclose(np.array(lines(data, "vn"), float), NORMALS, atol=1e-4)
    corners = [[tuple(map(int, c.split("//"))) for c in row] for row in lines(data, "f")]
    assert corners == [[(i + 1, i + 1) for i in face] for face in FACES.tolist()]
    assert lines(data, "o") == [["my_ball"]]
    assert not {"mtllib", "usemtl", "vt"} & {
        line.split(" ")[0] for line in data.decode().splitlines()
    }
    assert data.endswith(b"\n")


def test_an_obj_is_the_same_in_blocks_of_any_size(monkeypatch: pytest.MonkeyPatch):
    whole = obj(colors=COLORS)
    for rows in (1, 7, len(VERTICES), len(FACES)):
        monkeypatch.setattr(obj_ply_stl, "_BLOCK_ROWS", rows)
        assert obj(colors=COLORS) == whole


def test_obj_with_a_texture(tmp_path: Any):
    data = obj(texcoords=TEXCOORDS, material_file="my_ball.mtl")
    found = np.array(lines(data, "vt"), float)
    np.testing.assert_allclose(found, TEXCOORDS * [1, -1] + [0, 1], atol=1e-6)
    assert lines(data, "f")[0] == [f"{i}/{i}/{i}" for i in (FACES[0] + 1).tolist()]
    assert {len(row) for row in lines(data, "v")} == {3}
    (tmp_path / "my ball.obj").write_bytes(data)
    (tmp_path / "my_ball.mtl").write_bytes(obj_ply_stl.mtl("my ball", "my_ball.texture.png", 0.9))
    Image.new("RGB", (4, 4), (200, 100, 50)).save(tmp_path / "my_ball.texture.png")
    mesh = trimesh.load(tmp_path / "my ball.obj", process=False)
    np.testing.assert_allclose(mesh.vertices, VERTICES, rtol=1e-6)
    assert mesh.visual.material.image.getpixel((0, 0)) == (200, 100, 50)
    assert mesh.is_watertight
    assert mesh.volume > 0


def test_the_material_of_an_obj():
    rows = [
        line.split(" ", 1) for line in obj_ply_stl.mtl("a b", "a_b.png", 0.9).decode().split("\n")
    ]
    told = dict(row for row in rows if len(row) == 2)
    assert told["newmtl"] == "a_b"
    assert told["map_Kd"] == "a_b.png"
    assert (told["Kd"], told["Ks"], told["Pr"], told["Pm"]) == ("1 1 1", "0 0 0", "0.9", "0")


# --- PLY ---


def test_ply():
    header, body = ply().split(b"end_header\n", 1)
    assert header.decode().splitlines() == [
        "ply", "format binary_little_endian 1.0", "comment dna-pipeline", "element vertex 162",
        *(f"property float {name}" for name in ("x", "y", "z", "nx", "ny", "nz")),
        *(f"property uchar {name}" for name in ("red", "green", "blue")),
        "element face 320", "property list uchar int vertex_indices",
    ]  # fmt: skip
    assert len(body) == 162 * 27 + 320 * 13
    mesh = trimesh.load(io.BytesIO(ply()), file_type="ply", process=False)
    np.testing.assert_array_equal(mesh.vertices, VERTICES)
    np.testing.assert_array_equal(mesh.faces, FACES)
    points = np.frombuffer(body, np.dtype([("p", "<f4", 3), ("n", "<f4", 3), ("c", "V3")]), 162)
    np.testing.assert_array_equal(points["n"], NORMALS)
    np.testing.assert_array_equal(mesh.visual.vertex_colors[:, :3], np.rint(COLORS * 255))


def test_ply_with_a_texture():
    data = ply(texcoords=TEXCOORDS, texture_file="ball.texture.png")
    header = data.split(b"end_header\n")[0].decode().splitlines()
    assert "comment TextureFile ball.texture.png" in header
    mesh = trimesh.load(io.BytesIO(data), file_type="ply", process=False)
    np.testing.assert_allclose(mesh.visual.uv, TEXCOORDS * [1, -1] + [0, 1], atol=1e-6)


@pytest.mark.parametrize("value", [-0.5, 1.5])
def test_colours_out_of_range_do_not_wrap(value: float):
    colors = np.full_like(COLORS, value)
    data = obj_ply_stl.ply(VERTICES, NORMALS, FACES, colors=colors)
    mesh = trimesh.load(io.BytesIO(data), file_type="ply", process=False)
    expected = 0 if value < 0 else 255
    assert (mesh.visual.vertex_colors[:, :3] == expected).all()
    assert {*np.array(lines(obj(colors=colors), "v"), float)[:, 3:].ravel()} == {expected / 255}


# --- STL ---


def test_stl():
    data = obj_ply_stl.stl(VERTICES, FACES)
    assert len(data) == 84 + 50 * len(FACES)
    assert not data.startswith(b"solid")  # readers take that for the text form
    mesh = trimesh.load(io.BytesIO(data), file_type="stl", process=False)
    np.testing.assert_array_equal(mesh.triangles, VERTICES[FACES])
    records = np.frombuffer(data[84:], np.dtype([("n", "<f4", 3), ("rest", "V38")]))
    np.testing.assert_allclose(records["n"], BALL.face_normals, atol=1e-5)


def test_a_face_without_area_has_no_normal():
    data = obj_ply_stl.stl(VERTICES, np.int32([[0, 0, 1]]))
    assert np.frombuffer(data[84:96], "<f4").tolist() == [0, 0, 0]


# --- all ---


def test_bytes_depend_on_the_values_alone():
    vertices, faces = np.asfortranarray(VERTICES), np.asfortranarray(FACES)
    given = {"colors": np.hstack([COLORS] * 2)[:, :3]}
    assert obj_ply_stl.stl(vertices, faces) == obj_ply_stl.stl(VERTICES, FACES)
    assert obj_ply_stl.ply(vertices, NORMALS, faces, **given) == ply()
    assert obj_ply_stl.obj(vertices, NORMALS, faces, name="my ball", **given) == obj(colors=COLORS)
