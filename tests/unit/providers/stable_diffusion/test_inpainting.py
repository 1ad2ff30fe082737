"""Repainting under a mask: the same pictures as Diffusers' own pipeline makes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file, save_file

from dna_pipeline.base.errors import ParameterInvalid
from dna_pipeline.providers.stable_diffusion.provider import StableDiffusion, make_scheduler
from dna_pipeline.providers.stable_diffusion.samplers import SAMPLERS
from tests.unit.providers.stable_diffusion.conftest import (
    CPU,
    REQUEST,
    change_json,
    ignore,
    provider,
    unet_weights,
)

pytestmark = [
    pytest.mark.slow,  # loading a model imports Diffusers, which takes seconds
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning",
    ),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
]


@pytest.fixture(scope="session")
def mask(picture: Image.Image) -> Image.Image:
    """An ellipse with an edge of grey pixels."""
    large = Image.new("L", (picture.width * 4, picture.height * 4))
    ImageDraw.Draw(large).ellipse([40, 60, 200, 300], fill=255)
    return large.resize(picture.size, Image.Resampling.BOX)


@pytest.fixture(scope="session")
def nine(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model with a UNet that reads nine channels, as inpainting models do."""
    copy = Path(shutil.copytree(folder, tmp_path_factory.mktemp("nine") / "sd"))
    weights = unet_weights(copy)
    tensors = load_file(weights)
    first = tensors["conv_in.weight"]
    noise = torch.Generator().manual_seed(3)
    more = 0.05 * torch.randn(first.shape[0], 5, *first.shape[2:], generator=noise)
    tensors["conv_in.weight"] = torch.cat([first, more.to(first.dtype)], dim=1)
    save_file(tensors, weights, {"format": "pt"})
    change_json(copy / "unet/config.json", in_channels=9)
    change_json(copy / "model_index.json", _class_name="StableDiffusionInpaintPipeline")
    return copy


@pytest.fixture(scope="session")
def inpainting(nine: Path) -> StableDiffusion:
    return provider(nine).load(CPU)


def direct(folder: Path, picture: Image.Image, mask: Image.Image, **change: Any) -> Image.Image:
    """The picture of a direct call of Diffusers."""
    from diffusers import StableDiffusionInpaintPipeline

    request = replace(REQUEST, **change)
    pipeline: Any = StableDiffusionInpaintPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    raw = json.loads((folder / "scheduler/scheduler_config.json").read_bytes())
    pipeline.scheduler = make_scheduler(raw, request.sampler, request.schedule)
    return pipeline(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        image=picture,
        mask_image=mask,
        width=picture.width,
        height=picture.height,
        num_inference_steps=request.steps,
        strength=request.strength,
        guidance_scale=request.guidance_scale,
        generator=torch.Generator("cpu").manual_seed(request.seed),
    ).images[0]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_picture_is_that_of_the_inpainting_pipeline(
    model: StableDiffusion, folder: Path, picture: Image.Image, mask: Image.Image, sampler: str
):
    expected = direct(folder, picture, mask, sampler=sampler)
    made = model.redraw(picture, replace(REQUEST, sampler=sampler, mask=mask), ignore)
    assert made.size == picture.size
    assert made.tobytes() == expected.tobytes()


@pytest.mark.parametrize("size", [(64, 64), (104, 72)])
@pytest.mark.parametrize("change", [{"strength": 1.0}, {"guidance_scale": 1.0}, {"seed": 8}])
def test_other_sizes_and_arguments(
    model: StableDiffusion,
    folder: Path,
    picture: Image.Image,
    mask: Image.Image,
    size: tuple[int, int],
    change: dict[str, Any],
):
    picture, mask = picture.resize(size), mask.resize(size)
    made = model.redraw(picture, replace(REQUEST, mask=mask, **change), ignore)
    assert made.tobytes() == direct(folder, picture, mask, **change).tobytes()


def test_a_mask_changes_nothing_for_the_next_picture(
    model: StableDiffusion, picture: Image.Image, mask: Image.Image
):
    before = model.redraw(picture, REQUEST, ignore).tobytes()
    masked = model.redraw(picture, replace(REQUEST, mask=mask), ignore).tobytes()
    assert masked != before
    assert model.redraw(picture, REQUEST, ignore).tobytes() == before
    assert model.redraw(picture, replace(REQUEST, mask=mask), ignore).tobytes() == masked


def test_steps_are_counted(model: StableDiffusion, picture: Image.Image, mask: Image.Image):
    steps: list[tuple[int, int]] = []
    request = replace(REQUEST, mask=mask, sampler="heun")
    model.redraw(picture, request, lambda step, of: steps.append((step, of)))
    assert list(dict.fromkeys(steps)) == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m_sde", "heun"])
def test_an_inpainting_model_is_used_as_such(
    inpainting: StableDiffusion,
    nine: Path,
    picture: Image.Image,
    mask: Image.Image,
    sampler: str,
):
    expected = direct(nine, picture, mask, sampler=sampler)
    made = inpainting.redraw(picture, replace(REQUEST, sampler=sampler, mask=mask), ignore)
    assert made.tobytes() == expected.tobytes()


def test_an_inpainting_model_sees_mask_and_picture(
    inpainting: StableDiffusion, picture: Image.Image, mask: Image.Image
):
    """Where the mask is white, what lay under it has no influence at full strength."""
    request = replace(REQUEST, mask=mask, strength=1.0)
    made = np.asarray(inpainting.redraw(picture, request, ignore))
    painted = Image.composite(Image.new("RGB", picture.size, "red"), picture, mask.point(
        [255 * (value >= 128) for value in range(256)]
    ))  # fmt: skip
    again = np.asarray(inpainting.redraw(painted, request, ignore))
    assert np.array_equal(made, again)
    other = Image.new("RGB", picture.size, "red")
    assert not np.array_equal(made, np.asarray(inpainting.redraw(other, request, ignore)))


def test_an_inpainting_model_needs_a_mask(inpainting: StableDiffusion, picture: Image.Image):
    with pytest.raises(ParameterInvalid, match="inpainting model"):
        inpainting.redraw(picture, REQUEST, ignore)


def test_thrift_holds_under_a_mask(model: StableDiffusion, picture: Image.Image, mask: Image.Image):
    request = replace(REQUEST, mask=mask, saves_memory=True)
    assert model.redraw(picture, request, ignore).size == picture.size
