"""Binary glTF 2.0 of one mesh with vertex colours or a texture.

Written here and not by a mesh library because viewers take COLOR_0 for linear light, in which
eight bits are too coarse for dark colours: the values are 16 bits wide. The bytes depend on the
arguments alone. Layout: glTF 2.0 specification, sections 3.6 to 3.9 and 4 (GLB).
"""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FLOAT, _UNSIGNED_SHORT, _UNSIGNED_INT = 5126, 5123, 5125
_ARRAY_BUFFER, _ELEMENT_ARRAY_BUFFER = 34962, 34963
_LINEAR, _LINEAR_MIPMAP_LINEAR, _CLAMP_TO_EDGE = 9729, 9987, 33071
_JSON_CHUNK, _BINARY_CHUNK = 0x4E4F534A, 0x004E4942

ROUGHNESS = 0.9
"""A matte surface, so that engines show the colours and not their sky."""


class _Buffer:
    """The binary chunk while it grows, with its views and accessors."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def view(self, data: bytes, target: int | None = None) -> int:
        """Append bytes, for the graphics card if there is a target; the index of their view."""
        view = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(data)}
        self.views.append(view | ({} if target is None else {"target": target}))
        self.data += data
        self.data += b"\0" * (-len(self.data) % 4)
        return len(self.views) - 1

    def add(self, array: NDArray[Any], target: int, accessor: dict[str, Any]) -> int:
        """Append an array; the index of its accessor."""
        view = self.view(array.tobytes(), target)
        self.accessors.append({"bufferView": view, **accessor})
        return len(self.accessors) - 1


def glb(
    vertices: NDArray[np.float32],
    normals: NDArray[np.float32],
    faces: NDArray[np.int32],
    *,
    name: str,
    colors: NDArray[np.float32] | None = None,
    texcoords: NDArray[np.float32] | None = None,
    texture_png: bytes | None = None,
    extras: dict[str, Any] | None = None,
) -> bytes:
    """The bytes of a .glb file.

    Args:
        vertices: (n, 3), metres, +Y up, front +Z.
        normals: (n, 3), unit length, outward.
        faces: (m, 3), counter-clockwise seen from outside.
        name: of the mesh and its node.
        colors: (n, 3), linear light in [0, 1].
        texcoords: (n, 2), u right and v down from the picture's upper left corner.
        texture_png: a PNG, sRGB, instead of colours: viewers multiply the two.
        extras: of the mesh; plain JSON values.

    Raises:
        ValueError: there are no faces, a number is not finite, or colours and texture do not
            go together.
    """
    if faces.size == 0:
        raise ValueError("glTF has no form for a mesh without faces")
    if (texcoords is None) != (texture_png is None) or not (colors is None or texcoords is None):
        raise ValueError("a mesh has colours, or a texture with its coordinates, or neither")
    buffer = _Buffer()
    attributes = {
        "POSITION": _positions(buffer, vertices),
        "NORMAL": _vectors(buffer, normals, "VEC3"),
    }
    if colors is not None:
        attributes["COLOR_0"] = _colors(buffer, colors)
    if texcoords is not None:
        attributes["TEXCOORD_0"] = _vectors(buffer, texcoords, "VEC2")
    primitive = {"attributes": attributes, "indices": _indices(buffer, faces), "material": 0}
    mesh: dict[str, Any] = {"name": name, "primitives": [primitive]}
    if extras:
        mesh["extras"] = extras
    document = {
        "asset": {"version": "2.0", "generator": "dna-pipeline"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"name": name, "mesh": 0}],
        "meshes": [mesh],
        **_surface(buffer, name, texture_png),
        "accessors": buffer.accessors,
        "bufferViews": buffer.views,
        "buffers": [{"byteLength": len(buffer.data)}],
    }
    text = json.dumps(document, separators=(",", ":"), allow_nan=False)
    return _container(text.encode(), buffer.data)


def _surface(buffer: _Buffer, name: str, texture_png: bytes | None) -> dict[str, Any]:
    """The material, and the picture on it if there is one, as members of the document."""
    shading: dict[str, Any] = {"metallicFactor": 0.0, "roughnessFactor": ROUGHNESS}
    material = {"name": name, "pbrMetallicRoughness": shading}
    if texture_png is None:
        return {"materials": [material]}
    shading["baseColorTexture"] = {"index": 0}
    # The atlas ends at its border: repeated, one edge would shine through at the other.
    wrapping = {"wrapS": _CLAMP_TO_EDGE, "wrapT": _CLAMP_TO_EDGE}
    return {
        "materials": [material],
        "textures": [{"sampler": 0, "source": 0}],
        "samplers": [{"magFilter": _LINEAR, "minFilter": _LINEAR_MIPMAP_LINEAR, **wrapping}],
        "images": [{"name": name, "mimeType": "image/png", "bufferView": buffer.view(texture_png)}],
    }


def _positions(buffer: _Buffer, vertices: NDArray[np.float32]) -> int:
    # Rounded first: the bounds have to be those of the values in the file.
    vertices = _floats(vertices)
    bounds = {"min": vertices.min(axis=0).tolist(), "max": vertices.max(axis=0).tolist()}
    accessor = {"componentType": _FLOAT, "count": len(vertices), "type": "VEC3", **bounds}
    return buffer.add(vertices, _ARRAY_BUFFER, accessor)


def _vectors(buffer: _Buffer, vectors: NDArray[np.float32], kind: str) -> int:
    accessor = {"componentType": _FLOAT, "count": len(vectors), "type": kind}
    return buffer.add(_floats(vectors), _ARRAY_BUFFER, accessor)


def _colors(buffer: _Buffer, linear: NDArray[np.float32]) -> int:
    # Four components, since each vertex has to start at a multiple of four bytes.
    rgba = np.full((len(linear), 4), 65535, "<u2")
    rgba[:, :3] = np.rint(np.clip(_floats(linear), 0, 1) * 65535)
    accessor = {
        "componentType": _UNSIGNED_SHORT, "normalized": True, "count": len(linear), "type": "VEC4",
    }  # fmt: skip
    return buffer.add(rgba, _ARRAY_BUFFER, accessor)


def _indices(buffer: _Buffer, faces: NDArray[np.int32]) -> int:
    accessor = {"componentType": _UNSIGNED_INT, "count": faces.size, "type": "SCALAR"}
    return buffer.add(np.ascontiguousarray(faces, "<u4"), _ELEMENT_ARRAY_BUFFER, accessor)


def _floats(values: NDArray[Any]) -> NDArray[np.float32]:
    values = np.ascontiguousarray(values, "<f4")
    if not np.isfinite(values).all():
        raise ValueError("a number is not finite")
    return values


def _container(document: bytes, binary: bytes | bytearray) -> bytes:
    document += b" " * (-len(document) % 4)
    size = 12 + 8 + len(document) + 8 + len(binary)
    parts = (
        struct.pack("<4sII", b"glTF", 2, size),
        struct.pack("<II", len(document), _JSON_CHUNK),
        document,
        struct.pack("<II", len(binary), _BINARY_CHUNK),
        binary,
    )
    return b"".join(parts)
