"""Requests as programs send them, and the words of sidecars that they come to."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from dna_pipeline.config.templates import fill
from dna_pipeline.interfaces.web.sdapi.errors import Refusal
from dna_pipeline.interfaces.web.sdapi.options import Options
from dna_pipeline.interfaces.web.sdapi.requests import Img2ImgRequest
from dna_pipeline.interfaces.web.sdapi.translation import Surroundings, Translation, translate
from dna_pipeline.operations.serving.catalogue import Checkpoint
from dna_pipeline.stages.img2img.stage import Img2Img

SHA256 = "6ce0161689" + "0" * 54
CHECKPOINTS = [
    Checkpoint("sd15", "v1-5-pruned-emaonly-fp16.safetensors", SHA256),
    Checkpoint("clay", "clay_v2.safetensors", None),
]
DRAWN = 1234


def translated(
    request: dict[str, Any], options: Options | None = None, **surroundings: Any
) -> Translation:
    values: dict[str, Any] = {"sampler": "euler", "steps": 20, "priority": 100, **surroundings}
    site = Surroundings("restyle", checkpoints=CHECKPOINTS, options=options or Options(), **values)
    parsed = Img2ImgRequest.model_validate({"init_images": ["aaaa"]} | request)
    return translate(parsed, site, lambda: DRAWN)


def stage(request: dict[str, Any], **options: Any) -> dict[str, Any]:
    """The parameters of img2img; they are valid together."""
    values = translated(request, **options).values["img2img"]
    Img2Img.model_validate(values | {"steps": values.get("steps", 20)}).check()
    return values


def refusal(request: dict[str, Any], **options: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        translated(request, **options)
    return caught.value


# What real programs send

AI_RENDER = {
    "prompt": "a house", "negative_prompt": "ugly", "width": 512, "height": 768,
    "image_similarity": 0.4, "seed": 7, "cfg_scale": 7.0, "steps": 30, "sampler": "LMS",
    "denoising_strength": 0.6, "sampler_index": "LMS", "controlnet_is_enabled": False,
    "init_images": ["data:image/png;base64,aaaa"],
}  # fmt: skip
SDWEBUIAPI = {
    "init_images": ["data:image/png;base64,aaaa"], "resize_mode": 0, "denoising_strength": 0.75,
    "mask_blur": 4, "inpainting_fill": 0, "inpaint_full_res": True, "inpaint_full_res_padding": 0,
    "inpainting_mask_invert": 0, "initial_noise_multiplier": 1, "prompt": "a cat", "styles": [],
    "seed": -1, "subseed": -1, "subseed_strength": 0, "seed_resize_from_h": 0,
    "seed_resize_from_w": 0, "batch_size": 1, "n_iter": 1, "steps": 20, "cfg_scale": 7.0,
    "image_cfg_scale": 1.5, "width": 512, "height": 512, "restore_faces": False, "tiling": False,
    "do_not_save_samples": False, "do_not_save_grid": False, "negative_prompt": "", "eta": 1.0,
    "s_churn": 0, "s_tmax": 0, "s_tmin": 0, "s_noise": 1, "override_settings": {},
    "override_settings_restore_afterwards": True, "sampler_name": "Euler a",
    "sampler_index": "Euler a", "include_init_images": False, "script_name": None,
    "script_args": [], "send_images": True, "save_images": False, "alwayson_scripts": {},
}  # fmt: skip
SD_CONNECT = {  # Jagard11's add-on of Blender, as it comes: a unit without a model
    "init_images": ["aaaa"], "prompt": "a", "negative_prompt": "", "seed": -1, "steps": 25,
    "cfg_scale": 7.0, "sampler_name": "DPM++ 2M", "denoising_strength": 0.75, "width": 1920,
    "height": 1080,
    "alwayson_scripts": {"controlnet": {"args": [
        {"image": "aaaa", "module": "None", "model": "", "weight": 1.0, "guidance_start": 0.0,
         "guidance_end": 1.0, "control_mode": "Balanced", "pixel_perfect": True,
         "low_vram": False},
    ]}},
}  # fmt: skip
GIMPFUSION = {  # Stable Gimpfusion's inpainting
    "mask": "aaaa", "inpaint_full_res": True, "inpaint_full_res_padding": 10,
    "inpainting_mask_invert": 0, "resize_mode": 2, "init_images": ["aaaa"], "prompt": "a",
    "negative_prompt": "", "denoising_strength": 0.8, "steps": 50, "cfg_scale": 7.5, "width": 640,
    "height": 512, "sampler_index": "DPM++ 2M Karras", "batch_size": 2, "seed": -1,
}  # fmt: skip


def test_ai_render():
    values = translated(AI_RENDER)
    assert values.values == {
        "pipeline": "restyle", "priority": 100,
        "img2img": {
            "alpha": "white", "prompt": "a house", "negative_prompt": "ugly", "steps": 30,
            "guidance_scale": 7.0, "sampler": "lms", "schedule": "normal", "strength": 0.6,
            "size": "512x768", "resize": "stretch", "max_size": 768, "mask": "none",
            "output": "png",
        },
    }  # fmt: skip
    assert (values.seeds, values.pictures, values.warnings) == ([7], [0], [])


def test_sdwebuiapi():
    values = stage(SDWEBUIAPI)
    assert (values["sampler"], values["schedule"]) == ("euler_a", "normal")
    assert (values["size"], values["mask"]) == ("512x512", "none")
    assert translated(SDWEBUIAPI).warnings == []


def test_sd_connect():
    values = stage(SD_CONNECT)
    assert (values["sampler"], values["schedule"]) == ("dpmpp_2m", "karras")
    assert (values["size"], values["max_size"]) == ("1920x1080", 1920)
    assert translated(SD_CONNECT).warnings == []


def test_gimpfusion():
    values = translated(GIMPFUSION)
    assert values.values["img2img"] | {} == stage(GIMPFUSION)
    assert {
        key: values.values["img2img"][key]
        for key in ("mask", "area", "padding", "mask_invert", "size", "max_size", "schedule")
    } == {
        "mask": "file", "area": "masked", "padding": 10, "mask_invert": False, "size": "input",
        "max_size": 640, "schedule": "karras",
    }  # fmt: skip
    assert values.seeds == [DRAWN, DRAWN + 1]


def test_what_is_left_open_is_the_pipelines():
    assert stage({}) == {"alpha": "white", "mask": "none", "output": "png"}
    blank = dict.fromkeys(("steps", "cfg_scale", "width", "seed", "sampler_name", "mask"), "")
    assert stage(blank | {"scheduler": None, "prompt": None}) == stage({})


# Samplers and schedules


@pytest.mark.parametrize(
    ("sampler", "scheduler", "expected"),
    [
        # As web UIs before 1.9 spell them, with the schedule in the name
        ("Euler a", None, ("euler_a", "normal")),
        ("DPM++ 2M Karras", None, ("dpmpp_2m", "karras")),
        ("DPM++ SDE Karras", None, ("dpmpp_sde", "karras")),
        ("DPM++ 2M SDE Exponential", None, ("dpmpp_2m_sde", "exponential")),
        ("LMS Karras", None, ("lms", "karras")),
        ("DPM2 a Karras", None, ("dpm2_a", "karras")),
        ("DDIM", None, ("ddim", "normal")),
        ("UniPC", None, ("uni_pc", "normal")),
        ("LCM", None, ("lcm", "normal")),
        ("k_lms", None, ("lms", "normal")),
        ("k_euler_ancestral", None, ("euler_a", "normal")),
        # As since 1.9, with a schedule of its own
        ("DPM++ 2M", "Karras", ("dpmpp_2m", "karras")),
        ("DPM++ 2M", "karras", ("dpmpp_2m", "karras")),
        ("DPM++ 2M", "Exponential", ("dpmpp_2m", "exponential")),
        ("DPM++ 2M", "Beta", ("dpmpp_2m", "beta")),
        ("DPM++ 2M", "Normal", ("dpmpp_2m", "normal")),
        ("DPM++ 2M", "Uniform", ("dpmpp_2m", "normal")),
        ("DPM++ 2M Karras", "Automatic", ("dpmpp_2m", "karras")),
        # What it chooses by itself
        ("DPM++ 2M", "Automatic", ("dpmpp_2m", "karras")),
        ("DPM++ 2M", None, ("dpmpp_2m", "karras")),
        ("DPM++ 2M", "", ("dpmpp_2m", "karras")),
        ("DPM++ SDE", "Automatic", ("dpmpp_sde", "karras")),
        ("DPM++ 2M SDE", "Automatic", ("dpmpp_2m_sde", "exponential")),
        ("DPM2", "Automatic", ("dpm2", "karras")),
        ("DPM2 a", "Automatic", ("dpm2_a", "karras")),
        ("Euler", "Automatic", ("euler", "normal")),
        ("LMS", "Automatic", ("lms", "normal")),
        ("Heun", "Automatic", ("heun", "normal")),
        # Ours, and ComfyUI's
        ("dpmpp_2m", "karras", ("dpmpp_2m", "karras")),
        ("uni_pc", "normal", ("uni_pc", "normal")),
        # The pipeline's sampler
        (None, "Karras", ("euler", "karras")),
    ],
)
def test_samplers(sampler: str | None, scheduler: str | None, expected: tuple[str, str]):
    request = {"sampler_name": sampler, "scheduler": scheduler}
    values = stage(request)
    assert (values["sampler"], values["schedule"]) == expected
    assert translated(request).warnings == []


@pytest.mark.parametrize(
    ("sampler", "scheduler", "expected", "said"),
    [
        ("Euler a", "Karras", ("euler_a", "normal"), "karras has no effect on the sampler Euler a"),
        ("DDIM Karras", None, ("ddim", "normal"), "karras has no effect on the sampler DDIM"),
        ("Euler", "SGM Uniform", ("euler", "normal"), "no scheduler 'SGM Uniform', so Normal"),
        ("Euler", "Align Your Steps", ("euler", "normal"), "no scheduler 'Align Your Steps'"),
        ("DPM++ 2S a Karras", None, ("dpmpp_sde", "karras"), "no sampler 'DPM++ 2S a Karras'"),
        ("DPM fast", None, ("dpmpp_2m", "karras"), "DPM++ 2M, a similar one, was taken"),
        ("PLMS", None, ("lms", "normal"), "no sampler 'PLMS'; LMS"),
        ("Restart", "Automatic", ("euler", "normal"), "no sampler 'Restart'; Euler"),
    ],
)
def test_what_is_replaced_is_said(
    sampler: str, scheduler: str | None, expected: tuple[str, str], said: str
):
    request = {"sampler_index": sampler, "scheduler": scheduler}
    values = stage(request)
    assert (values["sampler"], values["schedule"]) == expected
    (warning,) = translated(request).warnings
    assert said in warning


@pytest.mark.parametrize("sampler", ["Eular", "<script>", "x" * 100_000, 5, "\ud800"])
def test_an_unknown_sampler_is_refused_in_words_that_programs_know(sampler: object):
    error = refusal({"sampler_name": None, "sampler_index": sampler})
    assert (error.status, error.detail) == (404, "Sampler not found")
    assert "there is no sampler" in error.more and len(error.more) < 500


def test_sampler_name_counts_before_the_older_key():
    assert stage({"sampler_name": "Heun", "sampler_index": "LMS"})["sampler"] == "heun"


@pytest.mark.parametrize(
    ("strength", "steps", "expected"),
    [
        (0.6, 30, 0.6), (1, 1, 1.0), (0, 20, 0.05), (0.01, 20, 0.05), (0.0, 1, 1.0),
        (0.05, 20, 0.05), (0, None, 0.05),
    ],
)  # fmt: skip
def test_the_strength(strength: float, steps: int | None, expected: float):
    request = {"denoising_strength": strength, "steps": steps}
    values = stage(request)
    assert values["strength"] == expected
    assert bool(translated(request).warnings) == (strength != expected)


def test_one_step_runs_at_least():
    for steps in range(1, 1001):
        values = translated({"denoising_strength": 0, "steps": steps}).values["img2img"]
        assert int(steps * values["strength"]) == 1


# Seeds and numbers


@pytest.mark.parametrize(("seed", "expected"), [(5, 5), (-1, DRAWN), (None, DRAWN), (0, 0),
                                                (2**63 - 1, 2**63 - 1), ("12", 12)])  # fmt: skip
def test_the_first_seed(seed: Any, expected: int):
    assert translated({"seed": seed}).seeds == [expected]


@pytest.mark.parametrize(
    ("images", "batch_size", "n_iter", "pictures", "rounds"),
    [
        (1, 1, 1, [0], 1),
        (1, 2, 3, [0] * 6, 2),
        (3, 1, 1, [0, 1, 2], 3),
        (3, 3, 2, [0, 1, 2, 0, 1, 2], 3),
        (1, None, None, [0], 1),
    ],
)
def test_several_pictures(
    images: int, batch_size: int | None, n_iter: int | None, pictures: list[int], rounds: int
):
    request = {"init_images": ["aaaa"] * images, "batch_size": batch_size, "n_iter": n_iter}
    made = translated(request | {"seed": 10})
    assert made.pictures == pictures
    assert made.seeds == list(range(10, 10 + len(pictures)))
    assert (made.batch_size, made.warnings) == (rounds, [])


def test_seeds_begin_anew_after_the_largest():
    assert translated({"seed": 2**63 - 1, "n_iter": 2}).seeds == [2**63 - 1, 0]


def test_a_batch_of_another_size_than_the_pictures_is_said():
    made = translated({"init_images": ["a", "b"], "batch_size": 5})
    assert made.pictures == [0, 1]
    assert "batch_size: 5 had no effect" in made.warnings[0]


def test_values_of_one_job():
    made = translated({"seed": 3, "n_iter": 2})
    values = made.values_of(1, {"a": 1})
    assert (values["img2img"]["seed"], values["meta"]) == (4, {"a": 1})
    assert "seed" not in made.values["img2img"]


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"init_images": []}, "init_images: there is none"),
        ({"init_images": None}, "init_images: there is none"),
        ({"init_images": ""}, "init_images: there is none"),
        ({"batch_size": 9, "n_iter": 9}, "come to 81 pictures; ask for at most 64"),
        ({"n_iter": 10**30}, "pictures; ask for at most 64"),
        ({"restore_faces": True}, "restore_faces: faces are not restored here; send false"),
        ({"tiling": True}, "tiling: patterns that repeat are not made here; send false"),
        ({"width": 512, "resize_mode": 7}, "resize_mode: should be 0"),
        ({"override_settings": {"CLIP_stop_at_last_layers": 13}}, "should be from 1 to 12, not 13"),
        ({"override_settings": {"CLIP_stop_at_last_layers": "x"}}, "should be from 1 to 12"),
        ({"override_settings": {"samples_format": "gif"}}, "should be png, jpg or webp"),
    ],
)
def test_what_is_refused(request_: dict[str, Any], said: str):
    error = refusal(request_)
    assert said in error.detail
    assert error.status == 422


@pytest.mark.parametrize(
    "values",
    [
        {"steps": 0}, {"steps": 1001}, {"steps": "many"}, {"cfg_scale": math.nan},
        {"cfg_scale": -1}, {"denoising_strength": 1.5}, {"denoising_strength": math.inf},
        {"width": 8}, {"height": 5000}, {"mask_blur": 1000}, {"batch_size": 0}, {"n_iter": -1},
        {"seed": 2**63}, {"init_images": 5}, {"init_images": [5]}, {"override_settings": []},
        {"alwayson_scripts": "x"}, {"tiling": "perhaps"}, {"prompt": {}}, {"mask": []},
    ],
)  # fmt: skip
def test_values_that_no_request_may_have(values: dict[str, Any]):
    with pytest.raises(ValidationError) as caught:
        Img2ImgRequest.model_validate(values)
    assert {error["loc"][0] for error in caught.value.errors()} == set(values)


# Texts


@pytest.mark.parametrize(
    "text",
    [
        "a {cat|dog}, {meta.asset}", "{", "}}", "{{x}} __hats__", "__a__b__c__", "____", "_ __x",
        "<script>alert(1)</script>", "a <lora:clay:0.8>", "ünïcode 猫 \U0001f408", "", "\\__a__",
    ],
)  # fmt: skip
def test_prompts_are_taken_as_they_are_written(text: str):
    values = stage({"prompt": text, "negative_prompt": text})
    for name in ("prompt", "negative_prompt"):
        assert fill(values[name], {"meta": {}}, 1) == text


def test_halves_of_characters_are_replaced():
    assert stage({"prompt": "a \ud83d cat"})["prompt"] == "a ? cat"


# Sizes


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({"width": 512, "height": 768}, ("512x768", "stretch", 768)),
        ({"width": 512, "height": 768, "resize_mode": 0}, ("512x768", "stretch", 768)),
        ({"width": 512, "height": 768, "resize_mode": 1}, ("512x768", "crop", 768)),
        ({"width": 512, "height": 768, "resize_mode": 2}, ("512x768", "pad", 768)),
        ({"width": 512, "height": 768, "resize_mode": "Crop and resize"}, ("512x768", "crop", 768)),
        ({"width": 640}, ("640x512", "stretch", 640)),
        ({"height": 333}, ("512x333", "stretch", 512)),
        ({"width": 32, "height": 16}, ("32x16", "stretch", 64)),
        ({"width": 4096, "height": 4096}, ("4096x4096", "stretch", 4096)),
    ],
)
def test_sizes(request_: dict[str, Any], expected: tuple[str, str, int]):
    values = stage(request_)
    assert (values["size"], values["resize"], values["max_size"]) == expected
    assert translated(request_).warnings == []


def test_the_latent_way_to_resize_is_said():
    made = translated({"width": 64, "resize_mode": 3})
    assert made.values["img2img"]["resize"] == "stretch"
    assert "resize_mode: 3 was taken as 0" in made.warnings[0]


# Masks


def test_a_mask_of_the_whole_picture():
    values = stage(
        {
            "mask": "aaaa", "inpaint_full_res": False, "inpainting_mask_invert": 1, "mask_blur": 8,
            "width": 512, "height": 512, "inpainting_fill": 1,
        }
    )  # fmt: skip
    assert (values["mask"], values["area"], values["mask_invert"]) == ("file", "whole", True)
    assert (values["mask_blur"], values["size"]) == (8, "512x512")


def test_the_part_around_the_mask_is_the_default():
    values = stage({"mask": "aaaa"})
    assert (values["area"], values["mask_invert"]) == ("masked", False)
    assert not {"size", "max_size", "mask_blur", "padding"} & values.keys()


@pytest.mark.parametrize(
    ("blurs", "expected"),
    [({"mask_blur": 4}, 4), ({"mask_blur_x": 3, "mask_blur_y": 7.6}, 8), ({"mask_blur": 0}, 0)],
)
def test_the_blur(blurs: dict[str, float], expected: int):
    assert stage({"mask": "aaaa", **blurs})["mask_blur"] == expected


@pytest.mark.parametrize("fill_", [0, 2, 3])
def test_other_ways_to_fill_are_said(fill_: int):
    warnings = translated({"mask": "aaaa", "inpainting_fill": fill_}).warnings
    assert warnings[0].startswith(f"inpainting_fill: {fill_} was taken as 1")
    assert translated({"inpainting_fill": fill_}).warnings == []


def test_keys_of_masks_mean_nothing_without_one():
    assert stage({"mask_blur": 9, "inpaint_full_res": True, "inpainting_mask_invert": 1}) == stage(
        {}
    )


# Settings


@pytest.mark.parametrize(
    "name",
    [
        "sd15", "SD15", "v1-5-pruned-emaonly-fp16.safetensors", "v1-5-pruned-emaonly-fp16",
        "v1-5-pruned-emaonly-fp16.safetensors [6ce0161689]",
        "v1-5-pruned-emaonly-fp16 [6ce0161689]", "6ce0161689", SHA256,
        "models\\v1-5-pruned-emaonly-fp16.safetensors", "v1-5-pruned-emaonly-fp16 [0000000000]",
    ],
)  # fmt: skip
def test_names_of_a_checkpoint(name: str):
    assert stage({"override_settings": {"sd_model_checkpoint": name}})["model"] == "sd15"


@pytest.mark.parametrize(
    "name",
    ["sd16", "../../etc/passwd", "sd15/../../x", "<script>alert(1)</script>", "x" * 100_000, 7, [],
     {"a": 1}, True, "\ud800", "\0", " [", "/", "[]"],
)  # fmt: skip
def test_a_checkpoint_that_is_not_there_is_refused(name: object):
    error = refusal({"override_settings": {"sd_model_checkpoint": name}})
    assert (error.status, error.code) == (404, "unknown_model")
    assert "there is no checkpoint" in error.detail and len(error.detail) < 500


def test_options_count_where_the_request_says_nothing():
    kept = Options("clay", 2, "webp")
    values = stage({}, options=kept)
    assert (values["model"], values["clip_skip"], values["output"]) == ("clay", 2, "webp")
    own = {"sd_model_checkpoint": "sd15", "CLIP_stop_at_last_layers": 1, "samples_format": "jpg"}
    values = stage({"override_settings": own}, options=kept)
    assert (values["model"], values["clip_skip"], values["output"]) == ("sd15", 1, "jpeg")


def test_a_checkpoint_that_went_after_it_was_chosen():
    made = translated({}, options=Options("gone"))
    assert "model" not in made.values["img2img"]
    assert "'gone', which was chosen by /sdapi/v1/options, is not there" in made.warnings[0]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"sd_vae": "Automatic", "samples_save": False, "return_grid": True}, None),
        ({"sd_vae": "None", "save_images_add_number": False, "live_previews_enable": False}, None),
        ({"sd_vae": "kl-f8.pt"}, "Settings that have no effect here: sd_vae."),
        ({"eta_noise_seed_delta": 31337, "b": 1}, "here: b, eta_noise_seed_delta."),
    ],
)
def test_settings_without_an_effect_are_said(settings: dict[str, Any], said: str | None):
    warnings = translated({"override_settings": settings}).warnings
    assert warnings == [] if said is None else said in warnings[0]


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"subseed_strength": 0.3}, "subseed_strength has no effect"),
        ({"seed_resize_from_w": 512}, "seed_resize_from_w and seed_resize_from_h"),
        ({"styles": ["clay"]}, "styles have no effect"),
        ({"refiner_checkpoint": "sd_xl_refiner"}, "refiner_checkpoint has no effect"),
    ],
)
def test_keys_without_an_effect_are_said(request_: dict[str, Any], said: str):
    (warning,) = translated(request_).warnings
    assert said in warning
