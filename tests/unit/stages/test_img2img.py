"""The img2img stage: its parameters, the picture's size, and the text in the PNG."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import pytest
import torch
from PIL import Image, ImageDraw
from pydantic import ValidationError
from safetensors.torch import save_file

from dna_pipeline.base.errors import (
    JobError,
    NoEffectiveSteps,
    ParameterInvalid,
    WeightsMismatch,
    WeightsMissing,
)
from dna_pipeline.providers.base import Device, ModelCache
from dna_pipeline.providers.stable_diffusion.provider import Diffusers
from dna_pipeline.providers.stable_diffusion.samplers import SAMPLERS
from dna_pipeline.stages.base import ExtraFile, StageContext
from dna_pipeline.stages.img2img.parameters_text import parameters_text
from dna_pipeline.stages.img2img.sizes import fitted_size, size_remarks
from dna_pipeline.stages.img2img.stage import Img2Img
from dna_pipeline.stages.remove_background import RemoveBackground
from dna_pipeline.weights.extra_files import EMBEDDING, LORA
from dna_pipeline.weights.loras import FOLDER, Lora
from tests.image_models import Recording
from tests.unit.providers.stable_diffusion.lora_files import TrainedLora
from tests.unit.weights import weight_files

pytestmark = pytest.mark.usefixtures("one_thread")


def test_defaults_are_those_of_the_contract():
    assert Img2Img(model=None).params() == {
        "model": None,
        "metadata": "full",
        "reuse": "on",
        "prompt": "",
        "negative_prompt": "",
        "seed": 42,
        "steps": 20,
        "guidance_scale": 7.5,
        "strength": 0.75,
        "sampler": "euler",
        "schedule": "normal",
        "max_size": 768,
        "size": "fit",
        "resize": "crop",
        "tile": None,
        "alpha": "keep",
        "output": "png",
        "quality": 90,
        "prompt_syntax": "a1111",
        "clip_skip": 1,
        "from_metadata": False,
        "mask": "none",
        "mask_blur": 4,
        "mask_grow": 0,
        "mask_invert": False,
        "area": "whole",
        "padding": 32,
        "loras": {},
        "mark_prompt": False,
    }


@pytest.mark.parametrize(
    ("written", "advice"),
    [
        ("Euler", "write sampler: euler"),
        ("Euler a", "write sampler: euler_a"),
        ("euler_ancestral", "write sampler: euler_a"),
        ("k_euler_a", "write sampler: euler_a"),
        (
            "DPM++ 2M Karras",
            "the name means schedule karras, and the key schedule names another; "
            "write sampler: dpmpp_2m, schedule: karras",
        ),
        (
            "DPM++ 2M SDE Karras",
            "the name means schedule karras, and the key schedule names another; "
            "write sampler: dpmpp_2m_sde, schedule: karras",
        ),
        ("dpm++ sde", "write sampler: dpmpp_sde"),
        ("UniPC", "write sampler: uni_pc"),
        ("uni_pc_bh2", "write sampler: uni_pc"),
        ("LCM", "write sampler: lcm"),
        ("DDIM Karras", "write sampler: ddim"),
        ("EulerDiscreteScheduler", "write sampler: euler"),
        ("DPMSolverMultistepScheduler", "write sampler: dpmpp_2m"),
        ("Heun", "write sampler: heun"),
        (
            "DPM2 a Exponential",
            "the name means schedule exponential, and the key schedule names another; "
            "write sampler: dpm2_a, schedule: exponential",
        ),
        ("DPM fast", ""),
        ("", ""),
        (5, ""),
    ],
)
@pytest.mark.parametrize("key", ["sampler", "sampler_name"])
def test_what_other_programs_call_the_samplers(key: str, written: object, advice: str):
    assert Img2Img.advice(key, written) == advice


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ({"sampler": "Euler a"}, {"sampler": "euler_a"}),
        ({"sampler": "euler_ancestral"}, {"sampler": "euler_a"}),
        ({"sampler": "DPM++ 2M Karras"}, {"sampler": "dpmpp_2m", "schedule": "karras"}),
        (
            {"sampler": "DPM++ 2M Karras", "schedule": "Karras"},
            {"sampler": "dpmpp_2m", "schedule": "karras"},
        ),
        ({"sampler": "dpm_2_ancestral"}, {"sampler": "dpm2_a"}),
        ({"sampler": "LMS", "schedule": "Beta"}, {"sampler": "lms", "schedule": "beta"}),
        ({"sampler": "Heun", "schedule": "exponential"},
         {"sampler": "heun", "schedule": "exponential"}),
        ({"output": "JPG"}, {"output": "jpeg"}),
        ({"output": "WebP"}, {"output": "webp"}),
        # what contradicts itself, or is not there, stays as it is and is refused
        ({"sampler": "DPM++ 2M Karras", "schedule": "normal"},
         {"sampler": "DPM++ 2M Karras", "schedule": "normal"}),
        ({"sampler": "DDIM Karras"}, {"sampler": "DDIM Karras"}),
        ({"sampler": "DPM fast"}, {"sampler": "DPM fast"}),
        ({"sampler": 5, "schedule": None}, {"sampler": 5, "schedule": None}),
    ],
)  # fmt: skip
def test_words_of_other_programs_are_translated(written: dict[str, Any], read: dict[str, Any]):
    assert Img2Img.translated(written) == read


def test_advice_on_other_parameters():
    assert Img2Img.advice("schedule", "Karras") == "write karras"
    assert Img2Img.advice("scheduler", "DPM++ 2M") == "that is a sampler: write sampler: dpmpp_2m"
    assert Img2Img.advice("schedule", "sgm_uniform") == ""
    assert Img2Img.advice("max_size", "768 x 512") == "write the longer side alone: 768"
    assert Img2Img.advice("size", "768 x 512") == "write size: 768x512"
    assert Img2Img.advice("size", 512) == "write max_size: 512"
    assert Img2Img.advice("prompt", "Euler") == ""


def test_foreign_words_stand_for_parameters_and_are_none():
    names = set(Img2Img.model_fields)
    assert set(Img2Img.foreign_words.values()) <= names
    assert not set(Img2Img.foreign_words) & {*names, *Img2Img.aliases}


def test_the_samplers_are_those_of_the_table():
    assert set(Img2Img.model_fields["sampler"].annotation.__args__) == set(SAMPLERS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("steps", 1001),
        ("steps", 2.5),
        ("steps", True),
        ("strength", 0.0),
        ("strength", 1.01),
        ("strength", float("nan")),
        ("guidance_scale", -0.1),
        ("guidance_scale", float("inf")),
        ("guidance_scale", float("nan")),
        ("sampler", "eular"),
        ("schedule", "sgm_uniform"),
        ("max_size", 63),
        ("max_size", 4097),
        ("size", "output"),
        ("resize", "fill"),
        ("tile", 120),
        ("tile", 770),
        ("tile", 4104),
        ("output", "gif"),
        ("quality", 0),
        ("quality", 101),
        ("alpha", "drop"),
        ("alpha", None),
        ("seed", 2**63),
        ("seed", "1"),
        ("prompt", None),
    ],
)
def test_values_out_of_range_are_refused(name: str, value: Any):
    with pytest.raises(ValidationError) as caught:
        Img2Img.model_validate({name: value})
    assert {error["loc"][0] for error in caught.value.errors()} == {name}


def test_whole_numbers_stand_for_fractions():
    assert Img2Img.model_validate({"strength": 1, "guidance_scale": 7}).strength == 1.0


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"steps": 1, "strength": 0.99}, NoEffectiveSteps),
        ({"steps": 20, "strength": 0.04}, NoEffectiveSteps),
        ({"sampler": "euler_a", "schedule": "karras"}, ParameterInvalid),
        ({"sampler": "ddim", "schedule": "karras"}, ParameterInvalid),
        ({"sampler": "lcm", "schedule": "karras"}, ParameterInvalid),
        ({"sampler": "lcm", "steps": 51}, ParameterInvalid),
        *(
            ({"sampler": name, "steps": 999}, ParameterInvalid)
            for name in ("dpmpp_2m", "dpmpp_2m_sde", "lms", "ddim", "uni_pc")
        ),
    ],
)
def test_values_that_do_not_go_together_are_refused(params: dict[str, Any], error: type[JobError]):
    with pytest.raises(error):
        Img2Img.model_validate(params).check()


@pytest.mark.parametrize(
    "params",
    [
        {"steps": 20, "strength": 0.05},
        {"steps": 1, "strength": 1.0},
        {"sampler": "lcm", "steps": 50},
        {"sampler": "ddim", "steps": 998},
        {"sampler": "euler", "steps": 1000},
        *(
            {"sampler": name, "schedule": "karras"}
            for name, s in SAMPLERS.items()
            if s.takes_schedules
        ),
    ],
)
def test_values_that_go_together_are_taken(params: dict[str, Any]):
    Img2Img.model_validate(params).check()


def test_a_negative_seed_is_drawn_and_others_are_kept():
    assert Img2Img(model=None, seed=-1).resolved(lambda: 7).seed == 7
    assert Img2Img(model=None, seed=0).resolved(lambda: 7).seed == 0
    assert Img2Img(model=None, seed="from_content").resolved(lambda: 7, 9).seed == 9
    assert Img2Img(model=None, seed="from_content").resolved(lambda: 7).seed == "from_content"


@pytest.mark.parametrize(
    ("width", "height", "max_size", "expected"),
    [
        (512, 512, 768, (512, 512)),
        (1024, 768, 768, (768, 576)),
        (1000, 1000, 768, (768, 768)),
        (1333, 1000, 768, (768, 576)),
        (515, 519, 768, (512, 512)),
        (769, 769, 769, (768, 768)),
        (30, 40, 768, (64, 80)),
        (16, 4000, 768, (64, 768)),
        (100, 20, 64, (64, 64)),
        (64, 64, 4096, (64, 64)),
    ],
)
def test_sizes(width: int, height: int, max_size: int, expected: tuple[int, int]):
    assert fitted_size(width, height, max_size) == expected
    assert fitted_size(height, width, max_size) == expected[::-1]


def test_no_size_loses_a_block_to_rounding():
    for side in range(64, 5000):
        assert fitted_size(side, side, 768) == ((min(side, 768) // 8 * 8,) * 2)


@pytest.fixture
def context(models_dir: Path, tmp_path: Path) -> StageContext:
    source = tmp_path / "cat.png"
    Image.linear_gradient("L").convert("RGB").resize((104, 72)).save(source)
    provider = Diffusers(path=models_dir / "sd-v1-5-local", single_file=None, safety_checker=False)
    cache = ModelCache({"sd15": provider}, Device("cpu", "float32"))
    return StageContext("img2img", "cat", source, tmp_path, cache, lambda step, steps: None)


@pytest.mark.slow
def test_run_writes_the_picture_and_tells_of_it(context: StageContext):
    stage = Img2Img(
        model="sd15",
        prompt="a clay figurine, studio light",
        negative_prompt="blurry: very",
        steps=4,
        strength=0.5,
        guidance_scale=7,
        sampler="dpmpp_2m",
        schedule="karras",
    )
    (artifact,) = stage.run(context)
    assert artifact.path == context.work_dir / "cat.png"
    assert (artifact.role, artifact.media_type) == ("image", "image/png")
    assert artifact.facts == {"width": 104, "height": 72}
    with Image.open(artifact.path) as image:
        assert (image.size, image.mode) == ((104, 72), "RGB")
        assert image.info["parameters"] == (
            "a clay figurine, studio light\n"
            "Negative prompt: blurry: very\n"
            "Steps: 4, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 42, "
            "Size: 104x72, Model: sd15, Denoising strength: 0.5"
        )


@pytest.mark.slow
def test_other_tools_read_the_text(context: StageContext):
    from sd_parsers import ParserManager

    stage = Img2Img(model="sd15", prompt="an owl", negative_prompt="fog", steps=2, strength=0.5)
    (artifact,) = stage.run(context)
    info = ParserManager().parse(artifact.path)
    assert info is not None
    assert [prompt.value for prompt in info.prompts] == ["an owl"]
    assert [prompt.value for prompt in info.negative_prompts] == ["fog"]
    (sampler,) = info.samplers
    assert sampler.name == "Euler"
    assert sampler.parameters["steps"] == "2"
    assert sampler.parameters["cfg_scale"] == "7.5"
    assert sampler.parameters["seed"] == "42"
    assert [model.name for model in info.models] == ["sd15"]
    assert info.metadata["Denoising strength"] == "0.5"


def test_an_empty_prompt_leaves_the_line_of_facts():
    text = parameters_text(Img2Img(model='odd, "name"'), (64, 64))
    assert text.startswith("Steps: 20, Sampler: Euler, Schedule type: Normal, ")
    assert 'Model: "odd, \\"name\\""' in text


@pytest.mark.slow
def test_importing_the_stage_and_the_provider_imports_no_torch():
    code = (
        "import sys, dna_pipeline.stages.img2img.stage\n"
        "import dna_pipeline.providers.stable_diffusion.provider\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'numpy.random'} & set(sys.modules)\n"
        "sys.exit(repr(heavy - {'numpy.random'}) if heavy - {'numpy.random'} else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_thrift_is_passed_on_and_told(context: StageContext):
    context.low_memory_level = 1
    Img2Img(model="sd15", prompt="an owl", steps=2, strength=0.5, size="576x64").run(context)
    assert ["in tiles" in warning for warning in context.warnings].count(True) == 1


def test_how_a_render_was_read_is_told(context: StageContext):
    context.models = ModelCache({"own": Recording()}, Device("cpu", "float32"))
    context.source = context.work_dir.parent / "render.exr"
    planes = {name: np.full((64, 64), 0.5, np.float32) for name in "RGB"}
    OpenEXR.File({"type": OpenEXR.scanlineimage}, planes).write(str(context.source))
    Img2Img(model="own", prompt="an owl", steps=2, strength=0.5).run(context)
    assert ["EXR" in warning for warning in context.warnings] == [True]


# Sizes


@pytest.mark.parametrize(
    ("size", "max_size", "text"),
    [
        ((1024, 300), 768, "768 x 224 px: max_size is 768, and sides are multiples of 8."),
        ((1536, 1536), 768, "768 x 768 px: max_size is 768."),
        ((515, 519), 768, "512 x 512 px: sides are multiples of 8."),
        (
            (30, 40),
            768,
            "64 x 80 px: sides have at least 64 px, and sides are multiples of 8.",
        ),
        (
            (16, 4000),
            768,
            "64 x 768 px, of another shape: max_size is 768, and sides have at least 64 px.",
        ),
        (
            (20, 200),
            300,
            "64 x 296 px, of another shape: max_size is 300, sides have at least 64 px, "
            "and sides are multiples of 8.",
        ),
    ],
)
def test_a_change_of_size_is_told_with_its_reason(size: tuple[int, int], max_size: int, text: str):
    assert size_remarks(size, max_size) == [
        f"The picture of {size[0]} x {size[1]} px became {text}"
    ]


def test_every_change_of_size_has_a_reason_and_no_other_picture_has_one():
    for width in range(16, 400, 7):
        for height in range(16, 400, 5):
            changes = fitted_size(width, height, 200) != (width, height)
            assert len(size_remarks((width, height), 200)) == changes


def remarked(image: Image.Image) -> Image.Image:
    result = image.copy()
    result.info["remarks"] = ["Drawn."]
    return result


def test_remarks_on_the_result_are_warnings(context: StageContext):
    model = Recording.drawing(remarked, "Before.")
    own = replace(context, models=ModelCache({"own": model}, Device("cpu", "float32")))
    (artifact,) = Img2Img(model="own", prompt="an owl", seed=3).run(own)
    assert own.warnings == ["Before.", "Drawn."]
    assert model.requests[0].seed == 3
    with Image.open(artifact.path) as result:
        assert set(result.info) == {"parameters"}


def test_every_parameter_reaches_the_model(context: StageContext, tmp_path: Path):
    """With values other than the defaults of the stage and of the request."""
    model = Recording()
    steps: list[tuple[int, int]] = []
    files = {
        f"{EMBEDDING}ink": ExtraFile(tmp_path / "ink.pt", "5" * 64),
        f"{LORA}clay": ExtraFile(tmp_path / "clay.safetensors", "6" * 64),
    }
    header = {f"{weight_files.KOHYA}lora_down.weight": torch.ones(2, 768)}
    save_file(header, tmp_path / "clay.safetensors")
    own = replace(
        context, models=ModelCache({"own": model}, Device("cpu", "float32")), extra_files=files,
        low_memory_level=1, on_step=lambda *step: steps.append(step),
    )  # fmt: skip
    same: dict[str, Any] = {
        "negative_prompt": "fog", "seed": 5, "steps": 31, "guidance_scale": 3.5, "strength": 0.4,
        "sampler": "dpmpp_2m", "schedule": "karras", "prompt_syntax": "plain", "clip_skip": 2,
        "tile": 256,
    }  # fmt: skip
    Img2Img(model="own", prompt="an owl", loras={"clay": 0.3}, **same).run(own)
    (request,) = model.requests
    assert steps == [(1, 1)]
    found = {field.name: getattr(request, field.name) for field in fields(request)}
    assert found == {
        **same, "prompt": "an owl", "mask": None, "saves_memory": True,
        "embeddings": {"ink": tmp_path / "ink.pt"},
        "loras": (Lora("clay", tmp_path / "clay.safetensors", 0.3),),
    }  # fmt: skip


# Alpha


def cutout(size: tuple[int, int] = (104, 72)) -> Image.Image:
    """An ellipse with a soft edge on nothing."""
    large = Image.new("L", (size[0] * 4, size[1] * 4))
    ImageDraw.Draw(large).ellipse([60, 40, size[0] * 4 - 60, size[1] * 4 - 40], fill=255)
    image = Image.radial_gradient("L").resize(size).convert("RGB")
    image.putalpha(large.resize(size, Image.Resampling.BOX))
    return image


def redrawn(context: StageContext, image: Image.Image, **params: Any) -> Image.Image:
    image.save(context.source)
    context.warnings.clear()
    stage = Img2Img(model="sd15", prompt="an owl", steps=2, strength=0.5, **params)
    (artifact,) = stage.run(context)
    with Image.open(artifact.path) as result:
        result.load()
        assert result.info["parameters"].startswith("an owl")
        return result


@pytest.mark.slow
def test_the_alpha_of_the_input_is_put_back(context: StageContext):
    image = cutout()
    kept, white = redrawn(context, image), redrawn(context, image, alpha="white")
    assert (kept.mode, white.mode) == ("RGBA", "RGB")
    alpha = image.getchannel("A")
    assert kept.getchannel("A").tobytes() == alpha.tobytes()
    solid = np.asarray(alpha) >= 250
    assert (np.asarray(kept)[solid][:, :3] == np.asarray(white)[solid]).all()
    assert not np.asarray(kept)[np.asarray(alpha) == 0].any()
    assert context.warnings == []


@pytest.mark.slow
def test_a_soft_edge_shows_no_white(context: StageContext, monkeypatch: pytest.MonkeyPatch):
    """A black subject with a soft edge, by a model that changes nothing."""
    monkeypatch.setattr(
        "dna_pipeline.providers.stable_diffusion.model.StableDiffusion.redraw",
        lambda _s, image, *_: image,
    )
    image = Image.new("RGBA", (104, 72), (0, 0, 0, 255))
    image.putalpha(cutout().getchannel("A"))
    result = np.asarray(redrawn(context, image))
    soft = (result[..., 3] > 0) & (result[..., 3] < 250)
    assert soft.sum() > 50
    white_share = 255 - np.asarray(image.getchannel("A"))[soft]
    assert (result[soft][:, :3].max(axis=1) <= white_share).all()
    assert result[soft][:, :3].mean() < 0.4 * white_share.mean()


@pytest.mark.slow
@pytest.mark.parametrize("size", [(208, 144), (110, 75), (50, 40)])
def test_the_alpha_takes_the_result_s_size(context: StageContext, size: tuple[int, int]):
    image = cutout(size)
    result = redrawn(context, image, max_size=104)
    alpha = image.getchannel("A").resize(result.size, Image.Resampling.LANCZOS)
    assert result.size == fitted_size(*size, 104) != size
    assert np.array_equal(np.asarray(result.getchannel("A")), np.asarray(alpha))


@pytest.mark.slow
@pytest.mark.parametrize("alpha", ["opaque", "nearly opaque", "constant"])
def test_a_picture_without_an_alpha_that_says_something_stays_rgb(
    context: StageContext, alpha: str
):
    image = Image.linear_gradient("L").convert("RGB").resize((104, 72))
    plain = redrawn(context, image)
    values = {"opaque": 255, "nearly opaque": 254, "constant": 90}
    image.putalpha(values[alpha])
    for param in ("keep", "white"):
        result = redrawn(context, image, alpha=param)
        assert (result.mode, result.tobytes()) == ("RGB", plain.tobytes())


@pytest.mark.slow
def test_a_picture_of_nothing_is_said_to_show_nothing(context: StageContext):
    result = redrawn(context, Image.new("RGBA", (104, 72)))
    assert result.getextrema()[3] == (0, 0)
    assert ["nothing of the result shows" in text for text in context.warnings] == [True]


@pytest.mark.slow
def test_the_matte_survives_to_remove_background(context: StageContext):
    image = cutout()
    redrawn(context, image)
    context.source = context.work_dir / "cat.png"
    (matte,) = RemoveBackground(model="never loaded").run(context)
    assert matte.facts["already_cut"] is True
    with Image.open(matte.path) as result:
        assert result.getchannel("A") == image.getchannel("A")


# Remarks on the prompt


@pytest.mark.parametrize("prompt", ["", " \n"])
def test_an_empty_prompt_is_told(context: StageContext, prompt: str):
    context.models = ModelCache({"own": Recording()}, Device("cpu", "float32"))
    Img2Img(model="own", prompt=prompt).run(context)
    assert context.warnings == [
        "The prompt is empty: the picture was redrawn without a description."
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("syntax", "phrases"),
    [
        (
            "a1111",
            'hypernetwork tags ("<hypernet:clay:0.8>"); they are not understood here, so they were '
            "read as",
        ),
        (
            "plain",
            'weights ("(red:1.4)") and hypernetwork tags ("<hypernet:clay:0.8>"); prompt_syntax is '
            "plain, so they were read as",
        ),
    ],
)
def test_what_is_not_obeyed_is_named_and_stays_in_the_text(
    context: StageContext, syntax: Any, phrases: str
):
    prompt = "(red:1.4) chair <hypernet:clay:0.8>"
    stage = Img2Img(model="sd15", prompt=prompt, prompt_syntax=syntax, steps=2, strength=0.5)
    (artifact,) = stage.run(context)
    assert context.warnings == [f"The prompt holds {phrases} text."]
    with Image.open(artifact.path) as image:
        assert image.info["parameters"].startswith(prompt + "\n")


@pytest.mark.parametrize("name", ["prompt", "negative_prompt"])
def test_a_prompt_that_cannot_be_obeyed_is_refused(name: str):
    for text in ("[cat:dog:0.5]", "[cow|horse]", "a cat AND a dog", "(word:1.2.3)"):
        with pytest.raises(ParameterInvalid, match=f"^{name}: ") as error:
            Img2Img.model_validate({name: text}).check()
        assert "prompt_syntax: plain" in error.value.failure().hint
        Img2Img.model_validate({name: text, "prompt_syntax": "plain"}).check()
    Img2Img.model_validate({name: "[{a|b}]"}).check()  # not filled in yet


@pytest.mark.parametrize("prompt", ["{{x}} <lora:clay:x>", "{{x}} <lora:a:1> <lora:a:1>"])
def test_a_prompt_that_only_the_run_sees_is_refused(context: StageContext, prompt: str):
    """A prompt with a brace was not checked before, since it might have had to be filled in."""
    stage = Img2Img(model="sd15", prompt=prompt)
    stage.check()
    with pytest.raises(ParameterInvalid, match=r"^prompt: .*(?i:lora)") as error:
        stage.run(context)
    assert "prompt_syntax: plain" in error.value.failure().hint


def test_clip_skip_stands_in_the_parameters_text():
    assert "Clip skip" not in parameters_text(Img2Img(model="sd15"), (8, 8))
    assert "Clip skip: 2" in parameters_text(Img2Img(model="sd15", clip_skip=2), (8, 8))


# ---------------------------------------------------------------- LoRAs


@pytest.fixture
def with_lora(context: StageContext, models_dir: Path, tmp_path: Path) -> StageContext:
    """`clay` in the folder of LoRAs, and `xl`, which is for another family of models."""
    folder = tmp_path / "data" / FOLDER
    TrainedLora(models_dir / "sd-v1-5-local", 1).save_kohya(
        folder / "styles/clay.safetensors", sshs_model_hash="0123456789abcdef"
    )
    save_file(
        {f"{weight_files.KOHYA_XL}lora_down.weight": torch.ones(2, 2048)},
        folder / "xl.safetensors",
    )
    (tmp_path / "work").mkdir()  # beside the picture, which a result would replace
    return replace(context, work_dir=tmp_path / "work")


def drawn(context: StageContext, **params: Any) -> tuple[bytes, str]:
    """The pixels, and the text that tells of them."""
    stage = Img2Img(model="sd15", steps=2, strength=0.5, **params)
    paths = stage.extra_files(context.work_dir.parent / "data")
    context.extra_files = {name: ExtraFile(path, "") for name, path in paths.items()}
    (artifact,) = stage.run(context)
    with Image.open(artifact.path) as image:
        return image.tobytes(), image.info["parameters"]


@pytest.mark.slow
def test_a_tag_in_the_prompt_means_the_same(with_lora: StageContext):
    pixels, text = drawn(with_lora, prompt="a chair", loras={"clay": 0.8})
    tagged, tagged_text = drawn(with_lora, prompt="a chair <lora:clay:0.8>")
    assert tagged == pixels != drawn(with_lora, prompt="a chair")[0]
    assert text == tagged_text
    assert text.startswith("a chair <lora:clay:0.8>\nSteps: 2, ")
    assert text.endswith(', Lora hashes: "clay: 0123456789ab"')
    assert with_lora.warnings == []


@pytest.mark.slow
def test_plain_prompts_have_no_tags_and_a_weight_of_zero_is_none(with_lora: StageContext):
    plain, text = drawn(with_lora, prompt="a chair")
    assert drawn(with_lora, prompt="a chair", loras={"clay": 0.0, "absent": 0}) == (plain, text)
    drawn(with_lora, prompt="a chair <lora:clay:0.8>", prompt_syntax="plain")
    assert 'LoRA tags ("<lora:clay:0.8>")' in with_lora.warnings[-1]


@pytest.mark.slow
def test_a_lora_of_another_family_and_an_absent_one(with_lora: StageContext):
    with pytest.raises(WeightsMismatch, match="is a LoRA for Stable Diffusion XL; needed here"):
        drawn(with_lora, loras={"xl": 1.0})
    with pytest.raises(WeightsMissing, match=r"LoRA 'clya' is not in .*; did you mean 'clay'\?"):
        drawn(with_lora, prompt="<lora:clya:1>")


@pytest.mark.slow
def test_a_prompt_without_the_trigger_words_is_remarked(with_lora: StageContext):
    lora = with_lora.work_dir.parent / "data" / FOLDER / "styles/clay.safetensors"
    drawn(with_lora, prompt="a chair <lora:clay:1>")
    assert with_lora.warnings == []
    lora.with_suffix(".json").write_text('{"activation text": "clay style, plasticine"}')
    drawn(with_lora, prompt="a chair, (Clay Style:1.2)", loras={"clay": 1.0})
    drawn(with_lora, prompt="a chair", loras={"clay": -1.0})
    assert with_lora.warnings == []
    drawn(with_lora, prompt="a chair <lora:clay:1>")
    assert with_lora.warnings == [
        "The prompt has none of the trigger words of the LoRA 'clay': clay style, plasticine."
    ]
    lora.with_suffix(".json").write_text("{" * 100_000)
    drawn(with_lora, prompt="a chair <lora:clay:1>")
    assert len(with_lora.warnings) == 1


@pytest.mark.parametrize(
    ("params", "phrase"),
    [
        ({"prompt": "<lora:clay:1>", "loras": {"clay": 0.5}}, "'clay' is in `loras` too; keep one"),
        ({"prompt": "<lora:clay:x>"}, 'the weight in "<lora:clay:x>"'),
    ],
)
def test_loras_that_contradict_themselves(params: dict[str, Any], phrase: str):
    with pytest.raises(ParameterInvalid, match=r"^prompt: ") as error:
        Img2Img(model="sd15", **params).check()
    assert phrase in str(error.value)
    Img2Img(model="sd15", prompt="{a} <lora:x:y>").check()
    Img2Img(model="sd15", prompt_syntax="plain", **params).check()


@pytest.mark.parametrize("weight", [11, -11, float("nan"), "0.8", None])
def test_a_weight_is_a_number(weight: object):
    with pytest.raises(ValidationError):
        Img2Img(model="sd15", loras={"clay": weight})  # pyright: ignore[reportArgumentType]
