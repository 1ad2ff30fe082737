"""A coloured triangle mesh in TripoSR's axes."""

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int32]


@dataclass(frozen=True)
class Mesh:
    """Triangles in TripoSR's axes, normals outward.

    vertices: (n, 3) float32, within the field's box. faces: (m, 3) int32, counter-clockwise seen
    from outside. colors: (n, 3) float32 in [0, 1], display-referred sRGB.
    """

    vertices: FloatArray
    faces: IntArray
    colors: FloatArray


@dataclass(frozen=True)
class TexturedMesh:
    """Triangles in TripoSR's axes with a picture on them; vertices are doubled along its seams.

    vertices: (n, 3) float32. faces: (m, 3) int32, counter-clockwise seen from outside. normals:
    (n, 3) float32, unit length. texcoords: (n, 2) float32, u right, v down from the upper left
    corner. texture: (side, side, 3) uint8, sRGB.
    """

    vertices: FloatArray
    faces: IntArray
    normals: FloatArray
    texcoords: FloatArray
    texture: NDArray[np.uint8]


def face_normals(vertices: FloatArray, faces: IntArray) -> NDArray[np.float64]:
    """Normals (m, 3), each twice as long as its face is large."""
    corners = vertices[faces].astype(np.float64)  # (m, 3, 3)
    return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])


def compact(vertices: FloatArray, faces: IntArray) -> tuple[FloatArray, IntArray, IntArray]:
    """Without the vertices that no face uses; and which of them stay."""
    used, index = np.unique(faces, return_inverse=True)
    return vertices[used], index.reshape(-1, 3).astype(np.int32), used


def vertex_normals(vertices: FloatArray, faces: IntArray) -> FloatArray:
    """Smooth normals (n, 3) float32 of unit length, each the area-weighted mean of its faces'.

    A vertex that no face uses, or whose faces cancel out, points up (+z).
    """
    weighted = face_normals(vertices, faces)
    index = faces.ravel()
    sums = np.stack(
        [
            np.bincount(index, np.repeat(weighted[:, axis], 3), minlength=len(vertices))
            for axis in range(3)
        ],
        axis=1,
    )  # (n, 3)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        normals = np.where(lengths > 0, sums / lengths, (0.0, 0.0, 1.0))
    return normals.astype(np.float32)


def is_watertight(faces: IntArray) -> bool:
    """True if each edge belongs to two faces, which run along it in opposite directions."""
    there, back = map(np.sort, _edges(faces))
    return bool(np.array_equal(there, back) and (np.diff(there) > 0).all())


def is_manifold(faces: IntArray) -> bool:
    """True if no edge is run along twice in the same direction; open borders may be there."""
    there, back = _edges(faces)
    return bool((np.diff(np.sort(there)) > 0).all() and (there != back).all())


def border_loops(faces: IntArray) -> int:
    """Of a manifold: how many closed lines its open edges make; two that touch are two."""
    there, back = map(np.sort, _edges(faces))
    if np.array_equal(there, back):
        return 0
    nearest = back[np.minimum(np.searchsorted(back, there), len(back) - 1)]
    edges = np.stack(np.divmod(there[nearest != there], _vertices(faces)), axis=1)
    vertices = np.unique(edges)
    apart = len(np.unique(groups(edges, _vertices(faces))[vertices]))
    return apart + len(edges) - len(vertices)


def groups(edges: NDArray[Any], count: int) -> NDArray[np.int64]:
    """The number of each of `count` vertices' group: those that edges (n, 2) join have one."""
    sparse: Any = importlib.import_module("scipy.sparse")
    graphs: Any = importlib.import_module("scipy.sparse.csgraph")
    graph = sparse.coo_array((np.ones(len(edges), bool), tuple(edges.T)), shape=(count, count))
    return graphs.connected_components(graph, directed=False)[1]


def _vertices(faces: IntArray) -> int:
    return int(faces.max(initial=0)) + 1


def _edges(faces: IntArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A number for each edge of each face (3 m,) as it runs, and for the same edge turned round."""
    start, end = faces.astype(np.int64).ravel(), np.roll(faces, -1, axis=1).astype(np.int64).ravel()
    count = _vertices(faces)
    return start * count + end, end * count + start
