"""Measures of a mesh, its pieces and the sides where the box cut it off; removes small pieces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dna_pipeline.media.meshes.mesh import (
    FloatArray,
    IntArray,
    Mesh,
    compact,
    face_normals,
    groups,
    is_watertight,
)

SIDES = (("back", "front"), ("left", "right"), ("bottom", "top"))
"""Of the box, seen from its front: the lower and the upper end of x, y and z."""
_TOUCH = 1e-5
"""How near to the box counts as on it, by its radius: well above float32's error."""


@dataclass(frozen=True)
class Measures:
    """Area and volume in the square and the cube of the vertices' unit.

    components: pieces that share no vertex. volume: None for an open mesh, which has none.
    """

    watertight: bool
    components: int
    area: float
    volume: float | None


@dataclass(frozen=True)
class Removed:
    """How much was taken out of a mesh."""

    components: int
    faces: int


def measure(vertices: FloatArray, faces: IntArray) -> Measures:
    """Of vertices (n, 3) and faces (m, 3), at least one."""
    doubled = face_normals(vertices, faces)
    closed = is_watertight(faces)
    volume = float(np.einsum("ij,ij->", vertices[faces[:, 0]], doubled)) / 6
    return Measures(
        watertight=closed,
        components=components(faces),
        area=float(np.linalg.norm(doubled, axis=1).sum()) / 2,
        volume=volume if closed else None,
    )


def components(faces: IntArray) -> int:
    """The pieces that share no vertex; of at least one face."""
    return int(_components(faces).max()) + 1


def welded(vertices: FloatArray, faces: IntArray) -> IntArray:
    """The faces (k, 3) with one vertex in place of all that lie at the very same place.

    Vertices are doubled along the seams of a texture. Faces that have shrunk to a line by this
    are left out.
    """
    places = np.ascontiguousarray(vertices + np.float32(0)).view("V12").ravel()  # -0 becomes 0
    _, first, place = np.unique(places, return_index=True, return_inverse=True)
    joined = first[place][faces].astype(np.int32)
    lines = (joined == np.roll(joined, 1, axis=1)).any(axis=1)
    return joined[~lines]


def without_small(mesh: Mesh, least: float) -> tuple[Mesh, Removed]:
    """The mesh without the components whose area is below that part of the largest one's.

    least: in [0, 1]; the largest stays in any case. The order of the vertices and faces stays.
    """
    component = _components(mesh.faces)
    areas = np.bincount(component, np.linalg.norm(face_normals(mesh.vertices, mesh.faces), axis=1))
    stays = areas >= least * areas.max()
    faces = mesh.faces[stays[component]]
    removed = Removed(int((~stays).sum()), len(mesh.faces) - len(faces))
    if removed.components == 0:
        return mesh, removed
    vertices, faces, used = compact(mesh.vertices, faces)
    return Mesh(vertices, faces, mesh.colors[used]), removed


def cut_sides(vertices: FloatArray, radius: float) -> list[str]:
    """The sides of the box [-radius, radius]³ at which the surface is cut off, and open."""
    near = radius * (1 - _TOUCH)
    low, high = vertices.min(axis=0) <= -near, vertices.max(axis=0) >= near
    return [
        name
        for names, ends in zip(SIDES, zip(low, high, strict=True), strict=True)
        for name, reached in zip(names, ends, strict=True)
        if reached
    ]


def _components(faces: IntArray) -> NDArray[np.int64]:
    """The number (m,) of each face's component, from 0 on in the order of their first vertices."""
    labels = groups(np.vstack([faces[:, :2], faces[:, 1:]]), int(faces.max()) + 1)
    return np.unique(labels[faces[:, 0]], return_inverse=True)[1]  # without unused vertices
