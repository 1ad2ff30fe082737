"""A model that prepares itself at its first use gets more time than the stage's limit."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from dna_pipeline.execution.protocol import JobDone, Phase, StageOrder
from dna_pipeline.providers.matting.border_key import BorderKey
from tests import workers


class Slow(BorderKey):
    """Takes long when it is first used."""

    more_s: float = 0.0

    @property
    def preparation_s(self) -> float:
        return self.more_s


@pytest.mark.parametrize("more_s", [0.0, 100.0])
def test_the_limits_of_loading_and_running(tmp_path: Path, more_s: float):
    source = tmp_path / "pic.png"
    picture = Image.new("RGB", (40, 40), "white")
    picture.paste("red", (10, 10, 30, 30))
    picture.save(source)
    stages = (StageOrder("cut", "remove_background", {"model": "m"}, "pic"),)
    order = workers.order(source, tmp_path / "w", *stages)
    events = workers.run(order, {"m": Slow(more_s=more_s)}, stage_timeout_s=60)
    assert events[-1] == JobDone(workers.JOB)
    limits = {event.phase: event.limit_s for event in events if isinstance(event, Phase)}
    assert limits == {"reading": 60, "loading": 60, "running": 60 + more_s, "writing": 60}
