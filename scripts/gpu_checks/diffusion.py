"""Figures of Stable Diffusion 1.5 at full size, with random weights made on the device.

The parts are timed one by one; a job's seconds are their sum: encode, the steps, decode.
"""

from __future__ import annotations

import json
from functools import partial
from importlib import import_module
from typing import Any

import torch

from dna_pipeline.providers.stable_diffusion import compilation
from dna_pipeline.providers.stable_diffusion.folder import SD15_CONFIG
from gpu_checks.measuring import measured
from gpu_checks.report import Check, Skipped
from gpu_checks.setting import Setting

STEPS = 15
"""Of a job of 20 steps at strength 0.75."""
BATCHES = {True: (1,), False: (1, 2, 4, 8)}
TOKENS, WIDTH = 77, 768
"""Of the text that the UNet reads."""
SMALL = {"block_out_channels": (32, 64), "norm_num_groups": 8}
SMALL_BLOCKS = {
    "UNet2DConditionModel": {
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "layers_per_block": 1,
    },
    "AutoencoderKL": {
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "layers_per_block": 1,
    },
}


def eager(side_px: int, setting: Setting) -> dict[str, Any]:
    """Seconds of the parts and pictures in a second, by batch size."""
    side = side_px // 8 if setting.small else side_px
    unet, vae = _models(setting)
    report: dict[str, Any] = {"side_px": side, "dtype": str(unet.dtype).removeprefix("torch.")}
    for batch in BATCHES[setting.small]:
        report[f"batch_{batch}"] = _job(setting, unet, vae, side, batch)
    return report


def compiled(side_px: int, setting: Setting) -> dict[str, Any]:
    """The UNet's step after `torch.compile`, beside the one without, and the seconds it took."""
    if setting.device.type != "cuda":
        raise Skipped("compiled for CUDA only; elsewhere it takes minutes")
    if (why := compilation.lack("cuda")) is not None:
        raise Skipped(why)
    side = side_px // 8 if setting.small else side_px
    unet, _ = _models(setting)
    inputs = _inputs(setting, unet, side, batch=1)
    plain = _step(setting, unet, inputs)
    unet.compile()
    _, first = measured(setting, lambda: unet(*inputs, return_dict=False))
    step = _step(setting, unet, inputs)
    speedup = round(plain["seconds"] / step["seconds"], 3)
    return {"side_px": side, "compile_s": first["seconds"], "step": step, "speedup": speedup}


def _job(setting: Setting, unet: Any, vae: Any, side: int, batch: int) -> dict[str, Any]:
    pixels = torch.rand(batch, 3, side, side, device=setting.device, dtype=unet.dtype)
    with torch.inference_mode():
        latents = vae.encode(pixels).latent_dist.mean
        _, encode = measured(setting, lambda: vae.encode(pixels), 3)
        _, decode = measured(setting, lambda: vae.decode(latents), 3)
    step = _step(setting, unet, _inputs(setting, unet, side, batch))
    seconds = encode["seconds"] + STEPS * step["seconds"] + decode["seconds"]
    peaks = [part["peak_mib"] for part in (encode, step, decode)]
    return {
        "encode_s": encode["seconds"],
        "step_s": step["seconds"],
        "decode_s": decode["seconds"],
        "pictures_per_s": round(batch / seconds, 4),
        "peak_mib": max((peak for peak in peaks if peak is not None), default=None),
    }


def _step(setting: Setting, unet: Any, inputs: tuple[Any, ...]) -> dict[str, Any]:
    """Seconds of one step with guidance, and its peak of memory."""
    with torch.inference_mode():
        unet(*inputs, return_dict=False)
        _, values = measured(setting, lambda: unet(*inputs, return_dict=False), 5)
    return values


def _inputs(setting: Setting, unet: Any, side: int, batch: int) -> tuple[Any, ...]:
    """Latents, time and text; twice the batch, since guidance asks with and without a prompt."""
    device, dtype = setting.device, unet.dtype
    latents = torch.randn(2 * batch, 4, side // 8, side // 8, device=device, dtype=dtype)
    text = torch.randn(2 * batch, TOKENS, WIDTH, device=device, dtype=dtype)
    return latents, torch.tensor(500, device=device), text


def _models(setting: Setting) -> tuple[Any, Any]:
    """UNet and VAE, in float16 on a GPU and in float32 elsewhere, in the memory's order that the
    provider gives them."""
    diffusers: Any = import_module("diffusers")
    diffusers.utils.logging.set_verbosity_error()
    dtype = torch.float16 if setting.device.type == "cuda" else torch.float32
    parts = (diffusers.UNet2DConditionModel, "unet"), (diffusers.AutoencoderKL, "vae")
    unet, vae = (_random(part, SD15_CONFIG / name, setting, dtype) for part, name in parts)
    return unet, vae


def _random(part: Any, folder: Any, setting: Setting, dtype: torch.dtype) -> Any:
    config = json.loads((folder / "config.json").read_text())
    if setting.small:
        config |= SMALL | SMALL_BLOCKS[part.__name__]
    with torch.device("meta"):
        model = part.from_config(config)
    model = model.to(dtype).to_empty(device=setting.device).requires_grad_(False).eval()
    torch.default_generator.manual_seed(0)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:  # keeps the size of what goes through
            parameter.normal_(0, parameter[0].numel() ** -0.5)
        else:
            parameter.fill_(float("norm" in name and name.endswith("weight")))
    return model.to(memory_format=torch.channels_last) if dtype.itemsize == 2 else model


CHECKS: tuple[tuple[str, Check], ...] = (
    ("sd15-512", partial(eager, 512)),
    ("sd15-768", partial(eager, 768)),
    ("sd15-512-compiled", partial(compiled, 512)),
    ("sd15-768-compiled", partial(compiled, 768)),
)
