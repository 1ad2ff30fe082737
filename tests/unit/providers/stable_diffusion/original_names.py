"""The names that the original Stable Diffusion 1 gives its tensors, from Diffusers' names.

Written from the original's layout, the other way round from the conversion that it tests.
"""

from __future__ import annotations

import re

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
TOP = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def unet_name(name: str, layers: int) -> str:
    """Of a UNet with that many `layers_per_block`."""
    return f"model.diffusion_model.{_unet_name(name, layers)}"


def _unet_name(name: str, layers: int) -> str:
    for ours, theirs in TOP.items():
        if name.startswith(f"{ours}."):
            return name.replace(ours, theirs, 1)
    if match := re.match(r"mid_block\.(resnets|attentions)\.(\d)\.(.*)", name):
        kind, index, rest = match.groups()
        place = 1 if kind == "attentions" else 2 * int(index)
        return f"middle_block.{place}.{_resnet(rest) if kind == 'resnets' else rest}"
    match = re.match(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(.*)", name)
    assert match, name
    side, block, kind, index, rest = match.groups()
    if side == "down":
        place = 1 + int(block) * (layers + 1) + (layers if kind == "downsamplers" else int(index))
    else:
        place = int(block) * (layers + 1) + (layers if kind == "upsamplers" else int(index))
    prefix = f"{'input' if side == 'down' else 'output'}_blocks.{place}"
    if kind == "downsamplers":
        return f"{prefix}.0.{rest.replace('conv', 'op', 1)}"
    if kind == "upsamplers":  # the first block of the way up has no attention before it
        return f"{prefix}.{1 if block == '0' else 2}.{rest}"
    return f"{prefix}.0.{_resnet(rest)}" if kind == "resnets" else f"{prefix}.1.{rest}"


def _resnet(rest: str) -> str:
    part, _, kind = rest.rpartition(".")
    return f"{RESNET[part]}.{kind}"


def vae_name(name: str) -> str:
    for ours, theirs in (("conv_norm_out", "norm_out"), ("conv_shortcut", "nin_shortcut")):
        name = name.replace(ours, theirs)
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    if "mid_block.attentions.0." in name:
        head, part = name.split("mid_block.attentions.0.")
        part, _, kind = part.rpartition(".")
        name = f"{head}mid.attn_1.{ATTENTION[part]}.{kind}"
    name = re.sub(r"up_blocks\.(\d)", lambda m: f"up.{3 - int(m[1])}", name)
    name = name.replace("down_blocks", "down").replace(".resnets.", ".block.")
    name = name.replace("downsamplers.0", "downsample").replace("upsamplers.0", "upsample")
    return f"first_stage_model.{name}"


def is_vae_attention(name: str) -> bool:
    """Whether the original keeps that weight as a convolution of one pixel."""
    return "attentions" in name and name.endswith("weight") and "group_norm" not in name
