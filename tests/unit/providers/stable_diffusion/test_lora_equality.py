"""LoRAs beside Diffusers' own loader with peft: the same pictures, for samplers, sizes and sets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dna_pipeline.providers.base import ImageToImageRequest
from dna_pipeline.providers.stable_diffusion.model import StableDiffusion, make_scheduler
from dna_pipeline.stages.img2img.stage import Img2Img
from dna_pipeline.weights.loras import Lora
from tests.unit.providers.stable_diffusion.conftest import CPU, REQUEST, ignore, provider
from tests.unit.providers.stable_diffusion.lora_files import TrainedLora

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
    ),
    pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute:UserWarning"),
]

SETS = {
    "one": {"clay": 0.8},
    "negative": {"clay": -1.0, "wax": 0.5},
    "three": {"clay": 0.4, "unet": 1.0, "wax": -0.3},
    "unet": {"unet": 1.5},
    "rslora": {"rslora": 1.0},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Path:
    root = tmp_path_factory.mktemp("loras")
    TrainedLora(folder, 1).save_kohya(root / "clay.safetensors")
    TrainedLora(folder, 3, text=False).save_kohya(root / "unet.safetensors")
    TrainedLora(folder, 2, rank=2, alpha=2).save_diffusers(root / "wax.safetensors")
    TrainedLora(folder, 4, rank=16, alpha=4, rslora=True).save_diffusers(
        root / "rslora.safetensors"
    )
    return root


@pytest.fixture(scope="module")
def theirs(folder: Path, files: Path) -> Iterator[Any]:
    from diffusers import StableDiffusionImg2ImgPipeline

    pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    for path in sorted(files.iterdir()):
        pipeline.load_lora_weights(
            str(files), weight_name=path.name, adapter_name=path.stem, local_files_only=True
        )
    yield pipeline


@pytest.fixture(scope="module")
def ours(folder: Path) -> StableDiffusion:
    return provider(folder).load(CPU)


CASES = [
    (sampler, schedule, size, name)
    for number, (sampler, schedule) in enumerate(
        [
            ("euler", "normal"), ("euler_a", "normal"), ("dpmpp_2m", "karras"), ("ddim", "normal"),
            ("lcm", "normal"), ("uni_pc", "normal"), ("heun", "normal"),
        ]
    )
    for size, name in (((72, 96), "one"), ((104, 64), list(SETS)[1 + number % 4]))
]  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """Our model, and the pipeline of Diffusers with all LoRAs."""

    ours: StableDiffusion
    theirs: Any
    folder: Path
    files: Path

    def pictures(
        self, image: Image.Image, request: ImageToImageRequest, weights: dict[str, float]
    ) -> tuple[Image.Image, Image.Image]:
        """Our picture and that of Diffusers."""
        raw = json.loads((self.folder / "scheduler/scheduler_config.json").read_bytes())
        self.theirs.scheduler = make_scheduler(raw, request.sampler, request.schedule)
        self.theirs.set_adapters(list(weights), list(weights.values()))
        expected = self.theirs(
            prompt=request.prompt,
            negative_prompt=request.negative_prompt,
            image=image,
            num_inference_steps=request.steps,
            strength=request.strength,
            guidance_scale=request.guidance_scale,
            generator=torch.Generator("cpu").manual_seed(request.seed),
        ).images[0]
        paths = {name: self.files / f"{name}.safetensors" for name in weights}
        loras = tuple(Lora(name, paths[name], weight) for name, weight in weights.items())
        return self.ours.redraw(image, replace(request, loras=loras), ignore), expected


@pytest.fixture(scope="module")
def pair(ours: StableDiffusion, theirs: Any, folder: Path, files: Path) -> Pair:
    return Pair(ours, theirs, folder, files)


@pytest.mark.parametrize(("sampler", "schedule", "size", "name"), CASES)
def test_the_picture_of_diffusers_own_loader(
    pair: Pair,
    picture: Image.Image,
    sampler: str,
    schedule: str,
    size: tuple[int, int],
    name: str,
):
    image = picture.resize(size)
    request = replace(REQUEST, sampler=sampler, schedule=schedule)
    made, expected = pair.pictures(image, request, SETS[name])
    assert made.size == size
    assert distance(made, expected) <= 1
    assert distance(made, pair.ours.redraw(image, request, ignore)) > 8


def test_the_recipe_for_lcm(pair: Pair, picture: Image.Image):
    """As the guide has it: four steps at full strength."""
    stage = Img2Img(
        model="sd", sampler="lcm", steps=4, strength=1, guidance_scale=1.5, loras={"clay": 1}
    )
    stage.check()
    request = replace(REQUEST, sampler="lcm", steps=4, strength=1.0, guidance_scale=1.5)
    made, expected = pair.pictures(picture, request, {"clay": 1.0})
    assert distance(made, expected) <= 1


def distance(one: Image.Image, other: Image.Image) -> int:
    return int(np.abs(np.asarray(one, int) - np.asarray(other, int)).max())
