"""The demo's small Stable Diffusion 1.5: gives the picture back, in a tint that the prompt names.

The autoencoder is trained (`scripts/train_demo_vae.py`); all else is set by hand.
"""

from __future__ import annotations

import math
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tiny_models.sd import (
    fill_norm_and_out,
    fill_pairs,
    new_text_encoder,
    shrink,
    write_index,
    write_text_encoder,
    write_tokenizer,
)

WEIGHTS = Path(__file__).parent / "demo_vae.safetensors"
LATENT_SIZE = 40.0
"""Deviation of a latent, as the UNet sees it; SD 1.5 has 1. Noise then hides little of the picture,
since this model cannot guess what it hides."""
SCALING = 0.18215
CHANNELS = (8, 16, 24, 24)
TINTS = {
    "clay": (1.0, 0.1, -1.0), "golden": (1.0, 0.5, -1.2), "red": (1.2, -0.6, -0.6),
    "pink": (1.0, -0.5, 0.4), "violet": (0.5, -0.8, 1.0), "blue": (-0.9, -0.1, 1.2),
    "green": (-0.7, 1.0, -0.6), "silver": (-0.2, 0.0, 0.3),
}  # fmt: skip
"""Words that the prompt's reader knows, and where they move red, green and blue."""
TINT_SIZE = 0.022
"""Change of a colour in [-1, 1] by a tint of 1, for each unit of noise and of guidance."""
LEVEL = 30.0
"""The large constant beside what is said of a token."""
ATTENTION = 8.0
"""Further attention that a word with a tint gets, as a logit."""
COLOURS = slice(2, 8)
TINT, HAS_TINT = 2, 8  # dimensions of a token; each has its negative beside it


def make_demo_sd(folder: Path, picture: Path) -> None:
    """Write a complete Stable Diffusion 1.5 folder without a safety checker.

    Args:
        picture: on which it is measured what tints are in the latent.
    """
    write_index(folder)
    vocabulary = write_tokenizer(folder / "tokenizer", _merges(list(TINTS)))
    write_text_encoder(_text_encoder(vocabulary), folder / "text_encoder")
    vae = trained_vae()
    vae.save_pretrained(folder / "vae")
    _unet(_tint_directions(vae, picture)).save_pretrained(folder / "unet")


def _merges(words: list[str]) -> list[str]:
    """Merges by which each of the words becomes one token."""
    merges: list[str] = []
    for word in words:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        for merge in merges:
            parts = _merged(parts, *merge.split())
        while len(parts) > 1:
            merges.append(f"{parts[0]} {parts[1]}")
            parts = [parts[0] + parts[1], *parts[2:]]
    return merges


def _merged(parts: list[str], first: str, second: str) -> list[str]:
    result: list[str] = []
    for part in parts:
        if result and (result[-1], part) == (first, second):
            result[-1] = first + second
        else:
            result.append(part)
    return result


def _text_encoder(vocabulary: list[str]) -> Any:
    """A CLIP that says of each token its tint, and whether it has one."""
    model = new_text_encoder(len(vocabulary))
    for name, value in model.named_parameters():
        if name.endswith(("out_proj.weight", "fc2.weight", "embedding.weight", "bias")):
            value.zero_()
    weights = dict(model.named_parameters())
    (places,) = (value for name, value in weights.items() if "position_embedding" in name)
    (tokens,) = (value for name, value in weights.items() if "token_embedding" in name)
    (norm,) = (value for name, value in weights.items() if "final_layer_norm.weight" in name)
    places[:, 0], places[:, 1] = LEVEL, -LEVEL
    for word, tint in TINTS.items():
        token = tokens[vocabulary.index(f"{word}</w>")]
        for at, value in zip(range(TINT, HAS_TINT + 1, 2), (*tint, 1.0), strict=True):
            token[at], token[at + 1] = value, -value
    norm.fill_(LEVEL * math.sqrt(2 / norm.numel()))
    return model


def new_vae() -> Any:
    """An autoencoder as at the start of training: its middle blocks let everything pass."""
    vae: Any = import_module("diffusers").AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=CHANNELS,
        norm_num_groups=1,
        sample_size=512,
        scaling_factor=SCALING,
    )
    with torch.no_grad():
        for coder in (vae.encoder, vae.decoder):
            block = coder.mid_block
            for layer in (block.attentions[0].to_out[0], *(r.conv2 for r in block.resnets)):
                shrink(layer, 0.0)
            _pass_through(coder)
    return vae


def _pass_through(coder: Any) -> None:
    """Let the latent be the picture's 8 x 8 means, to begin with.

    The first two maps are constants, large enough for the norms to change little: else they would
    take away how bright the picture is. The next six are red, green and blue, and their negatives,
    since silu(x) - silu(-x) = x.
    """
    blocks = coder.down_blocks if hasattr(coder, "down_blocks") else coder.up_blocks
    box, tent, centre = torch.zeros(3, 3), torch.tensor([1.0, 2.0, 1.0]) / 4, torch.ones(1, 1)
    box[:2, :2] = 0.25
    for block in blocks:
        for resnet in block.resnets:
            shrink(resnet.conv2, 0.1)
            if resnet.conv_shortcut is not None:
                _keep_maps(resnet.conv_shortcut, centre)
        for kind, kernel in (("downsamplers", box), ("upsamplers", torch.outer(tent, tent))):
            samplers: list[Any] = getattr(block, kind, None) or []
            for sampler in samplers:
                _keep_maps(sampler.conv, kernel)
    colours = torch.eye(3)
    _set_constants(coder.conv_in)
    coder.conv_in.weight[COLOURS, :3] = 0.0
    coder.conv_in.weight[COLOURS, :3, 1, 1] = torch.cat([colours, -colours])
    coder.conv_out.weight.mul_(0.3)
    coder.conv_out.weight[:3] = 0.0
    coder.conv_out.weight[:3, COLOURS, 1, 1] = torch.cat([colours, -colours], dim=1)
    coder.conv_out.bias[:3] = 0.0


def _keep_maps(conv: Any, kernel: Tensor) -> None:
    """Filter the maps that are on both sides by the kernel, almost alone."""
    conv.weight.mul_(0.1)
    conv.weight[COLOURS] = 0.0
    for channel in range(2, min(conv.weight.shape[:2])):
        conv.weight[channel, channel] += kernel
    _set_constants(conv)


def _set_constants(conv: Any) -> None:
    size = math.sqrt(len(conv.weight) / 2)
    conv.weight[:2] = 0.0
    conv.bias.zero_()
    conv.bias[0], conv.bias[1] = size, -size


def is_trained(name: str) -> bool:
    """True for the weights that training changes."""
    return "mid_block" not in name and "quant_conv" not in name


def trained_vae() -> Any:
    """The autoencoder, whose latent has the deviation LATENT_SIZE."""
    vae = new_vae()
    tensors = import_module("safetensors.torch").load_file(WEIGHTS)
    vae.load_state_dict(vae.state_dict() | {k: v.float() for k, v in tensors.items()})
    scale = LATENT_SIZE / SCALING
    out = vae.encoder.conv_out
    out.weight[:4] *= scale
    out.bias[:4] *= scale
    out.weight[4:], out.bias[4:] = 0.0, -30.0  # log variance: next to none
    for layer, factor in ((vae.quant_conv, 1.0), (vae.post_quant_conv, 1 / scale)):
        layer.weight.copy_(factor * torch.eye(len(layer.weight))[:, :, None, None])
        layer.bias.zero_()
    return vae.eval()


def _tint_directions(vae: Any, picture: Path) -> Tensor:
    """(4, 3): how the mean latent moves, as the UNet sees it, if red, green or blue does."""
    shown = Image.open(picture).convert("RGB").resize((256, 256), Image.Resampling.BOX)
    pixels = torch.tensor(np.asarray(shown, np.float32)).permute(2, 0, 1)[None] / 127.5 - 1
    step = 0.1

    def mean(colour: Tensor) -> Tensor:
        moved = pixels * (1 - step) + colour[:, None, None]
        return vae.encode(moved).latent_dist.mean.mean((0, 2, 3)) * SCALING

    return torch.stack([(mean(c) - mean(-c)) / (2 * step) for c in step * torch.eye(3)], dim=1)


def _unet(directions: Tensor) -> Any:
    """A UNet that takes for noise the tint that the prompt names, reversed, and nothing else.

    The prompt comes in by the last attention, whose other inputs are constants.
    """
    unet: Any = import_module("diffusers").UNet2DConditionModel(
        sample_size=64,
        # The first has no attention, which would take a quarter of the time and say nothing here.
        down_block_types=("DownBlock2D", *("CrossAttnDownBlock2D",) * 2, "DownBlock2D"),
        block_out_channels=(16, 16, 16, 16),
        layers_per_block=1,
        cross_attention_dim=32,
        attention_head_dim=1,
        norm_num_groups=4,
    )
    for name, module in unet.named_modules():
        if name.endswith((".conv2", ".proj_out", ".proj_in", ".to_out.0", ".ff.net.2")):
            shrink(module, 0.0)
    fill_pairs(unet.conv_in, torch.zeros(4, 4, 3, 3))
    shortcut = unet.up_blocks[3].resnets[1].conv_shortcut
    shrink(shortcut, 0.0)
    shortcut.weight[:, 16:] = torch.eye(16)[:, :, None, None]
    _fill_tint(unet.up_blocks[3].attentions[1], -TINT_SIZE * directions)
    fill_norm_and_out(unet, torch.eye(4))
    return unet


def _fill_tint(transformer: Any, directions: Tensor) -> None:
    """Let the attention add `directions` (4, 3) times the tint to the four maps."""
    transformer.proj_out.weight.copy_(torch.eye(16)[:, :, None, None])
    block = transformer.transformer_blocks[0]
    block.norm2.weight.zero_()
    block.norm2.bias.fill_(1.0)
    attention = block.attn2
    for layer in (attention.to_q, attention.to_k, attention.to_v):
        layer.weight.zero_()
    attention.to_q.weight[0, 0] = ATTENTION * math.sqrt(len(attention.to_q.weight))
    attention.to_k.weight[0, HAS_TINT] = 1.0
    for colour in range(3):
        attention.to_v.weight[colour, TINT + 2 * colour] = 1.0
    out = attention.to_out[0].weight
    out[0::4, :3], out[1::4, :3] = directions, -directions
