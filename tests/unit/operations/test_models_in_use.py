"""Commands read the headers of those checkpoints alone that are in use, if there are many."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from dna_pipeline.config.loader import load_config
from dna_pipeline.config.schema import Config
from dna_pipeline.operations.check import check
from dna_pipeline.operations.models.listing import list_models
from dna_pipeline.providers.checkpoints import MANY

CONFIG = """\
version: 1
models: {"*": models/checkpoints}
pipelines: {restyle: [{img2img: {model: m1}}]}
inboxes: [{path: inbox, pipeline: restyle, sidecar_wait_seconds: 0}]
"""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A configuration with a folder of web pages, of which a pipeline names `m1`."""
    (tmp_path / "pipeline.yaml").write_text(CONFIG)
    folder = tmp_path / "data/models/checkpoints"
    folder.mkdir(parents=True)
    for number in range(MANY + 1):
        (folder / f"m{number}.safetensors").write_text("<html>")
    (tmp_path / "inbox").mkdir()
    return load_config(tmp_path / "pipeline.yaml", {})


def test_check_examines_checkpoints_of_pipelines_and_jobs(config: Config, tmp_path: Path):
    Image.new("RGB", (64, 64)).save(tmp_path / "inbox/a.png")
    (tmp_path / "inbox/a.png.yaml").write_text("img2img: {model: m2}\n")
    report = check(config)
    wrong = {model["name"]: model["jobs"] for model in report["models"] if model["mismatch"]}
    assert wrong == {"m1": 0, "m2": 1}
    assert len(report["models"]) == MANY + 1


def test_the_list_examines_checkpoints_of_pipelines(config: Config):
    wrong = [one["name"] for one in list_models(config) if one["mismatch"]]
    assert wrong == ["m1"]


def test_the_list_shows_names_of_two_checkpoints(config: Config):
    folder = config.data / "models/checkpoints"
    (folder / "m1.ckpt").write_text("x")
    (entry,) = [one for one in list_models(config) if one["name"] == "m1"]
    assert (entry["present"], entry["pipelines"]) == (False, ["restyle"])
    assert "m1.safetensors and m1.ckpt" in entry["missing"]


def test_the_list_says_that_a_file_is_in_the_place_of_the_folder(tmp_path: Path):
    (tmp_path / "pipeline.yaml").write_text(CONFIG)
    config = load_config(tmp_path / "pipeline.yaml", {})
    (absent,) = list_models(config)
    assert (absent["name"], absent["present"]) == ("*", False)
    assert "is not there; make it" in absent["missing"]
    (config.data / "models").mkdir(parents=True)
    (config.data / "models/checkpoints").write_text("")
    (entry,) = list_models(config)
    assert "is a file, and `*` takes a folder" in entry["missing"]
