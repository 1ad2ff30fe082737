"""`models: {"*": …}` and `runtime.preload`, which a person may get wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.config.schema import Config

Read = Callable[..., Config]

TEXT = """\
version: 1
runtime: {{preload: [{preload}]}}
models:
  matte: {{provider: rembg}}
  {more}
pipelines:
  restyle: [{{img2img: {{model: {model}}}}}]
"""


def text(more: str = '"*": models/checkpoints/', model: str = "anime", preload: str = "") -> str:
    return TEXT.format(more=more, model=model, preload=preload)


def faults(tmp_path: Path, read: Read, content: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(content)
    start = f"{tmp_path}/pipeline.yaml: "
    return [line.removeprefix(start) for line in str(caught.value).splitlines()]


def test_a_folder_of_checkpoints(tmp_path: Path, read: Read):
    config = read(text())
    assert config.models.folder == tmp_path / "data/models/checkpoints"
    assert list(config.models.declared) == ["matte"]
    assert config.pipelines["restyle"].stages[0].params["model"] == "anime"
    assert read(text('"*": /else', preload="anime, matte")).models.folder == Path("/else")


def test_it_serves_only_stages_that_take_checkpoints(tmp_path: Path, read: Read):
    content = text().replace("img2img", "triposr")
    assert faults(tmp_path, read, content) == [
        "line 7: pipelines.restyle[0].triposr.model: no model is called 'anime'; nothing is known "
        "here",
    ]  # fmt: skip


def test_a_stage_must_name_its_checkpoint(tmp_path: Path, read: Read):
    (fault,) = faults(tmp_path, read, text().replace("{model: anime}", "{}"))
    assert fault.startswith("line 7: pipelines.restyle[0].img2img: needs a model")


@pytest.mark.parametrize("value", ["7", "{provider: diffusers}", "''", "[a]"])
def test_a_wrong_folder(tmp_path: Path, read: Read, value: str):
    (fault,) = faults(tmp_path, read, text(f'"*": {value}'))
    assert fault.startswith("line 5: models.*: should be the path of a folder, each checkpoint in")


def test_an_unknown_model_cannot_be_preloaded(tmp_path: Path, read: Read):
    content = text("sd15: {provider: diffusers, path: sd}", "sd15", "sd15, sd51")
    (fault,) = faults(tmp_path, read, content)
    assert fault == "line 2: runtime.preload[1]: no model is called 'sd51'; did you mean 'sd15'?"
