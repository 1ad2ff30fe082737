"""LoRAs for the small model: random, made by peft, and saved in the names of three programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import save_file

UNET_LAYERS = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2"]
TEXT_LAYERS = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]


class TrainedLora:
    """Random matrices for each layer that a LoRA usually changes.

    Args:
        folder: the small model.
        strength: standard deviation of B; that of A is 1.
        rslora: `save_diffusers` marks the factor as alpha / sqrt(rank).
    """

    def __init__(
        self, folder: Path, seed: int, *, rank: int = 4, alpha: float = 2, strength: float = 0.5,
        text: bool = True, rslora: bool = False,
    ) -> None:  # fmt: skip
        from diffusers import StableDiffusionPipeline

        self.rank, self.alpha, self.rslora = rank, alpha, rslora
        pipeline = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True)
        parts = {"unet": (pipeline.unet, UNET_LAYERS)}
        if text:
            parts["text_encoder"] = (pipeline.text_encoder, TEXT_LAYERS)
        self.layers: dict[tuple[str, str], dict[str, torch.Tensor]] = {}
        generator = torch.Generator().manual_seed(seed)
        for part, (model, targets) in parts.items():
            inject_adapter_in_model(LoraConfig(r=rank, target_modules=targets), model, "own")
            for name, wrapper in model.named_modules():
                if not isinstance(wrapper, LoraLayer):
                    continue
                for side, factor in (("lora_A", 1.0), ("lora_B", strength)):
                    shape = getattr(wrapper, side)["own"].weight.shape
                    noise = torch.randn(shape, generator=generator) * factor
                    self.layers.setdefault((part, name), {})[side] = noise

    def save_kohya(self, path: Path, **metadata: str) -> Path:
        tensors: dict[str, torch.Tensor] = {}
        for (part, layer), sides in self.layers.items():
            start = "lora_unet_" if part == "unet" else "lora_te_"
            name = start + _full(part, layer).replace(".", "_")
            tensors[f"{name}.lora_down.weight"] = sides["lora_A"]
            tensors[f"{name}.lora_up.weight"] = sides["lora_B"]
            tensors[f"{name}.alpha"] = torch.tensor(float(self.alpha))
        return _saved(path, tensors, metadata)

    def save_peft(self, path: Path) -> Path:
        """As peft's `save_pretrained` names them; its alpha is in another file, so B carries it."""
        tensors = {
            f"{part}.base_model.model.{_full(part, layer)}.{side}.weight": tensor
            * (self.alpha / self.rank if side == "lora_B" else 1)
            for (part, layer), sides in self.layers.items()
            for side, tensor in sides.items()
        }
        return _saved(path, tensors, {})

    def save_diffusers(self, path: Path) -> Path:
        """By Diffusers' own function, which writes the alpha into the header."""
        from diffusers import StableDiffusionPipeline

        parts: dict[str, Any] = {}
        for part in dict.fromkeys(part for part, _ in self.layers):
            targets = UNET_LAYERS if part == "unet" else TEXT_LAYERS
            parts[f"{part}_lora_layers"] = {
                f"{_full(own, layer)}.{side}.weight": tensor
                for (own, layer), sides in self.layers.items()
                for side, tensor in sides.items()
                if own == part
            }
            parts[f"{part}_lora_adapter_metadata"] = {
                "r": self.rank, "lora_alpha": self.alpha, "target_modules": targets,
                "use_rslora": self.rslora,
            }  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        StableDiffusionPipeline.save_lora_weights(path.parent, weight_name=path.name, **parts)
        return path

    def save_old_diffusers(self, path: Path) -> Path:
        """As Diffusers named them at first; B carries the alpha. The attention's layers alone."""
        ends = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}
        tensors: dict[str, torch.Tensor] = {}
        for (part, layer), sides in self.layers.items():
            start, _, end = _full(part, layer).removesuffix(".0").rpartition(".")
            if part == "unet" and end.startswith("to_"):
                start += ".processor"
            elif end not in ends:
                continue
            name = f"{part}.{start}.{ends.get(end, end)}_lora"
            tensors[f"{name}.down.weight"] = sides["lora_A"]
            tensors[f"{name}.up.weight"] = sides["lora_B"] * (self.alpha / self.rank)
        return _saved(path, tensors, {})


def _full(part: str, layer: str) -> str:
    """The name in files: transformers 5 leaves out the `text_model.` that they have."""
    is_short = part == "text_encoder" and not layer.startswith("text_model.")
    return f"text_model.{layer}" if is_short else layer


def _saved(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({n: t.contiguous() for n, t in tensors.items()}, path, metadata or None)
    return path
