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


def near(density: Tensor, threshold: float) -> Tensor:
    """Where rounding might have put a density on the wrong side of the threshold."""
    return (density - threshold).abs() < _NEAR * threshold


def settled(field: Field, resolution: int, index: Tensor, density: Tensor) -> Tensor:
    """Densities (n,) at the grid's points `index`, rounded as the original's.

    `density` is what the field answered there. A field that answers by other means than its
    planes keeps that: the original's way would be off by more than by rounding.
    """
    batch = index.repeat(-(-_NEAR_BATCH // max(len(index), 1)))
    published = field.density_as_published(_positions(grid_axis(field, resolution), batch))
    published = published[: len(index)]
    return torch.where(((published - density).abs() < 2 * _NEAR * density), published, density)


def _positions(axis: Tensor, index: Tensor) -> Tensor:
    """Points (n, 3) of the grid by their place (n,) in it."""
    side = len(axis)
    x, rest = index // side**2, index % side**2
    return torch.stack([axis[x], axis[rest // side], axis[rest % side]], dim=1)


class SparseGrid:
    """Densities at those points of a grid that were asked for.

    What is never asked for takes no memory on a CPU, where the system gives none to pages that
    nobody writes. Points are named by their place in the flattened grid.
    """

    def __init__(self, field: Field, resolution: int, threshold: float, chunk_size: int) -> None:
        self._field = field
        self._threshold = threshold
        self._chunk = chunk_size or field.chunk_size
        self._axis = grid_axis(field, resolution)
        self.resolution = resolution
        self.density = torch.zeros(resolution**3, device=field.device)
        self._state = torch.zeros(resolution**3, dtype=torch.uint8, device=field.device)
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
        low, high = torch.stack(density.aminmax()).tolist()
        if not np.isfinite([low, high]).all():
            bad = len(index) - int(density.isfinite().sum())
            raise NonFiniteField(f"{bad} of {len(index)} densities are not finite")
        self.low, self.high = min(self.low, low), max(self.high, high)
        close = torch.nonzero(near(density, self._threshold))[:, 0]
        if len(close):
            index = index[close]
            found = settled(self._field, self.resolution, index, density[close])
            self.density[index] = found
