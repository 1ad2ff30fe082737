"""Cells of a lattice: what their eight corners tell of what lies between these."""

from collections.abc import Callable

import torch
from torch import Tensor

Combine = Callable[[Tensor, Tensor], Tensor]


def over_corners(values: Tensor, combine: Combine) -> Tensor:
    """Combines the values at the eight corners of each cell: (n, n, n, …) → (n-1, n-1, n-1, …)."""
    for axis in range(3):
        count = values.shape[axis] - 1
        values = combine(values.narrow(axis, 0, count), values.narrow(axis, 1, count))
    return values


def bend(values: Tensor, steps: Tensor) -> Tensor:
    """How far values (n, n, n, …) may be, within a cell, from what lies between its corners.

    That is, over all axes, the sum of the most that the slope changes at a corner, times the
    longest step. At the ends, where nothing lies beyond, the change is that of the neighbour.
    steps: (n - 1,), from point to point along each axis.
    """
    total = torch.zeros((), device=values.device)
    for axis in range(3):
        slope = values.diff(dim=axis) / steps.view(
            [-1 if at == axis else 1 for at in range(values.ndim)]
        )
        change = slope.diff(dim=axis).abs_() * steps.max()
        ends = change.narrow(axis, 0, 1), change.narrow(axis, change.shape[axis] - 1, 1)
        change = torch.cat([ends[0], change, ends[1]], dim=axis)
        total = total + over_corners(change, torch.maximum)
    return total
