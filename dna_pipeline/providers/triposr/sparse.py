"""The cells of a grid that a field's level set crosses, found without reading the whole grid.

A lattice of the grid's points, one for each texel of the planes, is read everywhere. Its cells
are halved, and halved again down to those of the grid, wherever the surface crosses them or might:
a cell whose corners lie on one side is left alone only if the field bends too little around it to
reach the other side. Of the grid's own points those are read whose side that bend leaves open, and
all corners of the cells that are crossed. At last the surface is followed out of the cells that
were looked at, so that no connected piece is cut off.

The scale is the logarithm of the density: with the published model, what its decoder answers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from dna_pipeline.providers.triposr.cells import bend, over_corners
from dna_pipeline.providers.triposr.copies import to_device
from dna_pipeline.providers.triposr.field import Field
from dna_pipeline.providers.triposr.grid import Box, GridReader, Progress

MIN_CELLS = 64
"""Cells along each side of the first lattice; more where the planes have more texels."""
_SAFETY = 1.0
"""Largest rise or fall of a field between points of a lattice, as a multiple of its bend.

A kink in the middle of a cell, the worst there is where features are read bilinearly, takes 1/2.
Of surfaces that no corner saw, in scenes fitted to slats, wires and balls thinner than a texel,
the worst took 1/4.
"""
_FLOOR = 1e-9
"""Of the threshold: the scale ends there, so that no density is too small for it."""
_CORNERS = ((0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1), (1, 0, 0), (1, 0, 1), (1, 1, 0), (1, 1, 1))
_PROGRESS = 10_000
_SEEN, _CROSSED = 1, 2
"""States of a cell of the grid; 0 if it was not looked at."""


@dataclass(frozen=True)
class Crossing:
    """The cells of the grid that the level set crosses.

    cells: (3, n) int64, the indices of each one's lowest corner, in the grid's order. density:
    (8, n) float32, at its corners, the last axis varying fastest. inside: how many of the grid's
    points lie above the threshold. points: how many were read. low, high: the least and the
    greatest density among them.
    """

    cells: Tensor
    density: Tensor
    inside: int
    points: int
    low: float
    high: float


def is_worthwhile(field: Field, resolution: int) -> bool:
    """True if the first lattice is notably coarser than the grid."""
    return resolution - 1 >= 1.5 * _cells(field)


def lattices(resolution: int, cells: int) -> list[Tensor]:
    """Indices of grid points along an axis: at first `cells` intervals, at last all points.

    Each list holds the one before it and the middles of its intervals.
    """
    levels = [torch.linspace(0, resolution - 1, cells + 1, dtype=torch.float64).round().long()]
    while len(levels[-1]) < resolution:
        last = levels[-1]
        middle = (last[:-1] + last[1:]) // 2
        levels.append(torch.cat([last, middle[last.diff() > 1]]).sort()[0])
    return levels


class Search:
    """One search: `coarse`, then `fine`.

    Cells are columns (3, n) of indices into a lattice: those of their lowest corners.
    """

    def __init__(
        self, field: Field, resolution: int, threshold: float, chunk_size: int, progress: Progress
    ) -> None:
        self._reader = GridReader(field, resolution, threshold, chunk_size)
        self._threshold = threshold
        self._progress = progress
        device = self._reader.device
        levels = lattices(resolution, _cells(field))
        self._first = levels[0].numpy().tolist()
        self._lattices = [to_device(at, device) for at in levels]
        self._side = len(self._first) - 1
        self._offsets = to_device(torch.tensor(_CORNERS[1:]).T[:, :, None], device)  # (3, 7, 1)
        self._coarse = torch.zeros(0)
        self._range: list[tuple[int, int]] = []
        """Of the first lattice's points, along each axis, that the box reaches from and to."""
        self._box = Box(self._reader, [0, 0, 0], [0, 0, 0])
        self._inferred = torch.zeros(self._side**3, dtype=torch.int64, device=device)
        """Points of each cell of the first lattice that lie inside though they were not read."""
        self._owned_points: list[Tensor] = []
        """Columns (3, n) of the grid's points in the cells that were looked at, each once."""

    @torch.inference_mode()
    def coarse(self) -> tuple[Tensor, Tensor]:
        """Reads the first lattice: cells (3, n) to look into, and how far each may rise (n,)."""
        at = self._lattices[0]
        x, y, z = torch.cartesian_prod(at, at, at).unbind(dim=1)
        density = self._reader.read(x, y, z, self._part(0)).view(3 * [len(at)])
        self._coarse = density
        margin = self._bend(density, at.diff())
        active, every = self._active(density, margin)
        owned = self._owned(0)
        volume = owned[:, None, None] * owned[:, None] * owned
        self._inferred += (volume * (every & ~active)).flatten()
        self._reader.density_range()
        cells = torch.nonzero(active).T
        return cells, margin[tuple(cells)]

    @torch.inference_mode()
    def fine(self, cells: Tensor, margin: Tensor) -> Crossing:
        """The crossed cells, searched from the cells and margins of `coarse`."""
        crossings: list[tuple[Tensor, Tensor]] = []
        steps = len(self._lattices) - 1
        following = self._part(steps + 1)
        while cells.shape[1]:
            self._reach(cells)
            for level in range(1, steps):
                progress = following if crossings else self._part(level)
                cells, margin = self._halve(level, cells, margin, progress)
            crossed = self._finish(cells, margin, following if crossings else self._part(steps))
            unseen: list[Tensor] = []
            while crossed.shape[1]:
                crossings.append(self._confirm(crossed, following))
                beside = self._beside(*crossings[-1])
                state = self._box.cells[self._box.place(*beside)]
                unseen.append(beside[:, state == 0])
                crossed = _once(beside[:, state == _SEEN])
            cells = self._homes(unseen)
            margin = torch.full(cells.shape[1:], torch.inf, device=cells.device)
        self._progress(_PROGRESS, _PROGRESS)
        return self._crossing(crossings)

    def _halve(
        self, level: int, cells: Tensor, margin: Tensor, progress: Progress
    ) -> tuple[Tensor, Tensor]:
        """Cells of lattice `level` that are to be halved, of those of the lattice before it."""
        index, lowest, there = self._block(level, cells)
        density = self._box.read(index, progress)
        steps = torch.ones(2, dtype=torch.int64, device=cells.device)
        margin = torch.maximum(self._bend(density, steps).amax(dim=(0, 1, 2)), margin / 4)
        active, every = self._active(density, margin)
        whole = torch.nonzero(every & ~active & there).T
        self._infer(level, _child(lowest, tuple(whole)))
        return _children(lowest, active & there, margin)

    def _finish(self, cells: Tensor, margin: Tensor, progress: Progress) -> Tensor:
        """Looks at the grid's cells in cells (3, n) of the last lattice but one.

        Gives those that seem to be crossed. A point is read where what lies between the corners
        is nearer to the threshold than the margin (n,); elsewhere that stands for the density.
        """
        index, lowest, there = self._block(len(self._lattices) - 1, cells)
        between = _halfway(self._scale(self._box.density[index[::2, ::2, ::2]]))
        self._box.read(index[between.abs() < margin], progress)
        density = self._box.density[index]
        inside = torch.where(self._box.is_known(index), density > self._threshold, between > 0)
        own = index[:2, :2, :2]
        is_new = there & (self._box.cells[own] == 0)
        new = tuple(torch.nonzero(is_new).T)
        place = own[new]
        self._box.cells[place] = _SEEN
        self._box.presume(place, between[:2, :2, :2][new].exp() * self._threshold)
        cells = _child(lowest, new)
        self._own(cells, progress)
        every = over_corners(inside, torch.logical_and)
        some = over_corners(inside, torch.logical_or)
        return _selected(cells, (some & ~every)[new])

    def _confirm(self, cells: Tensor, progress: Progress) -> tuple[Tensor, Tensor]:
        """The cells among cells (3, n) of the grid that are crossed indeed, and their densities (8,
        m)."""
        density = self._box.read(self._corners(cells), progress)
        inside = density > self._threshold
        crossed = torch.nonzero(inside.any(dim=0) & ~inside.all(dim=0))[:, 0]
        cells, density = cells[:, crossed], density[:, crossed]
        self._box.cells[self._box.place(*cells)] = _CROSSED
        return cells, density

    def _block(self, level: int, cells: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Cells (3, n) of the lattice before `level`, each as up to eight of that lattice.

        Gives the places (3, 3, 3, n) of their corners in the box, the lowest of the
        eight (3, n), and which of them there are (2, 2, 2, n): a cell of one step is not halved.
        """
        before, at = self._lattices[level - 1], self._lattices[level]
        start = torch.searchsorted(at, before)  # where each point before is now
        lowest, count = start[cells], start.diff()[cells]
        x, y, z = at[torch.stack([lowest, lowest + 1, lowest + count])].unbind(dim=1)  # (3, n)
        index = self._box.place(x[:, None, None], y[:, None], z)
        halves = count > torch.arange(2, device=cells.device)[:, None, None]  # (2, 3, n)
        x, y, z = halves.unbind(dim=1)
        return index, lowest, x[:, None, None] & y[:, None] & z

    def _reach(self, homes: Tensor) -> None:
        """Widens the box to hold cells (3, n) of the first lattice and those around them."""
        at = self._lattices[0]
        around = torch.cat([homes - 1, homes + 2], dim=1).clamp_(0, self._side)
        ends = torch.stack(around.aminmax(dim=1), dim=1)  # (3, 2), brought here by one copy
        reach = [(low, high) for low, high in ends.cpu().numpy().tolist()]
        if self._range:
            pairs = zip(reach, self._range, strict=True)
            reach = [(min(a, c), max(b, d)) for (a, b), (c, d) in pairs]
        if reach == self._range:
            return
        box = Box(
            self._reader,
            [self._first[low] for low, _ in reach],
            [self._first[high] - self._first[low] + 1 for low, high in reach],
        )
        part = tuple(slice(low, high + 1) for low, high in reach)
        x, y, z = (at[along] for along in part)
        box.know(box.place(x[:, None, None], y[:, None], z), self._coarse[part])
        if self._range:
            box.take_over(self._box)
        self._box, self._range = box, reach

    def _active(self, density: Tensor, margin: Tensor) -> tuple[Tensor, Tensor]:
        """Two masks: cells that the surface crosses, or might; cells with every corner inside."""
        inside = density > self._threshold
        every = over_corners(inside, torch.logical_and)
        some = over_corners(inside, torch.logical_or)
        scale = self._scale(density)
        high = over_corners(scale, torch.maximum)
        low = over_corners(scale, torch.minimum)
        return (some & ~every) | (torch.where(some, low, -high) < margin), every

    def _bend(self, density: Tensor, steps: Tensor) -> Tensor:
        """How far the field may be, in a cell, from what lies between its corners."""
        return _SAFETY * bend(self._scale(density), steps)

    def _infer(self, level: int, cells: Tensor) -> None:
        """Counts the points of cells that lie inside as a whole."""
        home = torch.searchsorted(self._lattices[0], self._lattices[level][:-1], right=True) - 1
        volume = self._owned(level)[cells].prod(dim=0)
        self._inferred.index_add_(0, self._home(home[cells]), volume)

    def _own(self, cells: Tensor, progress: Progress) -> None:
        """Keeps the points that cells (3, n) of the grid own, to count those inside at last.

        That is its lowest corner; beyond the last cell along an axis there is none that would own
        the others, which are read.
        """
        last = self._reader.resolution - 2
        ends = cells[:, (cells == last).any(dim=0)]
        offsets = self._offsets
        owns = ((offsets == 0) | (ends == last)[:, None]).all(dim=0)  # (7, n)
        beyond = (ends[:, None] + offsets)[:, owns]
        self._box.read(self._box.place(*beyond), progress)
        self._owned_points += [cells, beyond]

    def _beside(self, cells: Tensor, density: Tensor) -> Tensor:
        """Cells into which the surface leads from crossed ones, all of the grid; some repeatedly.

        It leads through a side whose corners lie on both sides of it.
        """
        last = self._reader.resolution - 2
        cells_beside: list[Tensor] = []
        leads: list[Tensor] = []
        inside = (density > self._threshold).view(2, 2, 2, -1)
        for axis in range(3):
            for side in (0, 1):
                face = inside.select(axis, side).flatten(0, 1)
                across = cells.clone()
                across[axis] += 2 * side - 1
                is_of_grid = (across[axis] >= 0) & (across[axis] <= last)
                leads.append(face.any(dim=0) & ~face.all(dim=0) & is_of_grid)
                cells_beside.append(across)
        return _selected(torch.cat(cells_beside, dim=1), torch.cat(leads))

    def _homes(self, cells: list[Tensor]) -> Tensor:
        """The cells of the first lattice that hold such of the grid.

        What had been inferred of them is forgotten.
        """
        is_home = torch.zeros((self._side,) * 3, dtype=torch.bool, device=self._reader.device)
        for some in cells:
            is_home[tuple(torch.searchsorted(self._lattices[0], some, right=True) - 1)] = True
        self._inferred[is_home.flatten()] = 0
        return torch.nonzero(is_home).T

    def _crossing(self, parts: list[tuple[Tensor, Tensor]]) -> Crossing:
        device = self._reader.device
        none = torch.zeros((3, 0), dtype=torch.int64, device=device)
        cells = torch.cat([none, *(cells for cells, _ in parts)], dim=1)
        density = torch.cat([torch.zeros((8, 0), device=device), *(at for _, at in parts)], dim=1)
        side = self._reader.resolution
        order = ((cells[0] * side + cells[1]) * side + cells[2]).argsort()
        low, high = self._reader.density_range()
        return Crossing(
            cells[:, order],
            density[:, order],
            int(self._inferred.sum() + self._inside()),
            self._reader.points,
            low,
            high,
        )

    def _inside(self) -> Tensor:
        """Number () of points inside, of those in the cells that were looked at."""
        inside = torch.zeros((), dtype=torch.int64, device=self._reader.device)
        for points in self._owned_points:
            inside += (self._box.density[self._box.place(*points)] > self._threshold).sum()
        return inside

    def _scale(self, density: Tensor) -> Tensor:
        """0 at the threshold, and one more for each factor of e."""
        return (density / self._threshold).clamp_min(_FLOOR).log()

    def _corners(self, cells: Tensor) -> Tensor:
        """Places (8, n) in the box of the corners of the grid's cells (3, n)."""
        x, y, z = torch.stack([cells, cells + 1]).unbind(dim=1)  # (2, n)
        return self._box.place(x[:, None, None], y[:, None], z).flatten(0, 2)

    def _home(self, cells: Tensor) -> Tensor:
        """Places in the flattened first lattice of its cells (3, n)."""
        return (cells[0] * self._side + cells[1]) * self._side + cells[2]

    def _owned(self, level: int) -> Tensor:
        """Number of points that each interval of a lattice owns: from its first one up to, but
        without, the next interval's first one."""
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


def _children(lowest: Tensor, which: Tensor, margin: Tensor) -> tuple[Tensor, Tensor]:
    """Cells (3, k) out of the eight (2, 2, 2, n) above each of the lowest (3, n), and the margins
    (k,) of their parents."""
    index = tuple(torch.nonzero(which).T)
    return _child(lowest, index), margin[index[-1]]


def _child(lowest: Tensor, index: tuple[Tensor, ...]) -> Tensor:
    """Cells (3, k) at four indices (k,) into the eight (2, 2, 2, n) above each lowest (3, n)."""
    *offsets, parent = index
    return lowest[:, parent] + torch.stack(offsets)


def _selected(cells: Tensor, which: Tensor) -> Tensor:
    """Those of cells (3, n) that a mask (n,) names: (3, k)."""
    return cells[:, torch.nonzero(which)[:, 0]]


def _once(cells: Tensor) -> Tensor:
    """Cells (3, n), each once."""
    unique = cast(Callable[..., Tensor], getattr(torch, "unique"))  # noqa: B009
    return unique(cells, dim=1)


def _halfway(corners: Tensor) -> Tensor:
    """Values (3, 3, 3, n) at and halfway between corners (2, 2, 2, n) of cells, by their means."""
    for axis in range(3):
        low, high = corners.unbind(dim=axis)
        corners = torch.stack([low, (low + high) / 2, high], dim=axis)
    return corners
