"""The folder of LoRAs: names, and the hash that other programs know."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dna_pipeline.base.errors import WeightsMissing
from dna_pipeline.base.files import sha256_file
from dna_pipeline.weights.loras import FOLDER, LoraFolder, short_hash
from tests.unit.weights import weight_files as files


def put(data: Path, name: str, **metadata: str) -> Path:
    path = data / FOLDER / f"{name}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({f"{files.KOHYA}lora_down.weight": torch.ones(2, 768)}, path, metadata or None)
    return path


def test_a_lora_is_found_by_its_name_at_any_depth(tmp_path: Path):
    top, deep = put(tmp_path, "clay"), put(tmp_path, "styles/2d/wax.v2")
    folder = LoraFolder(tmp_path)
    found = folder.get({"wax.v2": 0.5, "clay": 1.0, "absent": 0.0})
    assert [(lora.name, lora.path, lora.weight) for lora in found] == [
        ("clay", top, 1.0),
        ("wax.v2", deep, 0.5),
    ]
    (named,) = folder.get({"styles/2d/wax.v2": 1.0})
    assert named.path == deep
    assert folder.facts({"clay": 1.0}) == [
        {"name": "clay", "sha256": sha256_file(top), "weight": 1.0}
    ]
    assert folder.hashes(["clay", "gone"]) == {"clay": sha256_file(top), "gone": None}


def test_a_name_of_no_file_and_of_several(tmp_path: Path):
    folder = LoraFolder(tmp_path)
    assert folder.missing(["clay"]) == (
        f"LoRA 'clay' is not in {tmp_path / FOLDER}; put clay.safetensors there"
    )
    put(tmp_path, "a/clay")
    put(tmp_path, ".trash/caly")
    assert folder.missing(["clay"]) is None
    assert (folder.missing(["caly"]) or "").endswith("; did you mean 'clay'?")
    put(tmp_path, "b/clay")
    assert folder.missing(["clay"]) == (
        f"LoRA 'clay': a/clay.safetensors and b/clay.safetensors in {tmp_path / FOLDER} have that "
        "name; write its path below the folder, or rename one"
    )
    assert folder.missing(["b/clay"]) is None
    with pytest.raises(WeightsMissing, match="have that name"):
        folder.get({"clay": 1.0})
    put(tmp_path, "clay")
    assert folder.missing(["clay"]) is None


def test_a_file_of_another_kind(tmp_path: Path):
    put(tmp_path, "clay")
    path = tmp_path / FOLDER / "xl.safetensors"
    save_file({f"{files.KOHYA_XL}lora_down.weight": torch.ones(2, 2048)}, path)
    folder = LoraFolder(tmp_path)
    assert folder.mismatch("clay") is None
    assert folder.mismatch("xl") == (
        f"{path} is a LoRA for Stable Diffusion XL; needed here is a LoRA for a Stable Diffusion "
        "1.5"
    )


def test_the_hash_that_other_programs_know(tmp_path: Path):
    """Of the tensors alone: a change of the header's texts changes nothing."""
    plain, texts = put(tmp_path, "a"), put(tmp_path, "b", ss_tag_frequency="{}")
    data = texts.read_bytes()
    tensors = data[8 + int.from_bytes(data[:8], "little") :]
    assert len(tensors) == 2 * 768 * 4
    assert short_hash(texts) == hashlib.sha256(tensors).hexdigest()[:12]
    assert short_hash(plain) == short_hash(texts)
    assert short_hash(put(tmp_path, "c", sshs_model_hash="ab" * 32)) == "abababababab"
