"""LoRAs in a worker's facts: the manifest names them, and their bytes count in the stage's key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from dna_pipeline.base.files import sha256_file
from dna_pipeline.execution.protocol import JobFailed, StageDone, StageOrder
from dna_pipeline.providers.base import Device, ModelCache
from dna_pipeline.providers.stable_diffusion.provider import Diffusers
from dna_pipeline.publish.manifest import ModelPart
from dna_pipeline.stages.img2img.stage import Img2Img
from dna_pipeline.weights.fingerprint import Fingerprints
from dna_pipeline.weights.loras import FOLDER
from tests import workers
from tests.unit.providers.stable_diffusion.lora_files import TrainedLora

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
    ),
]


class Bench:
    """A worker with the small model."""

    def __init__(self, models_dir: Path, root: Path) -> None:
        self.root = root
        self.source = root / "cat.png"
        Image.linear_gradient("L").resize((64, 64)).save(self.source)
        self.prints = Fingerprints(root)
        model = Diffusers(path=models_dir / "sd-v1-5-local")
        self.models = ModelCache({"sd": model}, Device("cpu", "float32"))

    def run(self, params: Mapping[str, Any], done: StageDone | None = None) -> list[Any]:
        stage = Img2Img(model="sd", steps=2, strength=0.5, **params)
        order = StageOrder("img2img", "img2img", stage.params(), "cat")
        if done is not None:
            order = replace(order, done=tuple(done.artifacts), done_key=done.stage_key)
        return workers.run(
            workers.order(self.source, self.root / "work", order), self.models,
            fingerprint=self.prints.of, data=self.root, hash_file=self.prints.sha256,
        )  # fmt: skip


def test_a_lora_is_recorded_and_its_bytes_count(models_dir: Path, tmp_path: Path):
    bench = Bench(models_dir, tmp_path)
    path = tmp_path / FOLDER / "clay.safetensors"
    TrainedLora(models_dir / "sd-v1-5-local", 1).save_kohya(path)
    params = {"prompt": "a chair <lora:clay:0.8>"}
    (done,) = workers.done(bench.run(params))
    assert done.model is not None
    fact = {"name": "clay", "sha256": sha256_file(path), "weight": 0.8}
    assert done.model["loras"] == [fact]
    assert ModelPart(**done.model).model_dump()["loras"] == [fact]
    assert not workers.done(bench.run(params, done))
    TrainedLora(models_dir / "sd-v1-5-local", 2).save_kohya(path)
    (again,) = workers.done(bench.run(params, done))
    assert again.stage_key != done.stage_key
    assert again.artifacts[0].sha256 != done.artifacts[0].sha256
    (plain,) = workers.done(bench.run({}))
    assert plain.model is not None
    assert "loras" not in ModelPart(**plain.model).model_dump()


def test_a_lora_and_a_textual_inversion_of_one_name(models_dir: Path, tmp_path: Path):
    """Each counts by itself: in the key, and in the manifest."""
    bench = Bench(models_dir, tmp_path)
    lora = tmp_path / FOLDER / "clay.safetensors"
    TrainedLora(models_dir / "sd-v1-5-local", 1).save_kohya(lora)
    inversion = tmp_path / "models/embeddings/clay.safetensors"
    inversion.parent.mkdir()
    keys: list[str | None] = []
    for factor in (1.0, 2.0):
        save_file({"emb_params": torch.full((1, 32), factor)}, inversion)
        done = bench.run({"prompt": "a clay chair <lora:clay:0.8>"})[-2]
        assert isinstance(done, StageDone)
        assert done.model is not None
        assert done.model["loras"] == [{"name": "clay", "sha256": sha256_file(lora), "weight": 0.8}]
        assert done.model["embeddings"] == [{"name": "clay", "sha256": sha256_file(inversion)}]
        keys.append(done.stage_key)
    assert keys[0] != keys[1]


def test_a_job_whose_lora_has_gone_is_held(models_dir: Path, tmp_path: Path):
    failed = Bench(models_dir, tmp_path).run({"loras": {"clay": 1.0}})[-1]
    assert isinstance(failed, JobFailed)
    assert failed.hold
    assert failed.failure["code"] == "weights_missing"
