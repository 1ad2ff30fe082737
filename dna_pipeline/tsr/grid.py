"""A field on a regular grid of points, all of them or those that are asked for."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from dna_pipeline.tsr.field import Field
from dna_pipeline.tsr.mesh import FloatArray

Progress = Callable[[int, int], None]

_NEAR = 1e-4
"""Where a density is nearer to the threshold, relatively, rounding might decide its side."""
_NEAR_BATCH = 256
"""Matrix products of few rows are rounded otherwise than those of many."""


class NonFiniteField(ValueError):
    """The density is infinite or not a number somewhere."""


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
        settled = _settled(field, grid_axis(field, len(grid)), index, density)
        grid.reshape(-1)[close] = settled.cpu().numpy()


def _settled(field: Field, axis: Tensor, index: Tensor, density: Tensor) -> Tensor:
    """Densities (n,) at the grid's points `index` (n,), computed as the original does.

    `density` is what the field answered there. A field that answers by other means than its
    planes keeps that: the original's way would be off by more than by rounding.
    """
    batch = index.repeat(-(-_NEAR_BATCH // len(index)))
    published = field.density_as_published(_positions(axis, batch))[: len(index)]
    return torch.where((published - density).abs() < 2 * _NEAR * density, published, density)


def _positions(axis: Tensor, index: Tensor) -> Tensor:
    """Points (n, 3) of the grid by their place (n,) in it."""
    side = len(axis)
    x, rest = index // side**2, index % side**2
    return torch.stack([axis[x], axis[rest // side], axis[rest % side]], dim=1)


def untouched(count: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros (count,). On a CPU they take memory only where something is written.

    The system gives none to pages that nobody touches; but torch would write its zeros.
    """
    if device.type == "cpu":
        kind = {torch.float32: np.float32, torch.uint8: np.uint8, torch.bool: np.bool_}[dtype]
        return torch.as_tensor(np.zeros(count, kind))
    return torch.zeros(count, dtype=dtype, device=device)


class SparseGrid:
    """Densities at those points of a grid that were asked for; their names are their places in
    the flattened grid.
    """

    def __init__(self, field: Field, resolution: int, threshold: float, chunk_size: int) -> None:
        self._field = field
        self._threshold = threshold
        self._chunk = chunk_size or field.chunk_size
        self._axis = grid_axis(field, resolution)
        self.resolution = resolution
        self.density = untouched(resolution**3, torch.float32, field.device)
        self._state = untouched(resolution**3, torch.uint8, field.device)
        self.points = 0
        self.low, self.high = float("inf"), float("-inf")

    def read(self, wanted: Tensor, progress: Progress) -> None:
        """Makes the density known at `wanted`, any shape; a point may be there more than once.

        Raises NonFiniteField.
        """
        index = self._unknown(wanted)
        for start in range(0, len(index), self._chunk):
            part = index[start : start + self._chunk]
            self.density[part] = self._field.density(_positions(self._axis, part))
            progress(start + len(part), len(index))
        if len(index):
            self._check(index)
        self.points += len(index)

    def _unknown(self, wanted: Tensor) -> Tensor:
        """Those not yet known, each once, in the grid's order; they count as known from now on."""
        index = wanted[self._state[wanted] == 0]
        if not len(index):
            return index
        self._state[index] = 2
        first, last = int(index.min()), int(index.max())
        index = torch.nonzero(self._state[first : last + 1] == 2)[:, 0] + first
        self._state[index] = 1
        return index

    def _check(self, index: Tensor) -> None:
        density = self.density[index]
        low, high = (float(bound) for bound in density.aminmax())
        if not np.isfinite([low, high]).all():
            bad = len(index) - int(density.isfinite().sum())
            raise NonFiniteField(f"{bad} of {len(index)} densities are not finite")
        self.low, self.high = min(self.low, low), max(self.high, high)
        near = (density - self._threshold).abs() < _NEAR * self._threshold
        close = index[near]
        if len(close):
            self.density[close] = _settled(self._field, self._axis, close, density[near])
