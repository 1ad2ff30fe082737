"""Fewer triangles for the same shape: quadric error decimation (Garland and Heckbert, 1997)."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
from numpy.typing import NDArray

from dna_pipeline.media.meshes.mesh import (
    FloatArray,
    IntArray,
    border_loops,
    compact,
    groups,
    is_manifold,
)

# How fast the bound on the error rises from pass to pass. Gentle ones cost nothing more but give
# up on a target that is far away; the library's own default, 7, folds faces over most often.
_AGGRESSIVENESS = (5.0, 6.0, 4.0, 3.0)
_COINCIDENT = 1e-6
"""Of the mesh's size: marching cubes puts vertices at one place where a grid point lies on the
surface, and the faces between them, which have no area, stand in the way of the decimation."""

Progress = Callable[[int, int], None]


def decimate(
    vertices: FloatArray, faces: IntArray, target: int, progress: Progress | None = None
) -> tuple[FloatArray, IntArray]:
    """Vertices (n, 3) float32 and faces (m, 3) int32, at most `target` of them if that can be.

    A mesh of no more faces than that is given back untouched. Where no way leads there that leaves
    it watertight, or an open one without more holes, it has the fewest faces that one did, or all.
    Small components may vanish. The same arrays give the same result. progress(done, total) is
    called between the ways, each of which holds Python's lock, and cancels by raising.
    """
    if len(faces) <= target:
        return vertices, faces
    holes = border_loops(faces)
    start = _joined(vertices, faces)
    if not _is_whole(start[1], holes):
        start = vertices, faces
    best = vertices, faces
    for at, aggressiveness in enumerate(_AGGRESSIVENESS):
        if progress is not None:
            progress(at, len(_AGGRESSIVENESS))
        fewer = compact(*_simplified(*start, target, aggressiveness))[:2]
        if 0 < len(fewer[1]) < len(best[1]) and _is_whole(fewer[1], holes):
            best = fewer
            if len(fewer[1]) <= target:
                break
    return best


def _is_whole(faces: IntArray, holes: int) -> bool:
    """True if the mesh has at most that many holes, and no edge with more than two faces."""
    return is_manifold(faces) and border_loops(faces) <= holes


def _simplified(
    vertices: FloatArray, faces: IntArray, target: int, aggressiveness: float
) -> tuple[FloatArray, IntArray]:
    import fast_simplification

    simplified = cast(
        tuple[NDArray[np.float64], NDArray[np.int64]],
        fast_simplification.simplify(
            vertices.astype(np.float64), faces, target_count=target, agg=aggressiveness
        ),
    )
    return simplified[0].astype(np.float32), _unfolded(simplified[1].astype(np.int32))


def _unfolded(faces: IntArray) -> IntArray:
    """Without pairs of faces that lie back to back on the same three vertices.

    The library contracts edges without asking whether their ends share more neighbours than the
    two across from them, and so may leave such a flap, hung on an edge that then has four faces.
    Without it that edge has two again.
    """
    while True:
        _, group, count = np.unique(
            np.sort(faces, axis=1), axis=0, return_inverse=True, return_counts=True
        )
        folded = count[group.ravel()] == 2
        if not folded.any():
            return faces
        faces = faces[~folded]


def _joined(vertices: FloatArray, faces: IntArray) -> tuple[FloatArray, IntArray]:
    """Edges of no length contracted, and the faces gone that had them."""
    size = float(np.ptp(vertices, axis=0).max())
    start, end = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    short = np.linalg.norm(vertices[start] - vertices[end], axis=1) <= _COINCIDENT * size
    label = groups(np.stack([start[short], end[short]], axis=1), len(vertices))
    _, first = np.unique(label, return_index=True)
    joined = first[label][faces].astype(np.int32)
    is_kept = (joined != np.roll(joined, 1, axis=1)).all(axis=1)
    return compact(vertices, _unfolded(joined[is_kept]))[:2]
