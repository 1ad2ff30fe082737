"""The pipelines and models that requests mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from dna_pipeline.config.loader import load_config
from dna_pipeline.config.schema import Config
from dna_pipeline.operations.serving.model_loads import find_model, missing_weights
from dna_pipeline.operations.serving.pipelines import (
    NoPipeline,
    img2img_pipeline,
    mesh_pipeline,
    models_of,
)

HEAD = """\
version: 1
models:
  sd15: {provider: diffusers, path: models/sd-v1-5-local, single_file: models/v1-5.safetensors}
  sculptor: {provider: triposr, path: models/triposr-base}
  matte: {provider: border_key}
"""
BOTH = "{both: [{img2img: {}}, {triposr: {}}], a: [{img2img: {}}], b: [{img2img: {}}]}"
MESHES = "{both: [{img2img: {}}, {triposr: {}}], m: [{remove_background: {}}, {triposr: {}}]}"


@pytest.fixture
def read(tmp_path: Path):
    def read(pipelines: str, serve: str = "") -> Config:
        (tmp_path / "pipeline.yaml").write_text(f"{HEAD}pipelines: {pipelines}\n{serve}")
        return load_config(tmp_path / "pipeline.yaml", {})

    return read


def test_the_first_that_only_redraws(read):
    assert img2img_pipeline(read(BOTH)).name == "a"
    assert img2img_pipeline(read(BOTH, "serve: {img2img: b}")).name == "b"
    assert img2img_pipeline(read(BOTH, "serve: {img2img: both}")).name == "both"


def test_the_first_mesh_of_a_picture_as_it_is(read):
    assert mesh_pipeline(read(MESHES)).name == "m"
    assert mesh_pipeline(read(MESHES, "serve: {triposr: both}")).name == "both"


def test_there_may_be_none(read):
    with pytest.raises(NoPipeline, match="triposr: NAME"):
        mesh_pipeline(read(BOTH))
    with pytest.raises(NoPipeline, match="img2img: NAME"):
        img2img_pipeline(read(MESHES))


def test_models_of_a_pipeline_and_their_weights(read):
    config = read(MESHES)
    assert models_of(config.pipelines["m"]) == ["matte", "sculptor"]
    assert "'sculptor'" in (missing_weights(config, config.pipelines["m"]) or "")
    cut = read("{cut: [{remove_background: {}}]}")
    assert missing_weights(cut, cut.pipelines["cut"]) is None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("sd15", "sd15"), (" matte ", "matte"), ("models/sd-v1-5-local", "sd15"),
        ("data/models/sd-v1-5-local/", "sd15"), ("./data/models/sd-v1-5-local", "sd15"),
        ("sd-v1-5-local", "sd15"), ("models\\triposr-base", "sculptor"),
        ("data/models/v1-5.safetensors", "sd15"),
        ("", None), ("sd", None), (".", None), ("/", None), ("models", None),
        ("../data/models/x", None), ("\0", None),
    ],
)  # fmt: skip
def test_a_model_by_its_name_or_path(read, text: str, name: str | None):
    assert find_model(read(BOTH), text) == name


def test_a_model_by_its_absolute_path(read, tmp_path: Path):
    assert find_model(read(BOTH), str(tmp_path / "data/models/triposr-base")) == "sculptor"
