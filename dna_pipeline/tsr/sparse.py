"""The cells of a grid that a field's level set crosses, found without reading the whole grid.

A lattice of the grid's points, one for each texel of the planes, is read everywhere. Its cells
are halved, and halved again down to those of the grid, wherever the surface crosses them or might:
a cell whose corners lie on one side is left alone only if the field bends too little around it to
reach the other side. At last the surface is followed out of the cells that were read, so that no
connected piece is cut off.

The scale is the logarithm of the density: with the published model, what its decoder answers.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dna_pipeline.tsr.field import Field
from dna_pipeline.tsr.grid import Progress, SparseGrid

MIN_CELLS = 64
"""Cells along each side of the first lattice; more where the planes have more texels."""
_SAFETY = 1.0
"""How many times its bend a field may rise or fall between points of a lattice.

A kink in the middle of a cell, the worst there is where features are read bilinearly, takes 1/2.
Of surfaces that no corner saw, in scenes fitted to slats, wires and balls thinner than a texel,
the worst took 1/4.
"""
_FLOOR = 1e-9
"""Of the threshold: the scale ends there, so that no density is too small for it."""
_CORNERS = ((0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1), (1, 0, 0), (1, 0, 1), (1, 1, 0), (1, 1, 1))
_PROGRESS = 10_000

Combine = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Crossing:
    """The cells of the grid that the level set crosses.

    cells: (n, 3) int64, the indices of each one's lowest corner, in the grid's order of points.
    corners: (n, 8) float32, the densities at its corners, the last axis varying fastest.
    inside: how many of the grid's points lie above the threshold. low, high: the least and the
    greatest density that was read.
    """

    cells: Tensor
    corners: Tensor
    inside: int
    points: int
    low: float
    high: float


def is_worthwhile(field: Field, resolution: int) -> bool:
    """Whether the first lattice is notably coarser than the grid."""
    return resolution - 1 >= 1.5 * _cells(field)


def lattices(resolution: int, cells: int) -> list[Tensor]:
    """Indices of grid points along an axis: at first `cells` intervals, at last all points.

    Each list holds the one before it and the middles of its intervals.
    """
    found = [torch.linspace(0, resolution - 1, cells + 1, dtype=torch.float64).round().long()]
    while len(found[-1]) < resolution:
        last = found[-1]
        found.append(torch.cat([last, (last[:-1] + last[1:]) // 2]).unique())
    return found


class Search:
    """One search; `coarse`, then `fine`."""

    def __init__(
        self, field: Field, resolution: int, threshold: float, chunk_size: int, progress: Progress
    ) -> None:
        self._grid = SparseGrid(field, resolution, threshold, chunk_size)
        self._threshold = threshold
        self._progress = progress
        self._lattices = [at.to(field.device) for at in lattices(resolution, _cells(field))]
        self._side = len(self._lattices[0]) - 1
        self._read = torch.zeros(resolution**3, dtype=torch.bool, device=field.device)
        """Whether a cell of the grid is known, by its lowest corner."""
        self._inferred = torch.zeros(self._side**3, dtype=torch.int64, device=field.device)
        """Points of each cell of the first lattice that lie inside though they were not read."""
        self._inside = 0

    @torch.inference_mode()
    def coarse(self) -> tuple[Tensor, Tensor]:
        """Reads the first lattice: cells (n, 3) to look into and how far each may rise (n,)."""
        at = self._lattices[0]
        index = self._index(at[:, None, None], at[:, None], at)
        self._grid.read(index, self._part(0))
        density = self._grid.density[index]
        scale, inside = self._scale(density), density > self._threshold
        margin = _SAFETY * sum(
            (_over_corners(_bend(scale, at, axis), torch.maximum) for axis in range(3)),
            torch.zeros((), device=scale.device),
        )
        high, low = (_over_corners(sign * scale, torch.maximum) for sign in (1, -1))
        every = _over_corners(inside, torch.logical_and)
        some = _over_corners(inside, torch.logical_or)
        active = _is_active(every, some, low, high, margin)
        owned = self._owned(0)
        volume = owned[:, None, None] * owned[:, None] * owned
        self._inferred += (volume * (every & ~active)).flatten()
        return torch.nonzero(active), margin[active]

    @torch.inference_mode()
    def fine(self, cells: Tensor, margin: Tensor) -> Crossing:
        """What is crossed, from the cells and margins of `coarse`."""
        found: list[tuple[Tensor, Tensor]] = []
        steps = len(self._lattices) - 1
        follow = self._part(steps + 1)
        while len(cells):
            for level in range(1, steps + 1):
                first = not found
                cells, margin = self._halve(
                    level, cells, margin, self._part(level) if first else follow
                )
            found.append(self._finish(cells))
            cells = self._beyond(*found[-1])
            margin = torch.full((len(cells),), torch.inf, device=cells.device)
        self._progress(_PROGRESS, _PROGRESS)
        return self._crossing(found)

    def _halve(
        self, level: int, cells: Tensor, margin: Tensor, progress: Progress
    ) -> tuple[Tensor, Tensor]:
        """Cells of lattice `level`, of those of the lattice before it, that are to be halved."""
        before, at = self._lattices[level - 1], self._lattices[level]
        start = torch.searchsorted(at, before)  # where each point before is now
        count = start.diff()
        offsets = torch.tensor(_CORNERS, device=cells.device)
        there = (offsets < count[cells][:, None]).all(dim=2)  # (n, 8)
        children = (start[cells][:, None] + offsets)[there]
        margin = (margin / 2)[:, None].expand(-1, 8)[there]
        corners = self._corners(at, children)
        self._grid.read(corners, progress)
        if level == len(self._lattices) - 1:
            return children, margin
        density = self._grid.density[corners]
        scale, inside = self._scale(density), density > self._threshold
        every, some = inside.all(dim=1), inside.any(dim=1)
        active = _is_active(every, some, (-scale).amax(dim=1), scale.amax(dim=1), margin)
        self._infer(level, children[every & ~active])
        return children[active], margin[active]

    def _infer(self, level: int, cells: Tensor) -> None:
        """Counts the points of cells that lie inside as a whole."""
        home = torch.searchsorted(self._lattices[0], self._lattices[level][:-1], right=True) - 1
        x, y, z = home[cells].unbind(dim=1)
        volume = self._owned(level)[cells].prod(dim=1)
        self._inferred.index_add_(0, (x * self._side + y) * self._side + z, volume)

    def _finish(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Takes in cells of the grid: those that are crossed, and whether corners are inside."""
        last = self._grid.resolution - 2
        place = self._index(*cells.unbind(dim=1))
        new = ~self._read[place]
        cells, place = cells[new], place[new]
        self._read[place] = True
        inside = self._grid.density[self._corners(self._lattices[-1], cells)] > self._threshold
        self._inside += int(inside[:, 0].sum())
        ends = (cells == last).any(dim=1)  # these own their upper corners too
        offsets = torch.tensor(_CORNERS, device=cells.device)
        owns = ((offsets == 0) | (cells[ends] == last)[:, None]).all(dim=2)
        self._inside += int((owns & inside[ends])[:, 1:].sum())
        crossed = inside.any(dim=1) & ~inside.all(dim=1)
        return cells[crossed], inside[crossed]

    def _beyond(self, cells: Tensor, inside: Tensor) -> Tensor:
        """Cells of the first lattice into which the surface leads from crossed cells of the grid.

        What had been inferred of them is forgotten.
        """
        missing: list[Tensor] = []
        corners = inside.view(-1, 2, 2, 2)
        for axis in range(3):
            for side in (0, 1):
                face = corners.select(axis + 1, side).flatten(1)
                across = cells[face.any(dim=1) & ~face.all(dim=1)]
                across[:, axis] += 2 * side - 1
                beside = across[:, axis]
                missing.append(across[(beside >= 0) & (beside < self._grid.resolution - 1)])
        cells = torch.cat(missing)
        cells = cells[~self._read[self._index(*cells.unbind(dim=1))]]
        homes = (torch.searchsorted(self._lattices[0], cells, right=True) - 1).unique(dim=0)
        x, y, z = homes.unbind(dim=1)
        self._inferred[(x * self._side + y) * self._side + z] = 0
        return homes

    def _crossing(self, found: list[tuple[Tensor, Tensor]]) -> Crossing:
        empty = torch.zeros((0, 3), dtype=torch.int64, device=self._read.device)
        cells = torch.cat([empty, *(cells for cells, _ in found)])
        cells = cells[self._index(*cells.unbind(dim=1)).argsort()]
        return Crossing(
            cells,
            self._grid.density[self._corners(self._lattices[-1], cells)],
            self._inside + int(self._inferred.sum()),
            self._grid.points,
            self._grid.low,
            self._grid.high,
        )

    def _scale(self, density: Tensor) -> Tensor:
        """0 at the threshold, and one more for each factor of e."""
        return (density / self._threshold).clamp_min(_FLOOR).log()

    def _index(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """Places in the flattened grid."""
        return (x * self._grid.resolution + y) * self._grid.resolution + z

    def _corners(self, at: Tensor, cells: Tensor) -> Tensor:
        """Places (n, 8) in the flattened grid of the corners of cells (n, 3) of a lattice."""
        ends = torch.stack([at[cells], at[cells + 1]], dim=2)  # (n, 3, 2)
        x, y, z = ends.unbind(dim=1)
        return self._index(x[:, :, None, None], y[:, None, :, None], z[:, None, None]).flatten(1)

    def _owned(self, level: int) -> Tensor:
        """How many points each interval of a lattice owns: its first up to the next one's first."""
        owned = self._lattices[level].diff()
        owned[-1] += 1
        return owned

    def _part(self, number: int) -> Progress:
        """Progress of one part of the search: the lattices one by one, then the following."""
        parts = len(self._lattices) + 1

        def progress(done: int, total: int) -> None:
            self._progress(int(_PROGRESS * (number + done / total) / parts), _PROGRESS)

        return progress


def _cells(field: Field) -> int:
    return max(MIN_CELLS, *field.scene_code.shape[2:])


def _is_active(every: Tensor, some: Tensor, low: Tensor, high: Tensor, margin: Tensor) -> Tensor:
    """Which cells the surface crosses or might; `low` and `high` as of the corners, low negated."""
    return (some & ~every) | (torch.where(some, -low, -high) < margin)


def _over_corners(values: Tensor, combine: Combine) -> Tensor:
    """Combines the values (n, n, n) at the eight corners of each cell (n-1, n-1, n-1)."""
    for axis in range(3):
        count = values.shape[axis] - 1
        values = combine(values.narrow(axis, 0, count), values.narrow(axis, 1, count))
    return values


def _bend(values: Tensor, at: Tensor, axis: int) -> Tensor:
    """How much the slope of values (n, n, n) changes at each point along an axis, times a step.

    Steps differ by one at most where the grid's points cannot be divided evenly. At the ends,
    where nothing lies beyond, it is that of the neighbour.
    """
    shape = [1, 1, 1]
    shape[axis] = -1
    steps = at.diff()
    bend = (values.diff(dim=axis) / steps.view(shape)).diff(dim=axis).abs_() * steps.max()
    first, last = bend.narrow(axis, 0, 1), bend.narrow(axis, bend.shape[axis] - 1, 1)
    return torch.cat([first, bend, last], dim=axis)
