"""Small files with the headers of real models: original names and shapes, and a hole for the data.

A hole takes no room on the disk, so that a file may have the length of a real one.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

import torch

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

UNET = "model.diffusion_model."
ATTENTION = "1.transformer_blocks.0.attn2.to_k.weight"


def write_safetensors(path: Path, shapes: Shapes, missing_bytes: int = 0) -> Path:
    """Write a header and a hole of float16 data, `missing_bytes` shorter than it should be."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * int(torch.Size(shape).numel())
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    with path.open("r+b") as file:
        file.truncate(8 + len(text) + end - missing_bytes)
    return path


def write_pickle(path: Path, document: object, *, legacy: bool = False) -> Path:
    """Save as torch does, in the format of today or in that before 1.6."""
    torch.save(document, path, _use_new_zipfile_serialization=not legacy)
    return path


def tiny(shapes: Shapes) -> dict[str, torch.Tensor]:
    """Tensors of those shapes that share one number, which is all that is saved of them."""
    return {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}


def ldm_unet(width: int, in_channels: int = 4, first: int = 320) -> dict[str, Shape]:
    return {
        "input_blocks.0.0.weight": (first, in_channels, 3, 3),
        "input_blocks.0.0.bias": (first,),
        "time_embed.0.weight": (4 * first, first),
        f"input_blocks.4.{ATTENTION}": (2 * first, width),
        "out.2.weight": (4, first, 3, 3),
    }


def prefixed(prefix: str, shapes: Shapes) -> dict[str, Shape]:
    return {prefix + name: shape for name, shape in shapes.items()}


LDM_VAE: Shapes = {
    "encoder.conv_in.weight": (128, 3, 3, 3),
    "encoder.down.0.block.0.conv1.weight": (128, 128, 3, 3),
    "encoder.mid.attn_1.q.weight": (512, 512, 1, 1),
    "decoder.conv_in.weight": (512, 4, 3, 3),
    "decoder.up.0.block.0.norm1.weight": (256,),
    "quant_conv.weight": (8, 8, 1, 1),
    "post_quant_conv.weight": (4, 4, 1, 1),
}
DIFFUSERS_VAE: Shapes = {
    "encoder.conv_in.weight": (128, 3, 3, 3),
    "encoder.down_blocks.0.resnets.0.conv1.weight": (128, 128, 3, 3),
    "encoder.mid_block.attentions.0.to_q.weight": (512, 512),
    "decoder.conv_in.weight": (512, 4, 3, 3),
    "decoder.up_blocks.0.resnets.0.norm1.weight": (512,),
    "post_quant_conv.weight": (4, 4, 1, 1),
}
CLIP_L: Shapes = {
    "text_model.embeddings.token_embedding.weight": (49408, 768),
    "text_model.embeddings.position_embedding.weight": (77, 768),
    "text_model.encoder.layers.0.self_attn.q_proj.weight": (768, 768),
    "text_model.encoder.layers.11.mlp.fc1.weight": (3072, 768),
}
OPEN_CLIP: Shapes = {
    "token_embedding.weight": (49408, 1024),
    "positional_embedding": (77, 1024),
    "transformer.resblocks.0.attn.in_proj_weight": (3072, 1024),
    "ln_final.weight": (1024,),
}
SD1: Shapes = {
    **prefixed(UNET, ldm_unet(768)),
    **prefixed("first_stage_model.", LDM_VAE),
    **prefixed("cond_stage_model.transformer.", CLIP_L),
    "alphas_cumprod": (1000,),
}
SD2: Shapes = {
    **prefixed(UNET, ldm_unet(1024)),
    **prefixed("first_stage_model.", LDM_VAE),
    **prefixed("cond_stage_model.model.", OPEN_CLIP),
}
SDXL: Shapes = {
    **prefixed(UNET, {**ldm_unet(2048), "label_emb.0.0.weight": (1280, 2816)}),
    **prefixed("first_stage_model.", LDM_VAE),
    **prefixed("conditioner.embedders.0.transformer.", CLIP_L),
    "conditioner.embedders.1.model.transformer.resblocks.9.mlp.c_proj.bias": (1280,),
}
REFINER: Shapes = {
    **prefixed(UNET, {**ldm_unet(1280, first=384), "label_emb.0.0.weight": (1536, 2560)}),
    **prefixed("first_stage_model.", LDM_VAE),
    "conditioner.embedders.0.model.transformer.resblocks.9.mlp.c_proj.bias": (1280,),
}
DIFFUSERS_UNET: Shapes = {
    "conv_in.weight": (320, 4, 3, 3),
    "time_embedding.linear_1.weight": (1280, 320),
    "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight": (320, 768),
    "mid_block.resnets.0.conv1.weight": (1280, 1280, 3, 3),
}
DIFFUSERS_UNET_XL: Shapes = {
    "conv_in.weight": (320, 4, 3, 3),
    "time_embedding.linear_1.weight": (1280, 320),
    "add_embedding.linear_1.weight": (1280, 2816),
    "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight": (640, 2048),
}
KOHYA = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k."
KOHYA_XL = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k."
PEFT = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2."
