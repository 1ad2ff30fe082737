"""Plans of pulls into folders that hold something else."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from dna_pipeline.base.errors import TransferFailed
from dna_pipeline.weights.pins import PinnedFile, PinnedModel, Placement, Source
from dna_pipeline.weights.pull import plan

FILES = tuple(
    PinnedFile(name, name, 3, hashlib.sha256(b"abc").hexdigest()) for name in ("a.json", "w.bin")
)
MODEL = PinnedModel("m", "M", "p", "models/m", False, Source("o/r", "rev", True), FILES)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "m").mkdir()
    return tmp_path / "m"


def refusal(folder: Path) -> str:
    with pytest.raises(TransferFailed) as error:
        plan([Placement(MODEL, folder)])
    return str(error.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no named pipes in folders")
def test_a_pipe_at_the_place_of_a_file_is_not_read(folder: Path):
    os.mkfifo(folder / "w.bin")
    assert "holds other files than M: w.bin" in refusal(folder)


def test_a_link_to_nowhere_at_the_place_of_a_file_is_named(folder: Path):
    (folder / "w.bin").symlink_to(folder / "gone")
    assert "holds other files than M: w.bin" in refusal(folder)


def test_a_folder_at_the_place_of_a_file_is_named(folder: Path):
    (folder / "w.bin").mkdir()
    assert "holds other files than M: w.bin" in refusal(folder)
