"""`from_metadata`: prompt and parameters that other programs wrote into a PNG."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from dna_pipeline.base.errors import ParameterInvalid
from dna_pipeline.base.files import sha256_file
from dna_pipeline.config.image_metadata import (
    MetadataError,
    labels_of_a1111,
    of_a1111,
    parameters_of,
)
from dna_pipeline.config.loader import load_config
from dna_pipeline.config.sidecar import JobSpec, parse_sidecar
from dna_pipeline.intake.planning.exif_texts import exif_texts
from dna_pipeline.intake.planning.image_texts import ImageTexts
from dna_pipeline.intake.planning.planner import Planner
from dna_pipeline.intake.planning.png_texts import MAX_BYTES, png_texts
from dna_pipeline.stages.img2img.parameters_text import parameters_text
from dna_pipeline.stages.img2img.stage import Img2Img

A1111 = """a {cat|dog}, __colour__ (fur:1.2), Steps: many
second line
Negative prompt: lowres, bad hands
ugly
Steps: 30, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, Seed: 123, Size: 512x512, \
Model hash: abc, Model: dream, Denoising strength: 0.4, Clip skip: 2, \
TI hashes: "easynegative: c74b4e810b03, Seed: 9", Version: v1.10.1"""
VALUES = {
    "prompt": "a {cat|dog}, __colour__ (fur:1.2), Steps: many\nsecond line",
    "negative_prompt": "lowres, bad hands\nugly", "steps": 30, "sampler": "DPM++ 2M",
    "schedule": "Karras", "guidance_scale": 6.5, "seed": 123, "strength": 0.4, "clip_skip": 2,
}  # fmt: skip
COMFY: dict[str, Any] = {
    "3": {"class_type": "KSampler", "inputs": {
        "seed": 5, "steps": 20, "cfg": 8, "sampler_name": "euler_ancestral", "scheduler": "normal",
        "denoise": 0.6, "model": ["4", 0], "positive": ["6", 0], "negative": ["9", 0],
        "latent_image": ["5", 0]}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": ["8", 0], "clip": ["4", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "embedding:ugly, low", "clip": []}},
    "8": {"class_type": "String", "inputs": {"string": "a castle"}},
    "9": {"class_type": "ConditioningZero", "inputs": {"conditioning": ["7", 0]}},
}  # fmt: skip


def comfy(**changes: Any) -> str:
    return json.dumps(COMFY | changes)


CONTROLNET = {
    "12": {"class_type": "ControlNetApplyAdvanced", "inputs": {
        "positive": ["6", 0], "negative": ["9", 0], "strength": 1.0}},
    "3": {"inputs": COMFY["3"]["inputs"] | {"positive": ["12", 0], "negative": ["12", 1]}},
}  # fmt: skip


def test_the_text_of_automatic1111() -> None:
    assert of_a1111(A1111) == VALUES


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", {"prompt": "", "negative_prompt": ""}),
        ("a cat, Steps: 3", {"prompt": "a cat, Steps: 3", "negative_prompt": ""}),
        ("Negative prompt: x", {"prompt": "", "negative_prompt": "x"}),
        ("a cat\nSteps: 4, Sampler: Euler a, Schedule type: Automatic, Seed: 1",
         {"prompt": "a cat", "negative_prompt": "", "steps": 4, "sampler": "Euler a", "seed": 1}),
    ],
)  # fmt: skip
def test_short_texts(text: str, values: dict[str, Any]) -> None:
    assert of_a1111(text) == values


def test_our_own_text_comes_back() -> None:
    stage = Img2Img(
        model="sd", prompt="a cat, red", negative_prompt="low", steps=25, seed=9, strength=0.5,
        sampler="dpmpp_2m", schedule="karras", clip_skip=2, guidance_scale=7.0,
    )  # fmt: skip
    values = Img2Img.translated(of_a1111(parameters_text(stage, (64, 64))))
    assert Img2Img(model="sd", **values) == stage


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        ({"prompt": comfy(), "workflow": "{}"},
         {"prompt": "a castle", "negative_prompt": "ugly, low", "seed": 5, "steps": 20,
          "guidance_scale": 8, "sampler": "euler_ancestral", "schedule": "normal",
          "strength": 0.6}),
        ({"invokeai_metadata": json.dumps({
            "positive_prompt": "a fox", "negative_prompt": "dull", "seed": 7, "steps": 12,
            "cfg_scale": 7.5, "scheduler": "dpmpp_2m_k", "width": 512})},
         {"prompt": "a fox", "negative_prompt": "dull", "seed": 7, "steps": 12,
          "guidance_scale": 7.5, "sampler": "dpmpp_2m", "schedule": "karras"}),
        ({"prompt": comfy(**CONTROLNET)},
         {"prompt": "a castle", "negative_prompt": "ugly, low", "seed": 5, "steps": 20,
          "guidance_scale": 8, "sampler": "euler_ancestral", "schedule": "normal",
          "strength": 0.6}),
        ({"parameters": json.dumps({
            "prompt": "a bee", "steps": 30, "seed": "3", "guidance_scale": 4.0,
            "sampler": "dpmpp_2m_sde_gpu", "scheduler": "karras"})},
         {"prompt": "a bee", "steps": 30, "seed": 3, "guidance_scale": 4.0,
          "sampler": "dpmpp_2m_sde_gpu", "schedule": "karras"}),
        ({"parameters": json.dumps({"sui_image_params": {
            "prompt": "an owl", "negativeprompt": "fog", "model": "m", "seed": 8, "steps": 25,
            "cfgscale": 6.5, "initimagecreativity": 0.6, "sampler": "euler",
            "scheduler": "normal"}, "sui_extra_data": {"date": "2026-01-01"}})},
         {"prompt": "an owl", "negative_prompt": "fog", "seed": 8, "steps": 25,
          "guidance_scale": 6.5, "strength": 0.6, "sampler": "euler"}),
        ({"Software": "NovelAI", "Description": "a hare", "Title": "AI generated image",
          "Comment": json.dumps({"uc": "blur", "steps": 28, "sampler": "k_euler_ancestral",
                                 "seed": 4, "strength": 0.7, "noise": 0.2, "scale": 11.0})},
         {"prompt": "a hare", "negative_prompt": "blur", "seed": 4, "steps": 28,
          "guidance_scale": 11.0, "strength": 0.7, "sampler": "k_euler_ancestral"}),
        ({"prompt": "a crow", "negative_prompt": "", "seed": "6", "num_inference_steps": "25",
          "guidance_scale": "7.5", "prompt_strength": "0.8", "sampler_name": "euler_a"},
         {"prompt": "a crow", "negative_prompt": "", "seed": 6, "steps": 25,
          "guidance_scale": 7.5, "strength": 0.8, "sampler": "euler_a"}),
        ({"Prompt": "a crow", "Seed": "6", "Steps": "25", "Guidance Scale": "7.5",
          "Sampler": "euler_a"},
         {"prompt": "a crow", "seed": 6, "steps": 25, "guidance_scale": 7.5,
          "sampler": "euler_a"}),
    ],
)  # fmt: skip
def test_other_programs(texts: dict[str, str], values: dict[str, Any]) -> None:
    assert parameters_of(texts) == values


LOOP = {"6": {"class_type": "X", "inputs": {"text": ["6", 0]}}}
CUT = {"8": {"inputs": {"string": "a \ud83d"}}}
OTHER = {"10": {"inputs": COMFY["3"]["inputs"] | {"positive": ["7", 0]}}}


@pytest.mark.parametrize(
    ("texts", "part"),
    [
        ({}, "no texts of a program"),
        ({"Software": "GIMP", "Comment": "{}"}, "form that is read here: Comment, Software"),
        ({"Software": "NovelAI", "Comment": "{}"}, "no prompt in a form"),
        ({"prompt": "a", "seed": "many", "guidance_scale": "1"}, "seed: many"),
        ({"prompt": "{"}, "damaged"),
        ({"prompt": "[" * 100_000}, "damaged"),
        ({"prompt": "{}"}, "has no prompts"),
        ({"prompt": comfy(**LOOP)}, "has no prompts"),
        ({"prompt": comfy(**OTHER)}, "has 2 prompts"),
        ({"invokeai_metadata": '{"app_version": "6"}'}, "no prompt in a form"),
        ({"parameters": '{"prompt": "a \\ud83d"}'}, "damaged: its prompt has half of a character"),
        ({"parameters": '{"prompt": "a", "uc": "\\udc00"}'}, "its negative_prompt has half"),
        ({"parameters": '{"prompt": "a", "seed": "\\ud83d"}'}, "has seed: \\ud83d"),
        ({"prompt": comfy(**CUT)}, "damaged: its prompt has half of a character"),
        ({"parameters": "x\nSteps: many, Seed: 1, CFG scale: 2"}, "Steps: many"),
    ],
)
def test_a_sentence_for_all_else(texts: dict[str, str], part: str) -> None:
    with pytest.raises(MetadataError) as caught:
        parameters_of(texts)
    assert part in str(caught.value)


def test_half_a_character_in_a_text_that_is_not_used_does_no_harm() -> None:
    text = '{"prompt": "a \\ud83d\\udc31", "title": "\\ud83d"}'
    assert parameters_of({"parameters": text}) == {"prompt": "a \U0001f431"}


def test_a_quoted_label_with_half_a_character_stays_as_it_is_written() -> None:
    text = 'a cat\nSteps: 4, Seed: 1, Model: "dream \\ud83d", Hashes: "a, \\ud83d\\udc31"'
    labels = labels_of_a1111(text)
    assert labels["Model"] == '"dream \\ud83d"'
    assert labels["Hashes"] == "a, \U0001f431"


# --- chunks ---


def png(path: Path, **texts: str) -> Path:
    info = PngInfo()
    for key, text in texts.items():
        info.add_text(key, text, zip=key == "zipped")
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)
    return path


def test_every_kind_of_text_is_read(tmp_path: Path) -> None:
    texts = {"plain": "größe", "zipped": "x" * 5000, "international": "絵"}
    assert png_texts(png(tmp_path / "a.png", **texts)) == texts
    info = PngInfo()
    info.add_itxt("i", "絵" * 999, zip=True)
    Image.new("L", (8, 8)).save(tmp_path / "b.png", pnginfo=info)
    assert png_texts(tmp_path / "b.png") == {"i": "絵" * 999}


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I4s", len(data), kind) + data + b"\0" * 4


@pytest.mark.parametrize(
    "rest",
    [
        chunk(b"zTXt", b"a\0\0" + zlib.compress(b"x" * (MAX_BYTES + 1))),
        chunk(b"zTXt", b"a\0\0damaged"),
        chunk(b"iTXt", b"a\0\0\0\0\0\xff\xfe"),
        struct.pack(">I4s", 2**31, b"tEXt"),
        b"\0\0",
        b"",
    ],
)
def test_damaged_and_huge_texts_are_passed_over(tmp_path: Path, rest: bytes) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"tEXt", b"b\0text") + rest)
    assert png_texts(path) == {"b": "text"}


def test_texts_that_unpack_to_gigabytes_are_not_all_read(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    packed = zlib.compress(b"x" * 3_000_000)
    texts = b"".join(chunk(b"zTXt", b"%d\0\0" % n + packed) for n in range(300))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + texts)
    assert len(png_texts(path) or {}) == 2
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"tEXt", b"a\0") * 1000)
    assert png_texts(path) == {"a": ""}


@pytest.mark.timeout(20)  # in seconds; without a bound it takes hours
@pytest.mark.parametrize("part", ["a", " ", "a ", 'a:"', "_", "a: "])
def test_a_long_line_is_no_list_of_parameters(part: str) -> None:
    text = part * (1_000_000 // len(part)) + "b"
    assert of_a1111(text) == {"prompt": text.strip(), "negative_prompt": ""}
    assert of_a1111("a cat\n" + part * (7_000 // len(part)))["prompt"].startswith("a cat")


def test_other_files_have_none(tmp_path: Path) -> None:
    path = tmp_path / "a.bmp"
    Image.new("RGB", (8, 8)).save(path)
    assert png_texts(path) is None
    assert exif_texts(path) is None
    with pytest.raises(MetadataError, match="no PNG, JPEG or WebP"):
        ImageTexts().of(path)


# --- jobs ---

PIPELINE = """
version: 1
paths: {data: data, outbox: outbox}
models: {sd15: {provider: diffusers, path: models/sd}}
pipelines: {restyle: [{img2img: {model: sd15, prompt: theirs, steps: 50, from_metadata: true}}]}
inboxes: [{path: inbox, pipeline: restyle}]
"""


@pytest.fixture
def planner(tmp_path: Path) -> Planner:
    (tmp_path / "pipeline.yaml").write_text(PIPELINE)
    config = load_config(tmp_path / "pipeline.yaml")
    return Planner(config, config.inboxes[0])


def params_of(planner: Planner, file: Path, sidecar: str | None = None) -> dict[str, Any]:
    document = None if sidecar is None else parse_sidecar(sidecar.encode())
    (item,) = planner.plan_image("", file.name, document, sha256_file(file), file=file).items
    assert isinstance(item.outcome, JobSpec)
    return item.outcome.stages[0].params


def test_the_image_wins_over_the_pipeline_and_its_prompt_is_taken_as_it_is(
    planner: Planner, tmp_path: Path
) -> None:
    params = params_of(planner, png(tmp_path / "a.png", parameters=A1111))
    expected = VALUES | {"sampler": "dpmpp_2m", "schedule": "karras", "max_size": 768}
    assert {key: params[key] for key in expected} == expected


def test_each_image_has_its_own(planner: Planner, tmp_path: Path) -> None:
    for word in ("cat", "dog"):
        assert params_of(planner, png(tmp_path / "a.png", parameters=word))["prompt"] == word


def test_the_sidecar_wins(planner: Planner, tmp_path: Path) -> None:
    file = png(tmp_path / "a.png", parameters=A1111)
    params = params_of(
        planner, file, "{seed: 1, img2img: {prompt: 'a {mouse}', sampler: euler_a, cfg: 3}}"
        .replace("{mouse}", "{name}"),
    )  # fmt: skip
    expected = {
        "prompt": "a a.png", "seed": 1, "sampler": "euler_a", "schedule": "normal",
        "guidance_scale": 3, "steps": 30,
    }  # fmt: skip
    assert {key: params[key] for key in expected} == expected
    off = params_of(planner, file, "img2img: {from_metadata: false}")
    assert (off["prompt"], off["steps"]) == ("theirs", 50)


def test_an_image_without_it_fails_unless_the_sidecar_has_a_prompt(
    planner: Planner, tmp_path: Path
) -> None:
    file = png(tmp_path / "a.png")
    with pytest.raises(ParameterInvalid, match=r"img2img\.from_metadata: the image has no texts"):
        params_of(planner, file)
    assert params_of(planner, file, "img2img: {prompt: mine}")["prompt"] == "mine"


def test_a_sampler_that_is_not_there_is_a_sentence(planner: Planner, tmp_path: Path) -> None:
    file = png(tmp_path / "a.png", parameters="x\nSteps: 9, Sampler: Restart, Seed: 1")
    with pytest.raises(ParameterInvalid, match=r"sampler: should be .*, not 'Restart'"):
        params_of(planner, file)
    assert params_of(planner, file, "img2img: {sampler: euler}")["sampler"] == "euler"
