"""The decoder: an MLP from plane features to density and colour, before their activations."""

from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dna_pipeline.providers.triposr.activations import in_place_activation
from dna_pipeline.providers.triposr.config import DecoderConfig

OUTPUTS = 4
"""One density, three colours."""


class Activate(nn.Module):
    """Overwrites its input where it can: that is always a linear layer's own answer."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.function = in_place_activation(name)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Decoder(nn.Module):
    """Features (N, in_channels) → (N, 4): raw density, raw red, green and blue."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        width = config.n_neurons
        sizes = [config.in_channels, *[width] * config.n_hidden_layers, OUTPUTS]
        layers: list[nn.Module] = []
        for size_in, size_out in pairwise(sizes):
            layers += [nn.Linear(size_in, size_out, bias=config.bias), Activate(config.activation)]
        self.layers = nn.Sequential(*layers[:-1])

    @property
    def dtype(self) -> torch.dtype:
        return next(self.layers.parameters()).dtype

    @property
    def first(self) -> nn.Linear:
        """The layer that reads the features."""
        return cast(nn.Linear, self.layers[0])

    def forward(self, features: Tensor) -> Tensor:
        return self.after_first(self.first(features))

    def after_first(self, answer: Tensor) -> Tensor:
        """All outputs, from the first layer's answer (N, n_neurons), which is overwritten."""
        for layer in list(self.layers)[1:]:
            answer = layer(answer)
        return answer

    def density_after_first(self, answer: Tensor) -> Tensor:
        """The raw density, (N,): the colours' rows of the last layer are left out."""
        if len(self.layers) == 1:
            return answer[:, 0]
        for layer in list(self.layers)[1:-1]:
            answer = layer(answer)
        output = cast(nn.Linear, self.layers[-1])
        bias = output.bias[:1] if self.config.bias else None
        return F.linear(answer, output.weight[:1], bias)[:, 0]
