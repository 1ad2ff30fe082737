"""A checkpoint in one file is loaded as it is, and a VAE in one file replaces that of a model."""

from __future__ import annotations

import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from dna_pipeline.base.errors import WeightsMismatch
from dna_pipeline.providers.stable_diffusion import convert, single_file
from dna_pipeline.providers.stable_diffusion import folder as sd_folder
from dna_pipeline.weights.fingerprint import Fingerprints
from tests.unit.providers.stable_diffusion.conftest import (
    CPU,
    REQUEST,
    change_json,
    ignore,
    provider,
    vae_weights,
)

spec = importlib.util.spec_from_file_location(
    "original_names", Path(__file__).with_name("original_names.py")
)
assert spec is not None and spec.loader is not None
original_names: Any = importlib.util.module_from_spec(spec)
spec.loader.exec_module(original_names)

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.slow,
]


def ldm_vae(folder: Path) -> dict[str, torch.Tensor]:
    """The folder's VAE under the original's names."""
    tensors: dict[str, torch.Tensor] = {}
    for name, value in load_file(vae_weights(folder)).items():
        if original_names.is_vae_attention(name):
            value = value[:, :, None, None]
        tensors[original_names.vae_name(name)] = value.contiguous()
    return tensors


@pytest.fixture
def small(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Puts the small model's configuration in the place of the full one's."""
    config = tmp_path / "config"
    shutil.copytree(folder, config, ignore=shutil.ignore_patterns("*.safetensors", "LICENSE.txt"))
    for module in (convert, single_file, sd_folder):
        monkeypatch.setattr(module, "SD15_CONFIG", config)
    return tmp_path


@pytest.fixture
def checkpoint(small: Path, folder: Path) -> Path:
    tensors = ldm_vae(folder)
    for name, value in load_file(folder / "unet/diffusion_pytorch_model.safetensors").items():
        tensors[original_names.unet_name(name, 1)] = value
    for name, value in load_file(folder / "text_encoder/model.safetensors").items():
        tensors[f"cond_stage_model.transformer.{name}"] = value
    save_file(tensors, small / "one.safetensors")
    return small / "one.safetensors"


def image_of(model: Any, picture: Image.Image) -> bytes:
    return model.redraw(picture, REQUEST, ignore).tobytes()


def nine_channels(checkpoint: Path, folder: Path) -> None:
    """Make an inpainting model of the checkpoint, and of the folder that it was made from."""
    for path, name in (
        (checkpoint, "model.diffusion_model.input_blocks.0.0.weight"),
        (folder / "unet/diffusion_pytorch_model.safetensors", "conv_in.weight"),
    ):
        tensors = load_file(path)
        first = tensors[name]
        more = torch.full((first.shape[0], 5, *first.shape[2:]), 0.01, dtype=first.dtype)
        tensors[name] = torch.cat([first, more], dim=1)
        save_file(tensors, path, {"format": "pt"})
    change_json(folder / "unet/config.json", in_channels=9)


def test_an_inpainting_checkpoint_is_loaded_and_converted(
    small: Path, checkpoint: Path, copy: Path, picture: Image.Image
):
    nine_channels(checkpoint, copy)
    mask = Image.linear_gradient("L").resize(picture.size)
    request = replace(REQUEST, mask=mask)
    expected = provider(copy).load(CPU).redraw(picture, request, ignore).tobytes()
    words = small / "config/tokenizer"
    loaded = provider(checkpoint, tokenizer=words).load(CPU)
    assert loaded.redraw(picture, request, ignore).tobytes() == expected
    new = small / "new"
    converted = provider(new, single_file=checkpoint, tokenizer=words).load(CPU)
    assert converted.redraw(picture, request, ignore).tobytes() == expected
    index = json.loads((new / "model_index.json").read_bytes())
    assert index["_class_name"] == "StableDiffusionInpaintPipeline"


def damaged_vae(folder: Path) -> dict[str, torch.Tensor]:
    tensors = ldm_vae(folder)
    last = "first_stage_model.decoder.conv_out.bias"
    tensors[last] = tensors[last] + 0.5
    return tensors


def test_a_checkpoint_gives_the_picture_of_its_folder(
    model: Any, small: Path, checkpoint: Path, picture: Image.Image
):
    entry = provider(checkpoint, tokenizer=small / "config/tokenizer")
    assert entry.missing() is None
    assert entry.mismatch() is None
    assert entry.weights() == (checkpoint, [checkpoint])
    loaded = entry.load(CPU)
    assert image_of(loaded, picture) == image_of(model, picture)
    assert sorted(path.name for path in small.iterdir()) == ["config", "one.safetensors"]


def test_half_precision_is_computed_as_from_a_folder(
    folder: Path, small: Path, checkpoint: Path, picture: Image.Image
):
    from dna_pipeline.providers.base import Device

    device = Device("cpu", "bfloat16")
    loaded = provider(checkpoint, tokenizer=small / "config/tokenizer").load(device)
    assert loaded.computes_on == device
    assert image_of(loaded, picture) == image_of(provider(folder).load(device), picture)


@pytest.mark.parametrize("layout", ["ldm", "ldm alone", "diffusers", "old diffusers"])
def test_a_vae_replaces_the_models_own(
    folder: Path, small: Path, checkpoint: Path, model: Any, picture: Image.Image, layout: str
):
    tensors = damaged_vae(folder)
    if layout != "ldm":
        tensors = {key.removeprefix("first_stage_model."): t for key, t in tensors.items()}
    if "diffusers" in layout:
        tensors = load_file(vae_weights(folder))
        tensors["decoder.conv_out.bias"] += 0.5
    if layout == "old diffusers":
        names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
        for new, old in names.items():
            tensors = {key.replace(f".{new}.", f".{old}."): t for key, t in tensors.items()}
        assert any(".proj_attn." in key for key in tensors)
    save_file(tensors, small / "vae.safetensors")
    own = image_of(model, picture)
    pictures = {
        image_of(
            provider(
                path, vae=small / "vae.safetensors", tokenizer=small / "config/tokenizer"
            ).load(CPU),
            picture,
        )
        for path in (folder, checkpoint)
    }
    assert len(pictures) == 1
    assert own not in pictures


def test_a_vae_counts_as_weights(folder: Path, small: Path, checkpoint: Path):
    save_file(damaged_vae(folder), small / "vae.safetensors")
    prints = Fingerprints(small)
    for path in (folder, checkpoint):
        own = prints.of(provider(path))
        entry = provider(path, vae=small / "vae.safetensors")
        with_other = prints.of(entry)
        assert own[0] == with_other[0]
        assert own[1] != with_other[1]
        assert vae_weights(folder) not in entry.weights()[1]
    assert "vae" not in provider(folder).model_dump()


def test_a_folder_without_a_vae_is_whole_with_one(copy: Path, folder: Path, small: Path):
    save_file(ldm_vae(folder), small / "vae.safetensors")
    vae_weights(copy).unlink()
    assert "lacks vae/" in (provider(copy).missing() or "")
    entry = provider(copy, vae=small / "vae.safetensors")
    assert entry.missing() is None
    entry.load(CPU)
    (small / "vae.safetensors").unlink()
    assert "vae.safetensors is not there" in (entry.missing() or "")


def test_a_checkpoint_without_a_vae_needs_one(folder: Path, small: Path, checkpoint: Path):
    tensors = load_file(checkpoint)
    rest = {key: t for key, t in tensors.items() if not key.startswith("first_stage_model.")}
    save_file(rest, checkpoint)
    sentence = f"{checkpoint} has no VAE; name a file of one at the model's key `vae`"
    for path in (checkpoint, small / "sd"):
        entry = provider(path, single_file=checkpoint)
        assert entry.mismatch() == sentence
        with pytest.raises(WeightsMismatch, match="has no VAE"):
            entry.load(CPU)
    save_file(ldm_vae(folder), small / "vae.safetensors")
    entry = provider(small / "sd", single_file=checkpoint, vae=small / "vae.safetensors")
    assert entry.mismatch() is None
    convert.convert(checkpoint, small / "sd", vae=small / "vae.safetensors")
    ours, theirs = load_file(vae_weights(small / "sd")), load_file(vae_weights(folder))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_a_wrong_vae_is_named(folder: Path, small: Path):
    save_file({"lora_unet_x.lora_down.weight": torch.zeros(2, 2)}, small / "vae.safetensors")
    entry = provider(folder, vae=small / "vae.safetensors")
    assert "is a LoRA; needed here is a VAE" in (entry.mismatch() or "")
    tensors = ldm_vae(folder)
    tensors["first_stage_model.decoder.conv_in.bias"] = torch.zeros(3)
    save_file(tensors, small / "vae.safetensors")
    with pytest.raises(WeightsMismatch, match=r"decoder.conv_in.bias is \(3,\)"):
        entry.load(CPU)


def test_a_file_has_no_safety_checker(checkpoint: Path):
    entry = provider(checkpoint, safety_checker=True)
    assert "holds no safety checker" in (entry.mismatch() or "")


def test_moving_averages_are_left_out(small: Path, checkpoint: Path):
    tensors = load_file(checkpoint)
    name = "model.diffusion_model.out.2.weight"
    tensors["model_ema.diffusion_modelout2weight"] = tensors[name] + 1
    save_file(tensors, checkpoint)
    unet = single_file.read_parts(checkpoint)["unet"]
    assert torch.equal(unet["conv_out.weight"], tensors[name])


def test_a_pointer_in_a_folder_is_named(copy: Path):
    vae_weights(copy).write_text("version https://git-lfs.github.com/spec/v1\nsize 9\n")
    assert provider(copy).missing() is None
    assert f"{vae_weights(copy)} is a Git LFS pointer" in (provider(copy).mismatch() or "")
