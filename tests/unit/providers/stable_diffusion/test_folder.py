"""Reading a Stable Diffusion folder: what may be in it, and what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from dna_pipeline.base.errors import WeightsMismatch, WeightsMissing
from dna_pipeline.providers.base import Device
from dna_pipeline.providers.stable_diffusion.provider import StableDiffusion
from tests.unit.providers.stable_diffusion.conftest import (
    CPU,
    REQUEST,
    change_json,
    change_tensors,
    ignore,
    provider,
    vae_weights,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("one_thread"),
]


def test_nothing_is_missing_and_all_files_are_told(folder: Path):
    whole = provider(folder)
    assert whole.missing() is None
    root, files = whole.weights()
    assert root == folder
    names = {str(path.relative_to(folder)) for path in files}
    assert names == {
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()
    } - {"LICENSE.txt"}


def test_a_missing_folder_is_told_with_the_way_out(tmp_path: Path):
    absent = provider(tmp_path / "sd", single_file=tmp_path / "sd.safetensors")
    why = absent.missing()
    assert why is not None
    assert str(tmp_path / "sd") in why and str(tmp_path / "sd.safetensors") in why
    with pytest.raises(WeightsMissing):
        absent.load(CPU)


@pytest.mark.parametrize(
    "name",
    [
        "model_index.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
        "tokenizer/vocab.json",
        "tokenizer/merges.txt",
        "scheduler/scheduler_config.json",
    ],
)
def test_a_missing_file_is_named(copy: Path, name: str):
    (copy / name).unlink()
    why = provider(copy).missing()
    assert why is not None and name in why
    with pytest.raises(WeightsMismatch, match=name):
        provider(copy).load(CPU)


@pytest.mark.parametrize(
    ("file", "tensor"),
    [
        ("unet/diffusion_pytorch_model.safetensors", "conv_in.weight"),
        ("vae/diffusion_pytorch_model.safetensors", "encoder.conv_in.weight"),
        ("text_encoder/model.safetensors", "text_model.final_layer_norm.weight"),
    ],
)
def test_missing_and_misshapen_tensors_are_named(copy: Path, file: str, tensor: str):
    short = tensor.removeprefix("text_model.")

    def misshape(tensors: dict[str, torch.Tensor]) -> None:
        tensors[tensor] = tensors[tensor][:3].clone()

    change_tensors(copy / file, misshape)
    with pytest.raises(WeightsMismatch, match=rf"{short} is \(3,.*should be \("):
        provider(copy).load(CPU)
    change_tensors(copy / file, lambda t: t.pop(tensor))
    with pytest.raises(WeightsMismatch, match=f"{short} is missing"):
        provider(copy).load(CPU)


@pytest.mark.parametrize(
    "name",
    [
        "unet/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
        "unet/config.json",
        "text_encoder/config.json",
        "tokenizer/vocab.json",
        "scheduler/scheduler_config.json",
        "model_index.json",
    ],
)
def test_half_a_file_is_a_mismatch(copy: Path, name: str):
    data = (copy / name).read_bytes()
    (copy / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(WeightsMismatch, match=name.split("/")[0]):
        provider(copy).load(CPU)


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("model_index.json", {"_class_name": "StableDiffusionXLPipeline"}),
        ("model_index.json", {"_class_name": ["my_pipeline", "Mine"]}),
        ("model_index.json", {"unet": ["my_unet", "UNet2DConditionModel"]}),
        ("model_index.json", {"unet": ["diffusers", "AutoencoderKL"]}),
        ("model_index.json", {"tokenizer": ["transformers", "AutoTokenizer"]}),
        ("model_index.json", {"scheduler": ["os", "system"]}),
        ("model_index.json", {"vae": None}),
        ("unet/config.json", {"_class_name": "UNet2DModel"}),
        ("unet/config.json", {"quantization_config": {"quant_method": "bitsandbytes"}}),
        ("text_encoder/config.json", {"architectures": ["T5EncoderModel"]}),
    ],
)
def test_other_classes_are_refused(copy: Path, file: str, changes: dict[str, Any]):
    change_json(copy / file, **changes)
    with pytest.raises(WeightsMismatch):
        provider(copy).load(CPU)


def test_code_in_the_folder_is_not_run(copy: Path, tmp_path: Path):
    trap = tmp_path / "ran"
    for part in ("unet", "text_encoder", "tokenizer", "."):
        for name in ("pipeline", "modeling", "tokenization"):
            (copy / part / f"{name}.py").write_text(f"open({str(trap)!r}, 'w')\n")
    auto = {"AutoModel": "modeling.Mine", "AutoConfig": "modeling.Mine"}
    change_json(copy / "text_encoder/config.json", auto_map=auto)
    change_json(
        copy / "tokenizer/tokenizer_config.json",
        auto_map={"AutoTokenizer": ["tokenization.Mine", None]},
    )
    provider(copy).load(CPU)
    assert not trap.exists()


class Proof:
    """Makes a folder when it is unpickled by a reader that trusts it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize(
    ("part", "stem", "pickled"),
    [
        ("unet", "diffusion_pytorch_model", "diffusion_pytorch_model"),
        ("text_encoder", "model", "pytorch_model"),
    ],
)
def test_code_in_pickled_weights_does_not_run(
    copy: Path, tmp_path: Path, part: str, stem: str, pickled: str
):
    (copy / part / f"{stem}.safetensors").unlink()
    torch.save({"weight": Proof(tmp_path / "proof")}, copy / part / f"{pickled}.bin")
    with pytest.raises(WeightsMismatch, match=part):
        provider(copy).load(CPU)
    assert not (tmp_path / "proof").exists()


def test_parts_of_different_models_are_refused(copy: Path):
    config = copy / "tokenizer/tokenizer_config.json"
    change_json(config, model_max_length=256)
    with pytest.raises(WeightsMismatch, match="longer texts"):
        provider(copy).load(CPU)


@pytest.mark.parametrize("form", ["fp16", "bin", "sharded", "old names"])
def test_other_forms_of_the_same_weights(
    copy: Path, model: StableDiffusion, picture: Image.Image, form: str
):
    path = vae_weights(copy)
    tensors = load_file(path)
    path.unlink()
    if form == "fp16":
        save_file(tensors, path.with_suffix(".fp16.safetensors"), {"format": "pt"})
    elif form == "bin":
        torch.save(tensors, path.with_suffix(".bin"))
    elif form == "sharded":
        save_in_shards(tensors, path)
    else:
        save_file(with_old_names(tensors), path, {"format": "pt"})
    other = provider(copy)
    assert other.missing() is None
    expected = model.redraw(picture, REQUEST, ignore)
    assert other.load(CPU).redraw(picture, REQUEST, ignore).tobytes() == expected.tobytes()


def save_in_shards(tensors: dict[str, torch.Tensor], path: Path) -> None:
    names = sorted(tensors)
    halves = (names[::2], names[1::2])
    where: dict[str, str] = {}
    for i, half in enumerate(halves, 1):
        file = path.with_name(f"diffusion_pytorch_model-{i:05}-of-00002.safetensors")
        save_file({name: tensors[name] for name in half}, file, {"format": "pt"})
        where |= dict.fromkeys(half, file.name)
    index = {"metadata": {"total_size": 1}, "weight_map": where}
    path.with_name("diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))


def with_old_names(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """As the published folder of SD 1.5 names the VAE's attention."""
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    renamed = dict(tensors)
    for new, name in old.items():
        for key in [k for k in renamed if f".attentions.0.{new}." in k]:
            renamed[key.replace(new, name)] = renamed.pop(key)
    return renamed


def test_half_precision_makes_a_picture_too(
    folder: Path, model: StableDiffusion, picture: Image.Image
):
    half = provider(folder).load(Device("cpu", "bfloat16")).redraw(picture, REQUEST, ignore)
    full = model.redraw(picture, REQUEST, ignore)
    difference = np.abs(np.asarray(half, np.int16) - np.asarray(full, np.int16)).mean()
    assert difference < 12
