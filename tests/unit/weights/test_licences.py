"""Which licence a manifest names: never one by guess."""

from __future__ import annotations

import re
import shutil
from hashlib import sha256
from pathlib import Path

import pytest

from dna_pipeline.providers.base import Provider
from dna_pipeline.providers.matting.border_key import BorderKey
from dna_pipeline.providers.matting.rembg import Rembg
from dna_pipeline.providers.stable_diffusion.provider import Diffusers
from dna_pipeline.providers.triposr.provider import TripoSRModel
from dna_pipeline.weights import licences
from dna_pipeline.weights.fingerprint import Fingerprints
from dna_pipeline.weights.licences import LICENCES, NOT_KNOWN, licence_of


def publish(monkeypatch: pytest.MonkeyPatch, licence: str, *files: Path) -> None:
    """Let these files' hashes be those of published weights."""
    known = {sha256(path.read_bytes()).hexdigest(): licence for path in files}
    monkeypatch.setattr(licences, "LICENCES", known)


@pytest.fixture
def triposr(tmp_path: Path) -> TripoSRModel:
    folder = tmp_path / "triposr"
    folder.mkdir()
    (folder / "config.yaml").write_text("radius: 0.87")
    (folder / "model.ckpt").write_bytes(b"weights")
    return TripoSRModel(path=folder)


@pytest.fixture
def sd15(tmp_path: Path, models_dir: Path) -> Diffusers:
    folder = tmp_path / "sd15"
    shutil.copytree(models_dir / "sd-v1-5-local", folder)
    return Diffusers.model_validate({"path": folder})


def weights_of(provider: Provider) -> list[Path]:
    return [path for path in provider.weights()[1] if path.suffix == ".safetensors"]


def test_weights_that_only_bear_a_known_name_have_no_known_licence(
    tmp_path: Path, triposr: TripoSRModel, sd15: Diffusers
):
    onnx = tmp_path / "u2net.onnx"
    onnx.write_bytes(b"another network")
    found = Fingerprints(tmp_path)
    for provider in (triposr, sd15, Rembg(name="u2net", path=onnx)):
        assert found.licence(provider) == NOT_KNOWN == "not known"


def test_known_weights_have_theirs(
    tmp_path: Path, triposr: TripoSRModel, monkeypatch: pytest.MonkeyPatch
):
    publish(monkeypatch, "MIT", triposr.path / "model.ckpt")
    assert Fingerprints(tmp_path).licence(triposr) == "MIT"
    (triposr.path / "model.ckpt").write_bytes(b"weights that were trained further")
    assert Fingerprints(tmp_path).licence(triposr) == NOT_KNOWN


def test_every_file_of_weights_counts_and_no_configuration(
    tmp_path: Path, sd15: Diffusers, monkeypatch: pytest.MonkeyPatch
):
    assert len(weights_of(sd15)) == 3
    publish(monkeypatch, "CreativeML-OpenRAIL-M", *weights_of(sd15))
    assert Fingerprints(tmp_path).licence(sd15) == "CreativeML-OpenRAIL-M"
    (sd15.path / "scheduler/scheduler_config.json").write_text("{}")
    assert Fingerprints(tmp_path).licence(sd15) == "CreativeML-OpenRAIL-M"
    (sd15.path / "unet/diffusion_pytorch_model.safetensors").write_bytes(b"a finetune")
    assert Fingerprints(tmp_path).licence(sd15) == NOT_KNOWN


def test_the_configuration_s_word_wins(
    tmp_path: Path, triposr: TripoSRModel, monkeypatch: pytest.MonkeyPatch
):
    publish(monkeypatch, "MIT", triposr.path / "model.ckpt")
    named = triposr.model_copy(update={"license": "LicenseRef-studio"})
    assert Fingerprints(tmp_path).licence(named) == "LicenseRef-studio"


def test_what_has_no_weights_has_no_licence(tmp_path: Path):
    assert Fingerprints(tmp_path).licence(BorderKey.model_validate({})) is None


def test_licences_that_differ_name_none():
    one, other = "c83908253f9a64d0", "429e2c6b22a09239"
    both = [sha for sha in LICENCES if sha.startswith((one, other))]
    assert {LICENCES[sha] for sha in both} == {"MIT", "CreativeML-OpenRAIL-M"}
    assert licence_of(both) == NOT_KNOWN
    assert licence_of([]) == NOT_KNOWN
    assert licence_of([both[0], "0" * 64]) == NOT_KNOWN


def test_hashes_are_whole():
    assert all(re.fullmatch("[0-9a-f]{64}", sha) for sha in LICENCES)
