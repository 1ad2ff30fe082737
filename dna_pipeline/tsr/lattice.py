"""A field read once on a lattice of points: what lies where, well enough to look away from it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from dna_pipeline.tsr.field import Field

POINTS = 128
"""A side: two to a texel of the published model's planes."""

_DENSITIES = (1e-6, 1e6)
"""Below and above, a density is as good as nothing or a wall; both have a logarithm."""


@dataclass(frozen=True)
class Reading:
    """What a lattice holds at points of any shape (…)."""

    density: Tensor
    """(…), between the lattice's points."""
    color: Tensor
    """(…, 3) sRGB in [0, 1]."""
    peak: Tensor
    """(…), about the greatest density within one step of the lattice."""
    wide_peak: Tensor
    """(…), that within the reach the lattice was made with."""


class Lattice:
    """Logarithms of densities, and colours, at POINTS³ points over the field's box."""

    def __init__(self, values: Tensor, radius: float) -> None:
        """values: (1, 6, z, y, x), log density, colour, and the density's two peaks, as logs."""
        self._values = values
        self._radius = radius

    @classmethod
    def of(
        cls,
        field: Field,
        reach: float,
        chunk_size: int = 0,
        on_chunk: Callable[[], None] = lambda: None,
    ) -> Self:
        """Reads the field.

        reach: how far off, along each axis, a density counts in `Reading.wide_peak`.
        chunk_size: points asked for at once, 0 = the field's choice. on_chunk: called after each.
        """
        values = torch.empty(POINTS**3, 6, device=field.device)
        axis = torch.linspace(-field.radius, field.radius, POINTS, device=field.device)
        for index in torch.arange(POINTS**3, device=field.device).split(
            chunk_size or field.chunk_size
        ):
            z, y, x = index // POINTS**2, index // POINTS % POINTS, index % POINTS
            density, color = field.density_and_color(torch.stack([axis[x], axis[y], axis[z]], 1))
            values[index, 0], values[index, 1:4] = density.clamp(*_DENSITIES).log(), color
            on_chunk()
        cube = values.view(POINTS, POINTS, POINTS, 6).permute(3, 0, 1, 2)[None]
        step = 2 * field.radius / (POINTS - 1)
        cube[:, 4:5] = _peaks(cube[:, :1], 1)
        cube[:, 5:] = _peaks(cube[:, :1], int(reach / step) + 2)
        return cls(cube, field.radius)

    def read(self, points: Tensor) -> Reading:
        """At points (…, 3) in the box, on the field's device."""
        where = (points / self._radius).view(1, 1, 1, -1, 3)
        found = F.grid_sample(self._values, where, align_corners=True, padding_mode="border")
        found = found[0, :, 0, 0].T.unflatten(0, points.shape[:-1])  # (…, 6)
        return Reading(found[..., 0].exp(), found[..., 1:4], found[..., 4].exp(), found[..., 5].exp())


def _peaks(cube: Tensor, steps: int) -> Tensor:
    """The greatest value within so many steps along each axis of (1, 1, z, y, x)."""
    for axis in range(3):
        kernel, padding = [1, 1, 1], [0, 0, 0]
        kernel[axis], padding[axis] = 2 * steps + 1, steps
        cube = F.max_pool3d(cube, kernel, stride=1, padding=padding)
    return cube
