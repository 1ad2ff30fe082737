"""A small Stable Diffusion, loaded and on disk, and what most of its tests ask of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from dna_pipeline.providers.base import Device, ImageToImageRequest
from dna_pipeline.providers.stable_diffusion.model import StableDiffusion
from dna_pipeline.providers.stable_diffusion.provider import Diffusers

CPU = Device("cpu", "float32")
REQUEST = ImageToImageRequest(
    prompt="a clay figurine",
    negative_prompt="fog",
    seed=7,
    steps=6,
    guidance_scale=7.5,
    strength=0.5,
    sampler="euler",
    schedule="normal",
)


def ignore(step: int, steps: int) -> None:
    pass


def provider(path: Path, **keys: Any) -> Diffusers:
    return Diffusers(path=path, **keys)


@pytest.fixture(scope="session")
def folder(models_dir: Path) -> Path:
    return models_dir / "sd-v1-5-local"


@pytest.fixture(scope="session")
def model(folder: Path) -> StableDiffusion:
    return provider(folder).load(CPU)


@pytest.fixture(scope="session")
def picture() -> Image.Image:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (8, 6, 3), np.uint8))
    return coarse.resize((72, 96), Image.Resampling.BICUBIC)


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "sd"))


def change_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **changes}))


def change_tensors(path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, {"format": "pt"})


def unet_weights(folder: Path) -> Path:
    return folder / "unet/diffusion_pytorch_model.safetensors"


def vae_weights(folder: Path) -> Path:
    return folder / "vae/diffusion_pytorch_model.safetensors"
