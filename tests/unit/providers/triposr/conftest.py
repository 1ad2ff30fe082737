"""The small golden model and scenes, loaded once."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dna_pipeline.providers.triposr import weights
from dna_pipeline.providers.triposr.field import Field
from dna_pipeline.providers.triposr.network import TSR

GOLDEN = Path(__file__).parents[3] / "golden"


@pytest.fixture(scope="session")
def tiny_folder() -> Path:
    return GOLDEN / "triposr-tiny"


@pytest.fixture
def tiny_copy(tiny_folder: Path, tmp_path: Path) -> Path:
    """The small model in a folder that a test may change."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> TSR:
    return weights.load(tiny_folder)


@pytest.fixture(scope="session")
def expected(tiny_folder: Path) -> Mapping[str, Any]:
    with np.load(tiny_folder / "expected.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def conditioned(tiny_folder: Path) -> torch.Tensor:
    """The network's input, (1, H, W, 3) in [0, 1]."""
    with Image.open(tiny_folder / "conditioned.png") as image:
        return torch.as_tensor(np.asarray(image, np.float32) / 255)[None]


@pytest.fixture(scope="session")
def tiny_field(tiny: TSR, conditioned: torch.Tensor) -> Field:
    with torch.inference_mode():
        return tiny.field(tiny(conditioned)[0])


@pytest.fixture(scope="session")
def robot() -> Field:
    return Field.from_npz(GOLDEN / "scenes" / "robot.npz")
