"""Loading of a Stable Diffusion: all parts onto one device, as a pipeline of Diffusers."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dna_pipeline.base.errors import WeightsMismatch
from dna_pipeline.providers.base import Device
from dna_pipeline.providers.stable_diffusion import folder as sd_folder
from dna_pipeline.providers.stable_diffusion import single_file
from dna_pipeline.providers.stable_diffusion.folder import SdFolder, some
from dna_pipeline.providers.stable_diffusion.single_file import SdFile

if TYPE_CHECKING:
    import torch


def load_pipeline(
    folder: SdFolder | SdFile, device: Device, vae: Path | None, scheduler: Any
) -> Any:
    """A pipeline of Diffusers with all parts of a model. Raises `WeightsMismatch`.

    Args:
        device: with the dtype in which all parts compute.
        vae: file of the VAE that replaces the model's own; None to keep that.
    """
    import torch
    from transformers import CLIPTextModel

    diffusers: Any = import_module("diffusers")
    dtype = getattr(torch, device.dtype)
    parts: dict[str, Any] = {
        "vae": _vae(folder, vae, dtype),
        "text_encoder": folder.model(sd_folder.TEXT, CLIPTextModel, dtype),
        "unet": folder.model(sd_folder.UNET, diffusers.UNet2DConditionModel, dtype),
        "tokenizer": folder.tokenizer(),
        **_safety(folder, dtype),
    }
    _check_fit(folder, parts)
    pipeline = diffusers.StableDiffusionImg2ImgPipeline(
        **parts, scheduler=scheduler, requires_safety_checker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    return _in_fast_layout(pipeline.to(device.name))


def _in_fast_layout(pipeline: Any) -> Any:
    """The pipeline, with the convolutions' weights in the layout that is fast for types of 16 bits.

    In float32 it would save no time and change the last bits of the pictures.
    """
    import torch

    if pipeline.unet.dtype.itemsize == 2 and pipeline.device.type in ("cpu", "cuda"):
        for part in (pipeline.unet, pipeline.vae):
            part.to(memory_format=torch.channels_last)
    return pipeline


def _vae(folder: SdFolder | SdFile, file: Path | None, dtype: torch.dtype) -> Any:
    """The model's own VAE, or that of a file, in the configuration of the model's own."""
    cls: Any = import_module("diffusers").AutoencoderKL
    if file is None or isinstance(folder, SdFile):
        return folder.model(sd_folder.VAE, cls, dtype)
    config = folder.vae_config()
    tensors = single_file.read_vae(file, config)
    return single_file.build_part(sd_folder.VAE, cls, config, tensors, dtype)


def _safety(folder: SdFolder | SdFile, dtype: torch.dtype) -> dict[str, Any]:
    if not folder.with_safety:
        return {"safety_checker": None, "feature_extractor": None}
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker

    return {
        "safety_checker": folder.model(sd_folder.SAFETY, StableDiffusionSafetyChecker, dtype),
        "feature_extractor": folder.feature_extractor(),
    }


def _check_fit(folder: SdFolder | SdFile, parts: dict[str, Any]) -> None:
    """Raise `WeightsMismatch` where parts are whole but not of one model."""
    text, unet, vae = (parts[name].config for name in ("text_encoder", "unet", "vae"))
    tokenizer = parts["tokenizer"]
    demands = {
        "the UNet reads other latents than the VAE makes": (
            unet.in_channels in (vae.latent_channels, 2 * vae.latent_channels + 1)
        ),
        "the UNet reads another text encoder": unet.cross_attention_dim == text.hidden_size,
        "the tokenizer has tokens that the text encoder lacks": len(tokenizer) <= text.vocab_size,
        "the tokenizer makes longer texts than the text encoder reads": (
            tokenizer.model_max_length <= text.max_position_embeddings
        ),
    }
    if broken := [text for text, holds in demands.items() if not holds]:
        raise WeightsMismatch(f"{folder.root}: {some(broken)}")
