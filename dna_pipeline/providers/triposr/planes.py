"""Three planes of features that a linear layer has been applied to, read at points."""

import torch
import torch.nn.functional as F
from torch import Tensor

from dna_pipeline.providers.triposr.copies import to_device

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
        rows, columns = planes.shape[2:]
        texels = F.pad(torch.einsum("pchw,npc->phwn", planes, weight), (0, 0, 1, 1, 1, 1))
        self._texels = texels.reshape(-1, len(weight)).contiguous()  # (3 * (H + 2) * (W + 2), n)
        self._bias = bias
        self._rows, self._columns = rows, columns
        width = columns + 2  # a border of zeros all around
        first = torch.arange(3, device=planes.device) * (rows + 2) * width
        self._first, self._width = first + width + 1, width  # the first texel of each plane
        self._beside = to_device(torch.tensor([0, 1, width, width + 1]), planes.device)

    def at(self, unit: Tensor) -> Tensor:
        """The layer's answer (N, n) at points (N, 3) whose box is [-1, 1]³."""
        row, down = _place(unit[:, ROW_AXES], self._rows)  # (N, 3)
        column, right = _place(unit[:, COLUMN_AXES], self._columns)
        texel = self._first + row * self._width + column
        weight = torch.stack(
            [(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right], dim=-1
        )
        answer = F.embedding_bag(
            (texel[..., None] + self._beside).flatten(1),  # (N, 12)
            self._texels,
            per_sample_weights=weight.flatten(1),
            mode="sum",
        )
        return answer if self._bias is None else answer.add_(self._bias)


def _place(unit: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The texel below each coordinate and how far on the next the coordinate is, in [0, 1].

    Beyond the plane, and where a coordinate is no number, the border is read.
    """
    place = (((unit + 1) * count - 1) / 2).nan_to_num(nan=-1).clamp_(-1, count)
    lower = place.floor().clamp_max_(count - 1)
    return lower.long(), place - lower
