"""A model that prepares itself at its first use gets more time than the stage's limit."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest
from PIL import Image

from dna_pipeline.execution.protocol import JobDone, Phase, StageOrder
from dna_pipeline.providers.base import Provider
from dna_pipeline.providers.matting.border_key import BorderKey
from tests import workers


class Slow(BorderKey):
    """Takes long when it is first used."""

    more_s: float = 0.0

    @property
    def preparation_s(self) -> float:
        return self.more_s


class OnDevice(BorderKey):
    """Computes on the worker's device."""

    needs_device: ClassVar[bool] = True


def phases(tmp_path: Path, model: Provider) -> list[Phase]:
    """The phases of a job of one stage with that model."""
    source = tmp_path / "pic.png"
    picture = Image.new("RGB", (40, 40), "white")
    picture.paste("red", (10, 10, 30, 30))
    picture.save(source)
    stages = (StageOrder("cut", "remove_background", {"model": "m"}, "pic"),)
    order = workers.order(source, tmp_path / "w", *stages)
    events = workers.run(order, {"m": model}, stage_timeout_s=60)
    assert events[-1] == JobDone(workers.JOB)
    return [event for event in events if isinstance(event, Phase)]


@pytest.mark.parametrize("more_s", [0.0, 100.0])
def test_the_limits_of_loading_and_running(tmp_path: Path, more_s: float):
    limits = {phase.phase: phase.limit_s for phase in phases(tmp_path, Slow(more_s=more_s))}
    assert limits == {"reading": 60, "loading": 60, "running": 60 + more_s, "writing": 60}


@pytest.mark.parametrize(("model", "on_device"), [(BorderKey(), False), (OnDevice(), True)])
def test_a_turn_on_the_cpu_is_told_from_one_with_the_device(
    tmp_path: Path, model: Provider, on_device: bool
):
    running = [phase for phase in phases(tmp_path, model) if phase.phase == "running"]
    assert [phase.on_device for phase in running] == [on_device]
