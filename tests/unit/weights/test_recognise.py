"""Each kind of file is recognised by the names of its tensors, as its program writes them."""

from __future__ import annotations

import importlib.util
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from dna_pipeline.weights.architectures import SD1, SD2, SDXL
from dna_pipeline.weights.headers import Format, read_header
from dna_pipeline.weights.recognise import Kind, recognise

spec = importlib.util.spec_from_file_location(
    "weight_files", Path(__file__).with_name("weight_files.py")
)
assert spec is not None and spec.loader is not None
files: Any = importlib.util.module_from_spec(spec)
spec.loader.exec_module(files)

GOLDEN = Path(__file__).parents[2] / "golden"
REFINER = "Stable Diffusion XL's refiner"
A = "down_blocks.0.attentions.0.transformer_blocks.0."
TEXT = "text_model.encoder.layers.0.mlp.fc1"

CASES: list[tuple[str, dict[str, tuple[int, ...]], Kind, str]] = [
    ("sd1", files.SD1, Kind.CHECKPOINT, SD1),
    ("sd2", files.SD2, Kind.CHECKPOINT, SD2),
    ("sdxl", files.SDXL, Kind.CHECKPOINT, SDXL),
    ("refiner", files.REFINER, Kind.CHECKPOINT, REFINER),
    ("ldm unet", files.ldm_unet(768), Kind.UNET, SD1),
    ("prefixed unet", files.prefixed(files.UNET, files.ldm_unet(768)), Kind.UNET, SD1),
    ("diffusers unet", files.DIFFUSERS_UNET, Kind.UNET, SD1),
    ("diffusers unet xl", files.DIFFUSERS_UNET_XL, Kind.UNET, SDXL),
    ("ldm vae", files.LDM_VAE, Kind.VAE, ""),
    ("vae in a checkpoint's names", files.prefixed("first_stage_model.", files.LDM_VAE),
     Kind.VAE, ""),
    ("diffusers vae", files.DIFFUSERS_VAE, Kind.VAE, ""),
    ("clip", files.CLIP_L, Kind.TEXT_ENCODER, SD1),
    ("clip without its first word",
     {key.removeprefix("text_model."): side for key, side in files.CLIP_L.items()},
     Kind.TEXT_ENCODER, SD1),
    ("open clip", files.prefixed("cond_stage_model.model.", files.OPEN_CLIP),
     Kind.TEXT_ENCODER, SD2),
    ("t5", {"shared.weight": (32128, 4096),
            "encoder.block.0.layer.0.SelfAttention.q.weight": (4096, 4096)},
     Kind.TEXT_ENCODER, "T5"),
    ("safety checker", {"concept_embeds": (17, 768),
                        "vision_model.vision_model.embeddings.class_embedding": (1024,)},
     Kind.SAFETY_CHECKER, ""),
    ("sd3", {"model.diffusion_model.joint_blocks.0.context_block.attn.qkv.weight": (4608, 1536),
             "first_stage_model.decoder.conv_in.weight": (512, 16, 3, 3),
             "text_encoders.clip_l.transformer.text_model.embeddings.token_embedding.weight":
                 (49408, 768)},
     Kind.CHECKPOINT, "Stable Diffusion 3"),
    ("flux", {"double_blocks.0.img_attn.qkv.weight": (9216, 3072), "img_in.weight": (3072, 64),
              "single_blocks.0.linear1.weight": (21504, 3072)}, Kind.UNET, "Flux"),
    ("diffusers flux", {"single_transformer_blocks.0.attn.to_q.weight": (3072, 3072),
                        "x_embedder.weight": (3072, 64)}, Kind.UNET, "Flux"),
    ("wan", {"head.modulation": (1, 2, 1536), "blocks.0.self_attn.q.weight": (1536, 1536)},
     Kind.UNET, "Wan"),
    ("kohya", {f"{files.KOHYA}lora_down.weight": (32, 768), f"{files.KOHYA}alpha": (),
               f"{files.KOHYA}lora_up.weight": (320, 32)}, Kind.LORA, SD1),
    ("kohya xl", {f"{files.KOHYA_XL}lora_down.weight": (32, 2048),
                  f"{files.KOHYA_XL}lora_up.weight": (640, 32)}, Kind.LORA, SDXL),
    ("kohya xl's text encoders", {
        "lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": (32, 1280)},
     Kind.LORA, SDXL),
    ("kohya's text encoder", {
        "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": (32, 768)},
     Kind.LORA, SD1),
    ("peft", {f"{files.PEFT}to_k.lora_A.weight": (8, 768),
              f"{files.PEFT}to_k.lora_B.weight": (320, 8)}, Kind.LORA, SD1),
    ("diffusers' processors", {f"{files.PEFT}processor.to_k_lora.down.weight": (4, 768),
                               f"{files.PEFT}processor.to_k_lora.up.weight": (320, 4)},
     Kind.LORA, SD1),
    ("diffusers' lora.down", {f"{files.PEFT}to_k.lora.down.weight": (4, 2048)}, Kind.LORA, SDXL),
    ("flux lora", {"lora_unet_double_blocks_0_img_attn_proj.lora_down.weight": (16, 3072)},
     Kind.LORA, "Flux"),
    ("loha", {f"{files.KOHYA}hada_w1_a": (320, 8), f"{files.KOHYA}hada_w1_b": (8, 768)},
     Kind.LYCORIS, SD1),
    ("lokr", {f"{files.KOHYA}lokr_w1": (8, 16), f"{files.KOHYA}lokr_w2_a": (40, 4),
              f"{files.KOHYA}lokr_w2_b": (4, 48)}, Kind.LYCORIS, SD1),
    ("oft", {f"{files.KOHYA}oft_blocks": (4, 80, 80)}, Kind.LYCORIS, ""),
    ("full difference", {f"{files.KOHYA}diff": (320, 768)}, Kind.LORA, SD1),
    ("controlnet", files.prefixed("control_model.", {
        **files.ldm_unet(768), "input_hint_block.0.weight": (16, 3, 3, 3)}), Kind.CONTROLNET, SD1),
    ("diffusers controlnet", {**files.DIFFUSERS_UNET,
                              "controlnet_cond_embedding.conv_in.weight": (16, 3, 3, 3),
                              "controlnet_mid_block.weight": (1280, 1280, 1, 1)},
     Kind.CONTROLNET, SD1),
    ("control lora", {"lora_controlnet": (0,), "input_hint_block.0.weight": (16, 3, 3, 3)},
     Kind.CONTROLNET, ""),
    ("t2i", {"body.0.block1.weight": (320, 320, 3, 3), "conv_in.weight": (320, 192, 3, 3)},
     Kind.T2I_ADAPTER, ""),
    ("ip-adapter", {"image_proj.proj.weight": (3072, 1024),
                    "ip_adapter.1.to_k_ip.weight": (320, 768)}, Kind.IP_ADAPTER, SD1),
    ("faceid", {"image_proj.proj.0.weight": (1024, 512),
                "ip_adapter.0.to_q_lora.down.weight": (128, 320),
                "ip_adapter.1.to_k_ip.weight": (320, 768)}, Kind.IP_ADAPTER, SD1),
    ("motion module", {"down_blocks.0.motion_modules.0.temporal_transformer.norm.weight": (320,)},
     Kind.MOTION_MODULE, ""),
    ("embedding", {"emb_params": (4, 768)}, Kind.EMBEDDING, SD1),
    ("embedding xl", {"clip_l": (2, 768), "clip_g": (2, 1280)}, Kind.EMBEDDING, SDXL),
    ("learned embedding", {"<cat-toy>": (768,)}, Kind.EMBEDDING, SD1),
    ("old esrgan", {"model.0.weight": (64, 3, 3, 3),
                    "model.1.sub.0.RDB1.conv1.0.weight": (32, 64, 3, 3)}, Kind.UPSCALER, ""),
    ("esrgan", {"conv_first.weight": (64, 3, 3, 3), "body.0.rdb1.conv1.weight": (32, 64, 3, 3)},
     Kind.UPSCALER, ""),
    ("rrdb", {"RRDB_trunk.0.RDB1.conv1.weight": (32, 64, 3, 3)}, Kind.UPSCALER, ""),
    ("triposr", {name: tuple(shape) for name, shape in json.loads(
        (GOLDEN / "triposr-official-keys.json").read_text()).items()}, Kind.TRIPOSR, ""),
    ("another", {"layer.weight": (3, 3)}, Kind.UNKNOWN, ""),
]  # fmt: skip


@pytest.mark.parametrize(("name", "shapes", "kind", "architecture"), CASES)
def test_kind_and_architecture(
    tmp_path: Path, name: str, shapes: Any, kind: Kind, architecture: str
):
    found = recognise(files.write_safetensors(tmp_path / "model.safetensors", shapes))
    assert (found.kind, found.architecture, found.damage) == (kind, architecture, "")


@pytest.mark.parametrize("legacy", [False, True])
def test_pickles_give_the_same_answer(tmp_path: Path, legacy: bool):
    for name, shapes, kind, architecture in CASES:
        document = {"state_dict": files.tiny(shapes), "epoch": 3, "callbacks": {Path: object()}}
        found = recognise(files.write_pickle(tmp_path / "model.ckpt", document, legacy=legacy))
        assert (name, found.kind, found.architecture) == (name, kind, architecture)


def test_the_parts_and_channels_of_a_checkpoint(tmp_path: Path):
    path = tmp_path / "model.safetensors"
    found = recognise(files.write_safetensors(path, files.SD1))
    assert found.parts == {"unet", "vae", "text_encoder"}
    assert found.in_channels == 4
    for channels in (8, 9):
        shapes = files.SD1 | files.prefixed(files.UNET, files.ldm_unet(768, channels))
        assert recognise(files.write_safetensors(path, shapes)).in_channels == channels
    without = {key: side for key, side in files.SD1.items() if "first_stage" not in key}
    assert recognise(files.write_safetensors(path, without)).parts == {"unet", "text_encoder"}
    assert recognise(files.write_safetensors(path, files.DIFFUSERS_VAE)).latent_channels == 4


def test_nested_pickles_of_other_programs(tmp_path: Path):
    path = tmp_path / "model.pt"
    inversion = {
        "string_to_token": {"*": 265},
        "string_to_param": {"*": torch.zeros(2, 768)},
        "name": "style",
        "step": 500,
    }
    found = recognise(files.write_pickle(path, inversion))
    assert (found.kind, found.architecture) == (Kind.EMBEDDING, SD1)
    adapter = {
        "image_proj": files.tiny({"latents": (1, 16, 768)}),
        "ip_adapter": files.tiny({"1.to_k_ip.weight": (320, 768)}),
    }
    assert recognise(files.write_pickle(path, adapter)).kind is Kind.IP_ADAPTER
    upscaler = {"params_ema": files.tiny({"body.0.rdb1.conv1.weight": (32, 64, 3, 3)})}
    assert recognise(files.write_pickle(path, upscaler)).kind is Kind.UPSCALER
    parameter = {"<toy>": torch.nn.Parameter(torch.zeros(768))}
    assert recognise(files.write_pickle(path, parameter)).kind is Kind.EMBEDDING


def test_a_pickle_runs_no_code(tmp_path: Path):
    class Bomb:
        def __reduce__(self):
            return Path.write_text, (tmp_path / "ran", "x")

    for legacy in (False, True):
        path = tmp_path / "model.ckpt"
        files.write_pickle(path, {"a": Bomb(), "emb_params": torch.zeros(1, 768)}, legacy=legacy)
        assert recognise(path).kind is Kind.EMBEDDING
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("data", "kind", "note"),
    [
        (b"", Format.EMPTY, ""),
        (bytes(5000), Format.ZEROS, ""),
        (b"\xef\xbb\xbf\r\n<!DOCTYPE html><html>Log in</html>", Format.WEB_PAGE, ""),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 77\n",
         Format.LFS_POINTER, "77"),
        (b'{"error": "Repository not found"}', Format.TEXT, '{"error": "Repository not found"}'),
        (b"Entry not found", Format.TEXT, "Entry not found"),
        (b"GGUF\x03\x00\x00\x00" + bytes(99), Format.GGUF, ""),
        (b"\x1f\x8b\x08" + bytes(99), Format.ARCHIVE, "gzip"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), Format.IMAGE, "PNG"),
        (b"\x08\x07\x12\x07pytorch\x3a\x03abc\x42\x02\x10\x11", Format.ONNX, ""),
        (bytes(range(1, 256)) * 4, Format.UNKNOWN, ""),
    ],
)  # fmt: skip
def test_other_formats(tmp_path: Path, data: bytes, kind: Format, note: str):
    (tmp_path / "model.safetensors").write_bytes(data)
    header = read_header(tmp_path / "model.safetensors")
    assert (header.format, header.note) == (kind, note)


def test_files_that_were_cut_off(tmp_path: Path):
    path = tmp_path / "model.safetensors"
    whole = files.write_safetensors(path, files.SD1).stat().st_size
    found = recognise(files.write_safetensors(path, files.SD1, missing_bytes=1000))
    assert found.damage == f"it has {whole - 1000:,} of {whole:,} bytes"
    assert found.architecture == SD1
    longer = recognise(files.write_safetensors(path, files.SD1, missing_bytes=-7)).damage
    assert longer == f"it has {whole + 7:,} bytes, and its header tells of {whole:,}"
    path.write_bytes(path.read_bytes()[:100])
    assert recognise(path).damage == "it ends within its header, at byte 100"
    files.write_pickle(path, files.tiny(files.SD1))
    path.write_bytes(path.read_bytes()[:-300])
    assert recognise(path).damage == "its end is missing"
    files.write_pickle(path, files.tiny(files.SD1), legacy=True)
    path.write_bytes(path.read_bytes()[:300])
    assert recognise(path).damage == "its list of tensors cannot be read"
    path.write_bytes(b"\x08\x07\x12\x07pytorch\x3a\x80\x80\x04abc")
    assert recognise(path).damage == "it has 18 of at least 65,551 bytes"
    path.write_bytes((8).to_bytes(8, "little") + b"{]      ")
    assert recognise(path).damage == "its header is not that of a safetensors file"


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["model.safetensors"], Format.ARCHIVE),
        (["net/data.pkl", "net/constants.pkl", "net/code/net.py"], Format.TORCHSCRIPT),
    ],
)
def test_archives_that_are_no_pickles(tmp_path: Path, names: list[str], kind: Format):
    with zipfile.ZipFile(tmp_path / "model.ckpt", "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    assert read_header(tmp_path / "model.ckpt").format is kind
