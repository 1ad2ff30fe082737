"""Warnings about keyed mattes: none on clean cut-outs, one where backdrop stayed or rims tore."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import skimage.data
from PIL import Image, ImageDraw
from scipy import ndimage

from dna_pipeline.providers.base import Device, ReviewsMatte
from dna_pipeline.providers.matting.border_key import BorderKey
from tests.unit.providers.matting.test_border_key import SCENES, mug, render


def said(image: Image.Image, **settings: Any) -> str:
    """The warning about the keyer's own matte; "" for none."""
    model = BorderKey(**settings).load(Device("cpu", "float32"))
    assert isinstance(model, ReviewsMatte)
    remarks = model.remarks(image, model.alpha(image))
    assert len(remarks) <= 1
    return "".join(remarks)


def photo(name: str, longest_px: int = 640) -> Image.Image:
    image = Image.fromarray(np.asarray(getattr(skimage.data, name)())).convert("RGB")
    image.thumbnail((longest_px, longest_px))
    return image


def furry() -> Image.Image:
    random = np.random.default_rng(1)
    image = Image.new("RGB", (1024, 1024), (240, 240, 240))
    pen = ImageDraw.Draw(image)
    pen.ellipse([300, 300, 720, 800], fill=(120, 80, 50))
    for angle in random.uniform(0, 2 * np.pi, 900):
        x, y, length = 510 + 210 * np.cos(angle), 550 + 250 * np.sin(angle), random.uniform(0, 70)
        turned = angle + random.normal(0, 0.3)
        end = (x + length * np.cos(turned), y + length * np.sin(turned))
        pen.line([x, y, *end], fill=(110, 75, 45), width=3)
    return image.resize((512, 512), Image.Resampling.LANCZOS)


def bust() -> Image.Image:
    image = Image.new("RGB", (512, 512), (225, 225, 228))
    pen = ImageDraw.Draw(image)
    pen.ellipse([170, 90, 340, 300], fill=(190, 140, 110))
    pen.ellipse([40, 280, 472, 800], fill=(40, 50, 90))
    return image


def grainy(image: Image.Image, deviation: float = 4.0) -> Image.Image:
    noise = np.random.default_rng(3).normal(0, deviation, (*image.size[::-1], 3))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


@pytest.mark.slow
@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES.keys())
def test_a_clean_render_is_passed_over(scene: dict[str, Any]) -> None:
    assert said(render(**scene)[0]) == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    "draw",
    [
        furry,
        bust,
        lambda: mug()[0],
        lambda: grainy(render()[0]),
        lambda: grainy(furry()),
        lambda: render(size=900)[0],
    ],
    ids=["fur", "bust", "mug on the border", "grain", "fur with grain", "large"],
)
def test_hair_grain_and_a_subject_on_the_border_are_passed_over(
    draw: Callable[[], Image.Image],
) -> None:
    assert said(draw()) == ""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["coins", "retina", "logo", "horse"])
def test_real_pictures_with_plain_backdrops_are_passed_over(name: str) -> None:
    if name == "horse":
        shape = np.asarray(skimage.data.horse()) * np.uint8(255)
        assert said(Image.fromarray(shape).convert("RGB")) == ""
    elif name == "logo":
        assert said(Image.fromarray(skimage.data.logo()[..., :3])) == ""
    else:
        assert said(photo(name)) == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("rocket", "of its outline follows no edge"),
        ("camera", "as long as a smoothed one"),
        ("brick", "covers much of the picture's sides"),
    ],
)
def test_photographs_of_which_the_backdrop_stays(name: str, why: str) -> None:
    text = said(photo(name))
    assert why in text
    assert "rembg" in text


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3, 4])
def test_clouds_that_stay(seed: int) -> None:
    clouds = ndimage.gaussian_filter(np.random.default_rng(seed).normal(0, 1, (512, 512)), 40)
    grey = np.clip(150 + 22 * clouds / clouds.std(), 0, 255).astype(np.uint8)
    image = Image.fromarray(grey).convert("RGB")
    ImageDraw.Draw(image).ellipse([160, 180, 350, 430], fill=(150, 60, 40))
    assert "follows no edge" in said(image)


def test_a_table_that_stays() -> None:
    picture = Image.new("RGB", (200, 600), (235, 235, 235))
    picture.paste((90, 30, 20), (0, 402, 200, 600))
    picture.paste((30, 60, 160), (60, 200, 140, 420))
    assert "(bottom 100%, left 33%, right 33%)" in said(picture)


@pytest.mark.slow
@pytest.mark.parametrize(
    "depth",
    [lambda x, _: 5 + 35 * x, lambda x, y: 40 + 40 * np.sin(40 * x) * np.sin(33 * y)],
    ids=["shaded", "patterned"],
)
@pytest.mark.parametrize("noise", [0, 2])
def test_grey_things_on_grey_of_which_a_shell_is_left(depth: Any, noise: float) -> None:
    y, x = np.mgrid[0:512, 0:512] / 512
    inside = ((x - 0.5) / 0.28) ** 2 + ((y - 0.55) / 0.33) ** 2 < 1
    grey = np.where(inside, 205 - depth(x, y), 205.0)
    image = grainy(Image.fromarray(grey.astype(np.uint8)).convert("RGB"), noise)
    assert "as long as a smoothed one" in said(image)
