"""The context that the tests of the `triposr` stage run it in."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from dna_pipeline.providers.base import Device, ModelCache, Provider
from dna_pipeline.providers.triposr.provider import TripoSRModel
from dna_pipeline.stages.base import StageContext
from dna_pipeline.stages.triposr import stage
from tests.triposr_stage import TINY, Make


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes a context that reads the golden picture, or the one given."""
    monkeypatch.setattr(stage, "NETWORK_WORK", 0)  # a small network takes no time

    def context(image: Image.Image | None = None, provider: Provider | None = None) -> StageContext:
        source = tmp_path / "robot.png"
        if image is None:
            shutil.copy(TINY / "input.png", source)
        else:
            image.save(source)
        work = tmp_path / "work"
        work.mkdir(exist_ok=True)
        model = provider or TripoSRModel(path=TINY)
        cache = ModelCache({"triposr": model}, Device("cpu", "float32"))
        return StageContext("triposr", "robot", source, work, cache, lambda step, steps: None)

    return context
