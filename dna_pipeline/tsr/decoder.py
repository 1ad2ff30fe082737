"""The decoder: an MLP from plane features to density and colour, before their activations."""

from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dna_pipeline.tsr.activations import activation
from dna_pipeline.tsr.config import DecoderConfig

OUTPUTS = 4
"""One density, three colours."""


class Activate(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.function = activation(name)

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

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(features)

    def density(self, features: Tensor) -> Tensor:
        """The raw density alone, (N,): the colours' rows of the last layer are left out."""
        *hidden, output = self.layers
        for layer in hidden:
            features = layer(features)
        output = cast(nn.Linear, output)
        bias = output.bias[:1] if self.config.bias else None
        return F.linear(features, output.weight[:1], bias)[:, 0]
