"""What a worker says of the libraries and threads that its results depend on."""

from __future__ import annotations

import importlib.metadata

import pytest

from dna_pipeline.execution.worker import process
from dna_pipeline.execution.worker_child import THREAD_VARIABLES
from dna_pipeline.providers.base import Device


def test_libraries_that_compute_are_named_by_what_is_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With `onnxruntime-gpu`, nothing is installed by the name `onnxruntime`."""
    installed = {"onnxruntime-gpu": "1.30", "pymatting": "1.1", "scipy": "1.17", "numba": "0.68"}

    def version(name: str) -> str:
        if name not in installed:
            raise importlib.metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(importlib.metadata, "version", version)
    found = process.environment(Device("cpu", "float32"))
    assert installed.items() <= found.items()
    assert "onnxruntime" not in found


def test_threads_are_those_that_the_variables_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    free = process.cpu_threads()
    assert free.keys() == {"cores"}
    assert int(free["cores"]) >= 1
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("NUMBA_NUM_THREADS", "3")
    assert process.cpu_threads() == {
        "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "3", "cores": "1"
    }  # fmt: skip
    monkeypatch.setenv("OMP_NUM_THREADS", "1000000")
    assert process.cpu_threads()["cores"] == free["cores"]
