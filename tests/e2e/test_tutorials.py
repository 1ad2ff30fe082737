"""The tutorials, as their readers follow them: every command runs, and prints what they say."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import product_shot
from PIL import Image
from replay import Replay
from skimage import data

from tests.onnx_files import redness_network

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TUTORIALS = [ROOT / "docs/start.md", *sorted((ROOT / "docs/tutorials").glob("*.md"))]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The reader's home, with pictures and renders."""
    pictures = tmp_path / "home/Pictures"
    pictures.mkdir(parents=True)
    Image.fromarray(data.chelsea()).save(pictures / "cat.jpg")
    Image.fromarray(data.rocket()).save(pictures / "rocket.jpg")
    shot = product_shot()
    shot.convert("RGB").save(pictures / "cup.jpg")
    (tmp_path / "home/renders").mkdir()
    shot.save(tmp_path / "home/renders/robot.png")
    return tmp_path / "home"


@pytest.fixture
def environment(home: Path, tmp_path: Path) -> dict[str, str]:
    """An environment with `dna-pipeline` in its path, in a wide window."""
    program = tmp_path / "bin/dna-pipeline"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m dna_pipeline "$@"\n')
    program.chmod(0o755)
    paths = {"PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    return {**os.environ, **paths, "HOME": str(home), "COLUMNS": "200", "LC_ALL": "C.UTF-8"}


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial(
    path: Path, tmp_path: Path, environment: dict[str, str], models_dir: Path
) -> None:
    def put_models(folder: Path, names: Sequence[str]) -> None:
        for name in names:
            if name == "u2net":
                (folder / "u2net.onnx").write_bytes(redness_network(320))
            else:
                shutil.copytree(models_dir / name, folder / name)

    replay = Replay(tmp_path, environment, put_models)
    replay.run(path.read_text(encoding="utf-8"))
    assert replay.commands >= 7
