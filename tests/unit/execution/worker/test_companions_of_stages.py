"""A companion goes to the first stage that reads its role, and decides that stage's key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from dna_pipeline.execution.protocol import JobDone, JobFailed, StageOrder
from dna_pipeline.providers.matting.border_key import BorderKey
from dna_pipeline.stages.img2img.stage import Img2Img
from dna_pipeline.stages.remove_background import RemoveBackground
from tests import workers
from tests.image_models import Recording

SIZE = (64, 64)


def events_of(
    folder: Path,
    masks: list[str],
    *,
    with_mask: bool = True,
    shade: int = 255,
    cuts: bool = False,
    model: Recording | None = None,
) -> list[Any]:
    """Events of a job with an img2img stage for each of `masks`, its parameter of that name.

    Args:
        shade: value of all pixels of the mask.
        cuts: True to remove the background first.
        model: that of the stages.
    """
    image, mask = folder / "cat.png", folder / "cat.mask.png"
    picture = Image.new("RGB", SIZE, "white")
    ImageDraw.Draw(picture).ellipse([16, 16, 47, 47], fill="navy")
    picture.save(image)
    Image.new("L", SIZE, shade).save(mask)
    inputs = [workers.input_file(image)]
    if with_mask:
        inputs.append(workers.input_file(mask, "mask"))
    stages = tuple(
        StageOrder(f"s{place}", "img2img", Img2Img(model="own", mask=word).params(), f"cat.{place}")
        for place, word in enumerate(masks)
    )
    if cuts:
        cut = StageOrder("cut", "remove_background", RemoveBackground(model="key").params(), "cat")
        stages = (cut, *stages)
    models = {"own": model or Recording(), "key": BorderKey()}
    return workers.run(workers.order(tuple(inputs), folder / "work", *stages), models)


def keys(events: list[Any]) -> list[str]:
    return [event.stage_key for event in events if hasattr(event, "stage_key")]


def test_the_first_stage_gets_the_mask(tmp_path: Path):
    model = Recording()
    events = events_of(tmp_path, ["file", "none"], model=model)
    assert events[-1] == JobDone(workers.JOB)
    assert [request.mask is None for request in model.requests] == [False, True]


def test_a_stage_that_needs_no_mask_leaves_it_to_the_next(tmp_path: Path):
    model = Recording()
    events = events_of(tmp_path, ["none", "file"], model=model)
    assert events[-1] == JobDone(workers.JOB)
    assert [request.mask is None for request in model.requests] == [True, False]


@pytest.mark.parametrize("masks", [["file"], ["file", "file"]])
def test_no_mask_no_picture(tmp_path: Path, masks: list[str]):
    """Also where an earlier stage got it."""
    last = events_of(tmp_path, masks, with_mask=len(masks) > 1)[-1]
    assert isinstance(last, JobFailed)
    assert last.failure["code"] == "mask_missing"


@pytest.mark.parametrize("cuts", [False, True])
def test_a_changed_mask_makes_another_key(tmp_path: Path, cuts: bool):
    *_, one = keys(events_of(tmp_path, ["file"], cuts=cuts))
    *_, again = keys(events_of(tmp_path, ["file"], cuts=cuts))
    *_, other = keys(events_of(tmp_path, ["file"], cuts=cuts, shade=254))
    assert one == again != other
