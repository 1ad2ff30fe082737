"""The Diffusers provider, on a small model in the real format."""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dna_pipeline.base.errors import (
    BlackImage,
    Cancelled,
    ContentFiltered,
    NonFiniteOutput,
    OutOfMemory,
    ParameterInvalid,
)
from dna_pipeline.providers.base import ImageToImage, ImageToImageRequest
from dna_pipeline.providers.stable_diffusion.model import StableDiffusion, make_scheduler
from dna_pipeline.providers.stable_diffusion.samplers import SAMPLERS
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
    pytest.mark.slow,  # loading a model imports Diffusers, which takes seconds
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
]

PAIRS = [
    *((name, "normal") for name in SAMPLERS),
    *(
        (name, schedule)
        for name, sampler in SAMPLERS.items()
        for schedule in ("karras", "exponential", "beta")
        if sampler.takes_schedules
    ),
]
# The classes and keywords once more, in full: the table under test is not its own reference.
DIFFUSERS: dict[str, tuple[str, dict[str, Any]]] = {
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
    "dpmpp_2m_sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "dpmpp_sde": (
        "DPMSolverSinglestepScheduler",
        {"algorithm_type": "sde-dpmsolver++", "lower_order_final": True},
    ),
    "heun": ("HeunDiscreteScheduler", {}),
    "lms": ("LMSDiscreteScheduler", {}),
    "dpm2": ("KDPM2DiscreteScheduler", {}),
    "dpm2_a": ("KDPM2AncestralDiscreteScheduler", {}),
    "ddim": ("DDIMScheduler", {}),
    "lcm": ("LCMScheduler", {}),
    "uni_pc": ("UniPCMultistepScheduler", {}),
}


# ---------------------------------------------------------------- the picture


@pytest.fixture(scope="module")
def reference(folder: Path) -> Any:
    from diffusers import StableDiffusionImg2ImgPipeline

    pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize(("sampler", "schedule"), PAIRS)
def test_bit_for_bit_what_diffusers_makes(
    model: StableDiffusion,
    reference: Any,
    folder: Path,
    picture: Image.Image,
    sampler: str,
    schedule: str,
):
    import diffusers

    name, options = DIFFUSERS[sampler]
    strength = 1.0 if sampler == "lms" else 0.5  # below 1, Diffusers' first steps of lms are wrong
    if schedule != "normal":
        options = {**options, f"use_{schedule}_sigmas": True}
    raw = json.loads((folder / "scheduler/scheduler_config.json").read_bytes())
    reference.scheduler = getattr(diffusers, name).from_config(raw, **options)
    expected = reference(
        prompt="a clay figurine",
        negative_prompt="fog",
        image=picture,
        num_inference_steps=6,
        strength=strength,
        guidance_scale=7.5,
        generator=torch.Generator("cpu").manual_seed(7),
    ).images[0]
    request = replace(REQUEST, sampler=sampler, schedule=schedule, strength=strength)
    found = model.redraw(picture, request, ignore)
    assert found.size == picture.size
    assert found.tobytes() == expected.tobytes()


def test_it_is_an_image_to_image(model: StableDiffusion):
    assert isinstance(model, ImageToImage)


def test_karras_does_not_leak_into_the_next_call(model: StableDiffusion, picture: Image.Image):
    def with_schedule(schedule: str) -> bytes:
        return model.redraw(picture, replace(REQUEST, schedule=schedule), ignore).tobytes()

    before = with_schedule("normal")
    assert with_schedule("karras") != before
    assert with_schedule("normal") == before


def test_a_model_saved_with_karras_still_has_a_normal_schedule(folder: Path):
    raw = json.loads((folder / "scheduler/scheduler_config.json").read_bytes())
    for name, sampler in SAMPLERS.items():
        if sampler.takes_schedules:
            made = make_scheduler({**raw, "use_karras_sigmas": True}, name, "normal")
            assert not made.config.use_karras_sigmas


def test_euler_starts_where_the_raw_configuration_says(folder: Path):
    raw = json.loads((folder / "scheduler/scheduler_config.json").read_bytes())
    made = make_scheduler(raw, "euler", "normal")
    made.set_timesteps(20)
    assert int(made.timesteps[0]) == 999
    assert "timestep_spacing" not in raw


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize(("steps", "strength"), [(1, 1.0), (2, 1.0), (3, 0.99), (7, 0.75)])
def test_true_step_counts(
    model: StableDiffusion, picture: Image.Image, sampler: str, steps: int, strength: float
):
    seen: list[tuple[int, int]] = []
    request = replace(REQUEST, sampler=sampler, steps=steps, strength=strength)
    model.redraw(picture.resize((24, 32)), request, lambda step, of: seen.append((step, of)))
    count = int(steps * strength)
    assert seen == [(i + 1, count) for i in range(count)]


def test_seeds_and_prompts_matter_and_repeat(model: StableDiffusion, picture: Image.Image):
    def made(**changes: Any) -> bytes:
        return model.redraw(picture, replace(REQUEST, **changes), ignore).tobytes()

    assert made() == made()
    assert made(seed=8) != made()
    assert made(seed=2**63 - 1) != made()
    assert made(prompt="a blue whale") != made()
    assert made(negative_prompt="") != made()


def test_guidance_up_to_one_needs_no_negative_prompt(model: StableDiffusion, picture: Image.Image):
    for scale in (0.0, 1.0):
        request = replace(REQUEST, guidance_scale=scale)
        other = replace(request, negative_prompt="other")
        assert (
            model.redraw(picture, request, ignore).tobytes()
            == model.redraw(picture, other, ignore).tobytes()
        )


def test_cancelled_in_the_middle_and_sound_afterwards(model: StableDiffusion, picture: Image.Image):
    expected = model.redraw(picture, REQUEST, ignore).tobytes()
    seen: list[int] = []

    def stop(step: int, steps: int) -> None:
        seen.append(step)
        if step == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        model.redraw(picture, REQUEST, stop)
    assert seen == [1, 2]
    assert model.redraw(picture, REQUEST, ignore).tobytes() == expected


def test_weights_long_prompts_and_skipped_layers_matter(
    model: StableDiffusion, picture: Image.Image
):
    def made(prompt: str, **changes: Any) -> bytes:
        return model.redraw(picture, replace(REQUEST, prompt=prompt, **changes), ignore).tobytes()

    plain = made("a red chair")
    assert made("a (red:1.0) chair") == plain
    assert made("a (red:1.5) chair") != plain
    assert made("a red chair", clip_skip=2) != plain
    words = "a very long prompt, " * 30
    assert made(words) != made(words + "of something else")
    assert made("a BREAK b") != made("a b")


@pytest.mark.parametrize(
    ("changes", "phrase"),
    [({"clip_skip": 12}, "clip_skip: the model's text encoder has"),
     ({"prompt": "[a|b]"}, "^prompt: .*alternates"),
     ({"negative_prompt": "[a|b]"}, "^negative_prompt: .*alternates")],
)  # fmt: skip
def test_a_prompt_that_cannot_be_encoded_is_refused(
    model: StableDiffusion, picture: Image.Image, changes: dict[str, Any], phrase: str
):
    with pytest.raises(ParameterInvalid, match=phrase):
        model.redraw(picture, replace(REQUEST, **changes), ignore)


def test_a_long_plain_prompt_is_cut_and_said_to_be(model: StableDiffusion, picture: Image.Image):
    words = "a very long prompt, " * 100
    plain = replace(REQUEST, prompt_syntax="plain")
    long = replace(plain, prompt=words)
    tokens = len(model._pipeline.tokenizer.tokenize(words))
    (remark,) = model.remarks(long)
    assert remark == f"The prompt has {tokens} tokens, of which only the first 75 were read."
    assert model.remarks(REQUEST) == []
    drawn = [
        model.redraw(picture, replace(plain, prompt=prompt), ignore)
        for prompt in (words, words + "of something else")
    ]
    assert drawn[0].tobytes() == drawn[1].tobytes()


def test_nothing_is_printed(folder: Path, picture: Image.Image, capfd: pytest.CaptureFixture[str]):
    long = replace(REQUEST, prompt="a very long prompt, " * 100)
    provider(folder).load(CPU).redraw(picture, long, ignore)
    assert capfd.readouterr() == ("", "")


def test_it_stays_off_the_network(
    folder: Path, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    provider(folder).load(CPU).redraw(picture, REQUEST, ignore)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_out_of_memory(model: StableDiffusion, picture: Image.Image, error: Exception):
    def fail(step: int, steps: int) -> None:
        raise error

    with pytest.raises(OutOfMemory):
        model.redraw(picture, REQUEST, fail)


class Meter(TorchDispatchMode):
    """The largest tensor that torch was asked for, in bytes, in each part of a redraw."""

    def __init__(self) -> None:
        super().__init__()
        self.largest: dict[str, int] = {}
        self.part = "encode"

    def on_step(self, step: int, steps: int) -> None:
        self.part = "decode" if step == steps else "denoise"

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        sizes = [tensor.untyped_storage().nbytes() for tensor in tensors]
        self.largest[self.part] = max([self.largest.get(self.part, 0), *sizes])
        return result


def test_thrift_takes_less_memory_and_hardly_changes_the_picture(model: StableDiffusion):
    picture = Image.linear_gradient("L").convert("RGB").resize((1024, 192))
    request = replace(REQUEST, steps=4)
    thrifty = replace(request, saves_memory=True)

    def measured(request: ImageToImageRequest) -> tuple[dict[str, int], Image.Image]:
        with Meter() as meter:
            result = model.redraw(picture, request, meter.on_step)
        return meter.largest, result

    (usual, before), (less, tiled), (again, after) = map(measured, (request, thrifty, request))
    assert less["encode"] < usual["encode"] * 0.6
    assert less["decode"] < usual["decode"] * 0.6
    assert less["denoise"] == usual["denoise"], "attention in slices asks for its whole matrix"
    assert (again, after.tobytes()) == (usual, before.tobytes())
    apart = np.abs(np.asarray(tiled, np.int16) - np.asarray(before, np.int16))
    assert apart.mean() < 8
    assert [text for text in tiled.info["remarks"] if "in tiles of at most 512 px" in text]
    assert "remarks" not in before.info


@pytest.mark.parametrize(
    ("width", "tile", "limit", "is_said"),
    [(64, None, 64, False), (72, None, 64, True), (128, 64, 64, False), (128, 96, 64, True)],
)
def test_tiles_are_said_where_the_vae_worked_in_them(
    model: StableDiffusion, monkeypatch: pytest.MonkeyPatch, width: int, tile: int | None,
    limit: int, is_said: bool,
):  # fmt: skip
    """A picture, or a tile of `tile`, that is not larger than the VAE's own tiles is worked on
    whole."""
    vae = model._pipeline.vae
    monkeypatch.setattr(vae, "tile_sample_min_size", limit)
    monkeypatch.setattr(vae, "tile_latent_min_size", limit // 8)
    tiles: list[str] = []
    original = vae._tiled_encode
    monkeypatch.setattr(vae, "_tiled_encode", lambda x: tiles.append("encode") or original(x))
    picture = Image.linear_gradient("L").convert("RGB").resize((width, 64))
    request = replace(REQUEST, steps=2, saves_memory=True, tile=tile)
    result = model.redraw(picture, request, ignore)
    assert bool(tiles) == is_said
    said = [text for text in result.info.get("remarks", []) if "in tiles of at most" in text]
    assert len(said) == is_said
    assert model.remarks(request) == []


def test_other_errors_stay_what_they_are(model: StableDiffusion, picture: Image.Image):
    def fail(step: int, steps: int) -> None:
        raise RuntimeError("CUDA error: device-side assert triggered")

    with pytest.raises(RuntimeError, match="device-side assert"):
        model.redraw(picture, REQUEST, fail)


# The stage that made the output must not matter, so the damage is done to the weights.


def test_values_that_are_not_numbers_are_no_picture(copy: Path, picture: Image.Image):
    change_tensors(vae_weights(copy), lambda t: t["decoder.conv_out.bias"].fill_(float("nan")))
    with pytest.raises(NonFiniteOutput):
        provider(copy).load(CPU).redraw(picture, REQUEST, ignore)


def test_an_all_black_picture_is_none(copy: Path, picture: Image.Image):
    change_tensors(vae_weights(copy), lambda t: t["decoder.conv_out.bias"].fill_(-1000))
    with pytest.raises(BlackImage):
        provider(copy).load(CPU).redraw(picture, REQUEST, ignore)


# ---------------------------------------------------------------- the safety checker


def add_safety_checker(folder: Path, threshold: float) -> None:
    """One that blocks whatever is nearer to its concepts than `threshold`."""
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessor

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    config = CLIPConfig(
        text_config={**sizes, "num_attention_heads": 2},
        vision_config={**sizes, "num_attention_heads": 2, "image_size": 32, "patch_size": 16},
        projection_dim=16,
    )
    checker = StableDiffusionSafetyChecker(config)
    checker.concept_embeds_weights.data.fill_(threshold)
    checker.special_care_embeds_weights.data.fill_(2.0)
    checker.save_pretrained(folder / "safety_checker")
    size = {"height": 32, "width": 32}
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size).save_pretrained(
        folder / "feature_extractor"
    )
    change_json(
        folder / "model_index.json",
        safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"],
        feature_extractor=["transformers", "CLIPImageProcessor"],
    )


def test_the_safety_checker_blanks_only_when_it_is_asked_for(
    copy: Path, model: StableDiffusion, picture: Image.Image
):
    expected = model.redraw(picture, REQUEST, ignore).tobytes()
    add_safety_checker(copy, threshold=-2.0)
    unasked = provider(copy).load(CPU)
    assert unasked.redraw(picture, REQUEST, ignore).tobytes() == expected
    strict = provider(copy, safety_checker=True).load(CPU)
    with pytest.raises(ContentFiltered):
        strict.redraw(picture, REQUEST, ignore)


def test_the_safety_checker_lets_the_rest_through(
    copy: Path, model: StableDiffusion, picture: Image.Image
):
    add_safety_checker(copy, threshold=2.0)
    mild = provider(copy, safety_checker=True).load(CPU)
    assert (
        mild.redraw(picture, REQUEST, ignore).tobytes()
        == model.redraw(picture, REQUEST, ignore).tobytes()
    )


def test_a_safety_checker_that_is_not_there_is_missing(folder: Path):
    why = provider(folder, safety_checker=True).missing()
    assert why is not None and "safety_checker/config.json" in why
