"""Stages of jobs that another version of the program, or of a plug-in, wrote."""

from __future__ import annotations

from typing import Any

import pytest

from dna_pipeline.execution.disk_space import output_bytes
from dna_pipeline.stages import registry
from dna_pipeline.stages.img2img.stage import Img2Img

GOOD = {"type": "img2img", "params": {"model": "sd", "loras": {"clay": 1.0}, "mask": "file"}}


@pytest.mark.parametrize(
    "stage",
    [
        {"type": "gone", "params": {}},
        {"type": "broken", "params": {}},
        {"type": "img2img", "params": {"renamed": 1}},
    ],
)
def test_a_stage_that_is_gone_or_has_changed_is_left_to_the_worker(
    monkeypatch: pytest.MonkeyPatch, stage: dict[str, Any]
):
    strings = registry._import_strings()
    stages = strings["stages"] | {"broken": "no_such_module:Broken"}
    monkeypatch.setattr(registry, "_import_strings", lambda: strings | {"stages": stages})
    assert registry.valid_stage(stage["type"], stage["params"]) is None
    valid = Img2Img.model_validate(GOOD["params"])
    assert list(registry.valid_stages([stage, GOOD])) == [valid]
    assert registry.needed_files([stage, GOOD]) == ["lora:clay"]
    assert output_bytes(64, 64, [stage, GOOD]) == valid.disk_bytes(64, 64)
