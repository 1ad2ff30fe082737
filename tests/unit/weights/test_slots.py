"""The sentence about a wrong file names the file, what is needed, and where the file belongs."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from dna_pipeline.weights import slots
from dna_pipeline.weights.slots import Slot, mismatch

spec = importlib.util.spec_from_file_location(
    "weight_files", Path(__file__).with_name("weight_files.py")
)
assert spec is not None and spec.loader is not None
files: Any = importlib.util.module_from_spec(spec)
spec.loader.exec_module(files)

SD15 = "needed here is a Stable Diffusion 1.5 in one file"
NINE = files.SD1 | files.prefixed(files.UNET, files.ldm_unet(768, 9))
EIGHT = files.SD1 | files.prefixed(files.UNET, files.ldm_unet(768, 8))
NO_VAE = {key: side for key, side in files.SD1.items() if "first_stage" not in key}
NO_TEXT = {key: side for key, side in files.SD1.items() if "cond_stage" not in key}
CONTROL = {"control_model.input_hint_block.0.weight": (16, 3, 3, 3)}


@pytest.mark.parametrize(
    ("shapes", "slot", "sentence"),
    [
        (files.SD2, slots.CHECKPOINT,
         f"is a checkpoint of Stable Diffusion 2; {SD15}"),
        (files.SDXL, slots.CHECKPOINT,
         f"is a checkpoint of Stable Diffusion XL; {SD15}"),
        (EIGHT, slots.CHECKPOINT,
         "is an InstructPix2Pix model (its UNet reads 8 channels, not 4) of the family "
         f"Stable Diffusion 1.5; {SD15}; take the family's model for text and images"),
        (NO_VAE, slots.CHECKPOINT, "has no VAE; name a file of one at the model's key `vae`"),
        (NO_TEXT, slots.CHECKPOINT, f"has no text encoder; {SD15} with all its parts"),
        (files.LDM_VAE, slots.CHECKPOINT,
         f"is a VAE; {SD15}; a VAE belongs at the key `vae` of a model with `provider: diffusers`"),
        ({f"{files.KOHYA_XL}lora_down.weight": (32, 2048)}, slots.CHECKPOINT,
         f"is a LoRA for Stable Diffusion XL; {SD15}; a LoRA changes a model and is none by "
         "itself"),
        (CONTROL, slots.CHECKPOINT,
         f"is a ControlNet; {SD15}; a ControlNet steers a model and is none by itself"),
        ({"emb_params": (2, 768)}, slots.CHECKPOINT,
         f"is a textual inversion for Stable Diffusion 1.5; {SD15}; a textual inversion is one "
         "word for a prompt and no model"),
        (files.DIFFUSERS_UNET, slots.CHECKPOINT,
         "is the diffusion model alone of Stable Diffusion 1.5, without text encoder and VAE; "
         f"{SD15}; a part in Diffusers format belongs into a model's folder"),
        ({"image_tokenizer.a": (1,), "backbone.b": (1,)}, slots.CHECKPOINT,
         f"is a checkpoint of TripoSR; {SD15}; TripoSR belongs into the folder of a model with "
         "`provider: triposr`"),
        ({"layer.weight": (3, 3)}, slots.CHECKPOINT,
         f"is no model that is known here (one tensor, such as 'layer.weight'); {SD15}"),
        (files.SD1, slots.VAE,
         "is a checkpoint of Stable Diffusion 1.5; needed here is a VAE of a Stable Diffusion 1.5 "
         "in one file; a checkpoint belongs at `path` of a model with "
         "`provider: diffusers`"),
        (files.LDM_VAE | {"decoder.conv_in.weight": (512, 16, 3, 3)}, slots.VAE,
         "is a VAE of another model (its latents have 16 channels); needed here is a VAE of a "
         "Stable Diffusion 1.5 in one file"),
        (files.SD1, slots.TRIPOSR,
         "is a checkpoint of Stable Diffusion 1.5; needed here is a checkpoint of TripoSR; a "
         "checkpoint belongs at `path` of a model with `provider: diffusers`"),
        (NINE, slots.VAE,
         "is an inpainting model (its UNet reads 9 channels, not 4) of the family Stable Diffusion "
         "1.5; needed here is a VAE of a Stable Diffusion 1.5 in one file; a checkpoint belongs at "
         "`path` of a model with `provider: diffusers`"),
        ({"layer.weight": (3, 3)}, slots.ONNX,
         "is no model that is known here (one tensor, such as 'layer.weight'); needed here is a "
         "network in ONNX format"),
        (files.SDXL, slots.ONNX,
         "is a checkpoint of Stable Diffusion XL; needed here is a network in ONNX format"),
    ],
)  # fmt: skip
def test_a_wrong_model(tmp_path: Path, shapes: Any, slot: Slot, sentence: str):
    path = files.write_safetensors(tmp_path / "model.safetensors", shapes)
    assert mismatch(path, slot) == f"{path} {sentence}"


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"<html>", "is a web page and no weights"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 246144864\n",
         "is a Git LFS pointer, which stands for the real file of 246,144,864 bytes: run "
         "`git lfs pull` where it was cloned, or download the file itself"),
        (b"Entry not found", "is a text that begins with 'Entry not found' and no weights"),
        (b"", "is empty; download or copy it again"),
        (bytes(99), "is filled with zeros"),
        (b"GGUF", f"is a GGUF file; {SD15}; GGUF files cannot be used"),
        (b"PK\x03\x04", "is damaged: its end is missing; download or copy it again"),
        (b"\x08\x07\x3a\x01a", f"is an ONNX model; {SD15}; an ONNX model belongs at `path`"),
        (bytes(range(1, 200)), f"is in no format of weights that is known here; {SD15}"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_model(tmp_path: Path, data: bytes, sentence: str):
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    assert (mismatch(path, slots.CHECKPOINT) or "").startswith(f"{path} {sentence}")


def test_what_fits_is_no_mismatch(tmp_path: Path):
    path = tmp_path / "model.safetensors"
    fitting = (
        (files.SD1, slots.CHECKPOINT),
        (NINE, slots.CHECKPOINT),
        (NO_VAE, slots.CHECKPOINT_AND_VAE),
        (files.LDM_VAE, slots.VAE),
        (files.DIFFUSERS_VAE, slots.VAE),
        (files.DIFFUSERS_UNET, slots.FOLDER_UNET),
        (files.CLIP_L, slots.FOLDER_TEXT),
        ({"image_tokenizer.a": (1,), "backbone.b": (1,)}, slots.TRIPOSR),
        (files.SD1 | {f"{files.UNET}input_blocks.4.{files.ATTENTION}": (8, 32)}, slots.CHECKPOINT),
    )
    for shapes, slot in fitting:
        assert mismatch(files.write_safetensors(path, shapes), slot) is None
    assert mismatch(tmp_path / "absent", slots.CHECKPOINT) is None
    assert mismatch(tmp_path, slots.CHECKPOINT) is None


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"\x93\xf0\x07\xe2" * 99, "is in no format of weights that is known here; needed here"),
        (b"\x3a\x03abc\x08\x07", None),  # the graph before the version
        (b"\x18\x00\x00\x00ORTM" + b"\xf3" * 99, None),
    ],
)
def test_a_file_in_the_place_of_a_network(tmp_path: Path, content: bytes, sentence: str | None):
    path = tmp_path / "u2net.onnx"
    path.write_bytes(content)
    why = mismatch(path, slots.ONNX)
    assert why is None if sentence is None else f"{path} {sentence}" in str(why)
    pickled = files.write_pickle(tmp_path / "net.pth", files.tiny({"layer.weight": (3, 3)}))
    assert "is no model that is known here" in str(mismatch(pickled, slots.ONNX))
