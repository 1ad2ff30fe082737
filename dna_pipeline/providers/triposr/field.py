"""A scene as a field: density and colour at any point of TripoSR's box."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dna_pipeline.providers.triposr.activations import activation
from dna_pipeline.providers.triposr.config import FULL, ConfigError, DecoderConfig, RendererConfig
from dna_pipeline.providers.triposr.decoder import Decoder
from dna_pipeline.providers.triposr.planes import COLUMN_AXES, ROW_AXES, ProjectedPlanes

_CPU_CHUNK = 1 << 14
_GPU_CHUNK = 1 << 20


class NonFiniteField(ValueError):
    """The density is infinite or not a number somewhere."""


class Field:
    """One scene code (3, C, H, W) and the decoder that reads it, both on one device.

    Points are (N, 3) float32 on that device, in TripoSR's axes and units; outside
    [-radius, radius]³ the planes read zero. The decoder computes in its own dtype; positions
    and answers are float32, since half precision cannot tell neighbouring points apart.
    """

    def __init__(
        self,
        scene_code: Tensor,
        decoder: Decoder,
        renderer: RendererConfig,
        computed_in: torch.dtype = torch.float32,
    ) -> None:
        """computed_in: the number type in which the scene code came about."""
        expected = decoder.config.in_channels // renderer.planes_per_feature
        if scene_code.ndim != 4 or scene_code.shape[:2] != (3, expected):
            raise ValueError(f"expected (3, {expected}, H, W), got {tuple(scene_code.shape)}")
        self.scene_code = scene_code.float()
        self.decoder = decoder
        self.renderer = renderer
        self._computed_in = computed_in
        self._is_finite = self.scene_code.isfinite().all()  # read later: nothing waits for it here
        self._density_activation = activation(renderer.density_activation)
        self._color_activation = activation(renderer.color_activation)

    @property
    def radius(self) -> float:
        """Half the side of the scene's box."""
        return self.renderer.radius

    @property
    def device(self) -> torch.device:
        return self.scene_code.device

    @property
    def is_finite(self) -> bool:
        """True if the scene code holds finite numbers alone; waits for the device."""
        return bool(self._is_finite)

    def require_finite(self) -> None:
        """Raise `NonFiniteField` if the scene code holds what is no finite number.

        It waits for the device, so it is called where the CPU has waited for an answer anyway.
        """
        if not self.is_finite:
            dtype = str(self._computed_in).removeprefix("torch.")
            raise NonFiniteField(f"the scene codes are not finite, computed in {dtype}")

    @property
    def chunk_size(self) -> int:
        """Points to ask for at once: few on a CPU, whose caches are small, and many on a GPU."""
        return _CPU_CHUNK if self.device.type == "cpu" else _GPU_CHUNK

    @torch.inference_mode()
    def density(self, points: Tensor) -> Tensor:
        """Density at points (N, 3): (N,) float32, ≥ 0 with the published model's exp."""
        return self._to_density(self.decoder.density_after_first(self._first_layer(points)))

    @torch.inference_mode()
    def density_and_color(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Density (N,) and display-referred sRGB colour (N, 3) in [0, 1], both float32."""
        raw = self.decoder.after_first(self._first_layer(points))
        return self._to_density(raw[:, 0]), self._color_activation(raw[:, 1:].float())

    @torch.inference_mode()
    def density_as_published(self, points: Tensor) -> Tensor:
        """Density by the original's own operations: slower, and rounded as it rounds.

        `density` differs from it by rounding alone, by some 1e-6 of the value.
        """
        return self._to_density(self.decoder(self.features(points))[:, 0])

    def features(self, points: Tensor) -> Tensor:
        """Features of the planes at points (N, 3): the decoder's input (N, in_channels)."""
        unit = self._unit(points)
        grid = torch.stack([unit[:, COLUMN_AXES], unit[:, ROW_AXES]], dim=-1)  # (N, 3, 2)
        samples = F.grid_sample(
            self.scene_code,
            grid.transpose(0, 1)[:, None],
            mode="bilinear",
            padding_mode="zeros",
            align_corners=False,
        )[:, :, 0]  # (3, C, N)
        if self.renderer.feature_reduction == "mean":
            features = samples.mean(dim=0).T  # (N, C)
        else:
            features = samples.flatten(0, 1).T  # (N, 3 * C)
        return features.to(self.decoder.dtype)

    def _first_layer(self, points: Tensor) -> Tensor:
        """Output of the decoder's first layer at points (N, 3): (N, n_neurons)."""
        return self._planes.at(self._unit(points)).to(self.decoder.dtype)

    @cached_property
    def _planes(self) -> ProjectedPlanes:
        """The planes after the decoder's first layer, made when a point is first asked for."""
        layer = self.decoder.first
        weight = layer.weight.detach().float()
        if self.renderer.feature_reduction == "mean":
            weight = (weight / 3).repeat(1, 3)
        weight = weight.view(len(weight), 3, -1)  # (n, 3, C)
        bias = layer.bias.detach().float() if self.decoder.config.bias else None
        return ProjectedPlanes(self.scene_code, weight, bias)

    def _unit(self, points: Tensor) -> Tensor:
        """Points in [-1, 1]³, rounded as the original rounds.

        Dividing by the radius moves densities of steep fields by up to 1e-4.
        """
        return (points + self.radius) / (2 * self.radius) * 2 - 1

    def _to_density(self, raw: Tensor) -> Tensor:
        return self._density_activation(raw.float() + self.renderer.density_bias)

    @classmethod
    def from_npz(cls, path: Path, device: torch.device | str = "cpu") -> "Field":
        """A scene saved as `scene_code` and `decoder.layers.N.weight` and `.bias`.

        The renderer's values are the published model's. Raises ConfigError if the arrays do not
        make up such a decoder.
        """
        with np.load(path) as arrays:
            tensors = {
                name: torch.as_tensor(arrays[name].astype(np.float32), device=device)
                for name in arrays.files
            }
        scene_code = tensors.pop("scene_code", None)
        if scene_code is None:
            raise ConfigError(f"{path}: no array scene_code")
        return cls(scene_code, _decoder(path, tensors), FULL.renderer)


def _decoder(path: Path, tensors: Mapping[str, Tensor]) -> Decoder:
    prefix = "decoder."
    state = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    weights = [tensor for name, tensor in state.items() if name.endswith(".weight")]
    try:
        first = state["layers.0.weight"]
        with torch.device("meta"):
            decoder = Decoder(
                DecoderConfig(
                    in_channels=first.shape[1],
                    n_neurons=first.shape[0],
                    n_hidden_layers=len(weights) - 1,
                )
            )
        decoder.load_state_dict(state, assign=True)
    except (KeyError, RuntimeError) as error:
        raise ConfigError(f"{path}: no decoder: {error}") from error
    return decoder.requires_grad_(False).eval()
