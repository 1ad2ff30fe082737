"""Checkpoints, samplers and LoRAs by the names that other programs have for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dna_pipeline.config.loader import load_config
from dna_pipeline.config.schema import Config
from dna_pipeline.operations.serving import catalogue
from dna_pipeline.operations.serving.catalogue import (
    SAMPLERS,
    Checkpoint,
    find_checkpoint,
    list_checkpoints,
    lora_problem,
    sampler_named,
    schedule_of,
    similar_sampler,
)
from dna_pipeline.weights.fingerprint import Fingerprints

CONFIG = """\
version: 1
models:
  sd15: {provider: diffusers, path: models/sd15.safetensors}
  folder: {provider: diffusers, path: models/tiny}
  gone: {provider: diffusers, path: models/gone.safetensors}
  matte: {provider: border_key}
pipelines: {restyle: [{img2img: {model: sd15}}]}
"""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "pipeline.yaml").write_text(CONFIG)
    file = tmp_path / "data/models/sd15.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"weights")
    return load_config(tmp_path / "pipeline.yaml", {})


def test_checkpoints_are_the_models_of_img2img_that_are_there(config: Config):
    (only,) = list_checkpoints(config)
    assert only == Checkpoint("sd15", "sd15.safetensors", None)
    assert (only.title, only.short_hash) == ("sd15.safetensors", None)


def test_a_checkpoint_has_its_hash_once_it_is_known(config: Config):
    sha256 = Fingerprints(config.data).sha256(config.data / "models/sd15.safetensors")
    (only,) = list_checkpoints(config)
    assert only.sha256 == sha256
    assert only.title == f"sd15.safetensors [{sha256[:10]}]"


def test_no_path_of_the_server_is_in_a_checkpoint(config: Config):
    assert all("/" not in str(each) for each in list_checkpoints(config))


LISTED = [
    Checkpoint("a", "b.safetensors", "1" * 64),
    Checkpoint("b", "c.ckpt", None),
    Checkpoint("Tiny Model", "tiny", "2" * 64),
]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a", "a"),
        ("b", "b"),  # our own name counts before that of a file
        ("b.safetensors", "a"),
        ("B.SAFETENSORS [1111111111]", "a"),
        ("sub/b.safetensors", "a"),
        ("sub\\b.safetensors [1111111111]", "a"),
        ("1111111111", "a"),
        ("c", "b"),
        ("c.ckpt", "b"),
        ("tiny model", "Tiny Model"),
        ("tiny", "Tiny Model"),
        (" tiny [2222222222] ", "Tiny Model"),
        ("tiny [3333333333]", "Tiny Model"),
        ("", None),
        ("/", None),
        ("[1111111111]", None),
        ("b.ckpt", None),
    ],
)
def test_names_of_checkpoints(text: str, name: str | None):
    found = find_checkpoint(LISTED, text)
    assert (found and found.name) == name


@pytest.mark.parametrize(
    ("text", "own"),
    [
        ("DPM++ 2S a", "dpmpp_sde"), ("DPM++ 2S a Karras", "dpmpp_sde"), ("DPM fast", "dpmpp_2m"),
        ("DPM adaptive", "dpmpp_2m"), ("DPM++ 3M SDE Exponential", "dpmpp_2m_sde"),
        ("DPM++ 2M SDE Heun Karras", "dpmpp_2m_sde"), ("Restart", "euler"), ("PLMS", "lms"),
        ("IPNDM", "lms"), ("DEIS", "dpmpp_2m"), ("HeunPP2", "heun"), ("DDIM CFG++", "ddim"),
        ("k_dpm_fast", "dpmpp_2m"), ("DDPM", "euler_a"), ("", None), ("karras", None), ("x", None),
    ],
)  # fmt: skip
def test_similar_samplers(text: str, own: str | None):
    assert sampler_named(text)[0] is None
    assert similar_sampler(text) == own


def test_similar_samplers_and_schedules_are_ours():
    assert set(catalogue._SIMILAR.values()) <= SAMPLERS.keys()
    for name, sampler in SAMPLERS.items():
        assert schedule_of(name) == "normal" or sampler.takes_schedules


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("a chair", None),
        ("a <lora:clay:0.8> chair", None),
        ("<lora:gone:0>", None),
        ("<lora:caly:1>", "LoRA 'caly' is not in"),
        ("<lora:clay:1:2>", "has several weights"),
        ("<lora:clay:1> <lora:clay:1>", "twice"),
    ],
)
def test_tags_of_loras(config: Config, prompt: str, said: str | None):
    folder = config.data / "models/loras"
    folder.mkdir()
    (folder / "clay.safetensors").write_bytes(b"x")
    problem = lora_problem(config, prompt)
    assert problem is None if said is None else said in (problem or "")
