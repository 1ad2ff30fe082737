"""A coloured triangle mesh in TripoSR's axes."""

from dataclasses import dataclass

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


def vertex_normals(vertices: FloatArray, faces: IntArray) -> FloatArray:
    """Smooth normals (n, 3) float32 of unit length, each the area-weighted mean of its faces'.

    A vertex that no face uses, or whose faces cancel out, points up (+z).
    """
    corners = vertices[faces].astype(np.float64)  # (m, 3, 3)
    weighted = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])  # (m, 3)
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
    """Whether each edge belongs to two faces, which run along it in opposite directions."""
    start, end = faces.astype(np.int64).ravel(), np.roll(faces, -1, axis=1).astype(np.int64).ravel()
    count = int(faces.max(initial=0)) + 1
    there, back = np.sort(start * count + end), np.sort(end * count + start)
    return bool(np.array_equal(there, back) and (np.diff(there) > 0).all())
