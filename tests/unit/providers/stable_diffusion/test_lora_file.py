"""The factors that LoRAs' files state, and files of which no LoRA can be made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from dna_pipeline.base.errors import WeightsMismatch
from dna_pipeline.providers.stable_diffusion.lora_file import UNET, Change, read_lora

LAYER = (UNET, "mid.to_q")
SHAPES = {LAYER: (6, 5)}
KOHYA = "lora_unet_mid_to_q"


def tensors(rank: int = 4) -> dict[str, torch.Tensor]:
    return {
        f"{KOHYA}.lora_down.weight": torch.ones(rank, 5),
        f"{KOHYA}.lora_up.weight": torch.ones(6, rank),
    }


def read(folder: Path, content: dict[str, torch.Tensor], **header: Any) -> Change:
    """The change of the one layer; `header` is what Diffusers writes of the UNet."""
    path = folder / "own.safetensors"
    text = json.dumps({f"{UNET}.{name}": value for name, value in header.items()})
    save_file(content, path, {"lora_adapter_metadata": text})
    return read_lora(path, SHAPES)[LAYER]


@pytest.mark.parametrize(
    ("header", "scale"),
    [
        ({}, 1.0),
        ({"lora_alpha": 8}, 0.125),
        ({"lora_alpha": 8, "use_rslora": False}, 0.125),
        ({"lora_alpha": 8, "use_rslora": True}, 1.0),
        ({"lora_alpha": 8, "use_rslora": True, "alpha_pattern": {"to_q": 16}}, 2.0),
        ({"lora_alpha": 8, "alpha_pattern": {"to_q": 16}}, 0.25),
    ],
)
def test_the_factor_by_the_header(tmp_path: Path, header: dict[str, Any], scale: float):
    assert read(tmp_path, tensors(64), **header).scale == scale


def test_a_stored_alpha_is_divided_by_the_rank_whatever_the_header_says(tmp_path: Path):
    content = tensors(64) | {f"{KOHYA}.alpha": torch.tensor(8.0)}
    assert read(tmp_path, content, lora_alpha=4, use_rslora=True).scale == 0.125


@pytest.mark.parametrize(
    "alpha",
    [torch.ones(2), torch.ones(0), torch.tensor(float("nan")), torch.tensor(float("inf"))],
    ids=["two numbers", "no number", "not a number", "infinite"],
)
def test_an_alpha_that_is_not_one_finite_number(tmp_path: Path, alpha: torch.Tensor):
    with pytest.raises(WeightsMismatch, match=r"own\.safetensors is damaged: .*one finite number"):
        read(tmp_path, tensors() | {f"{KOHYA}.alpha": alpha})


@pytest.mark.parametrize("side", ["lora_down", "lora_up"])
@pytest.mark.parametrize("matrix", [torch.tensor(1.0), torch.ones(20), torch.ones(0, 5)])
def test_a_matrix_that_is_none(tmp_path: Path, side: str, matrix: torch.Tensor):
    content = tensors() | {f"{KOHYA}.{side}.weight": matrix}
    with pytest.raises(WeightsMismatch, match=r"is damaged: mid\.to_q has a matrix of shape"):
        read(tmp_path, content)


def test_a_rank_of_zero(tmp_path: Path):
    with pytest.raises(WeightsMismatch, match="is damaged"):
        read(tmp_path, tensors(0))


@pytest.mark.parametrize(
    "header",
    [
        {"lora_alpha": None},
        {"lora_alpha": "much"},
        {"lora_alpha": float("nan")},
        {"lora_alpha": 10**400},
        {"alpha_pattern": {"to_(q": 1}},
        {"alpha_pattern": {"to_q": [1]}},
        {"alpha_pattern": ["to_q"]},
    ],
)
def test_a_header_without_a_usable_alpha(tmp_path: Path, header: dict[str, Any]):
    with pytest.raises(WeightsMismatch, match="is damaged: the alpha in its header"):
        read(tmp_path, tensors(), **header)
