"""Several pictures that are redrawn in one call."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dna_pipeline.base.errors import BlackImage, Cancelled, ParameterInvalid
from dna_pipeline.providers.base import ImageToImageRequest, RedrawsSeveral
from dna_pipeline.providers.stable_diffusion.model import StableDiffusion
from dna_pipeline.providers.stable_diffusion.samplers import SAMPLERS
from tests.unit.providers.stable_diffusion.conftest import REQUEST, ignore

pytestmark = [
    pytest.mark.slow,  # loading a model imports Diffusers, which takes seconds
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
]

MOST_DIFFERENCE = 2
"""Of 255: sums in another order round otherwise."""


def picture(number: int, side: int = 64) -> Image.Image:
    noise = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
    return Image.fromarray(noise).resize((side, side))


def requests(count: int, **changes: Any) -> list[ImageToImageRequest]:
    return [
        replace(REQUEST, prompt=f"a clay cup, number {n}", seed=100 + n, **changes)
        for n in range(count)
    ]


def difference(a: Image.Image, b: Image.Image) -> int:
    return int(np.abs(np.asarray(a).astype(int) - np.asarray(b).astype(int)).max())


@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_each_picture_is_nearly_that_of_a_call_of_its_own(model: StableDiffusion, sampler: str):
    asked = requests(3, sampler=sampler, steps=6, strength=0.8)
    images = [picture(n) for n in range(3)]
    assert isinstance(model, RedrawsSeveral)
    together = model.redraw_several(images, asked, ignore)
    for image, request, result in zip(images, asked, together, strict=True):
        assert isinstance(result, Image.Image)
        assert difference(result, model.redraw(image, request, ignore)) <= MOST_DIFFERENCE
    first, second, _ = together
    assert isinstance(first, Image.Image)
    assert isinstance(second, Image.Image)
    assert difference(first, second) > 20


def test_equal_pictures_with_other_seeds_get_other_noise(model: StableDiffusion):
    asked = [replace(request, prompt="clay") for request in requests(2, strength=1.0)]
    first, second = model.redraw_several([picture(1)] * 2, asked, ignore)
    assert isinstance(first, Image.Image)
    assert isinstance(second, Image.Image)
    assert difference(first, second) > 20


def test_prompts_of_other_lengths_are_read_as_alone(model: StableDiffusion):
    short, long = requests(2)
    long = replace(long, prompt="a cup of clay, " * 30)
    images = [picture(1), picture(2)]
    results = model.redraw_several(images, [short, long], ignore)
    for image, request, result in zip(images, (short, long), results, strict=True):
        assert isinstance(result, Image.Image)
        assert np.array_equal(result, model.redraw(image, request, ignore))


def test_what_is_wrong_with_one_prompt_is_its_own(model: StableDiffusion):
    good, bad = requests(2)
    bad = replace(bad, prompt="[a:b:0.5]")
    results = model.redraw_several([picture(1), picture(2)], [good, bad], ignore)
    assert isinstance(results[0], Image.Image)
    assert isinstance(results[1], ParameterInvalid)


def test_a_black_picture_is_its_own_error(model: StableDiffusion, monkeypatch: pytest.MonkeyPatch):
    checked = StableDiffusion._checked
    calls = iter([1, 2])

    def second_is_black(self: StableDiffusion, decoded: Any) -> Image.Image:
        if next(calls) == 2:
            raise BlackImage("every pixel is black")
        return checked(self, decoded)

    monkeypatch.setattr(StableDiffusion, "_checked", second_is_black)
    results = model.redraw_several([picture(1), picture(2)], requests(2), ignore)
    assert isinstance(results[0], Image.Image)
    assert isinstance(results[1], BlackImage)


def test_steps_are_reported_and_end_the_call(model: StableDiffusion):
    seen: list[tuple[int, int]] = []

    def on_step(step: int, steps: int) -> None:
        seen.append((step, steps))
        if step == 2:
            raise Cancelled("by its owner")

    with pytest.raises(Cancelled):
        model.redraw_several([picture(1), picture(2)], requests(2, steps=8, strength=1.0), on_step)
    assert seen == [(1, 8), (2, 8)]
