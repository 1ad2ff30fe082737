"""The family of a diffusion model, or of a change to one, by names and shapes of its tensors.

The width of the text that its cross attention reads tells the Stable Diffusions apart: 768 numbers
a token in 1.x, 1024 in 2.x, 2048 in XL, 1280 in XL's refiner.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod

Shapes = Mapping[str, tuple[int, ...]]

SD1, SD2, SDXL = "Stable Diffusion 1.5", "Stable Diffusion 2", "Stable Diffusion XL"
_SDXL_REFINER, _SD3 = f"{SDXL}'s refiner", "Stable Diffusion 3"

UNET_PREFIXES = ("model.diffusion_model.", "diffusion_model.", "", "net.", "unet.", "transformer.")

_WIDTHS = {768: SD1, 1024: SD2, 2048: SDXL, 1280: _SDXL_REFINER}

_OTHERS: tuple[tuple[str, str], ...] = (
    ("joint_blocks.0.", _SD3),
    ("distilled_guidance_layer.", "Chroma"),
    ("single_stream_modulation.", "Flux 2"),
    ("txt_in.individual_token_refiner.", "HunyuanVideo"),
    ("double_blocks.0.", "Flux"),
    ("double_layers.0.", "AuraFlow"),
    ("double_stream_blocks.0.", "HiDream"),
    ("single_transformer_blocks.0.", "Flux"),
    ("cap_embedder.", "Lumina or Z-Image"),
    ("txt_norm.", "Qwen-Image"),
    ("clip_txt_mapper.", "Stable Cascade"),
    ("down_blocks.1.0.channelwise.", "Stable Cascade"),
    ("patchify_proj.", "LTX-Video"),
    ("head.modulation", "Wan"),
    ("blocks.0.cross_attn.q_linear.", "PixArt or Sana"),
    ("blocks.0.attn.qkv_x.", "Mochi"),
    ("mlp_t5.", "Hunyuan-DiT"),
    ("transformer_blocks.0.attn.add_q_proj.", _SD3),
    ("blocks.0.self_attn.", "a transformer such as Wan or Cosmos"),
    ("transformer_blocks.0.scale_shift_table", "PixArt or LTX-Video"),
)
"""Start of names, after the prefix, that only that family has."""


@dataclass(frozen=True, slots=True)
class DiffusionModel:
    """The facts of a diffusion model; `layout` is "" if there is none."""

    architecture: str = ""
    layout: str = ""
    in_channels: int | None = None


def diffusion_model(shapes: Shapes, prefix: str) -> DiffusionModel:
    """The diffusion model whose names begin with `prefix`."""
    inner = {n.removeprefix(prefix): s for n, s in shapes.items() if n.startswith(prefix)}
    if len(first := inner.get("input_blocks.0.0.weight", ())) == 4:
        label = inner.get("label_emb.0.0.weight", ())
        return DiffusionModel(_unet(inner, label), "ldm", first[1])
    is_unet = any(n.startswith("down_blocks.") for n in inner) and any(
        n.startswith("time_embedding.") for n in inner
    )
    if is_unet and len(first := inner.get("conv_in.weight", ())) == 4:
        label = inner.get("add_embedding.linear_1.weight", ())
        return DiffusionModel(_unet(inner, label), "diffusers", first[1])
    for start, name in _OTHERS:
        if any(key.startswith(start) for key in inner):
            return DiffusionModel(name, "other")
    return DiffusionModel()


def _unet(shapes: Shapes, label: tuple[int, ...]) -> str:
    if any(".time_stack." in name or "temporal_" in name for name in shapes):
        return "Stable Video Diffusion"
    if len(label) == 2 and label[1] in (2816, 2560):
        return SDXL if label[1] == 2816 else _SDXL_REFINER
    return family_of_width(context_width(shapes))


def family_of_width(width: int | None) -> str:
    """The Stable Diffusion whose cross attention reads tokens of that width; "" for others."""
    return "" if width is None else _WIDTHS.get(width, "")


def context_width(shapes: Shapes, layer: str = "attn2.to_k") -> int | None:
    """Width of the text that the cross attention reads; None if there is none."""
    ends = (f"{layer}.weight",)
    return next((s[1] for n, s in shapes.items() if n.endswith(ends) and len(s) == 2), None)


# --- LoRAs and their like ---

_CROSS_ATTENTION = re.compile(r"(.*attn2[._](?:processor\.)?to_[kv])[._]")
_TEXT_LAYER = re.compile(r"(.*(?:lora_te\w*?|text_encoder)[._].*(?:mlp[._]fc1|q_proj))[._]")
_DOWN = (
    "lora_down.weight", "lora_A.weight", "lora_A.default.weight", "lora.down.weight",
    "_lora.down.weight", "lora_linear_layer.down.weight", "hada_w1_b", "diff",
)  # fmt: skip
"""Ends of names whose second side is the width of what the changed layer reads."""

_NAME_MARKS: tuple[tuple[str, str], ...] = (
    ("double_blocks_", "Flux"), ("double_blocks.", "Flux"),
    ("single_transformer_blocks", "Flux"),
    ("joint_blocks", _SD3),
    ("lora_te1_", SDXL), ("lora_te2_", SDXL),
    ("text_encoder_2.", SDXL),
)  # fmt: skip
_DEEP_BLOCK = re.compile(r"attentions[._]\d+[._]transformer_blocks[._][1-9]|input_blocks_[4578]_1_")


def architecture_of_adapter(shapes: Shapes) -> str:
    """The family of models that a LoRA or LyCORIS changes; "" if nothing tells."""
    for mark, name in _NAME_MARKS:
        if any(mark in key for key in shapes):
            return name
    width = _input_width(shapes, _CROSS_ATTENTION)
    if width is not None:
        return family_of_width(width)
    if any(_DEEP_BLOCK.search(key) for key in shapes):
        return SDXL
    if any("transformer_blocks" in key and "down_blocks" not in key for key in shapes) and not any(
        "attentions" in key for key in shapes
    ):
        return f"a transformer, not a {SD1}"
    return family_of_width(_input_width(shapes, _TEXT_LAYER))


def _input_width(shapes: Shapes, layer: re.Pattern[str]) -> int | None:
    """Width of what the first layer of that kind reads."""
    for name in shapes:
        if (match := layer.match(name)) is not None:
            stem = match[1]
            own = {k: s for k, s in shapes.items() if k.startswith(stem)}
            if (width := _width_of(own)) is not None:
                return width
    return None


def _width_of(layer: Shapes) -> int | None:
    for name, shape in layer.items():
        if name.endswith(_DOWN) and len(shape) >= 2:
            return shape[1]
    # LoKr writes a layer as a Kronecker product, whose sides are products of its factors' sides.
    factors = [_side(layer, word) for word in ("lokr_w1", "lokr_w2")]
    return prod(side for side in factors if side) if all(factors) else None


def _side(layer: Shapes, factor: str) -> int | None:
    ends: Iterable[str] = (factor, f"{factor}_b")
    return next((s[1] for n, s in layer.items() if n.endswith(tuple(ends)) and len(s) >= 2), None)
