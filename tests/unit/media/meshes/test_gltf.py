"""The bytes of a .glb file, taken apart by hand and by trimesh."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import trimesh
from PIL import Image

from dna_pipeline.media.meshes.gltf import ROUGHNESS, glb

FLOAT, UNSIGNED_SHORT, UNSIGNED_INT = 5126, 5123, 5125
ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER = 34962, 34963
DTYPES = {FLOAT: "<f4", UNSIGNED_SHORT: "<u2", UNSIGNED_INT: "<u4"}
COMPONENTS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}


def ball(subdivisions: int = 2) -> dict[str, Any]:
    """Arguments of `glb`: a ball off the middle, each vertex of another colour."""
    shape = trimesh.creation.icosphere(subdivisions=subdivisions)
    vertices = np.asarray(shape.vertices, np.float32)
    return {
        "vertices": vertices * 0.3 + np.float32([0.1, 0.5, -0.2]),
        "normals": vertices,
        "colors": np.abs(vertices) ** 3,
        "faces": np.asarray(shape.faces, np.int32),
        "name": "ball",
    }


def textured_ball() -> dict[str, Any]:
    """The same ball with a picture of two pixels around it, black and orange."""
    given = ball()
    colors = given.pop("colors")
    file = io.BytesIO()
    Image.fromarray(np.uint8([[[0, 0, 0], [255, 128, 3]]])).save(file, "PNG")
    return given | {"texcoords": np.abs(colors[:, :2]), "texture_png": file.getvalue()}


def chunks(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The document and the binary chunk, once the container is found to be sound."""
    magic, version, length = struct.unpack_from("<4sII", data)
    assert (magic, version, length) == (b"glTF", 2, len(data))
    size, kind = struct.unpack_from("<I4s", data, 12)
    assert (kind, size % 4) == (b"JSON", 0)
    text = data[20 : 20 + size]
    assert text.rstrip(b" ").endswith(b"}")
    size_binary, kind = struct.unpack_from("<I4s", data, 20 + size)
    assert (kind, size_binary % 4) == (b"BIN\0", 0)
    assert 28 + size + size_binary == length
    return json.loads(text), data[28 + size :]


def read(document: dict[str, Any], binary: bytes, index: int) -> np.ndarray[Any, Any]:
    """One accessor's values (n, components)."""
    accessor = document["accessors"][index]
    view = document["bufferViews"][accessor["bufferView"]]
    data = binary[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]
    values = np.frombuffer(data, DTYPES[accessor["componentType"]])
    return values.reshape(accessor["count"], COMPONENTS[accessor["type"]])


def faults(document: dict[str, Any], binary: bytes) -> list[str]:
    """What breaks sections 3.6 and 3.7 of the glTF 2.0 specification."""
    return list(view_faults(document, binary)) or list(content_faults(document, binary))


def view_faults(document: dict[str, Any], binary: bytes) -> Iterator[str]:
    if document["buffers"] != [{"byteLength": len(binary)}]:
        yield "buffer's length"
    end = 0
    views = document["bufferViews"]
    for image in document.get("images", []):
        view = views[image["bufferView"]]
        if view is not views[-1] or "target" in view or view["byteOffset"] % 4:
            yield "image"
        if not 0 <= len(binary) - view["byteOffset"] - view["byteLength"] <= 3:
            yield "bounds of the image"
        views = views[:-1]
    for accessor, view in zip(document["accessors"], views, strict=True):
        size = np.dtype(DTYPES[accessor["componentType"]]).itemsize
        stride = size * COMPONENTS[accessor["type"]]
        if view["byteOffset"] % 4 or (view["target"] == ARRAY_BUFFER and stride % 4):
            yield "alignment"
        if view["byteOffset"] < end or view["byteOffset"] - end > 3:
            yield "views overlap or leave a gap"
        end = view["byteOffset"] + view["byteLength"]
        if end > len(binary) or accessor["count"] * stride != view["byteLength"]:
            yield "bounds"


def content_faults(document: dict[str, Any], binary: bytes) -> Iterator[str]:
    (primitive,) = document["meshes"][0]["primitives"]
    positions = read(document, binary, primitive["attributes"]["POSITION"])
    accessor = document["accessors"][primitive["attributes"]["POSITION"]]
    if (accessor["min"], accessor["max"]) != (positions.min(0).tolist(), positions.max(0).tolist()):
        yield "min and max of POSITION"
    counts = {document["accessors"][i]["count"] for i in primitive["attributes"].values()}
    if counts != {len(positions)}:
        yield "attributes of different length"
    indices = read(document, binary, primitive["indices"])
    if indices.shape[1] != 1 or indices.max() >= len(positions) or len(indices) % 3:
        yield "indices"
    targets = [view.get("target") for view in document["bufferViews"]]
    expected = (
        [ARRAY_BUFFER] * 3 + [ELEMENT_ARRAY_BUFFER] + [None] * len(document.get("images", []))
    )
    if targets != expected:
        yield "targets"


@pytest.mark.parametrize("make", [ball, textured_ball])
@pytest.mark.parametrize("name", ["b", "ba", "bal", "ball", 'Stuhl «1» \\ "東京" 🪑'])
def test_structure(name: str, make: Callable[[], dict[str, Any]]):
    """Names of any length, so that each padding of the JSON comes about."""
    data = glb(**make() | {"name": name})
    document, binary = chunks(data)
    assert faults(document, binary) == []
    assert document["nodes"] == [{"name": name, "mesh": 0}]
    assert document["meshes"][0]["name"] == name
    assert document["asset"]["version"] == "2.0"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("buffers", 0, "byteLength"), 77),
        (("bufferViews", 1, "byteOffset"), 1942),
        (("bufferViews", 1, "byteOffset"), 1940),
        (("bufferViews", 3, "byteLength"), 3844),
        (("bufferViews", 3, "target"), ARRAY_BUFFER),
        (("accessors", 0, "count"), 161),
        (("accessors", 0, "min"), [-0.2, 0.2, -0.5]),
        (("accessors", 3, "componentType"), UNSIGNED_SHORT),
        (("meshes", 0, "primitives", 0, "indices"), 2),
    ],
)
def test_the_checks_above_find_faults(path: tuple[Any, ...], value: Any):
    document, binary = chunks(glb(**ball()))
    place: Any = document
    for key in path[:-1]:
        place = place[key]
    assert place[path[-1]] != value
    place[path[-1]] = value
    assert faults(document, binary) != []


def test_what_is_written_is_what_was_given():
    given = ball()
    document, binary = chunks(glb(**given))
    (primitive,) = document["meshes"][0]["primitives"]
    found = {k: read(document, binary, i) for k, i in primitive["attributes"].items()}
    np.testing.assert_array_equal(found["POSITION"], given["vertices"])
    np.testing.assert_array_equal(found["NORMAL"], given["normals"])
    faces = read(document, binary, primitive["indices"]).reshape(-1, 3)
    np.testing.assert_array_equal(faces, given["faces"])


def test_colors_are_linear_and_16_bits_wide():
    """Dark colours are told apart that eight bits would merge."""
    given = ball(subdivisions=1)
    colors = np.zeros((42, 3), np.float32)
    colors[:4] = [[0, 0.25, 1], [1e-4, 2e-4, 3e-4], [-1, 2, 0.5], [0.5, 0.5, 0.5]]
    document, binary = chunks(glb(**given | {"colors": colors}))
    index = document["meshes"][0]["primitives"][0]["attributes"]["COLOR_0"]
    accessor = document["accessors"][index]
    assert (accessor["componentType"], accessor["type"]) == (UNSIGNED_SHORT, "VEC4")
    assert accessor["normalized"] is True
    np.testing.assert_array_equal(
        read(document, binary, index)[:4],
        [
            [0, 16384, 65535, 65535],
            [7, 13, 20, 65535],
            [0, 65535, 32768, 65535],
            [32768, 32768, 32768, 65535],
        ],
    )


def test_the_material_is_matte():
    document, _ = chunks(glb(**ball()))
    (material,) = document["materials"]
    assert document["meshes"][0]["primitives"][0]["material"] == 0
    assert material["pbrMetallicRoughness"] == {"metallicFactor": 0.0, "roughnessFactor": ROUGHNESS}
    assert 0.8 <= ROUGHNESS <= 1


@pytest.mark.parametrize("padding", range(4))
def test_the_texture_is_embedded_as_it_is(padding: int):
    given = textured_ball()
    given["texture_png"] += b"\0" * padding  # so that each padding of the binary comes about
    document, binary = chunks(glb(**given))
    assert faults(document, binary) == []
    (image,), (texture,), (sampler,) = (document[k] for k in ("images", "textures", "samplers"))
    view = document["bufferViews"][image["bufferView"]]
    assert binary[view["byteOffset"] :][: view["byteLength"]] == given["texture_png"]
    assert image["mimeType"] == "image/png"
    assert texture == {"sampler": 0, "source": 0}
    # Linear, with mipmaps, and clamped: an atlas does not repeat.
    assert sampler == {"magFilter": 9729, "minFilter": 9987, "wrapS": 33071, "wrapT": 33071}
    shading = document["materials"][0]["pbrMetallicRoughness"]
    assert shading == {
        "metallicFactor": 0.0, "roughnessFactor": ROUGHNESS, "baseColorTexture": {"index": 0},
    }  # fmt: skip
    attributes = document["meshes"][0]["primitives"][0]["attributes"]
    assert set(attributes) == {"POSITION", "NORMAL", "TEXCOORD_0"}
    np.testing.assert_array_equal(
        read(document, binary, attributes["TEXCOORD_0"]), given["texcoords"]
    )


def test_neither_colors_nor_texture():
    document, _ = chunks(glb(**{k: v for k, v in ball().items() if k != "colors"}))
    primitive = document["meshes"][0]["primitives"][0]
    assert set(primitive["attributes"]) == {"POSITION", "NORMAL"}
    assert primitive["material"] == 0
    assert "images" not in document


@pytest.mark.parametrize("extra", ["colors", "texcoords", "texture_png"])
def test_colors_or_texture_and_never_both(extra: str):
    bare = {k: v for k, v in ball().items() if k != "colors"}
    given = ball() | textured_ball()
    glb(**textured_ball())
    wrong = textured_ball() if extra == "colors" else bare
    with pytest.raises(ValueError, match="or a texture with its coordinates, or neither"):
        glb(**wrong | {extra: given[extra]})


def test_extras():
    extras = {"triposr": {"resolution": 256, "model": None, "name": "Café"}}
    document, _ = chunks(glb(**ball(), extras=extras))
    assert document["meshes"][0]["extras"] == extras
    document, _ = chunks(glb(**ball()))
    assert "extras" not in document["meshes"][0]


Validate = Callable[[bytes], dict[str, Any]]


@pytest.mark.parametrize("make", [ball, textured_ball])
def test_khronos_finds_nothing_to_say(validate_gltf: Validate, make: Callable[[], dict[str, Any]]):
    """No error, no warning, no information, no hint; and it saw the whole of the file."""
    recipe = {"input": {"sha256": "0" * 64}, "stages": [{"id": "a", "model": None, "params": {}}]}
    report = validate_gltf(glb(**make(), extras={"dna_pipeline": recipe}))
    assert report["issues"]["messages"] == []
    counts = [report["issues"][f"num{kind}s"] for kind in ("Error", "Warning", "Info", "Hint")]
    assert counts == [0, 0, 0, 0]
    info = report["info"]
    assert (info["totalVertexCount"], info["totalTriangleCount"]) == (162, 320)
    assert info["hasTextures"] is (make is textured_ball)
    assert info["hasDefaultScene"] is True


def test_khronos_finds_faults(validate_gltf: Validate):
    report = validate_gltf(glb(**ball() | {"normals": ball()["normals"] * 2}))
    assert report["issues"]["numErrors"] == 162


def test_trimesh_reads_the_texture():
    given = textured_ball()
    scene = trimesh.load(io.BytesIO(glb(**given)), file_type="glb", process=False)
    (mesh,) = scene.geometry.values()
    picture = mesh.visual.material.baseColorTexture
    assert np.asarray(picture.convert("RGB")).tolist() == [[[0, 0, 0], [255, 128, 3]]]
    flipped = mesh.visual.uv * [1, -1] + [0, 1]  # trimesh counts v upwards
    np.testing.assert_allclose(flipped, given["texcoords"], atol=1e-6)


def test_trimesh_reads_the_same():
    given = ball()
    data = glb(**given, extras={"a": 1})
    scene = trimesh.load(io.BytesIO(data), file_type="glb", process=False)
    (mesh,) = scene.geometry.values()
    np.testing.assert_array_equal(mesh.vertices, given["vertices"])
    np.testing.assert_array_equal(mesh.faces, given["faces"])
    np.testing.assert_allclose(mesh.vertex_normals, given["normals"], atol=1e-6)
    expected = np.rint(given["colors"] * 65535)
    np.testing.assert_allclose(mesh.visual.vertex_attributes["color"][:, :3], expected, atol=1)
    assert mesh.metadata["a"] == 1
    assert mesh.is_watertight
    assert mesh.volume > 0


def test_bytes_depend_on_the_values_alone():
    """Not on their type or their order in memory."""
    given = ball()
    other = {
        "vertices": np.asfortranarray(given["vertices"].astype(np.float64)),
        "normals": np.hstack([given["normals"]] * 2)[:, :3],
        "colors": given["colors"].astype(np.float64),
        "faces": np.asfortranarray(given["faces"].astype(np.int64)),
    }
    assert glb(**given) == glb(**given | other)


def test_bounds_are_those_of_the_rounded_positions():
    """A third has no end in binary: in float64 it lies outside what the file holds."""
    vertices = ball()["vertices"].astype(np.float64)
    vertices[0], vertices[1] = -1 / 3, 4 / 3
    assert faults(*chunks(glb(**ball() | {"vertices": vertices}))) == []


@pytest.mark.parametrize(
    "change",
    [
        {"faces": np.zeros((0, 3), np.int32)},
        {"vertices": np.full((162, 3), np.nan, np.float32)},
        {"vertices": np.full((162, 3), np.inf, np.float32)},
        {"normals": np.full((162, 3), np.nan, np.float32)},
        {"colors": np.full((162, 3), np.nan, np.float32)},
        {"extras": {"a": float("nan")}},
    ],
)
def test_what_gltf_cannot_hold(change: dict[str, Any]):
    with pytest.raises(ValueError, match=r"without faces|not finite|not JSON compliant"):
        glb(**ball() | change)
