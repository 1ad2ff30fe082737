"""A companion goes to the first stage that reads its role, and decides that stage's key."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from PIL import Image, ImageDraw

from dna_pipeline.base.files import sha256_file
from dna_pipeline.execution.protocol import JobDone, JobFailed, Order, OrderInput, StageOrder
from dna_pipeline.execution.worker import runner
from dna_pipeline.providers.base import Device, ImageToImageRequest, ModelCache
from dna_pipeline.providers.matting.border_key import BorderKey
from dna_pipeline.stages.img2img.stage import Img2Img
from dna_pipeline.stages.remove_background import RemoveBackground

SIZE = (64, 64)


class Recording(BorderKey):
    """A provider whose model gives the picture back, and keeps the requests."""

    stages: ClassVar[frozenset[str]] = frozenset({"img2img"})
    requests: ClassVar[list[ImageToImageRequest]] = []

    def load(self, device: Device) -> Any:
        def redraw(image: Image.Image, request: Any, on_step: Any) -> Image.Image:
            self.requests.append(request)
            return image.copy()

        return SimpleNamespace(redraw=redraw, remarks=lambda request: [])


def events_of(
    folder: Path,
    masks: list[str],
    *,
    with_mask: bool = True,
    shade: int = 255,
    cuts: bool = False,
) -> Any:
    """Events of a job with an img2img stage for each of `masks`, its parameter of that name.

    Args:
        shade: value of all pixels of the mask.
        cuts: True to remove the background first.
    """
    Recording.requests.clear()
    image, mask = folder / "cat.png", folder / "cat.mask.png"
    picture = Image.new("RGB", SIZE, "white")
    ImageDraw.Draw(picture).ellipse([16, 16, 47, 47], fill="navy")
    picture.save(image)
    Image.new("L", SIZE, shade).save(mask)
    inputs = [OrderInput("image", str(image), sha256_file(image))]
    if with_mask:
        inputs.append(OrderInput("mask", str(mask), sha256_file(mask)))
    stages = tuple(
        StageOrder(f"s{place}", "img2img", Img2Img(model="own", mask=word).params(), f"cat.{place}")
        for place, word in enumerate(masks)
    )
    if cuts:
        cut = StageOrder("cut", "remove_background", RemoveBackground(model="key").params(), "cat")
        stages = (cut, *stages)
    events: list[Any] = []
    bench = runner.WorkerContext(
        models=ModelCache({"own": Recording(), "key": BorderKey()}, Device("cpu", "float32")),
        emit=events.append,
        is_cancelled=lambda job: False,
        must_yield=lambda job: False,
        stage_timeout_s=60,
        release_memory=lambda: None,
        fingerprint=lambda provider: ("/somewhere", "5" * 64),
        environment={},
    )
    runner.run(Order("a job", 1, stages, tuple(inputs), str(folder / "work")), bench)
    return events


def keys(events: list[Any]) -> list[str]:
    return [event.stage_key for event in events if hasattr(event, "stage_key")]


def test_the_first_stage_gets_the_mask(tmp_path: Path):
    events = events_of(tmp_path, ["file", "none"])
    assert events[-1] == JobDone("a job")
    assert [request.mask is None for request in Recording.requests] == [False, True]


def test_a_stage_that_needs_no_mask_leaves_it_to_the_next(tmp_path: Path):
    events = events_of(tmp_path, ["none", "file"])
    assert events[-1] == JobDone("a job")
    assert [request.mask is None for request in Recording.requests] == [True, False]


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
