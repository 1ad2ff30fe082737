"""Loading checkpoints: names, shapes, formats, and files one should not trust."""

import json
import os
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from dna_pipeline.providers.triposr import weights
from dna_pipeline.providers.triposr.config import FULL
from dna_pipeline.providers.triposr.network import TSR
from dna_pipeline.providers.triposr.weights import WeightsError

GOLDEN = Path(__file__).parents[3] / "golden"

State = dict[str, torch.Tensor]


def test_the_published_model_has_the_published_names_and_shapes() -> None:
    official = json.loads((GOLDEN / "triposr-official-keys.json").read_text())
    state = weights.skeleton(FULL).state_dict()
    assert {name: list(tensor.shape) for name, tensor in state.items()} == official
    assert len(official) == 549
    assert {tensor.device.type for tensor in state.values()} == {"meta"}


def test_a_loaded_model_is_ready_for_inference(tiny: TSR) -> None:
    assert not tiny.training
    assert {p.device.type for p in tiny.parameters()} == {"cpu"}
    assert not any(p.requires_grad for p in tiny.parameters())


def test_dtype(tiny_folder: Path, tiny_copy: Path) -> None:
    model = weights.load(tiny_folder, dtype=torch.bfloat16)
    assert model.dtype == torch.bfloat16
    state = torch.load(tiny_copy / "model.ckpt", weights_only=True)
    torch.save({n: t.half() for n, t in state.items()}, tiny_copy / "model.ckpt")
    assert {p.dtype for p in weights.load(tiny_copy).parameters()} == {torch.float32}


def test_safetensors_hold_the_same_and_win(tiny_copy: Path, tiny: TSR) -> None:
    save_as_safetensors(tiny_copy)
    (tiny_copy / "model.ckpt").write_bytes(b"not read any more")
    assert is_same(weights.load(tiny_copy), tiny)


def save_as_safetensors(folder: Path) -> Path:
    """Write `model.safetensors` with the tensors of `model.ckpt`, and return its path."""
    path = folder / "model.safetensors"
    save_file(torch.load(folder / "model.ckpt", weights_only=True), path)
    return path


def is_same(model: TSR, other: TSR) -> bool:
    state, expected = model.state_dict(), other.state_dict()
    assert state.keys() == expected.keys()
    return all(torch.equal(state[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("padding_bytes", [0, 64 << 20])
def test_loading_writes_nothing(tiny_copy: Path, tiny: TSR, padding_bytes: int) -> None:
    with zipfile.ZipFile(tiny_copy / "model.ckpt", "a") as archive:
        top = archive.namelist()[0].partition("/")[0]
        archive.writestr(f"{top}/padding", bytes(padding_bytes))
    before = sorted(tiny_copy.rglob("*"))
    assert is_same(weights.load(tiny_copy), tiny)
    assert sorted(tiny_copy.rglob("*")) == before


def test_a_copy_beside_the_checkpoint_is_not_read(tiny_copy: Path, tiny: TSR) -> None:
    """Earlier versions wrote one; its header names size and time of the checkpoint."""
    state = torch.load(tiny_copy / "model.ckpt", weights_only=True)
    stat = (tiny_copy / "model.ckpt").stat()
    copy = tiny_copy / ".model.ckpt.safetensors"
    zeros = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    save_file(zeros, copy, {"source": f"{stat.st_size} {stat.st_mtime_ns}"})
    assert is_same(weights.load(tiny_copy), tiny)
    assert copy.is_file()


@pytest.mark.skipif(sys.platform != "linux", reason="/proc lists what a process maps")
@pytest.mark.parametrize("name", ["model.ckpt", "model.safetensors"])
def test_weights_are_mapped_and_not_read_whole(tiny_copy: Path, name: str) -> None:
    save_as_safetensors(tiny_copy)
    (tiny_copy / ({"model.ckpt", "model.safetensors"} - {name}).pop()).unlink()
    model = weights.load(tiny_copy)
    assert f"{tiny_copy / name}\n" in Path("/proc/self/maps").read_text()
    del model  # until here, so that the file stays mapped


def save_changed(folder: Path, change: Callable[[State], object]) -> None:
    state = torch.load(folder / "model.ckpt", weights_only=True)
    change(state)
    torch.save(state, folder / "model.ckpt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: s.pop("backbone.norm.bias"),
            r"fit config.yaml: backbone.norm.bias \(32,\) is missing$",
        ),
        (
            lambda s: s.update(extra=torch.zeros(2, 3)),
            r"extra \(2, 3\) is not part of the model$",
        ),
        (
            lambda s: s.update({"post_processor.upsample.bias": torch.zeros(13)}),
            r"post_processor.upsample.bias is \(13,\), expected \(12,\)$",
        ),
        (
            lambda s: [s.pop(name) for name in list(s) if name.startswith("decoder.")],
            r"decoder.layers.0.weight \(32, 36\) is missing; .*; and 5 more$",
        ),
        (
            lambda s: s.update({"decoder.layers.0.bias": torch.zeros(32, dtype=torch.int64)}),
            r"decoder.layers.0.bias holds torch.int64, expected floats",
        ),
        (lambda s: s.update(step=7), "step is int, expected a tensor"),
    ],
)
def test_mismatches_are_named(
    tiny_copy: Path, change: Callable[[State], object], message: str
) -> None:
    save_changed(tiny_copy, change)
    with pytest.raises(WeightsError, match=message):
        weights.load(tiny_copy)


def test_a_mismatch_in_safetensors(tiny_copy: Path) -> None:
    path = save_as_safetensors(tiny_copy)
    state = load_file(path)
    del state["backbone.proj_in.weight"]
    save_file(state, path)
    with pytest.raises(WeightsError, match=r"model.safetensors .* backbone.proj_in.weight"):
        weights.load(tiny_copy)


class Proof:
    """Makes a folder when it is unpickled by a reader that trusts it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize(
    "save", [torch.save, lambda o, p: p.write_bytes(pickle.dumps(o, protocol=2))]
)
def test_code_in_a_checkpoint_does_not_run(
    tiny_copy: Path, save: Callable[[object, Path], object]
) -> None:
    save({"decoder": Proof(tiny_copy / "proof")}, tiny_copy / "model.ckpt")
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        weights.load(tiny_copy)
    assert not (tiny_copy / "proof").exists()


@pytest.mark.parametrize("header_bytes", [1 << 60, (1 << 64) - 1, 99_999_999])
def test_a_header_that_claims_to_be_huge(tiny_copy: Path, header_bytes: int) -> None:
    (tiny_copy / "model.safetensors").write_bytes(header_bytes.to_bytes(8, "little") + b"{}" * 99)
    with pytest.raises(WeightsError, match=r"model\.safetensors cannot be read as weights"):
        weights.load(tiny_copy)


@pytest.mark.parametrize("name", ["model.ckpt", "model.safetensors"])
@pytest.mark.parametrize("size", [0, 1000])
def test_a_torn_file(tiny_copy: Path, name: str, size: int) -> None:
    save_as_safetensors(tiny_copy)
    if name == "model.ckpt":
        (tiny_copy / "model.safetensors").unlink()
    os.truncate(tiny_copy / name, size)
    with pytest.raises(WeightsError, match=name):
        weights.load(tiny_copy)


def test_checkpoints_from_before_the_zip_format(tiny_copy: Path, tiny: TSR) -> None:
    torch.save(
        dict(tiny.state_dict()), tiny_copy / "model.ckpt", _use_new_zipfile_serialization=False
    )
    assert is_same(weights.load(tiny_copy), tiny)


def test_no_weights_at_all(tiny_copy: Path) -> None:
    (tiny_copy / "model.ckpt").unlink()
    with pytest.raises(FileNotFoundError, match=r"model.safetensors nor model.ckpt"):
        weights.load(tiny_copy)
