"""A field read once on a lattice of points, so that a renderer need not ask the field about empty
space."""

import itertools
import math
from collections.abc import Callable
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from dna_pipeline.providers.triposr.cells import bend, over_corners
from dna_pipeline.providers.triposr.field import Field

_MOST_POINTS = 257
"""A side; 0.5 GB, and more than twice that while it is made. The published model has 129."""

_DENSITIES = (1e-6, 1e6)
"""Below and above, a density is as good as nothing or a wall; both have a logarithm."""

EMPTY_DENSITY = 0.2
"""Below it, nothing is near. A sample of it has a weight of 0.0016 with 128 to a ray."""

_SOME_LOG_DENSITY = 0.0
"""Above it, it counts how far a sample is from the lattice's points."""

_DENSITY, _COLOR, _PEAK, _PEAK_OF_TWO, _WIDE_PEAK = 0, slice(1, 4), 4, 5, 6
"""Columns of what is held of a point: a logarithm of its density, its colour, and the greatest such
logarithms within one step, within two, and within the reach."""
_COLUMNS = 8
"""One to spare: so many lie in half a line of a cache."""

_CORNERS = [(x, y, z) for z, y, x in itertools.product((0, 1), repeat=3)]


class Lattice:
    """Densities and colours at side³ points over the field's box.

    The points lie on the middles and the borders of the planes' texels: between these what the
    planes hold bends nowhere, so that hardly a peak of density stays unseen.
    """

    def __init__(self, log_density: Tensor, color: Tensor, reach: float, radius: float) -> None:
        """log_density (z, y, x), color (3, z, y, x), reach and radius in the scene's units."""
        self._side = len(log_density)
        peak = _peaks(log_density, 1)
        steps = math.ceil(reach / (2 * radius) * (self._side - 1) + 0.5)
        self._rows = torch.zeros(self._side**3, _COLUMNS, device=log_density.device)
        self._rows[:, _DENSITY] = log_density.flatten()
        self._rows[:, _COLOR] = color.flatten(1).T
        self._rows[:, _PEAK] = peak.flatten()
        self._rows[:, _PEAK_OF_TWO] = _peaks(peak, 1).flatten()
        self._rows[:, _WIDE_PEAK] = _peaks(peak, steps).flatten()
        self._corners = self._row(torch.tensor(_CORNERS, device=log_density.device))  # (8,)

    @classmethod
    def of(
        cls,
        field: Field,
        reach: float,
        chunk_size: int = 0,
        on_chunk: Callable[[], None] = lambda: None,
    ) -> Self:
        """Reads the field at the middles of the texels, and between them where something is.

        reach: how far off, along each axis, a density counts in `wide`'s peak.
        chunk_size: points asked for at once, 0 = the field's choice. on_chunk: called after each.
        """
        side = side_of(field)
        first = torch.cat([torch.tensor([0]), torch.arange(1, side, 2), torch.tensor([side - 1])])
        first = first.to(field.device)
        every = torch.arange(side**3, device=field.device).view(side, side, side)

        def read(index: Tensor) -> Tensor:
            """Log densities and colours (4, n) at points (n,)."""
            parts = torch.split(index, chunk_size or field.chunk_size)
            return torch.cat([_read(field, side, part, on_chunk) for part in parts], dim=1)

        coarse = read(every[first][:, first][:, :, first].flatten()).view(4, *3 * [len(first)])
        values = _between(coarse, first, side).flatten(1)
        index = torch.nonzero(_where_something_is(coarse[0], first, side).flatten())[:, 0]
        values[:, index] = read(index)
        values = values.view(4, side, side, side)
        return cls(values[0], values[1:], reach, field.radius)

    def wide(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Values of the lattice at the points nearest to points (…, 3) in [-1, 1]³, on the field's
        device.

        The density (…), the greatest (…) within the lattice's reach, and the colour (…, 3), sRGB
        in [0, 1].
        """
        values = self._at_nearest(points)
        return values[..., _DENSITY].exp(), values[..., _WIDE_PEAK].exp(), values[..., _COLOR]

    def near(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same at such points, but the greatest density within a step alone.

        Between the lattice's points, where there is something near; else what is nearest.
        """
        values = self._at_nearest(points).view(-1, _COLUMNS)
        some = torch.nonzero(values[:, _PEAK_OF_TWO] > _SOME_LOG_DENSITY)[:, 0]
        values.index_copy_(0, some, self._at_all_corners(points.view(-1, 3)[some]))
        values = values.view(*points.shape[:-1], _COLUMNS)
        return values[..., _DENSITY].exp(), values[..., _PEAK].exp(), values[..., _COLOR]

    def _at_nearest(self, points: Tensor) -> Tensor:
        """(…, columns)"""
        place = ((points + 1) * ((self._side - 1) / 2)).round_().clamp_(0, self._side - 1)
        rows = self._rows.index_select(0, self._row(place).flatten())
        return rows.view(*points.shape[:-1], _COLUMNS)

    def _at_all_corners(self, points: Tensor) -> Tensor:
        """Values interpolated between the eight lattice points around each point (n, 3): (n,
        columns)."""
        place = ((points + 1) * ((self._side - 1) / 2)).clamp_(0, self._side - 1)
        lowest = place.floor().clamp_max_(self._side - 2)
        above = place - lowest
        x, y, z = torch.stack([1 - above.T, above.T], dim=1)  # (2, n)
        weight = z[:, None, None] * y[:, None] * x  # (2, 2, 2, n)
        index = self._row(lowest)[:, None] + self._corners
        weight = weight.flatten(0, 2).T.contiguous()
        return F.embedding_bag(index, self._rows, per_sample_weights=weight, mode="sum")

    def _row(self, place: Tensor) -> Tensor:
        """The row (…) of a lattice point (…, 3), which is counted as x, y, z."""
        x, y, z = place.int().unbind(-1)
        return (z * self._side + y) * self._side + x


def _read(field: Field, side: int, index: Tensor, on_chunk: Callable[[], None]) -> Tensor:
    axis = torch.linspace(-field.radius, field.radius, side, device=field.device)
    z, y, x = index // side**2, index // side % side, index % side
    density, color = field.density_and_color(torch.stack([axis[x], axis[y], axis[z]], dim=1))
    on_chunk()
    return torch.cat([density.clamp(*_DENSITIES).log()[None], color.T])


def _where_something_is(log_density: Tensor, first: Tensor, side: int) -> Tensor:
    """The lattice's points to read, (side,)³ bool: those near something, except the `first` ones,
    which were read already."""
    most = over_corners(log_density, torch.maximum) + bend(log_density, first.diff())
    cells = most > math.log(EMPTY_DENSITY)
    every = torch.arange(side, device=first.device)
    below = torch.searchsorted(first, every).sub_(1).clamp_min_(0)  # the cell that ends at or after
    above = torch.searchsorted(first, every, right=True).sub_(1).clamp_max_(len(first) - 2)
    for axis in range(3):
        cells = cells.index_select(axis, below) | cells.index_select(axis, above)
    is_first = torch.zeros_like(every, dtype=torch.bool)
    is_first[first] = True
    return cells & ~(is_first[:, None, None] & is_first[:, None] & is_first)


def _between(values: Tensor, first: Tensor, side: int) -> Tensor:
    """From values (…, n, n, n) at the `first` points to those at all, as means of neighbours."""
    every = torch.arange(side, device=first.device)
    below = torch.searchsorted(first, every, right=True) - 1
    above = torch.searchsorted(first, every)
    for axis in (-3, -2, -1):
        values = (values.index_select(axis, below) + values.index_select(axis, above)) / 2
    return values


def side_of(field: Field) -> int:
    """Number of points of a field's lattice along each side."""
    return min(2 * max(field.scene_code.shape[-2:]) + 1, _MOST_POINTS)


def _peaks(cube: Tensor, steps: int) -> Tensor:
    """The greatest value within so many steps along each axis of (z, y, x)."""
    for axis in range(3):
        kernel, padding = [1, 1, 1], [0, 0, 0]
        kernel[axis], padding[axis] = 2 * steps + 1, steps
        cube = F.max_pool3d(cube[None], kernel, stride=1, padding=padding)[0]
    return cube
