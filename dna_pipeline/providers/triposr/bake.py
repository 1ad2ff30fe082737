"""A mesh with a texture: laid out, then painted texel by texel with the colours of its field."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dna_pipeline.media.meshes.mesh import FloatArray, IntArray, TexturedMesh, vertex_normals
from dna_pipeline.media.meshes.texels import Texels, locate
from dna_pipeline.media.meshes.unwrap import unwrap
from dna_pipeline.providers.triposr.field import Field
from dna_pipeline.providers.triposr.surface import NonFiniteField, colors_at

Progress = Callable[[int, int], None]

_POINTS_PER_REPORT = 1 << 17
_UNWRAP_PERCENT = 60
"""Of the time that baking takes, on a CPU."""


@dataclass(frozen=True)
class Baked:
    """A textured mesh, and what is to be told of its texture.

    used: the part of its texels that a face covers. gap_px: how far apart the charts are.
    fault: what went wrong with OpenGL, without which it was baked then; or None.
    """

    mesh: TexturedMesh
    used: float
    charts: int
    gap_px: float
    fault: str | None = None


def bake(
    field: Field,
    vertices: FloatArray,
    faces: IntArray,
    size_px: int,
    chunk_size: int = 0,
    progress: Progress | None = None,
    *,
    on_device: Callable[[Callable[[], NDArray[np.uint8]]], NDArray[np.uint8]] = lambda work: work(),
) -> Baked:
    """Paint the mesh (n, 3), (m, 3) on a texture of size_px².

    Normals are smooth across seams. chunk_size: points asked for at once, 0 = the field's choice.
    progress(done, 100) cancels by raising. on_device: calls what reads the field. Raises
    UnwrapError and NonFiniteField.
    """
    layout = unwrap(vertices, faces, size_px, _share(progress, 0, _UNWRAP_PERCENT))
    corners = vertices[layout.vertex]
    texels = locate(corners, layout.texcoords, layout.faces, size_px)
    painting = _share(progress, _UNWRAP_PERCENT, 100)
    colors = on_device(lambda: paint(field, texels.positions, chunk_size, painting))
    normals = vertex_normals(vertices, faces)[layout.vertex]
    mesh = TexturedMesh(corners, layout.faces, normals, layout.texcoords, fill(texels, colors))
    used = float(texels.covered.mean())
    return Baked(mesh, used, layout.charts, layout.gap_px, texels.fault)


def _share(progress: Progress | None, first: int, last: int) -> Progress | None:
    """Progress of a part of the work, which goes from one percentage to the other."""
    if progress is None:
        return None
    return lambda done, total: progress(first + (last - first) * done // total, 100)


def paint(
    field: Field, points: FloatArray, chunk_size: int = 0, progress: Progress | None = None
) -> NDArray[np.uint8]:
    """The field's colours (n, 3), sRGB, at points (n, 3). Raises NonFiniteField."""
    colors = np.empty(points.shape, np.uint8)
    step = max(_POINTS_PER_REPORT, chunk_size or field.chunk_size)
    for start in range(0, len(points), step):
        part = colors_at(field, points[start : start + step], chunk_size)
        if not np.isfinite(part).all():
            raise NonFiniteField("the colours of the texture are not finite")
        colors[start : start + step] = np.rint(np.clip(part, 0, 1) * 255)
        if progress is not None:
            progress(min(start + step, len(points)), len(points))
    return colors


def fill(texels: Texels, colors: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The texture (size, size, 3): texels that no face covers take the nearest covered one's
    colour, so that neither filtering nor a mip-map brings in any other at a seam."""
    index = np.zeros(texels.covered.shape, np.int32)
    index[texels.covered] = np.arange(len(colors), dtype=np.int32)
    nearest = cast(
        Callable[..., NDArray[np.int32]],
        getattr(ndimage, "distance_transform_edt"),  # noqa: B009
    )
    row, column = nearest(~texels.covered, return_distances=False, return_indices=True)
    return colors[index[row, column]]
