"""A field on a regular grid of points, all of them or those that are asked for."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from dna_pipeline.media.meshes.mesh import FloatArray
from dna_pipeline.providers.triposr.copies import to_device
from dna_pipeline.providers.triposr.field import Field, NonFiniteField

Progress = Callable[[int, int], None]

_NEAR = 1e-4
"""Relative distance from the threshold below which rounding might decide a density's side."""
_NEAR_BATCH = 256
"""Matrix products of few rows are rounded otherwise than those of many."""


_BOOKS_BYTES = 16
"""A point's part in a `Box` of the whole grid, twice over while it is widened, and some more."""


def grid_axis(field: Field, resolution: int) -> Tensor:
    """The coordinates of the grid's points along each axis, both ends of the box included."""
    if resolution < 2:
        raise ValueError(f"resolution must be at least 2, not {resolution}")
    return torch.linspace(0, 1, resolution, device=field.device) * (2 * field.radius) - field.radius


def density_grid(
    field: Field, resolution: int, chunk_size: int = 0, progress: Progress | None = None
) -> FloatArray:
    """Densities (resolution, resolution, resolution) over [-radius, radius]³, both ends included.

    Axes 0, 1, 2 are x, y, z. Memory is the grid itself and one chunk.
    """
    axis = grid_axis(field, resolution)
    grid = np.empty(resolution**3, np.float32)
    step = chunk_size or field.chunk_size
    for start in range(0, grid.size, step):
        stop = min(start + step, grid.size)
        index = torch.arange(start, stop, device=field.device)
        grid[start:stop] = field.density(_positions(axis, index)).cpu().numpy()
        if progress is not None:
            progress(stop, grid.size)
    return grid.reshape(resolution, resolution, resolution)


def settle(field: Field, grid: FloatArray, threshold: float) -> None:
    """Computes again, in place, the densities that are so near to the threshold that rounding
    decides their side: as the original rounds.
    """
    close = np.flatnonzero(np.abs(grid - threshold) < _NEAR * threshold)
    if len(close):
        index = torch.as_tensor(close, device=field.device)
        density = torch.as_tensor(grid.reshape(-1)[close], device=field.device)
        settled = _settled(field, _positions(grid_axis(field, len(grid)), index), density)
        grid.reshape(-1)[close] = settled.cpu().numpy()


def _settled(field: Field, points: Tensor, density: Tensor) -> Tensor:
    """Densities (n,) at points (n, 3), n > 0, computed as the original does.

    `density` is what the field answered there. A field that answers by other means than its
    planes keeps that: the original's way would be off by more than by rounding.
    """
    batch = points.repeat(-(-_NEAR_BATCH // len(points)), 1)
    published = field.density_as_published(batch)[: len(points)]
    return torch.where((published - density).abs() < 2 * _NEAR * density, published, density)


def _positions(axis: Tensor, index: Tensor) -> Tensor:
    """Points (n, 3) of the grid by their place (n,) in it, flattened."""
    return torch.stack([axis[at] for at in _unravel(index, [len(axis)] * 3)], dim=1)


def _unravel(place: Tensor, shape: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    rest = place // shape[2]
    return rest // shape[1], rest % shape[1], place % shape[2]


def books_device(device: torch.device, resolution: int) -> torch.device:
    """Device on which to keep the data of a grid: the CPU if the GPU's memory might not suffice."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if free < _BOOKS_BYTES * resolution**3:
            return torch.device("cpu")
    return device


class GridReader:
    """Reads densities at points of a grid; counts the points and keeps the density's range.

    device: where indices come from and densities go to, not always the field's.
    """

    def __init__(self, field: Field, resolution: int, threshold: float, chunk_size: int) -> None:
        self._field = field
        self._threshold = threshold
        self._chunk = chunk_size or field.chunk_size
        self.resolution = resolution
        self.device = books_device(field.device, resolution)
        self._axis = grid_axis(field, resolution).to(self.device)
        self.points = 0
        self._range = to_device(torch.tensor([torch.inf, -torch.inf]), self.device)
        self._bad = torch.zeros((), dtype=torch.int64, device=self.device)

    def read(self, x: Tensor, y: Tensor, z: Tensor, progress: Progress) -> Tensor:
        """Densities (n,) at the points of these indices, (n,) each.

        What is not finite is counted, and shows in `density_range`.
        """
        points = torch.stack([self._axis[x], self._axis[y], self._axis[z]], dim=1)
        density = points.new_empty(len(points))
        for start in range(0, len(points), self._chunk):
            part = points[start : start + self._chunk].to(self._field.device)
            density[start : start + len(part)] = self._field.density(part)
            progress(start + len(part), len(points))
        if len(points):
            self._record(density)
        near = torch.nonzero((density - self._threshold).abs() < _NEAR * self._threshold)[:, 0]
        if len(near):
            part = points[near].to(self._field.device)
            settled = _settled(self._field, part, density[near].to(part.device))
            density[near] = settled.to(self.device)
        return density

    def _record(self, density: Tensor) -> None:
        self.points += len(density)
        low, high = density.aminmax()
        low, high = torch.minimum(self._range[0], low), torch.maximum(self._range[1], high)
        self._range = torch.stack([low, high])
        self._bad += (~density.isfinite()).sum()

    def density_range(self) -> tuple[float, float]:
        """The least and the greatest density so far. Waits for the device.

        Raises NonFiniteField if one of them was infinite or not a number.
        """
        self._field.require_finite()
        numbers = torch.cat([self._range.double(), self._bad[None]])
        low, high, bad = numbers.cpu().numpy().tolist()  # one copy for all three
        if bad:
            raise NonFiniteField(f"{bad:.0f} of {self.points} densities are not finite")
        return low, high


class Box:
    """Data of a part of the grid: densities at points, and states of cells by their lowest corner.

    A point that was not read has a presumed density, or none. Points are named by their place in
    the flattened box. On a CPU, pages of memory that hold no point in use are never allocated.
    """

    def __init__(self, reader: GridReader, lowest: list[int], shape: list[int]) -> None:
        device, count = reader.device, math.prod(shape)
        self._reader = reader
        self._lowest, self._shape = lowest, shape
        self.density = _untouched(count, torch.float32, device)
        self.cells = _untouched(count, torch.uint8, device)
        self._state = _untouched(count, torch.uint8, device)

    def place(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """Places of points in the flattened box, by their indices in the grid."""
        (x0, y0, z0), (_, rows, columns) = self._lowest, self._shape
        return ((x - x0) * rows + (y - y0)) * columns + (z - z0)

    def know(self, place: Tensor, density: Tensor) -> None:
        self.density[place], self._state[place] = density, 1

    def is_known(self, place: Tensor) -> Tensor:
        """True for the points that were read."""
        return self._state[place] == 1

    def presume(self, place: Tensor, density: Tensor) -> None:
        """Set the presumed densities of points, which hold until the points are read.

        place and density have one shape.
        """
        is_open = self._state[place] == 0
        self.density[place] = torch.where(is_open, density, self.density[place])

    def take_over(self, other: "Box") -> None:
        """Copy the data of a box that lies within this one."""
        start = [theirs - ours for ours, theirs in zip(self._lowest, other._lowest, strict=True)]
        part = tuple(slice(a, a + n) for a, n in zip(start, other._shape, strict=True))
        for mine, theirs in (
            (self.density, other.density),
            (self.cells, other.cells),
            (self._state, other._state),
        ):
            mine.view(self._shape)[part] = theirs.view(other._shape)

    def read(self, points: Tensor, progress: Progress) -> Tensor:
        """Densities at `points`, of any shape; a point may occur more than once."""
        place = self._unknown(points)
        indices = _unravel(place, self._shape)
        x, y, z = (index + lowest for index, lowest in zip(indices, self._lowest, strict=True))
        self.density[place] = self._reader.read(x, y, z, progress)
        return self.density[points]

    def _unknown(self, points: Tensor) -> Tensor:
        """Points that were not read yet, each once, in the box's order. They are marked as read, so
        the caller must read them."""
        place = points[self._state[points] == 0].sort()[0]
        first = torch.ones_like(place, dtype=torch.bool)
        first[1:] = place[1:] != place[:-1]
        place = place[first]
        self._state[place] = 1
        return place


def _untouched(count: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros (count,). On a CPU they take memory only where something is written.

    The system gives none to pages that nobody touches; but torch would write its zeros.
    """
    if device.type == "cpu":
        kind = {torch.float32: np.float32, torch.uint8: np.uint8}[dtype]
        return torch.as_tensor(np.zeros(count, kind))
    return torch.zeros(count, dtype=dtype, device=device)
