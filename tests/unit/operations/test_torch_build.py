"""The devices that the installed torch was built for, read without importing it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dna_pipeline.operations.torch_build import TorchBuild, installed_build

CPU = "__version__ = '2.13.0'\ncuda: Optional[str] = None\nhip: Optional[str] = None\n"
CUDA = "__version__ = '2.13.0+cu130'\ncuda: Optional[str] = '13.0'\nhip: Optional[str] = None\n"
ROCM = "cuda: Optional[str] = None\nhip: Optional[str] = '7.2.1'\nrocm: Optional[str] = '7.2.1'\n"


def lay_torch(folder: Path, version: str, text: str) -> None:
    info = folder / f"torch-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n")
    (folder / "torch").mkdir()
    (folder / "torch/__init__.py").write_text("raise RuntimeError('not to be imported')\n")
    (folder / "torch/version.py").write_text(text)


@pytest.mark.parametrize(
    ("version", "text", "backends", "is_for_cpu"),
    [
        ("2.13.0", CPU, {}, True),
        ("2.13.0+cpu", "odd text", None, True),
        ("2.13.0+cu130", CUDA, {"cuda": "13.0"}, False),
        ("2.13.0+rocm7.2", ROCM, {"hip": "7.2.1", "rocm": "7.2.1"}, False),
        ("2.13.0", "odd text", None, False),
    ],
)
def test_a_build(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    version: str,
    text: str,
    backends: dict[str, str] | None,
    is_for_cpu: bool,
):
    lay_torch(tmp_path, version, text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    build = installed_build()
    assert build == TorchBuild(version, backends)
    assert build.is_for_cpu == is_for_cpu


def test_no_torch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    assert installed_build() is None
