"""From a field to a triangle mesh: marching cubes on a dense grid of densities."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from skimage.measure import marching_cubes  # pyright: ignore[reportUnknownVariableType]

from dna_pipeline.tsr.field import Field
from dna_pipeline.tsr.mesh import FloatArray, IntArray, Mesh

Progress = Callable[[int, int], None]

DEFAULT_THRESHOLD = 25.0


class EmptySurface(ValueError):
    """No cell of the grid crosses the threshold."""


class NonFiniteField(ValueError):
    """The density is infinite or not a number somewhere."""


@dataclass(frozen=True)
class Surface:
    """A mesh and how many of the grid's points lie inside it (density above the threshold)."""

    mesh: Mesh
    inside: int


def extract(
    field: Field,
    resolution: int = 256,
    threshold: float = DEFAULT_THRESHOLD,
    chunk_size: int = 0,
    progress: Progress | None = None,
) -> Surface:
    """The level set of the density on a grid of resolution³ points over the field's box.

    chunk_size: points asked for at once, 0 = the field's choice. progress(done, total) counts
    points, is called after every chunk, and cancels by raising.
    Raises NonFiniteField and EmptySurface. The mesh is open where it meets the box.
    """
    density = density_grid(field, resolution, chunk_size, progress)
    _require_surface(density, threshold)
    vertices, faces = _level_set(density, threshold)
    vertices = (vertices * (2 * field.radius / (resolution - 1)) - field.radius).astype(np.float32)
    mesh = Mesh(vertices, faces, colors_at(field, vertices, chunk_size))
    return Surface(mesh, inside=int(np.count_nonzero(density > threshold)))


def density_grid(
    field: Field, resolution: int, chunk_size: int = 0, progress: Progress | None = None
) -> FloatArray:
    """Densities (resolution, resolution, resolution) over [-radius, radius]³, both ends included.

    Axes 0, 1, 2 are x, y, z. Memory is the grid itself and one chunk.
    """
    if resolution < 2:
        raise ValueError(f"resolution must be at least 2, not {resolution}")
    axis = torch.linspace(0, 1, resolution, device=field.device) * (2 * field.radius) - field.radius
    grid = np.empty(resolution**3, np.float32)
    step = chunk_size or field.chunk_size
    for start in range(0, grid.size, step):
        stop = min(start + step, grid.size)
        index = torch.arange(start, stop, device=field.device)
        x, rest = index // resolution**2, index % resolution**2
        points = torch.stack([axis[x], axis[rest // resolution], axis[rest % resolution]], dim=1)
        grid[start:stop] = field.density(points).cpu().numpy()
        if progress is not None:
            progress(stop, grid.size)
    return grid.reshape(resolution, resolution, resolution)


def colors_at(field: Field, points: FloatArray, chunk_size: int = 0) -> FloatArray:
    """Colours (n, 3) float32 in [0, 1] at points (n, 3)."""
    colors = np.empty_like(points)
    step = chunk_size or field.chunk_size
    for start in range(0, len(points), step):
        chunk = torch.as_tensor(points[start : start + step], device=field.device)
        colors[start : start + step] = field.density_and_color(chunk)[1].cpu().numpy()
    return colors


def _require_surface(density: FloatArray, threshold: float) -> None:
    # A NaN anywhere makes both of these NaN, so the grid is read only twice.
    low, high = float(density.min()), float(density.max())
    if not np.isfinite([low, high]).all():
        bad = density.size - int(np.isfinite(density).sum())
        raise NonFiniteField(f"{bad} of {density.size} densities are not finite")
    if not low < threshold < high:
        raise EmptySurface(f"densities from {low:.6g} to {high:.6g} do not cross {threshold:g}")


def _level_set(density: FloatArray, threshold: float) -> tuple[FloatArray, IntArray]:
    """Vertices in grid units and faces, counter-clockwise seen from low density."""
    march = cast(Callable[..., tuple[FloatArray, IntArray, FloatArray, FloatArray]], marching_cubes)
    vertices, faces, _, _ = march(density, threshold, gradient_direction="ascent")
    return vertices, np.ascontiguousarray(faces, np.int32)
