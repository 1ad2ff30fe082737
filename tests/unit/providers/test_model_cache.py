"""The models that the worker keeps in memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

import pytest

from dna_pipeline.providers.base import Device, ModelCache, Provider, WeightsPath

LOADED: list[bytes] = []


class Weighed(Provider):
    """A model of one file, whose bytes it gives when it is loaded."""

    name_in_config: ClassVar[str] = "weighed"
    stages: ClassVar[frozenset[str]] = frozenset({"draws"})
    path: WeightsPath

    def missing(self) -> str | None:
        return None

    def weights(self) -> tuple[Path, list[Path]]:
        return self.path, [self.path]

    def load(self, device: Device) -> Any:
        LOADED.append(self.path.read_bytes())
        return LOADED[-1]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    LOADED.clear()
    path = tmp_path / "weights"
    path.write_bytes(b"old")
    return path


def test_a_model_whose_file_was_replaced_is_loaded_anew(weights: Path) -> None:
    models = ModelCache({"m": Weighed(path=weights)}, Device("cpu", "float32"))
    assert [models.get("m"), models.get("m")] == [b"old", b"old"]
    assert models.is_loaded("m")
    weights.write_bytes(b"new")
    os.utime(weights, (1, 1))
    assert not models.is_loaded("m")
    assert [models.get("m"), models.get("m")] == [b"new", b"new"]
    assert LOADED == [b"old", b"new"]


def test_a_model_whose_file_is_gone_stays(weights: Path) -> None:
    models = ModelCache({"m": Weighed(path=weights)}, Device("cpu", "float32"))
    models.get("m")
    weights.unlink()
    assert models.is_loaded("m")
    assert models.get("m") == b"old"
