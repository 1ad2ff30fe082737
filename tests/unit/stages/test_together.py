"""Pieces of several jobs in one call of the model."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from dna_pipeline.base.errors import Cancelled, NonFiniteOutput, OutOfMemory
from dna_pipeline.providers.base import ImageToImageRequest, StepCallback
from dna_pipeline.stages.base import AtOnce, StageContext
from dna_pipeline.stages.img2img.drawing import Drawing
from dna_pipeline.stages.img2img.stage import Img2Img
from dna_pipeline.stages.img2img.together import ALONE, Piece, key_of, redraw
from dna_pipeline.weights.loras import Lora

REQUEST = ImageToImageRequest("clay", "", 1, 4, 7.5, 0.75, "euler", "normal")
IMAGE = Image.new("RGB", (64, 64))


class Model:
    """Gives pictures back and keeps the sizes of its calls."""

    def __init__(self, *failures: Exception) -> None:
        self.calls: list[int] = []
        self._failures = list(failures)

    def redraw(
        self, image: Image.Image, request: ImageToImageRequest, on_step: StepCallback
    ) -> Image.Image:
        self.calls.append(1)
        on_step(1, 1)
        if request.prompt == "bad":
            raise NonFiniteOutput("not finite")
        return image

    def redraw_several(
        self,
        images: Sequence[Image.Image],
        requests: Sequence[ImageToImageRequest],
        on_step: StepCallback,
    ) -> list[Image.Image | Exception]:
        self.calls.append(len(images))
        if self._failures:
            raise self._failures.pop(0)
        on_step(1, 1)
        return [
            NonFiniteOutput("not finite") if request.prompt == "bad" else image
            for image, request in zip(images, requests, strict=True)
        ]

    def remarks(self, request: ImageToImageRequest) -> list[str]:
        return [f"about {request.prompt}"]


def go_on(_step: int, _steps: int) -> None: ...


def pieces(*prompts: str, on_step: StepCallback = go_on) -> list[Piece]:
    return [Piece(IMAGE.copy(), replace(REQUEST, prompt=prompt), on_step) for prompt in prompts]


def test_all_are_redrawn_in_one_call_and_each_gets_its_own():
    model = Model()
    asked = pieces("a", "bad", "c")
    outcomes = redraw(model, asked)
    assert model.calls == [3]
    assert [outcome.batch_size for outcome in outcomes] == [3, 3, 3]
    assert outcomes[0].unwrap() is asked[0].image
    assert outcomes[2].unwrap() is asked[2].image
    assert outcomes[1].remarks == ["about bad"]
    with pytest.raises(NonFiniteOutput):
        outcomes[1].unwrap()


def test_one_alone_is_no_batch():
    model = Model()
    (outcome,) = redraw(model, pieces("a"))
    assert (model.calls, outcome.batch_size) == ([1], 1)


def test_a_model_that_takes_one_gets_one_in_each_turn():
    class One:
        redraw = Model.redraw
        remarks = Model.remarks

        def __init__(self) -> None:
            self.calls: list[int] = []

    model: Any = One()
    outcomes = redraw(model, pieces("a", "b"))
    assert [outcome.retry for outcome in outcomes] == [None, "alone"]
    assert model.calls == [1]


def test_without_memory_for_all_each_gets_a_turn_alone():
    model = Model(OutOfMemory("of the card"))
    outcomes = redraw(model, pieces("a", "bad", "c"))
    assert model.calls == [3]
    assert [outcome.retry for outcome in outcomes] == ["alone"] * 3
    assert all("each was redrawn alone: of the card" in o.remarks[0] for o in outcomes)


def stop(_step: int, _steps: int) -> None:
    raise Cancelled("by its owner")


def test_a_turn_ends_where_one_is_cancelled():
    model = Model()
    asked = [*pieces("a"), *pieces("b", on_step=stop), *pieces("c")]
    outcomes = redraw(model, asked)
    assert model.calls == [3]
    assert isinstance(outcomes[1].error, Cancelled)
    assert [outcome.retry for outcome in outcomes] == ["together", None, "together"]


class Shared(AtOnce):
    """The first turns are shared with another job."""

    def __init__(self, *others: Piece) -> None:
        self.keys: list[Hashable] = []
        self._others = list(others)

    def share(
        self, key: Hashable, item: Any, work: Callable[[Sequence[Any]], Sequence[Any]]
    ) -> Any:
        self.keys.append(key)
        return work([item, *([self._others.pop(0)] if self._others else [])])[0]


def drawn(model: Model, turns: Shared, folder: Path) -> StageContext:
    """The context of a stage that was drawn in those turns."""
    cache: Any = SimpleNamespace(get=lambda _: model)
    ctx = StageContext("s", "cat", folder / "cat.png", folder, cache, go_on, turns=turns)
    Drawing(Img2Img(prompt="a", model="m", seed=1, max_size=64), ctx).picture(IMAGE)
    return ctx


def test_a_job_shares_another_turn_after_one_that_was_cut_short(tmp_path: Path):
    model, turns = Model(), Shared(*pieces("b", on_step=stop), *pieces("c"))
    ctx = drawn(model, turns, tmp_path)
    assert model.calls == [2, 2]
    assert turns.keys[0] == turns.keys[1]
    assert (ctx.batch_size, ctx.warnings) == (2, ["about a"])


def test_a_job_gets_a_turn_alone_after_a_call_that_failed(tmp_path: Path):
    model, turns = Model(OutOfMemory("of the card")), Shared(*pieces("b"))
    ctx = drawn(model, turns, tmp_path)
    assert model.calls == [2, 1]
    assert turns.keys[0] != turns.keys[1]
    assert ctx.batch_size == 1
    assert ctx.warnings == [ALONE.format(2, "of the card"), "about a"]


def test_a_fault_of_the_device_is_everybody_s():
    fault = RuntimeError("CUDA error: an illegal memory access was encountered")
    with pytest.raises(RuntimeError, match="illegal"):
        redraw(Model(fault), pieces("a", "b"))


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 5}, {"strength": 0.5}, {"guidance_scale": 5.0}, {"sampler": "lms"},
        {"schedule": "karras"}, {"clip_skip": 2}, {"prompt_syntax": "plain"},
        {"loras": (Lora("clay", Path("clay.safetensors"), 0.5),)},
    ],
)  # fmt: skip
def test_only_alike_requests_share_a_call(change: dict[str, Any]):
    assert key_of(IMAGE, REQUEST) != key_of(IMAGE, replace(REQUEST, **change))
    assert key_of(IMAGE, REQUEST) != key_of(Image.new("RGB", (64, 72)), REQUEST)
    other = replace(REQUEST, prompt="b", negative_prompt="c", seed=9)
    assert key_of(IMAGE, REQUEST) == key_of(IMAGE, other)


def test_masks_tiles_and_short_memory_keep_a_piece_alone():
    assert key_of(IMAGE, replace(REQUEST, mask=IMAGE.convert("L"))) is None
    assert key_of(IMAGE, replace(REQUEST, saves_memory=True)) is None
    assert key_of(Image.new("RGB", (512, 64)), replace(REQUEST, tile=256)) is None
    assert key_of(IMAGE, replace(REQUEST, tile=256)) == key_of(IMAGE, REQUEST)
