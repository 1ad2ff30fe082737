"""Loading checkpoints: names, shapes, formats, and files one should not trust."""

import errno
import json
import os
import pickle
import shutil
import subprocess
import sys
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
    path = weights.convert_to_safetensors(tiny_copy)
    assert path == tiny_copy / "model.safetensors"
    (tiny_copy / "model.ckpt").write_bytes(b"not read any more")
    loaded = weights.load(tiny_copy).state_dict()
    assert loaded.keys() == tiny.state_dict().keys()
    for name, tensor in tiny.state_dict().items():
        assert torch.equal(loaded[name], tensor)


def test_loading_writes_nothing(tiny_copy: Path) -> None:
    before = sorted(tiny_copy.rglob("*"))
    weights.load(tiny_copy)
    assert sorted(tiny_copy.rglob("*")) == before


def test_a_failed_conversion_leaves_nothing(
    tiny_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disk_full(_: State, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(weights, "save_file", disk_full)
    before = sorted(tiny_copy.rglob("*"))
    with pytest.raises(OSError, match="no space left"):
        weights.convert_to_safetensors(tiny_copy)
    assert sorted(tiny_copy.rglob("*")) == before


def test_a_wrong_checkpoint_is_not_converted(tiny_copy: Path) -> None:
    save_changed(tiny_copy, lambda state: state.pop("tokenizer.embeddings"))
    with pytest.raises(WeightsError, match=r"tokenizer\.embeddings"):
        weights.convert_to_safetensors(tiny_copy)
    assert not (tiny_copy / "model.safetensors").exists()


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
    path = weights.convert_to_safetensors(tiny_copy)
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
    weights.convert_to_safetensors(tiny_copy)
    if name == "model.ckpt":
        (tiny_copy / "model.safetensors").unlink()
    os.truncate(tiny_copy / name, size)
    with pytest.raises(WeightsError, match=name):
        weights.load(tiny_copy)


def test_checkpoints_from_before_the_zip_format(tiny_copy: Path, tiny: TSR) -> None:
    torch.save(
        dict(tiny.state_dict()), tiny_copy / "model.ckpt", _use_new_zipfile_serialization=False
    )
    loaded = weights.load(tiny_copy)
    assert torch.equal(loaded.tokenizer.embeddings, tiny.tokenizer.embeddings)


def test_no_weights_at_all(tiny_copy: Path) -> None:
    (tiny_copy / "model.ckpt").unlink()
    with pytest.raises(FileNotFoundError, match=r"model.safetensors nor model.ckpt"):
        weights.load(tiny_copy)


# --- the copy that is mapped from the second time on ---------------------------------------------


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small checkpoints are copied too."""
    monkeypatch.setattr(weights, "_COPIED_BYTES", 0)


def unpickled(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The checkpoints that are unpickled from now on."""
    paths: list[Path] = []
    read = weights._read_checkpoint
    monkeypatch.setattr(weights, "_read_checkpoint", lambda p: (paths.append(p), read(p))[1])
    return paths


def same(model: TSR, other: TSR) -> bool:
    pairs = zip(model.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.usefixtures("copied")
def test_a_checkpoint_is_unpickled_once(
    tiny_copy: Path, tiny: TSR, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = unpickled(monkeypatch)
    assert same(weights.load(tiny_copy), tiny)
    assert (tiny_copy / weights.COPY).is_file()
    assert same(weights.load(tiny_copy), tiny)
    assert paths == [tiny_copy / "model.ckpt"]
    assert weights.weights_path(tiny_copy) == tiny_copy / "model.ckpt"
    assert not list(tiny_copy.glob("*.tmp")) + list(tiny_copy.glob(".*.tmp"))


def test_a_small_checkpoint_has_no_copy(tiny_copy: Path) -> None:
    weights.load(tiny_copy)
    assert not (tiny_copy / weights.COPY).exists()


@pytest.mark.slow
@pytest.mark.usefixtures("copied")
def test_a_checkpoint_that_changed_is_copied_again(
    tiny_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights.load(tiny_copy)
    state = torch.load(tiny_copy / "model.ckpt", weights_only=True)
    state["decoder.layers.0.bias"].fill_(7)
    torch.save(state, tiny_copy / "model.ckpt")
    paths = unpickled(monkeypatch)
    for _ in range(2):
        assert weights.load(tiny_copy).decoder.layers[0].bias[0] == 7
    assert len(paths) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("copied")
@pytest.mark.parametrize("size", [0, 5, 1000, 300_000])
def test_a_damaged_copy_is_made_anew(
    tiny_copy: Path, tiny: TSR, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights.load(tiny_copy)
    os.truncate(tiny_copy / weights.COPY, size)
    paths = unpickled(monkeypatch)
    for _ in range(2):
        assert same(weights.load(tiny_copy), tiny)
    assert len(paths) == 1


@pytest.mark.usefixtures("copied")
def test_a_folder_that_cannot_be_written_is_read_all_the_same(
    tiny_copy: Path, tiny: TSR, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("read-only file system")

    monkeypatch.setattr(weights, "save_file", refuse)
    assert same(weights.load(tiny_copy), tiny)
    assert not (tiny_copy / weights.COPY).exists()


@pytest.mark.usefixtures("copied")
def test_a_checkpoint_that_changes_while_it_is_copied_has_no_copy(
    tiny_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = weights.save_file

    def late(*args: Any) -> None:
        write(*args)
        os.utime(tiny_copy / "model.ckpt", (1, 1))

    monkeypatch.setattr(weights, "save_file", late)
    weights.load(tiny_copy)
    assert not (tiny_copy / weights.COPY).exists()


@pytest.mark.usefixtures("copied")
def test_half_written_copies_of_the_dead_go_those_of_the_living_stay(tiny_copy: Path) -> None:
    dead, living = (tiny_copy / f".{weights.COPY}.{pid}.tmp" for pid in (1, 2))
    for path in (dead, living):
        path.write_bytes(b"half")
    os.utime(dead, (1, 1))
    weights.load(tiny_copy)
    assert (dead.exists(), living.exists()) == (False, True)


@pytest.mark.usefixtures("copied")
def test_a_disk_with_little_room_gets_no_copy(
    tiny_copy: Path, tiny: TSR, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = 2 * (tiny_copy / "model.ckpt").stat().st_size - 1
    usage = shutil.disk_usage(tiny_copy)._replace(free=room)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert same(weights.load(tiny_copy), tiny)
    assert not (tiny_copy / weights.COPY).exists()


@pytest.mark.usefixtures("copied")
@pytest.mark.skipif(sys.platform == "win32", reason="stands in for Windows")
def test_what_is_flushed_is_open_for_writing(
    tiny_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows refuses anything else."""
    import fcntl

    def flush(descriptor: int) -> None:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    monkeypatch.setattr(os, "fsync", flush)
    weights.load(tiny_copy)
    assert (tiny_copy / weights.COPY).is_file()


@pytest.mark.usefixtures("copied")
def test_another_inode_is_no_other_checkpoint(
    tiny_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As file systems without lasting numbers have it at each mount."""
    weights.load(tiny_copy)
    checkpoint, other = tiny_copy / "model.ckpt", tiny_copy / "other"
    shutil.copy2(checkpoint, other)
    inode = checkpoint.stat().st_ino
    other.replace(checkpoint)
    assert checkpoint.stat().st_ino != inode
    paths = unpickled(monkeypatch)
    weights.load(tiny_copy)
    assert paths == []


@pytest.mark.slow
def test_two_processes_copy_at_once(tiny_copy: Path, tiny: TSR) -> None:
    code = (
        "import sys, pathlib; from dna_pipeline.providers.triposr import weights\n"
        "weights._COPIED_BYTES = 0\n"
        "for _ in range(5):\n"
        "    weights.load(pathlib.Path(sys.argv[1]))\n"
        "    (pathlib.Path(sys.argv[1]) / weights.COPY).unlink(missing_ok=True)\n"
        "weights.load(pathlib.Path(sys.argv[1]))\n"
    )
    command = [sys.executable, "-c", code, str(tiny_copy)]
    processes = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(120) for process in processes] == [0, 0]
    assert same(weights.load(tiny_copy), tiny)
