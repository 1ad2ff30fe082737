"""A z-buffered triangle rasteriser in numpy: no OpenGL, no display, the same bytes everywhere.

Triangles are grouped by the size of their bounding boxes, so that each group is one rectangular
array of candidate pixels. A 64-bit key of nearness and face number resolves visibility: one
`maximum.at` per group, and ties go to the lower face.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dna_pipeline.media.meshes.mesh import FloatArray, IntArray

_CANDIDATES_AT_ONCE = 1 << 20
_FACE_MASK = np.uint64(0xFFFFFFFF)
_DEPTH_SHIFT = np.uint64(32)
# Neighbouring triangles must leave no gap between them, whatever the rounding.
_EDGE_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Fragments:
    """The face that is seen in each pixel.

    face: (height, width) int32, -1 where there is nothing. barycentric: (height, width, 3)
    float32, perspective-correct weights of the face's corners, zero where there is nothing.
    """

    face: IntArray
    barycentric: FloatArray

    @property
    def covered(self) -> NDArray[np.bool_]:
        return self.face >= 0

    def interpolate(self, attribute: NDArray[Any], faces: IntArray) -> NDArray[Any]:
        """A vertex attribute (n, k) at the covered pixels, (covered, k), in row-major order."""
        corners, weights = faces[self.face[self.covered]].T, self.barycentric[self.covered].T
        values = attribute[corners[0]] * weights[0, :, None]  # (covered, k)
        values += attribute[corners[1]] * weights[1, :, None]
        values += attribute[corners[2]] * weights[2, :, None]
        return values


@dataclass(frozen=True)
class _Triangles:
    """Screen triangles that may cover a pixel's centre.

    left, top: first column and row of the box. width, height: its size in pixels.
    planes: (m, 4, 3), coefficients in (x, y, 1) from the box's first pixel of the three
    barycentric weights and of the inverse depth. face: index in the caller's array.
    """

    left: NDArray[np.int64]
    top: NDArray[np.int64]
    width: NDArray[np.int64]
    height: NDArray[np.int64]
    planes: FloatArray
    face: NDArray[np.int64]

    def __getitem__(self, chosen: NDArray[Any] | slice) -> "_Triangles":
        return _Triangles(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))


def rasterize(
    positions: NDArray[Any], depth: NDArray[Any], faces: IntArray, width_px: int, height_px: int
) -> Fragments:
    """Draws triangles, both sides, nearest first.

    positions: (n, 2) in pixels, x right and y down; a pixel's centre lies at +0.5. depth: (n,)
    distance along the view axis; equal depths (as in a texture's layout) give affine weights.
    Triangles with a corner at depth ≤ 0 or not finite are left out.
    """
    triangles = _prepare(positions, depth, faces, width_px, height_px)
    keys = np.zeros(width_px * height_px, np.uint64)
    for group in _groups(triangles):
        _draw(group, keys, width_px)
    return _resolve(keys, triangles, depth, faces, width_px, height_px)


def _prepare(
    positions: NDArray[Any], depth: NDArray[Any], faces: IntArray, width_px: int, height_px: int
) -> _Triangles:
    corners = positions.astype(np.float64)[faces]  # (m, 3, 2)
    depths = depth.astype(np.float64)[faces]  # (m, 3)
    good: NDArray[np.bool_] = np.isfinite(depth) & (depth > 0)
    good &= np.isfinite(positions).all(axis=1)
    usable = good[faces].all(axis=1)
    corners[~usable] = -1.0
    limit = np.array([width_px, height_px])
    least = np.minimum(np.minimum(corners[:, 0], corners[:, 1]), corners[:, 2])
    most = np.maximum(np.maximum(corners[:, 0], corners[:, 1]), corners[:, 2])
    first = np.ceil(np.clip(least, 0, limit) - 0.5).astype(np.int64)  # (m, 2)
    last = np.floor(np.clip(most, 0, limit) - 0.5).astype(np.int64)
    size = np.minimum(last, limit - 1) - first + 1
    edges = corners[:, 1:] - corners[:, :1]
    area = edges[:, 0, 0] * edges[:, 1, 1] - edges[:, 0, 1] * edges[:, 1, 0]
    face = np.nonzero(usable & (size > 0).all(1) & (area != 0))[0]
    first, size = first[face], size[face]
    planes = _planes(corners[face] - (first + 0.5)[:, None], area[face], depths[face])
    return _Triangles(first[:, 0], first[:, 1], size[:, 0], size[:, 1], planes, face)


def _planes(
    corners: NDArray[np.float64], area: NDArray[np.float64], depths: NDArray[np.float64]
) -> FloatArray:
    """Coefficients (m, 4, 3) of barycentric weights and inverse depth over the screen."""
    following, previous = np.roll(corners, -1, axis=1), np.roll(corners, 1, axis=1)
    weights = np.stack(
        [
            following[..., 1] - previous[..., 1],
            previous[..., 0] - following[..., 0],
            following[..., 0] * previous[..., 1] - following[..., 1] * previous[..., 0],
        ],
        axis=2,
    )  # (m, 3 weights, 3 coefficients)
    weights /= area[:, None, None]
    inverse_depth = np.einsum("mwc,mw->mc", weights, 1 / depths)
    return np.concatenate([weights, inverse_depth[:, None]], axis=1).astype(np.float32)


def _groups(triangles: _Triangles) -> Iterator[_Triangles]:
    """Triangles with boxes of about one size, few enough to be drawn at once."""
    columns, rows = _size_class(triangles.width), _size_class(triangles.height)
    order = np.lexsort((rows, columns))
    changes = np.nonzero(np.diff(columns[order]) | np.diff(rows[order]))[0] + 1
    for members in np.split(order, changes):
        if members.size == 0:
            continue
        box = int(triangles.width[members].max() * triangles.height[members].max())
        step = max(1, _CANDIDATES_AT_ONCE // box)
        for start in range(0, len(members), step):
            yield triangles[members[start : start + step]]


def _size_class(size_px: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same number for sizes within half an octave; sizes up to three are told apart."""
    return np.ceil(2 * np.log2(size_px)).astype(np.int64)


def _draw(group: _Triangles, keys: NDArray[np.uint64], width_px: int) -> None:
    x = np.arange(group.width.max(), dtype=np.float32)
    y = np.arange(group.height.max(), dtype=np.float32)
    along_x = group.planes[:, :, 0, None] * x + group.planes[:, :, 2, None]  # (m, 4, columns)
    along_y = group.planes[:, :, 1, None] * y  # (m, 4, rows)
    inside = (x < group.width[:, None])[:, None, :] & (y < group.height[:, None])[:, :, None]
    for weight in range(3):
        value = along_x[:, weight, None, :] + along_y[:, weight, :, None]  # (m, rows, columns)
        inside &= value >= -_EDGE_TOLERANCE
    member, row, column = np.nonzero(inside)
    nearness = along_x[member, 3, column] + along_y[member, 3, row]
    pixel = (group.top[member] + row) * width_px + group.left[member] + column
    bits = np.maximum(nearness, 0).view(np.uint32).astype(np.uint64)  # order of positive floats
    np.maximum.at(
        keys, pixel, (bits << _DEPTH_SHIFT) | (_FACE_MASK - group.face[member].astype(np.uint64))
    )


def _resolve(
    keys: NDArray[np.uint64],
    triangles: _Triangles,
    depth: NDArray[Any],
    faces: IntArray,
    width_px: int,
    height_px: int,
) -> Fragments:
    pixel = np.nonzero(keys)[0]
    visible = (_FACE_MASK - (keys[pixel] & _FACE_MASK)).astype(np.int64)
    places = np.empty(len(faces), np.int64)
    places[triangles.face] = np.arange(len(triangles.face))
    index = places[visible]
    x = pixel % width_px - triangles.left[index]
    y = pixel // width_px - triangles.top[index]
    screen = np.stack([x, y, np.ones_like(x)], axis=1).astype(np.float32)
    weights = np.einsum("pwc,pc->pw", triangles.planes[index, :3], screen)
    np.clip(weights, 0, 1, out=weights)
    weights /= depth.astype(np.float32)[faces[visible]]
    weights /= np.einsum("pw->p", weights)[:, None]
    face = np.full(width_px * height_px, -1, np.int32)
    barycentric = np.zeros((width_px * height_px, 3), np.float32)
    face[pixel] = visible
    barycentric[pixel] = weights
    return Fragments(face.reshape(height_px, width_px), barycentric.reshape(height_px, width_px, 3))
