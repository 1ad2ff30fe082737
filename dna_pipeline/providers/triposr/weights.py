"""Loading the checkpoint: `model.safetensors` if it is there, else `model.ckpt`.

Nothing in the folder is executed, fetched or written. Both formats are memory-mapped, so a float32
model on the CPU is read page by page as it is used and never lies in memory twice.
"""

import pickle
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor

from dna_pipeline.providers.triposr.config import TsrConfig, load_config
from dna_pipeline.providers.triposr.network import TSR

CHECKPOINT = "model.ckpt"
SAFETENSORS = "model.safetensors"
_NAMED_DIFFERENCES = 5

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
    state = _read(path)
    _require_same(path, {name: tuple(t.shape) for name, t in state.items()}, config)
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
    """Reason of a failed load, without torch's advice to load the file unsafely."""
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


def _require_same(path: Path, actual: Shapes, config: TsrConfig) -> None:
    """Raises WeightsError naming the first tensors in which file and configuration differ."""
    expected = {name: tuple(t.shape) for name, t in skeleton(config).state_dict().items()}
    differences = list(_differences(actual, expected))
    if differences:
        more = len(differences) - _NAMED_DIFFERENCES
        tail = f"; and {more} more" if more > 0 else ""
        listed = "; ".join(differences[:_NAMED_DIFFERENCES])
        raise WeightsError(f"{path} does not fit config.yaml: {listed}{tail}")


def _differences(actual: Shapes, expected: Shapes) -> Iterator[str]:
    for name, shape in expected.items():
        if name not in actual:
            yield f"{name} {shape} is missing"
        elif actual[name] != shape:
            yield f"{name} is {actual[name]}, expected {shape}"
    for name in actual:
        if name not in expected:
            yield f"{name} {actual[name]} is not part of the model"
