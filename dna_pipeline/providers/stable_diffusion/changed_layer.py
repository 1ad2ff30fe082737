"""A layer together with the changes that LoRAs make to it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from dna_pipeline.providers.stable_diffusion.lora_file import Change


class ChangedLayer(nn.Module):
    """Adds B·A·x times the scale of each change to a layer's result, where x is its input."""

    def __init__(self, layer: nn.Linear | nn.Conv2d, changes: Sequence[Change]) -> None:
        super().__init__()
        self.layer = layer
        self.changes = changes

    @property
    def weight(self) -> Tensor:
        """The layer's own weight, for those that ask for its number type."""
        return self.layer.weight

    @property
    def bias(self) -> Tensor | None:
        return self.layer.bias

    def forward(self, x: Tensor) -> Tensor:
        result = self.layer(x)
        for change in self.changes:
            result = result + self._part(x, change) * change.scale
        return result

    def _part(self, x: Tensor, change: Change) -> Tensor:
        layer = self.layer
        if isinstance(layer, nn.Linear):
            return functional.linear(functional.linear(x, change.down), change.up)
        inner = functional.conv2d(x, change.down, None, layer.stride, layer.padding, layer.dilation)
        return functional.conv2d(inner, change.up)
