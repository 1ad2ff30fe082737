"""A small Stable Diffusion 1.5."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tiny_models import write_json

STEP = 40.0
"""How far black and white lie apart in the latent. Much more than in SD 1.5 (about 10): noise
then hides less of the picture, since this model cannot guess what it hides."""
CONSTANT = 20.0
"""The large constant K beside each pair."""
LUMA = (0.299, 0.587, 0.114)
SD_PARTS = {
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "scheduler": ["diffusers", "PNDMScheduler"],
}
SCHEDULER = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.6.0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
    "clip_sample": False,
}
MERGES = ("t h", "th e</w>", "a n", "i n", "in g</w>", "o n", "e r", "r e", "o f</w>")


def make_sd(folder: Path) -> None:
    """Write a complete Stable Diffusion 1.5 folder without a safety checker."""
    write_index(folder)
    vocabulary = write_tokenizer(folder / "tokenizer", MERGES)
    text_encoder = new_text_encoder(len(vocabulary))
    write_text_encoder(text_encoder, folder / "text_encoder")
    _make_vae().save_pretrained(folder / "vae")
    _make_unet().save_pretrained(folder / "unet")


def write_index(folder: Path) -> None:
    """Write what names the parts, and the scheduler."""
    index = {"_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.6.0", **SD_PARTS}
    absent = {"feature_extractor": [None, None], "safety_checker": [None, None]}
    write_json(folder / "model_index.json", index | absent)
    write_json(folder / "scheduler" / "scheduler_config.json", SCHEDULER)


def write_tokenizer(folder: Path, merges: Sequence[str]) -> list[str]:
    """Write a byte-level alphabet and a few merges, so that any text can be read; its tokens."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    # GPT-2's alphabet: each byte a visible character, those without one from U+0100 on.
    others = {b: chr(256 + i) for i, b in enumerate(b for b in range(256) if b not in printable)}
    alphabet = [chr(b) for b in printable] + list(others.values())
    words = alphabet + [f"{c}</w>" for c in alphabet] + [m.replace(" ", "") for m in merges]
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>"}
    tokens = list(dict.fromkeys([*words, *special.values()]))
    write_json(folder / "vocab.json", {token: i for i, token in enumerate(tokens)})
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    special |= {"unk_token": special["eos_token"], "pad_token": special["eos_token"]}
    write_json(folder / "special_tokens_map.json", special)
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, **special}
    write_json(folder / "tokenizer_config.json", settings)
    return tokens


def new_text_encoder(vocabulary: int) -> Any:
    """A small CLIP for that many tokens, with random weights."""
    transformers: Any = import_module("transformers")
    config = transformers.CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        projection_dim=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        architectures=["CLIPTextModel"],
    )
    return transformers.CLIPTextModel(config)


def write_text_encoder(model: Any, folder: Path) -> None:
    """Write it as Diffusers reads it."""
    write_json(folder / "config.json", model.config.to_dict())
    # Other tools look for the names with the prefix; transformers reads both.
    tensors = {
        f"text_model.{name}": value.contiguous() for name, value in model.state_dict().items()
    }
    import_module("safetensors.torch").save_file(
        tensors, folder / "model.safetensors", {"format": "pt"}
    )


def _make_vae() -> Any:
    """An autoencoder whose latent is the picture's 8 x 8 means: red, green, blue and luma."""
    vae: Any = import_module("diffusers").AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 16, 16, 16),
        norm_num_groups=4,
        sample_size=512,
        scaling_factor=0.18215,
    )
    for module in (vae, *vae.encoder.mid_block.attentions, *vae.decoder.mid_block.attentions):
        shrink(module, 0.0)
    scale = STEP / (2 * 0.18215)
    to_latent = torch.cat([torch.eye(3), torch.tensor([LUMA])])  # (4, 3)
    # Half of what red, green and blue say about luma gives way to what the fourth says.
    luma = torch.tensor(LUMA)
    to_rgb = torch.cat([torch.eye(3) - luma / 2, torch.full((3, 1), 0.5)], dim=1)  # (3, 4)
    box = torch.zeros(3, 3)
    box[:2, :2] = 0.25
    tent = torch.tensor([1.0, 2.0, 1.0]) / 4
    fill_pairs(vae.encoder.conv_in, _at_centre(to_latent))
    fill_norm_and_out(vae.encoder, scale * torch.eye(4))
    vae.encoder.conv_out.bias[4:] = -30.0  # log variance: next to none
    for block in vae.encoder.down_blocks[:3]:
        _fill_filter(block.downsamplers[0].conv, box, constants=box)
    vae.quant_conv.weight.copy_(torch.eye(8)[:, :, None, None])
    vae.post_quant_conv.weight.copy_(torch.eye(4)[:, :, None, None] / scale)
    fill_pairs(vae.decoder.conv_in, torch.eye(4)[:, :, None, None] * _sharpening(0.06))
    for block in vae.decoder.up_blocks[:3]:
        _fill_filter(block.upsamplers[0].conv, torch.outer(tent, tent), constants=_centre())
    fill_norm_and_out(vae.decoder, to_rgb)
    return vae


def _make_unet() -> Any:
    """A denoiser that takes for noise what differs from its surroundings.

    That path runs from the first convolution over the outermost skip connection to the last one;
    all else is random and weak, and reads the prompt.
    """
    unet: Any = import_module("diffusers").UNet2DConditionModel(
        sample_size=64,
        block_out_channels=(16, 32, 32, 32),
        layers_per_block=1,
        cross_attention_dim=32,
        attention_head_dim=2,
        norm_num_groups=4,
    )
    for name, module in unet.named_modules():
        if name.endswith((".conv2", ".proj_out", ".attn1.to_out.0")):
            shrink(module, 0.2)
        elif name.endswith(".attn2.to_out.0"):
            shrink(module, 3.0)  # what the prompt says: a tint
    tent = torch.tensor([1.0, 2.0, 1.0]) / 4
    detail = _centre() - torch.outer(tent, tent)
    fill_pairs(unet.conv_in, torch.eye(4)[:, :, None, None] * detail)
    last = unet.up_blocks[3].resnets[1]
    shrink(last.conv_shortcut, 0.1)
    last.conv_shortcut.weight[:, 16:] = torch.eye(16)[:, :, None, None]
    fill_norm_and_out(unet, 1.5 * torch.eye(4))
    return unet


def shrink(module: nn.Module, factor: float) -> None:
    """Scale the weights of a layer and drop its bias, so that it says little or nothing."""
    for name, parameter in module.named_parameters():
        parameter.mul_(0.0 if name.endswith("bias") else factor)


def _centre() -> Tensor:
    kernel = torch.zeros(3, 3)
    kernel[1, 1] = 1.0
    return kernel


def _at_centre(matrix: Tensor) -> Tensor:
    return matrix[:, :, None, None] * _centre()


def _sharpening(amount: float) -> Tensor:
    kernel = torch.full((3, 3), 0.0)
    kernel[1] = kernel[:, 1] = -amount
    kernel[1, 1] = 1 + 4 * amount
    return kernel


def fill_pairs(conv: nn.Conv2d, kernels: Tensor) -> None:
    """Make n maps from `kernels` (n, channels in, 3, 3); a group of 4 holds (x, -x, K, -K)."""
    conv.weight.zero_()
    conv.weight[0::4], conv.weight[1::4] = kernels, -kernels
    assert conv.bias is not None
    conv.bias.copy_(torch.tensor([0, 0, CONSTANT, -CONSTANT]).repeat(len(kernels)))


def _fill_filter(conv: nn.Conv2d, kernel: Tensor, *, constants: Tensor) -> None:
    """Filter each map alone; the constants by a kernel that leaves them what they are."""
    conv.weight.zero_()
    for channel in range(16):
        conv.weight[channel, channel] = kernel if channel % 4 < 2 else constants


def fill_norm_and_out(coder: Any, matrix: Tensor) -> None:
    """Let norm, silu and last convolution be `matrix` (n, 4) times the four maps."""
    coder.conv_norm_out.weight.fill_(CONSTANT / math.sqrt(2))
    coder.conv_norm_out.bias.zero_()
    coder.conv_out.weight.zero_()
    if coder.conv_out.bias is not None:
        coder.conv_out.bias.zero_()
    rows = len(matrix)
    coder.conv_out.weight[:rows, 0::4] = _at_centre(matrix)
    coder.conv_out.weight[:rows, 1::4] = -_at_centre(matrix)
