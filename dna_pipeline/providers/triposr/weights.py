"""Loading the checkpoint: `model.safetensors` if it is there, else `model.ckpt`.

Nothing in the folder is executed or fetched. Both formats are memory-mapped, so a float32 model
on the CPU is read page by page as it is used and never lies in memory twice. A large checkpoint
is unpickled only once: from then on a copy of it beside it, `.model.ckpt.safetensors`, is mapped,
for as long as the checkpoint stays what it was. Where none can be written, the checkpoint does.
"""

import os
import pickle
import shutil
import time
import zipfile
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor

from dna_pipeline.base.files import fsync
from dna_pipeline.providers.triposr.config import TsrConfig, load_config
from dna_pipeline.providers.triposr.network import TSR

CHECKPOINT = "model.ckpt"
SAFETENSORS = "model.safetensors"
COPY = f".{CHECKPOINT}.safetensors"
_NAMED_DIFFERENCES = 5
_COPIED_BYTES = 64 << 20
"""Checkpoints below it are read so quickly that a copy would only be in the way."""
_SPARED = 2
"""A copy is made only where there is room for so many, so that it fills no disk."""
_SOURCE = "source"
"""The copy's note of what it was made from."""
_ABANDONED_S = 3600.0
"""After so long without a write, a half-written copy is nobody's any more."""

Shapes = Mapping[str, tuple[int, ...]]


class WeightsError(ValueError):
    """The weights file cannot be read, or does not hold the tensors that config.yaml implies."""


def load(
    folder: Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> TSR:
    """The model of a folder with `config.yaml` and weights, ready for inference.

    Raises FileNotFoundError where a file is missing, ConfigError, and WeightsError.
    """
    config = load_config(folder)
    path = weights_path(folder)
    source = _identity(path)
    copied = _copied(path, source)
    state = copied or _read(path)
    _require_same(path, {name: tuple(t.shape) for name, t in state.items()}, config)
    if not copied:
        state = _copy(path, source, state) or state
    model = skeleton(config)
    model.load_state_dict(state, assign=True)
    return model.requires_grad_(False).eval().float().compute_in(dtype).to(device)


def skeleton(config: TsrConfig) -> TSR:
    """The network on the meta device: names and shapes, no numbers."""
    with torch.device("meta"):
        return TSR(config)


def weights_path(folder: Path) -> Path:
    """The file that `load` reads; FileNotFoundError if there is none."""
    for name in (SAFETENSORS, CHECKPOINT):
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"{folder} holds neither {SAFETENSORS} nor {CHECKPOINT}")


def convert_to_safetensors(folder: Path) -> Path:
    """Writes `model.safetensors` from `model.ckpt`, whole or not at all, and returns its path.

    The tensors are checked against `config.yaml` first. Raises what `load` raises, and OSError
    where the folder cannot be written.
    """
    path = folder / CHECKPOINT
    state = _read(path)
    _require_same(path, {name: tuple(t.shape) for name, t in state.items()}, load_config(folder))
    target = folder / SAFETENSORS
    with _replacing(target) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, temporary)
    return target


def _identity(path: Path) -> str:
    """What changes when a file is written anew or replaced; not its inode's number, which some
    network file systems give out anew at each mount."""
    stat = path.stat()
    return f"{stat.st_size} {stat.st_mtime_ns}"


def _copied(path: Path, source: str) -> dict[str, Tensor] | None:
    """The checkpoint's tensors from its copy, if there is a sound one of just this file."""
    if path.name != CHECKPOINT:
        return None
    copy = path.with_name(COPY)
    try:
        with cast(Any, safe_open)(copy, "pt") as file:
            notes: dict[str, str] = file.metadata() or {}
        if notes.get(_SOURCE) != source:
            return None
        return _read(copy)
    except (OSError, SafetensorError, WeightsError):
        return None


def _copy(path: Path, source: str, state: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """Writes the copy, whole or not at all, and reads it; None where that cannot be done.

    Processes that do so at once write a file each; the last one's stays, and is as good.
    """
    size = path.stat().st_size
    if path.name != CHECKPOINT or size < _COPIED_BYTES:
        return None
    copy = path.with_name(COPY)
    try:
        if shutil.disk_usage(path.parent).free < _SPARED * size:
            return None
        _remove_abandoned(copy)
        with _replacing(copy) as temporary:
            tensors = {name: tensor.contiguous() for name, tensor in state.items()}
            save_file(tensors, temporary, {_SOURCE: source})
            if _identity(path) != source:
                raise OSError(f"{path} changed while it was read")
    except (OSError, SafetensorError, RuntimeError):
        return None  # read-only, full, …: the checkpoint itself does
    return _copied(path, source)


def _remove_abandoned(copy: Path) -> None:
    """Removes what processes left that were killed while they wrote."""
    for path in copy.parent.glob(f".{copy.name}.*.tmp"):
        if time.time() - path.stat().st_mtime > _ABANDONED_S:
            path.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        state = load_file(path) if path.suffix == ".safetensors" else _read_checkpoint(path)
    except (FileNotFoundError, WeightsError):
        raise
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read as weights: {_reason(error)}") from error
    for name, tensor in state.items():
        if not tensor.is_floating_point():
            raise WeightsError(f"{path}: {name} holds {tensor.dtype}, expected floats")
    return state


def _reason(error: Exception) -> str:
    """What is wrong, without torch's advice to load the file unsafely."""
    text = str(error).partition("WeightsUnpickler error:")[2] or str(error)
    lines = [line.strip() for line in text.splitlines() if "weights_only" not in line]
    return next(filter(None, lines), type(error).__name__).partition(". ")[0]


def _read_checkpoint(path: Path) -> dict[str, Tensor]:
    # Only the zip format, which torch has written since 1.6, can be mapped.
    loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    if not isinstance(loaded, Mapping):
        raise WeightsError(f"{path} holds {type(loaded).__name__}, expected named tensors")
    state = cast(Mapping[str, Any], loaded)
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor):
            raise WeightsError(f"{path}: {name} is {type(tensor).__name__}, expected a tensor")
    return dict(state)


def _require_same(path: Path, found: Shapes, config: TsrConfig) -> None:
    """Raises WeightsError naming the first tensors in which file and configuration differ."""
    expected = {name: tuple(t.shape) for name, t in skeleton(config).state_dict().items()}
    differences = list(_differences(found, expected))
    if differences:
        more = len(differences) - _NAMED_DIFFERENCES
        tail = f"; and {more} more" if more > 0 else ""
        listed = "; ".join(differences[:_NAMED_DIFFERENCES])
        raise WeightsError(f"{path} does not fit config.yaml: {listed}{tail}")


def _differences(found: Shapes, expected: Shapes) -> Iterator[str]:
    for name, shape in expected.items():
        if name not in found:
            yield f"{name} {shape} is missing"
        elif found[name] != shape:
            yield f"{name} is {found[name]}, expected {shape}"
    for name in found:
        if name not in expected:
            yield f"{name} {found[name]} is not part of the model"


@contextmanager
def _replacing(target: Path) -> Generator[Path]:
    """A temporary path beside the target that takes its place if the block succeeds."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        _fsync(temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)  # Windows refuses to flush what is open for reading
    try:
        fsync(descriptor)
    finally:
        os.close(descriptor)
