"""The folder of LoRAs: names, and the hash that other programs know."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dna_pipeline.base.errors import WeightsMissing
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
    assert folder.find(["wax.v2", "clay"]) == {"clay": top, "wax.v2": deep}
    assert folder.find(["styles/2d/wax.v2"]) == {"styles/2d/wax.v2": deep}
    assert folder.find([]) == {}


def lack(folder: LoraFolder, name: str) -> str:
    with pytest.raises(WeightsMissing) as error:
        folder.find([name])
    return str(error.value)


def test_a_name_of_no_file_and_of_several(tmp_path: Path):
    folder = LoraFolder(tmp_path)
    assert lack(folder, "clay") == (
        f"LoRA 'clay' is not in {tmp_path / FOLDER}; put clay.safetensors there"
    )
    only = put(tmp_path, "a/clay")
    put(tmp_path, ".trash/caly")
    assert folder.find(["clay"]) == {"clay": only}
    assert lack(folder, "caly").endswith("; did you mean 'clay'?")
    other = put(tmp_path, "b/clay")
    assert lack(folder, "clay") == (
        f"LoRA 'clay': a/clay.safetensors and b/clay.safetensors in {tmp_path / FOLDER} have that "
        "name; write its path below the folder, or rename one"
    )
    assert folder.find(["b/clay"]) == {"b/clay": other}
    top = put(tmp_path, "clay")
    assert folder.find(["clay"]) == {"clay": top}


def test_the_hash_that_other_programs_know(tmp_path: Path):
    """Of the tensors alone: a change of the header's texts changes nothing."""
    plain, texts = put(tmp_path, "a"), put(tmp_path, "b", ss_tag_frequency="{}")
    data = texts.read_bytes()
    tensors = data[8 + int.from_bytes(data[:8], "little") :]
    assert len(tensors) == 2 * 768 * 4
    assert short_hash(texts) == hashlib.sha256(tensors).hexdigest()[:12]
    assert short_hash(plain) == short_hash(texts)
    assert short_hash(put(tmp_path, "c", sshs_model_hash="ab" * 32)) == "abababababab"


def test_the_short_hash_is_computed_once_for_a_version_of_a_file(tmp_path: Path):
    path = put(tmp_path, "a")
    first = short_hash(path)
    data, stat = path.read_bytes(), path.stat()
    path.write_bytes(data[:-4] + b"\0\0\0\0")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert short_hash(path) == first
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert short_hash(path) != first


def test_case_slashes_and_forms_of_letters_do_not_hide_a_lora(tmp_path: Path):
    folder = LoraFolder(tmp_path)
    (folder.folder / "styles").mkdir(parents=True)
    names = ["Clay", "styles/wax", unicodedata.normalize("NFD", "ガラス")]
    for name in names:
        (folder.folder / f"{name}.safetensors").touch()
    asked = ["CLAY", "styles\\wax", "ガラス"]
    assert [folder.find([a])[a].stem for a in asked] == ["Clay", "wax", names[2]]
    (folder.folder / "styles" / "clay.safetensors").touch()
    assert folder.find(["Clay"])["Clay"].parent == folder.folder
