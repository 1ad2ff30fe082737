"""Jobs that share a turn with the device, and a model that cannot be loaded in it."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydantic import PrivateAttr

from dna_pipeline.base.errors import OutOfMemory, WeightsMissing
from dna_pipeline.execution.protocol import JobDone, JobFailed, StageOrder
from dna_pipeline.execution.worker import runner
from dna_pipeline.execution.worker.lanes import FIRST, Lane
from dna_pipeline.providers.base import Device
from dna_pipeline.stages.img2img.stage import Img2Img
from tests import workers
from tests.image_models import Recording

WITHIN_S = 20.0


class Failing(Recording):
    """A provider whose model cannot be loaded at first."""

    def fail_with(self, *errors: Exception) -> Failing:
        self._errors = list(errors)
        return self

    _errors: list[Exception] = PrivateAttr(default_factory=list)

    def load(self, device: Device) -> Any:
        if self._errors:
            raise self._errors.pop(0)
        return super().load(device)


def ends(folder: Path, model: Failing) -> tuple[list[Any], list[BaseException]]:
    """The ends of two jobs that share a turn, and the errors that would have ended the worker."""
    shared_errors: list[BaseException] = []
    lane = Lane("tested", most_together=2, on_shared_error=shared_errors.append)
    image = folder / "cat.png"
    Image.new("RGB", (64, 64)).save(image)
    events: list[Any] = []
    context = workers.context({"m": model}, events, device=lane, processor=lane)
    params = Img2Img(prompt="clay", model="m", seed=1, max_size=64).params()
    begun, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        go_on.wait(WITHIN_S)

    threads = [threading.Thread(target=lane.take, args=(hold, FIRST, bool, bool))]
    threads[0].start()
    assert begun.wait(WITHIN_S)
    for number in (1, 2):
        stage = StageOrder("s", "img2img", params, "cat")
        order = workers.order(image, folder / str(number), stage, job=f"job {number}")
        threads.append(threading.Thread(target=runner.run, args=(order, context, number)))
        threads[-1].start()
    deadline = time.monotonic() + WITHIN_S
    while len(lane._waiting) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    go_on.set()
    for thread in threads:
        thread.join(WITHIN_S)
    return [event for event in events if isinstance(event, JobDone | JobFailed)], shared_errors


def test_jobs_wait_for_weights_that_are_missing(tmp_path: Path):
    ended, shared_errors = ends(tmp_path, Failing().fail_with(WeightsMissing("no such file")))
    assert shared_errors == []
    assert [(end.failure["code"], end.hold) for end in ended] == [("weights_missing", True)] * 2


@pytest.mark.parametrize("times", [1, 2])
def test_jobs_try_again_where_memory_ran_out(tmp_path: Path, times: int):
    errors = [OutOfMemory("of the card") for _ in range(times)]
    ended, shared_errors = ends(tmp_path, Failing().fail_with(*errors))
    assert shared_errors == []
    assert len(ended) == 2
    assert any(isinstance(end, JobDone) for end in ended)
