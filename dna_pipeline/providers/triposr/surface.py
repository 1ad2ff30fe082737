"""From a field to a triangle mesh: marching cubes on densities of a regular grid."""

import itertools
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.measure import marching_cubes  # pyright: ignore[reportUnknownVariableType]

from dna_pipeline.media.meshes.mesh import FloatArray, IntArray, Mesh
from dna_pipeline.providers.triposr.copies import to_device
from dna_pipeline.providers.triposr.field import Field, NonFiniteField
from dna_pipeline.providers.triposr.grid import Progress, density_grid, settle
from dna_pipeline.providers.triposr.sparse import Search, is_worthwhile

__all__ = ["EmptySurface", "NonFiniteField", "Surface", "colors_at", "density_grid", "extract"]

DEFAULT_THRESHOLD = 25.0
_LEAST_DENSITY = 1e-30
"""Whose logarithm stands for that of none at all."""

Method = Literal["sparse", "dense"]
LevelSet = Literal["density", "logit"]


class EmptySurface(ValueError):
    """No cell of the grid crosses the threshold."""


@dataclass(frozen=True)
class Surface:
    """A mesh and how it was found.

    inside: how many of the grid's points lie inside it (density above the threshold). points: how
    many of them were read. seconds: by phase, in the order of the phases.
    """

    mesh: Mesh
    inside: int
    points: int
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class _Sampled:
    """Densities around a level set: a part of the grid, from the point `origin` on.

    Where there is a mask, only cells whose highest corner it marks are to be looked at; densities
    elsewhere may be missing (0).
    """

    density: FloatArray
    origin: tuple[int, int, int]
    mask: NDArray[np.bool_] | None
    inside: int
    points: int


def extract(
    field: Field,
    resolution: int = 256,
    threshold: float = DEFAULT_THRESHOLD,
    chunk_size: int = 0,
    progress: Progress | None = None,
    *,
    method: Method = "sparse",
    level_set: LevelSet = "density",
) -> Surface:
    """The level set of the density on a grid of resolution³ points over the field's box.

    chunk_size: points asked for at once, 0 = the field's choice. progress(done, total) is called
    after every chunk, tells how much of the search is done, and cancels by raising.
    method: `dense` reads the field at every point; `sparse` only where the surface might be (see
    `sparse`), and where the grid is hardly finer than the planes, at every point too. Both give
    the same mesh but for rounding, by which a vertex moves less than 1e-6; `sparse` does not see
    what is not finite where it does not look.
    level_set: whether vertices are set between points by the density, as the original does, or
    by its logarithm, which changes more evenly; the faces are the same but where four corners of
    a cell's side alternate.
    Raises NonFiniteField and EmptySurface, after the search's first part for a scene that is not
    finite. On a GPU the search waits for the device a few times for each of its lattices, to learn
    how many cells and points go on, whatever their number. The mesh is open where it meets the box.
    """
    watch = _Watch()
    if method == "sparse" and is_worthwhile(field, resolution):
        sampled = _sparse(field, resolution, threshold, chunk_size, progress, watch)
    else:
        sampled = _dense(field, resolution, threshold, chunk_size, progress)
        watch.lap("density")
    vertices, faces = _level_set(sampled, threshold, level_set)
    vertices = (vertices * (2 * field.radius / (resolution - 1)) - field.radius).astype(np.float32)
    watch.lap("marching_cubes")
    mesh = Mesh(vertices, faces, colors_at(field, vertices, chunk_size))
    watch.lap("colors")
    return Surface(mesh, sampled.inside, sampled.points, watch.seconds)


def colors_at(field: Field, points: FloatArray, chunk_size: int = 0) -> FloatArray:
    """Colours (n, 3) float32 in [0, 1] at points (n, 3)."""
    colors = np.empty_like(points)
    step = chunk_size or field.chunk_size
    for start in range(0, len(points), step):
        chunk = to_device(torch.as_tensor(points[start : start + step]), field.device)
        colors[start : start + step] = field.density_and_color(chunk)[1].cpu().numpy()
    return colors


class _Watch:
    """Seconds by phase; each phase ends with its data on the CPU, so no device is waited for."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def lap(self, phase: str) -> None:
        now = time.perf_counter()
        self.seconds[phase] = now - self._last
        self._last = now


def _dense(
    field: Field, resolution: int, threshold: float, chunk_size: int, progress: Progress | None
) -> _Sampled:
    density = density_grid(field, resolution, chunk_size, progress)
    field.require_finite()
    # A NaN anywhere makes both of these NaN, so the grid is read only twice.
    low, high = float(density.min()), float(density.max())
    if not np.isfinite([low, high]).all():
        bad = density.size - int(np.isfinite(density).sum())
        raise NonFiniteField(f"{bad} of {density.size} densities are not finite")
    _require_surface(low, high, threshold)
    settle(field, density, threshold)
    inside = int(np.count_nonzero(density > threshold))
    return _Sampled(density, (0, 0, 0), None, inside, density.size)


def _sparse(
    field: Field,
    resolution: int,
    threshold: float,
    chunk_size: int,
    progress: Progress | None,
    watch: _Watch,
) -> _Sampled:
    search = Search(field, resolution, threshold, chunk_size, progress or _ignore)
    cells, margin = search.coarse()
    watch.lap("coarse")
    crossing = search.fine(cells, margin)
    _require_surface(crossing.low, crossing.high, threshold)
    density, cells = crossing.density.cpu().numpy(), crossing.cells.cpu().numpy()
    watch.lap("fine")
    origin = cells.min(axis=1)
    cells -= origin[:, None]
    shape = tuple(int(side) + 2 for side in cells.max(axis=1))
    volume, mask = np.zeros(shape, np.float32), np.zeros(shape, np.bool_)
    corners = itertools.product((0, 1), repeat=3)
    for (x, y, z), at_corner in zip(corners, density, strict=True):
        volume[cells[0] + x, cells[1] + y, cells[2] + z] = at_corner
    mask[tuple(cells + 1)] = True
    return _Sampled(volume, tuple(origin.tolist()), mask, crossing.inside, crossing.points)


def _ignore(done: int, total: int) -> None:
    """Progress that nobody asked for."""


def _require_surface(low: float, high: float, threshold: float) -> None:
    if not low < threshold < high:
        raise EmptySurface(f"densities from {low:.6g} to {high:.6g} do not cross {threshold:g}")


def _level_set(
    sampled: _Sampled, threshold: float, level_set: LevelSet
) -> tuple[FloatArray, IntArray]:
    """Vertices in grid units and faces, counter-clockwise seen from low density."""
    march = cast(Callable[..., tuple[FloatArray, IntArray, FloatArray, FloatArray]], marching_cubes)
    values = sampled.density
    if level_set == "logit":
        threshold, values = math.log(threshold), np.log(np.maximum(values, _LEAST_DENSITY))
    vertices, faces, _, _ = march(values, threshold, gradient_direction="ascent", mask=sampled.mask)
    vertices += np.asarray(sampled.origin, np.float32)
    return vertices, np.ascontiguousarray(faces, np.int32)
