"""The stage img2img under a mask, with both kinds of models, against Diffusers' own pipeline."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from dna_pipeline.media.repaint_mask import MaskEdit, region_of
from dna_pipeline.providers.base import ImageToImageRequest
from dna_pipeline.providers.stable_diffusion.provider import StableDiffusion, make_scheduler
from dna_pipeline.stages.base import StageContext
from dna_pipeline.stages.img2img.stage import Img2Img
from tests.unit.providers.stable_diffusion.test_inpainting import inpainting, nine

__all__ = ["inpainting", "nine"]

pytestmark = [
    pytest.mark.slow,  # loading a model imports Diffusers, which takes seconds
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning",
    ),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
]

SAMPLERS = [
    ("euler", "normal"), ("euler_a", "normal"), ("dpmpp_2m", "karras"), ("ddim", "normal"),
    ("lcm", "normal"), ("uni_pc", "normal"), ("heun", "normal"),
]  # fmt: skip


@dataclass(frozen=True)
class Call:
    """A call of the model: what it was shown, and the picture that it made."""

    image: Image.Image
    request: ImageToImageRequest
    made: Image.Image


@dataclass(frozen=True)
class Pair:
    """The same small model in this program and in Diffusers."""

    model: StableDiffusion
    folder: Path

    @property
    def reference(self) -> Any:
        return _pipeline(self.folder)

    def staged(self, home: Path, image: Image.Image, mask: Image.Image, **params: Any) -> Any:
        """The stage's result, and the one call of the model on the way."""
        calls: list[Call] = []

        def redraw(part: Image.Image, request: ImageToImageRequest, on_step: Any) -> Image.Image:
            made = self.model.redraw(part, request, on_step)
            calls.append(Call(part, request, made.copy()))
            return made

        model = SimpleNamespace(redraw=redraw, remarks=lambda _: [])
        models: Any = SimpleNamespace(get=lambda _: model)
        context = StageContext("img2img", "cat", home / "cat.png", home, models, lambda *_: None)
        context.companions = {"mask": home / "given.png"}
        image.save(context.source)
        mask.save(context.companions["mask"])
        words = {"prompt": "a clay figurine", "seed": 7, "steps": 6, "mask": "file"}
        stage = Img2Img.model_validate({"model": "own", **words, **params})
        (artifact,) = stage.run(context)
        with Image.open(artifact.path) as result:
            result.load()
        (call,) = calls
        return result, call

    def direct(self, image: Image.Image, request: ImageToImageRequest, **keys: Any) -> Image.Image:
        """The picture of Diffusers' pipeline for a call of the model."""
        pipeline = self.reference
        raw = json.loads((self.folder / "scheduler/scheduler_config.json").read_bytes())
        pipeline.scheduler = make_scheduler(raw, request.sampler, request.schedule)
        return pipeline(
            **{
                "prompt": request.prompt, "negative_prompt": request.negative_prompt,
                "image": image, "mask_image": request.mask, "width": image.width,
                "height": image.height, "num_inference_steps": request.steps,
                "strength": request.strength, "guidance_scale": request.guidance_scale,
                "generator": torch.Generator("cpu").manual_seed(request.seed), **keys,
            }
        ).images[0]  # fmt: skip


@cache
def _pipeline(folder: Path) -> Any:
    from diffusers import StableDiffusionInpaintPipeline

    pipeline: Any = StableDiffusionInpaintPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(params=["four channels", "nine channels"])
def pair(request: pytest.FixtureRequest) -> Pair:
    is_four = request.param == "four channels"
    names = ("model", "folder") if is_four else ("inpainting", "nine")
    return Pair(*map(request.getfixturevalue, names))


def noise(size: tuple[int, int]) -> Image.Image:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
    return coarse.resize(size, Image.Resampling.BICUBIC)


def box(size: tuple[int, int], corners: tuple[int, int, int, int]) -> Image.Image:
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).rectangle(corners, fill=255)
    return mask


def cells(*masks: Image.Image) -> Image.Image:
    """The mask of all pixels of the latent that hold white of one of these masks."""
    white = np.any([np.asarray(mask) >= 128 for mask in masks], axis=0)
    height, width = white.shape
    held = white.reshape(height // 8, 8, width // 8, 8).any(axis=(1, 3))
    return Image.fromarray(np.kron(held, np.full((8, 8), 255)).astype(np.uint8))


def values(image: Image.Image) -> NDArray[np.int16]:
    return np.asarray(image.convert("RGB"), np.int16)


def difference(one: Image.Image, other: Image.Image) -> int:
    """Largest difference of two pictures, in 255ths."""
    assert one.size == other.size
    return int(np.abs(values(one) - values(other)).max())


@pytest.mark.parametrize("size", [(64, 64), (96, 72)])
@pytest.mark.parametrize(("sampler", "schedule"), SAMPLERS)
def test_what_the_stage_has_drawn_is_that_of_diffusers(
    pair: Pair, tmp_path: Path, sampler: str, schedule: str, size: tuple[int, int]
) -> None:
    image, mask = noise(size), box(size, (20, 16, 43, 47))
    words = {"sampler": sampler, "schedule": schedule, "max_size": max(size)}
    result, call = pair.staged(tmp_path, image, mask, mask_grow=3, mask_blur=4, **words)
    edited = MaskEdit(grow=3, blur=4).applied(mask)
    redrawn = cells(edited, MaskEdit(grow=3).applied(mask))
    assert call.request.mask is not None and call.request.mask.tobytes() == redrawn.tobytes()
    assert difference(call.made, pair.direct(image, replace(call.request, mask=redrawn))) <= 1
    outside = np.asarray(edited) == 0
    assert outside.any()
    assert np.array_equal(values(result)[outside], values(image)[outside])


@pytest.mark.parametrize("grow", [-2, 0, 4])
@pytest.mark.parametrize(("size", "side"), [((160, 128), 64), ((200, 200), 96)])
def test_the_masked_area_is_that_of_padding_mask_crop(
    pair: Pair,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    size: tuple[int, int],
    side: int,
    grow: int,
) -> None:
    """At the size of the area, which is a square, so that both see it unscaled. Diffusers' model
    gets the mask of this program's."""
    left, top = size[0] // 2 - 16, size[1] // 2 - 16
    image, mask = noise(size), box(size, (left, top, left + 31, top + 31))
    edited = MaskEdit(grow=grow, blur=3).applied(mask)
    bare = region_of(edited, 0)
    assert bare is not None
    padding = (side - (bare[2] - bare[0])) // 2
    words = {"area": "masked", "padding": padding, "max_size": side}
    result, call = pair.staged(tmp_path, image, mask, mask_grow=grow, mask_blur=3, **words)
    assert call.image.size == (side, side)
    request = replace(call.request, mask=edited)
    keys = {"width": side, "height": side, "padding_mask_crop": padding}
    assert difference(call.made, pair.direct(call.image, call.request)) <= 1
    # Diffusers lays its overlay through premultiplied alpha, which rounds once more.
    processor = pair.reference.mask_processor
    seen = processor.preprocess(call.request.mask)
    monkeypatch.setattr(processor, "preprocess", lambda *_, **__: seen)
    assert difference(result, pair.direct(image, request, **keys)) <= 2
    outside = np.asarray(edited) == 0
    assert np.array_equal(values(result)[outside], values(image)[outside])


@pytest.mark.parametrize("max_size", [128, 160])
def test_an_enlarged_area_is_drawn_as_diffusers_draws_that_part(
    pair: Pair, tmp_path: Path, max_size: int
) -> None:
    size = (200, 160)
    image, mask = noise(size), box(size, (60, 50, 99, 89))
    words = {"area": "masked", "padding": 12, "max_size": max_size, "mask_blur": 4}
    result, call = pair.staged(tmp_path, image, mask, **words)
    assert max(call.image.size) == max_size
    assert difference(call.made, pair.direct(call.image, call.request)) <= 1
    outside = np.asarray(MaskEdit(blur=4).applied(mask)) == 0
    assert np.array_equal(values(result)[outside], values(image)[outside])


def rotated(image: Image.Image, path: Path) -> None:
    """Save as a camera that was held upright does: the pixels lie, and EXIF says so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    image.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)


def deep(image: Image.Image, path: Path) -> None:
    """Save as grey of 16 bits, whose high bytes are the picture's."""
    Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(path)


SAVED: dict[str, tuple[Callable[[Image.Image, Path], object], str]] = {
    "palette": (lambda image, path: image.quantize(16).save(path), "RGB"),
    "grey": (lambda image, path: image.convert("L").save(path), "RGB"),
    "16 bits": (deep, "RGB"),
    "RGBA": (lambda image, path: image.convert("RGBA").save(path), "RGB"),
    "rotated": (rotated, "RGB"),
}


@pytest.mark.parametrize("kind", SAVED)
def test_own_bytes_of_other_kinds_of_pictures(model: StableDiffusion, tmp_path: Path, kind: str):
    """They are the bytes of the upright picture in 8-bit sRGB."""
    size = (64, 96)
    save, mode = SAVED[kind]
    save(noise(size), tmp_path / "cat.png")
    with Image.open(tmp_path / "cat.png") as stored:
        upright = noise(size) if kind == "rotated" else stored.copy()
    if kind == "16 bits":
        upright = noise(size).convert("L")
    mask = box(size, (16, 30, 47, 69))
    result = repainted(model, tmp_path, mask)
    outside = np.asarray(MaskEdit(blur=4).applied(mask)) == 0
    assert result.size == size
    assert np.array_equal(values(result)[outside], values(upright.convert(mode))[outside])
    assert not np.array_equal(values(result), values(upright.convert(mode)))


def repainted(model: StableDiffusion, home: Path, mask: Image.Image) -> Image.Image:
    """The result for the picture that was saved as `cat.png`."""
    models: Any = SimpleNamespace(
        get=lambda _: SimpleNamespace(redraw=model.redraw, remarks=lambda _: [])
    )
    context = StageContext("img2img", "out", home / "cat.png", home, models, lambda *_: None)
    context.companions = {"mask": home / "given.png"}
    mask.save(context.companions["mask"])
    stage = Img2Img(model="own", prompt="an owl", steps=4, mask="file", max_size=96)
    (artifact,) = stage.run(context)
    with Image.open(artifact.path) as result:
        result.load()
    return result
