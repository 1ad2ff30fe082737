"""The img2img stage: its parameters, the picture's size, and the text in the PNG."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import pytest
from PIL import Image
from pydantic import ValidationError

from dna_pipeline.errors import JobError, NoEffectiveSteps, ParameterInvalid
from dna_pipeline.providers.base import Device, ModelCache
from dna_pipeline.providers.diffusers import Diffusers
from dna_pipeline.providers.samplers import SAMPLERS
from dna_pipeline.stages.base import StageContext
from dna_pipeline.stages.img2img import Img2Img, fitted_size, on_white

# Diffusers' schedulers hand torch tensors to numpy in a way that numpy 2 wants changed.
pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
    ),
]


def test_defaults_are_those_of_the_contract():
    assert Img2Img(model=None).params() == {
        "model": None,
        "prompt": "",
        "negative_prompt": "",
        "seed": 42,
        "steps": 20,
        "guidance_scale": 7.5,
        "strength": 0.75,
        "sampler": "euler",
        "schedule": "normal",
        "max_size": 768,
    }


@pytest.mark.parametrize(
    ("written", "advice"),
    [
        ("Euler", "write sampler: euler"),
        ("Euler a", "write sampler: euler_a"),
        ("euler_ancestral", "write sampler: euler_a"),
        ("k_euler_a", "write sampler: euler_a"),
        ("DPM++ 2M Karras", "write sampler: dpmpp_2m, schedule: karras"),
        ("DPM++ 2M SDE Karras", "write sampler: dpmpp_2m_sde, schedule: karras"),
        ("dpm++ sde", "write sampler: dpmpp_sde"),
        ("UniPC", "write sampler: uni_pc"),
        ("uni_pc_bh2", "write sampler: uni_pc"),
        ("LCM", "write sampler: lcm"),
        ("DDIM Karras", "write sampler: ddim"),
        ("EulerDiscreteScheduler", "write sampler: euler"),
        ("DPMSolverMultistepScheduler", "write sampler: dpmpp_2m"),
        ("Heun", ""),
        ("DPM2", ""),
        ("", ""),
        (5, ""),
    ],
)
@pytest.mark.parametrize("key", ["sampler", "sampler_name"])
def test_what_other_programs_call_the_samplers(key: str, written: object, advice: str):
    assert Img2Img.advice(key, written) == advice


def test_advice_on_other_parameters():
    assert Img2Img.advice("schedule", "Karras") == "write karras"
    assert Img2Img.advice("scheduler", "DPM++ 2M") == "that is a sampler: write sampler: dpmpp_2m"
    assert Img2Img.advice("schedule", "exponential") == ""
    assert Img2Img.advice("max_size", "768 x 512") == "write the longer side alone: 768"
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
        ("schedule", "exponential"),
        ("max_size", 63),
        ("max_size", 4097),
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
        *(
            {"sampler": name, "schedule": "karras"}
            for name, s in SAMPLERS.items()
            if s.takes_karras
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


def test_transparent_is_white():
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    assert on_white(image).tobytes() == bytes((255, 0, 0, 255, 255, 255))


@pytest.fixture
def context(models_dir: Path, tmp_path: Path) -> StageContext:
    source = tmp_path / "cat.png"
    Image.linear_gradient("L").convert("RGB").resize((104, 72)).save(source)
    provider = Diffusers(path=models_dir / "sd-v1-5-local", single_file=None, safety_checker=False)
    cache = ModelCache({"sd15": provider}, Device("cpu", "float32"))
    return StageContext("img2img", "cat", source, tmp_path, cache, lambda step, steps: None)


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
    text = Img2Img(model='odd, "name"').parameters_text((64, 64))
    assert text.startswith("Steps: 20, Sampler: Euler, Schedule type: Normal, ")
    assert 'Model: "odd, \\"name\\""' in text


def test_importing_the_stage_and_the_provider_imports_no_torch():
    code = (
        "import sys, dna_pipeline.stages.img2img, dna_pipeline.providers.diffusers\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'numpy.random'} & set(sys.modules)\n"
        "sys.exit(repr(heavy - {'numpy.random'}) if heavy - {'numpy.random'} else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_thrift_is_passed_on_and_told(context: StageContext):
    context.thrift = 1
    Img2Img(model="sd15", steps=2, strength=0.5).run(context)
    assert ["in tiles" in warning for warning in context.warnings] == [True]


def test_how_a_render_was_read_is_told(context: StageContext):
    context.source = context.work_dir.parent / "render.exr"
    planes = {name: np.full((64, 64), 0.5, np.float32) for name in "RGB"}
    OpenEXR.File({"type": OpenEXR.scanlineimage}, planes).write(str(context.source))
    Img2Img(model="sd15", steps=2, strength=0.5).run(context)
    assert ["EXR" in warning for warning in context.warnings] == [True]
