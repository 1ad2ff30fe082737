"""One file of weights becomes a folder, offline, with every tensor equal."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from dna_pipeline.base.errors import WeightsMismatch
from dna_pipeline.base.files import sha256_file
from dna_pipeline.providers.base import Device
from dna_pipeline.providers.stable_diffusion import convert, single_file, tensor_file, vocabulary
from dna_pipeline.providers.stable_diffusion import folder as sd_folder
from dna_pipeline.providers.stable_diffusion.provider import Diffusers

spec = importlib.util.spec_from_file_location(
    "original_names", Path(__file__).with_name("original_names.py")
)
assert spec is not None and spec.loader is not None
original_names: Any = importlib.util.module_from_spec(spec)
spec.loader.exec_module(original_names)

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]

WEIGHTS = {
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}


def original(parts: dict[str, dict[str, torch.Tensor]], layers: int) -> dict[str, torch.Tensor]:
    """All parts under the original's names, as one file holds them."""
    tensors = {
        original_names.unet_name(name, layers): value for name, value in parts["unet"].items()
    }
    for name, value in parts["vae"].items():
        if original_names.is_vae_attention(name):
            value = value[:, :, None, None]
        tensors[original_names.vae_name(name)] = value
    for name, value in parts["text_encoder"].items():
        tensors[f"cond_stage_model.transformer.{name}"] = value
    position_ids = "cond_stage_model.transformer.text_model.embeddings.position_ids"
    return {**tensors, position_ids: torch.arange(77)[None]}


@pytest.fixture(scope="module")
def folder(models_dir: Path) -> Path:
    return models_dir / "sd-v1-5-local"


@pytest.fixture(scope="module")
def single(folder: Path) -> dict[str, torch.Tensor]:
    return original({name: load_file(folder / name / file) for name, file in WEIGHTS.items()}, 1)


@pytest.fixture
def small(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Puts the small model's configuration in the place of the full one's."""
    config = tmp_path / "config"
    shutil.copytree(folder, config, ignore=shutil.ignore_patterns("*.safetensors", "LICENSE.txt"))
    for module in (convert, single_file, sd_folder):
        monkeypatch.setattr(module, "SD15_CONFIG", config)
    return tmp_path


def diffusers_model(root: Path) -> Diffusers:
    return Diffusers(
        path=root / "sd",
        single_file=root / "one.safetensors",
        tokenizer=root / "config/tokenizer",
    )


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
def test_every_tensor_is_equal(
    small: Path, folder: Path, single: dict[str, torch.Tensor], suffix: str
):
    file = small / f"one{suffix}"
    if suffix == ".ckpt":
        torch.save({"state_dict": single, "global_step": 7}, file)
    else:
        save_file({k: v.contiguous() for k, v in single.items()}, file)
    convert.convert(file, small / "sd", tokenizer=small / "config/tokenizer")
    for name, weights in WEIGHTS.items():
        ours, theirs = load_file(folder / name / weights), load_file(small / "sd" / name / weights)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert sorted(path.name for path in small.iterdir()) == sorted(["config", file.name, "sd"])


def test_the_provider_converts_once(small: Path, single: dict[str, torch.Tensor]):
    model = diffusers_model(small)
    assert str(small / "one.safetensors") in (model.missing() or "")
    assert model.single_file is not None
    save_file({k: v.contiguous() for k, v in single.items()}, model.single_file)
    assert model.missing() is None
    assert model.weights() == (model.single_file, [model.single_file])
    model.load(Device("cpu", "float32"))
    model.single_file.unlink()
    assert model.missing() is None
    assert model.weights()[0] == model.path
    assert not model.convert()


def test_a_worker_that_converts_beside_another_takes_what_that_one_made(
    small: Path, single: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
):
    model = diffusers_model(small)
    assert model.single_file is not None
    save_file({k: v.contiguous() for k, v in single.items()}, model.single_file)
    rename = convert.rename_new

    def be_late(source: Path, target: Path) -> None:
        shutil.copytree(source, target)
        rename(source, target)

    monkeypatch.setattr(convert, "rename_new", be_late)
    assert not model.convert()
    assert sorted(path.name for path in small.iterdir()) == ["config", "one.safetensors", "sd"]
    model.load(Device("cpu", "float32"))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda t: t.pop("model.diffusion_model.out.2.weight"), "unet: conv_out.weight is missing"),
        (
            lambda t: t.update({"first_stage_model.decoder.conv_in.bias": torch.zeros(3)}),
            "decoder.conv_in.bias is (3,) and should be (16,)",
        ),
        (
            lambda t: [t.pop(k) for k in list(t) if ".encoder.layers.0.mlp" in k],
            "text_encoder: text_model.encoder.layers.0.mlp.fc1.weight is missing",
        ),
        (
            lambda t: [t.pop(k) for k in list(t) if k.startswith("cond_stage_model")],
            "one.safetensors has no text encoder; needed here is a Stable Diffusion 1.5",
        ),
        (lambda t: t.clear(), "one.safetensors is no model that is known here (one tensor"),
    ],
)
def test_what_does_not_fit_is_named_and_leaves_nothing(
    small: Path, single: dict[str, torch.Tensor], damage: Any, told: str
):
    tensors = {key: value.contiguous() for key, value in single.items()}
    damage(tensors)
    tensors["other"] = torch.zeros(1)
    save_file(tensors, small / "one.safetensors")
    with pytest.raises(WeightsMismatch) as caught:
        convert.convert(small / "one.safetensors", small / "sd")
    assert told in caught.value.detail
    assert not (small / "sd").exists()
    assert not list(small.glob(".*"))


def test_a_damaged_file_and_one_with_code_are_refused(small: Path, single: dict[str, torch.Tensor]):
    for name, data in (("one.safetensors", b"x" * 100), ("one.ckpt", b"x" * 100)):
        (small / name).write_bytes(data)
        with pytest.raises(WeightsMismatch):
            convert.convert(small / name, small / "sd")
    torch.save({"state_dict": single, "callbacks": {"a": Path("/")}}, small / "one.ckpt")
    with pytest.raises(WeightsMismatch, match="holds objects that only its own code could rebuild"):
        convert.convert(small / "one.ckpt", small / "sd")


def test_the_full_model_has_the_published_names():
    """Counts and shapes are those of v1-5-pruned-emaonly.safetensors."""
    shapes = {
        name: single_file.shapes_of(
            name, sd_folder.read_json(sd_folder.SD15_CONFIG / name / "config.json")
        )
        for name in WEIGHTS
    }
    parts = {
        name: {key: torch.empty(shape, device="meta") for key, shape in part.items()}
        for name, part in shapes.items()
    }
    tensors = original(parts, 2)
    counts = [
        sum(key.startswith(prefix) for key in tensors)
        for prefix in ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.")
    ]
    assert counts == [686, 248, 197]
    published = {
        "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 768),
        "model.diffusion_model.output_blocks.8.2.conv.weight": (640, 640, 3, 3),
        "model.diffusion_model.output_blocks.2.1.conv.weight": (1280, 1280, 3, 3),
        "model.diffusion_model.input_blocks.3.0.op.weight": (320, 320, 3, 3),
        "first_stage_model.decoder.up.3.upsample.conv.weight": (512, 512, 3, 3),
        "first_stage_model.encoder.mid.attn_1.proj_out.weight": (512, 512, 1, 1),
        "cond_stage_model.transformer.text_model.encoder.layers.11.mlp.fc1.weight": (3072, 768),
    }
    assert {key: tuple(tensors[key].shape) for key in published} == published
    back = single_file.to_parts(tensors)
    assert {n: {k: tuple(t.shape) for k, t in p.items()} for n, p in back.items()} == shapes


def test_the_vocabulary_is_the_published_one(tmp_path: Path):
    vocabulary.write(tmp_path)
    published = {
        "merges.txt": "9fd691f7c8039210e0fced15865466c65820d09b63988b0174bfe25de299051a",
        "vocab.json": "e089ad92ba36837a0d31433e555c8f45fe601ab5c221d4f607ded32d9f7a4349",
    }
    assert {path.name: sha256_file(path) for path in tmp_path.iterdir()} == published


def test_another_vocabulary_is_taken_where_it_is_there(folder: Path, tmp_path: Path):
    for name in ("source", "tokenizer", "both"):
        (tmp_path / name).mkdir()
    shutil.copy(folder / "tokenizer/merges.txt", tmp_path / "source")
    vocabulary.write(tmp_path / "tokenizer", tmp_path / "source")
    made = json.loads((tmp_path / "tokenizer/vocab.json").read_text())
    assert made == json.loads((folder / "tokenizer/vocab.json").read_text())
    (tmp_path / "source/vocab.json").write_text("{}")
    vocabulary.write(tmp_path / "both", tmp_path / "source")
    assert (tmp_path / "both/vocab.json").read_text() == "{}"


def test_the_writer_keeps_every_dtype_and_shape(tmp_path: Path):
    numbers = torch.arange(24).reshape(2, 3, 4)
    tensors = {
        str(dtype): numbers.to(dtype)
        for dtype in (
            torch.uint8, torch.int64, torch.float16, torch.bfloat16, torch.float32,
            torch.float8_e4m3fn, torch.bool,
        )
    }  # fmt: skip
    tensors |= {"turned": numbers.half().permute(2, 0, 1), "one": torch.tensor(3.0)}
    tensor_file.write(tmp_path / "x.safetensors", tensors | {"none": torch.zeros(0, 4)})
    read = load_file(tmp_path / "x.safetensors")
    assert read.pop("none").shape == (0, 4)
    assert read.keys() == tensors.keys()
    for name, value in tensors.items():
        assert read[name].dtype == value.dtype
        assert torch.equal(
            read[name].reshape(-1).view(torch.uint8), value.reshape(-1).view(torch.uint8)
        )
