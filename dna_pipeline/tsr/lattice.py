"""A field read once on a lattice of points: what lies where, well enough to look away from it."""

from collections.abc import Callable
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from dna_pipeline.tsr.field import Field

_MOST_POINTS = 257
"""A side; 0.5 GB. The published model has 129."""

_DENSITIES = (1e-6, 1e6)
"""Below and above, a density is as good as nothing or a wall; both have a logarithm."""


class Lattice:
    """Logarithms of densities, and colours, at side³ points over the field's box.

    The points lie on the middles and the borders of the planes' texels: between these what the
    planes hold bends nowhere, so that hardly a peak of density stays unseen.

    `peak` is about the greatest density within one step of the lattice along each axis, and
    `wide_peak` within a reach that is told when it is made.
    """

    def __init__(self, density: Tensor, color: Tensor, reach: float, radius: float) -> None:
        """density (z, y, x), color (z, y, x, 3), reach and radius in the scene's units."""
        log_density = density.clamp(*_DENSITIES).log()[None, None]
        peak = _peaks(log_density, 1)
        steps = int(reach / (2 * radius) * (len(density) - 1)) + 2
        colors = color.permute(3, 0, 1, 2)[None]
        self._near = torch.cat([log_density, peak], dim=1)  # (1, 2, z, y, x)
        self._wide = torch.cat([log_density, _peaks(peak, steps - 1), colors], dim=1)

    @classmethod
    def of(
        cls,
        field: Field,
        reach: float,
        chunk_size: int = 0,
        on_chunk: Callable[[], None] = lambda: None,
    ) -> Self:
        """Reads the field at all points.

        reach: how far off, along each axis, a density counts in `wide_peak`.
        chunk_size: points asked for at once, 0 = the field's choice. on_chunk: called after each.
        """
        side = side_of(field)
        density = torch.empty(side**3, device=field.device)
        color = torch.empty(side**3, 3, device=field.device)
        axis = torch.linspace(-field.radius, field.radius, side, device=field.device)
        every = torch.arange(side**3, device=field.device)
        for index in torch.split(every, chunk_size or field.chunk_size):
            z, y, x = index // side**2, index // side % side, index % side
            points = torch.stack([axis[x], axis[y], axis[z]], dim=1)
            density[index], color[index] = field.density_and_color(points)
            on_chunk()
        cube = (side, side, side)
        return cls(density.view(cube), color.view(*cube, 3), reach, field.radius)

    def near(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Density and peak, both (…), at points (…, 3) in [-1, 1]³, on the field's device."""
        density, peak = self._read(self._near, points)
        return density.exp(), peak.exp()

    def wide(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Density (…), wide peak (…) and colour (…, 3), sRGB in [0, 1], at such points."""
        density, peak, *color = self._read(self._wide, points)
        return density.exp(), peak.exp(), torch.stack(color, dim=-1)

    def _read(self, values: Tensor, points: Tensor) -> Tensor:
        """What lies between the lattice's points, (channels, …)."""
        where = points.view(1, 1, 1, -1, 3)
        found = F.grid_sample(values, where, align_corners=True, padding_mode="border")
        return found.view(values.shape[1], *points.shape[:-1])


def side_of(field: Field) -> int:
    """How many points a field's lattice has a side."""
    return min(2 * max(field.scene_code.shape[-2:]) + 1, _MOST_POINTS)


def _peaks(cube: Tensor, steps: int) -> Tensor:
    """The greatest value within so many steps along each axis of (1, 1, z, y, x)."""
    for axis in range(3):
        kernel, padding = [1, 1, 1], [0, 0, 0]
        kernel[axis], padding[axis] = 2 * steps + 1, steps
        cube = F.max_pool3d(cube, kernel, stride=1, padding=padding)
    return cube
