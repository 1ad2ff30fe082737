"""OBJ, PLY and STL of one mesh, as Blender, MeshLab and slicers read them.

Written here and not by a mesh library: none of them gives all of sRGB colours, normals, a texture's
coordinates where seams double the vertices, and the same bytes every time. Vertices and normals
come in the axes of the file (`docs/meshes.md`), colours in sRGB.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dna_pipeline.media.meshes.obj_names import word

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]

_BLOCK_ROWS = 1 << 14
_STL_HEADER = b"binary STL by dna-pipeline".ljust(80, b"\0")


def obj(
    vertices: Floats,
    normals: Floats,
    faces: Ints,
    *,
    name: str,
    colors: Floats | None = None,
    texcoords: Floats | None = None,
    material_file: str | None = None,
) -> bytes:
    """Wavefront OBJ, text.

    Args:
        vertices: (n, 3).
        normals: (n, 3), unit length.
        faces: (m, 3).
        name: of the object, and of its material if it has one.
        colors: (n, 3), sRGB in [0, 1]: `v x y z r g b`, which many programs read.
        texcoords: (n, 2), v down as in glTF; OBJ counts it upwards.
        material_file: name of the MTL beside it; a `word`.
    """
    lines = ["# dna-pipeline"]
    if material_file is not None:
        lines.append(f"mtllib {material_file}")
    lines.append(f"o {word(name)}")
    if colors is None:
        lines += _rows("v %.7g %.7g %.7g", vertices)
    else:
        both = np.hstack([vertices, np.clip(colors, 0, 1)])
        lines += _rows("v %.7g %.7g %.7g %.5g %.5g %.5g", both)
    if texcoords is not None:
        lines += _rows("vt %.7g %.7g", _upwards(texcoords))
    lines += _rows("vn %.4f %.4f %.4f", normals)
    if material_file is not None:
        lines.append(f"usemtl {word(name)}")
    corner = "%d//%d" if texcoords is None else "%d/%d/%d"
    index = np.repeat(faces.astype(np.int64) + 1, 2 if texcoords is None else 3, axis=1)
    lines += ["s 1", *_rows(f"f {corner} {corner} {corner}", index), ""]
    return "\n".join(lines).encode()


def mtl(name: str, texture_file: str, roughness: float) -> bytes:
    """The material of an OBJ: a matte surface with a picture on it, whose name is a `word`."""
    lines = ["# dna-pipeline", f"newmtl {word(name)}", "Kd 1 1 1", "Ks 0 0 0"]
    lines += ["illum 1", f"Pr {roughness:g}", "Pm 0", f"map_Kd {texture_file}", ""]
    return "\n".join(lines).encode()


def ply(
    vertices: Floats,
    normals: Floats,
    faces: Ints,
    *,
    colors: Floats,
    texcoords: Floats | None = None,
    texture_file: str | None = None,
) -> bytes:
    """Binary little-endian PLY with normals and 8-bit colours.

    Args:
        vertices: (n, 3).
        normals: (n, 3), unit length.
        faces: (m, 3).
        colors: (n, 3), sRGB in [0, 1].
        texcoords: (n, 2), v down as in glTF; written as s and t, t upwards.
        texture_file: name of the picture beside it, for MeshLab.
    """
    columns = [*_columns("x y z", vertices, "<f4"), *_columns("nx ny nz", normals, "<f4")]
    columns += _columns("red green blue", np.rint(np.clip(colors, 0, 1) * 255), "u1")
    if texcoords is not None:
        columns += _columns("s t", _upwards(texcoords), "<f4")
    points = _records(columns)
    corners = _records([("size", np.full(len(faces), 3), "u1"), *_columns("a b c", faces, "<i4")])
    words = {"<f4": "float", "u1": "uchar"}
    header = ["ply", "format binary_little_endian 1.0", "comment dna-pipeline"]
    if texture_file is not None:
        header.append(f"comment TextureFile {texture_file}")
    header.append(f"element vertex {len(vertices)}")
    header += [f"property {words[kind]} {column}" for column, _, kind in columns]
    header += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header"]
    return "\n".join([*header, ""]).encode() + points.tobytes() + corners.tobytes()


def stl(vertices: Floats, faces: Ints) -> bytes:
    """Binary STL: bare triangles (m) of vertices (n, 3), with their normals."""
    corners = vertices[faces]  # (m, 3, 3)
    edges = corners.astype(np.float64)
    normals = np.cross(edges[:, 1] - edges[:, 0], edges[:, 2] - edges[:, 0])
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    normals = np.divide(normals, lengths, out=np.zeros_like(normals), where=lengths > 0)
    record = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("unused", "<u2")])
    triangles = np.zeros(len(faces), record)
    triangles["normal"], triangles["corners"] = normals, corners
    return _STL_HEADER + np.uint32(len(faces)).astype("<u4").tobytes() + triangles.tobytes()


def _rows(form: str, rows: NDArray[Any]) -> list[str]:
    """Each row by that form, in blocks: one call of Python's formatting for each, since numbers of
    Python take several times the memory of the text."""
    parts = [rows[start : start + _BLOCK_ROWS] for start in range(0, len(rows), _BLOCK_ROWS)]
    return ["\n".join([form] * len(part)) % tuple(part.ravel().tolist()) for part in parts]


def _upwards(texcoords: Floats) -> Floats:
    """From v down to v up."""
    u, v = texcoords[:, 0], np.float32(1) - texcoords[:, 1]
    return np.stack([u, v], axis=1)


def _columns(names: str, values: NDArray[Any], kind: str) -> list[tuple[str, NDArray[Any], str]]:
    return [(name, values[:, at], kind) for at, name in enumerate(names.split())]


def _records(columns: list[tuple[str, NDArray[Any], str]]) -> NDArray[Any]:
    """The columns as one array of records without gaps."""
    records = np.empty(len(columns[0][1]), [(name, kind) for name, _, kind in columns])
    for name, values, _ in columns:
        records[name] = values
    return records
