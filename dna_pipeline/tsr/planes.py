"""Three planes of features that a linear layer has been applied to, read at points."""

import torch
import torch.nn.functional as F
from torch import Tensor

COLUMN_AXES = (0, 0, 1)
"""The coordinate that runs along each plane's columns: planes are (x, y), (x, z), (y, z)."""
ROW_AXES = (1, 2, 2)


class ProjectedPlanes:
    """The answer of a linear layer to what three planes hold at a point.

    Reading a plane is linear (bilinear interpolation, zeros outside), so the layer may be applied
    to the texels instead of to what is read: once, and not at every point. What the layer answers
    at a point is then a weighted sum of twelve texels, four of each plane, plus its bias.
    """

    def __init__(self, planes: Tensor, weight: Tensor, bias: Tensor | None) -> None:
        """planes (3, C, H, W); weight (n, 3, C), a matrix for each plane; bias (n,)."""
        self._rows, self._columns = planes.shape[2:]
        texels = torch.einsum("pchw,npc->phwn", planes, weight)
        self._texels = texels.reshape(-1, len(weight)).contiguous()  # (3 * H * W, n)
        self._bias = bias
        first = torch.arange(3, device=planes.device) * (self._rows * self._columns)
        self._first = first[:, None, None]  # the first texel of each plane

    def at(self, unit: Tensor) -> Tensor:
        """The layer's answer (N, n) at points (N, 3) whose box is [-1, 1]³."""
        row, row_weight = _neighbours(unit[:, ROW_AXES], self._rows)  # (N, 3, 2)
        column, column_weight = _neighbours(unit[:, COLUMN_AXES], self._columns)
        texel = self._first + row[..., :, None] * self._columns + column[..., None, :]
        weight = row_weight[..., :, None] * column_weight[..., None, :]  # (N, 3, 2, 2)
        answer = F.embedding_bag(
            texel.flatten(1), self._texels, per_sample_weights=weight.flatten(1), mode="sum"
        )
        return answer if self._bias is None else answer.add_(self._bias)


def _neighbours(unit: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The two texels beside each coordinate and their weights: (N, 3, 2), (N, 3, 2).

    A texel beside the plane weighs nothing, as does one beside a coordinate that is no number.
    """
    place = ((unit + 1) * count - 1) / 2
    lower = place.floor()
    upper_weight = place - lower
    texel = torch.stack([lower, lower + 1], dim=-1)
    weight = torch.stack([1 - upper_weight, upper_weight], dim=-1)
    there = (texel >= 0) & (texel < count)
    return torch.where(there, texel, 0).long(), torch.where(there, weight, 0)
