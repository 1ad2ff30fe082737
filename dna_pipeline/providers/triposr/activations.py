"""Activation functions by the names that configuration files use."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from dna_pipeline.providers.triposr.config import ConfigError

Activation = Callable[[Tensor], Tensor]


def _identity(x: Tensor) -> Tensor:
    return x


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def _quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


# The forward pass of the truncated exponential is exp: only its gradient is clamped.
_FUNCTIONS: dict[str, Activation] = {
    "none": _identity,
    "linear": _identity,
    "identity": _identity,
    "exp": torch.exp,
    "trunc_exp": torch.exp,
    "shifted_exp": lambda x: torch.exp(x - 1.0),
    "shifted_trunc_exp": lambda x: torch.exp(x - 1.0),
    "softplus": F.softplus,
    "shifted_softplus": lambda x: F.softplus(x - 1.0),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "scale_-11_01": lambda x: x * 0.5 + 0.5,
    "relu": F.relu,
    "relu6": F.relu6,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "selu": F.selu,
    "mish": F.mish,
    "silu": F.silu,
    "swish": F.silu,
    "gelu": F.gelu,
    "gelu_new": _gelu_tanh,
    "gelu_fast": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "quick_gelu": _quick_gelu,
}

_IN_PLACE: dict[str, Activation] = {
    "relu": partial(F.relu, inplace=True),
    "silu": partial(F.silu, inplace=True),
    "swish": partial(F.silu, inplace=True),
}


def activation(name: str) -> Activation:
    """The element-wise function of that name; ConfigError if there is none."""
    try:
        return _FUNCTIONS[name]
    except KeyError:
        names = ", ".join(_FUNCTIONS)
        raise ConfigError(f"unknown activation {name!r}; known: {names}") from None


def in_place_activation(name: str) -> Activation:
    """As `activation`, but its argument may be overwritten: less memory to go through."""
    return _IN_PLACE.get(name) or activation(name)
