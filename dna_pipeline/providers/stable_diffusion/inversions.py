"""Vectors of textual inversions, read from their files.

A file is one of: AUTOMATIC1111's `.pt` (`string_to_param`), a `.safetensors` with `emb_params`, or
a file of Diffusers, whose one tensor has the name of the token. A pickle is read without running
any code that it names.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from dna_pipeline.base.errors import WeightsMismatch, WeightsMissing
from dna_pipeline.weights.fingerprint import file_identity

if TYPE_CHECKING:
    import torch

_KEPT = 64
"""Most files whose vectors stay in memory."""


class InversionFiles:
    """Reads files of textual inversions, each again only when it was changed."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._cache: OrderedDict[str, torch.Tensor | WeightsMismatch] = OrderedDict()

    def vectors(self, path: Path) -> torch.Tensor | WeightsMismatch:
        """Vectors (count, width) in float32, or the error of a file that has none of that width.

        Raises:
            WeightsMissing: the file is not there any more.
        """
        key = identity(path)
        if key not in self._cache:
            self._cache[key] = _vectors(path, self._width)
            if len(self._cache) > _KEPT:
                self._cache.popitem(last=False)
        self._cache.move_to_end(key)
        return self._cache[key]


def identity(path: Path) -> str:
    """As `file_identity`. Raises `WeightsMissing`."""
    try:
        return file_identity(path)
    except OSError as error:
        raise WeightsMissing(f"{path} is not there any more; put it there again") from error


def _vectors(path: Path, width: int) -> torch.Tensor | WeightsMismatch:
    try:
        tensors = _tensors(_content(path))
    except OSError as error:
        raise WeightsMissing(f"{path} cannot be read: {error}") from error
    except MemoryError:
        raise
    except Exception:  # torch's reader raises nearly everything on a damaged file
        return WeightsMismatch(f"{path} is no textual inversion that can be read")
    if len(tensors) != 1:
        return WeightsMismatch(f"{path} holds {len(tensors)} tensors, not the one of an inversion")
    vectors = tensors[0].detach().float()
    vectors = vectors if vectors.ndim != 1 else vectors[None]
    if vectors.ndim != 2 or not len(vectors):
        return WeightsMismatch(f"{path} is no textual inversion: it holds no list of vectors")
    if vectors.shape[1] != width:
        return WeightsMismatch(
            f"{path} is a textual inversion for another model: its vectors have "
            f"{vectors.shape[1]} numbers, and this model takes {width}"
        )
    return vectors


def _content(path: Path) -> Mapping[str, Any]:
    """Raises ValueError for a file that is no mapping, and whatever its reader raises."""
    if path.suffix.lower() == ".safetensors":
        return _safetensors(path)
    import torch
    from torch.nn import ParameterDict

    with torch.serialization.safe_globals([ParameterDict]):
        content = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(content, Mapping):
        raise ValueError("no mapping")
    return cast("Mapping[str, Any]", content)


def _safetensors(path: Path) -> Mapping[str, Any]:
    from importlib import import_module

    from safetensors import SafetensorError

    try:
        return import_module("safetensors.torch").load_file(path)
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def _tensors(content: Mapping[str, Any]) -> list[torch.Tensor]:
    """Tensors that may be the vectors: those that are named as such, or else all."""
    import torch

    named = content.get("string_to_param", content.get("emb_params", content))
    if isinstance(named, torch.Tensor):
        return [named]
    values = named.values() if hasattr(named, "values") else ()
    return [value for value in values if isinstance(value, torch.Tensor)]
