"""Requests of this API in the words of sidecars. No file is read and no job is made here."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dna_pipeline.config.sentences import nearest, shown
from dna_pipeline.config.templates import literal
from dna_pipeline.interfaces.web.sdapi.errors import Refusal
from dna_pipeline.interfaces.web.sdapi.options import Options, format_of, layer_of
from dna_pipeline.interfaces.web.sdapi.requests import Img2ImgRequest
from dna_pipeline.interfaces.web.sdapi.scripts import check_scripts
from dna_pipeline.operations.serving.catalogue import (
    SAMPLERS,
    SCHEDULES,
    Checkpoint,
    find_checkpoint,
    sampler_labels,
    sampler_named,
    schedule_of,
    similar_sampler,
)

MOST_JOBS = 64
"""Most pictures of one request."""
DEFAULT_SIDE_PX = 512
"""Side that this API takes where a request has only the other one."""
LEAST_WORK_PX = 64
"""Smallest `max_size` of img2img."""

AUTOMATIC = frozenset({"", "automatic", "none", "use same scheduler"})
_SAME_AS_NORMAL = frozenset({"normal", "uniform"})
_RESIZES = {"0": "stretch", "1": "crop", "2": "pad", "3": "stretch"}
_RESIZE_NAMES = {
    "just resize": "0", "crop and resize": "1", "resize and fill": "2",
    "just resize (latent upscale)": "3",
}  # fmt: skip
_LATENT = "3"

_HARMLESS_SETTINGS = (
    "api_", "do_not_", "enable_pnginfo", "export_", "grid_", "jpeg_quality", "live_preview",
    "outdir_", "return_", "samples_", "save_", "show_", "use_original_name", "use_save_to_dirs",
    "webp_lossless",
)  # fmt: skip
"""Starts of the names of settings that change no picture."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """All that a translation depends on besides the request.

    Attributes:
        pipeline: name of the pipeline that redraws.
        sampler, steps: the pipeline's own.
        options: those that were set for all requests.
    """

    pipeline: str
    sampler: str
    steps: int
    checkpoints: Sequence[Checkpoint]
    options: Options = field(default_factory=Options)
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Translation:
    """A request in our words.

    Attributes:
        values: keys and values as in a sidecar, without the seed.
        seeds: one for each job, in order.
        pictures: for each job the place of its picture among `init_images`.
        batch_size: jobs of each round.
        warnings: sentences about parts of the request that have no effect.
    """

    values: dict[str, Any]
    seeds: list[int]
    pictures: list[int]
    batch_size: int
    warnings: list[str]

    def values_of(self, number: int, meta: dict[str, Any]) -> dict[str, Any]:
        """The values of one of the jobs."""
        stage = self.values["img2img"] | {"seed": self.seeds[number]}
        return self.values | {"img2img": stage, "meta": meta}


def translate(
    request: Img2ImgRequest,
    surroundings: Surroundings,
    draw: Callable[[], int] = lambda: secrets.randbelow(2**32),
) -> Translation:
    """Put a request into our words.

    Args:
        draw: gives a seed of 32 bits where the request leaves it open.

    Raises:
        Refusal: it asks for something that is not done here, or names what is not there.
    """
    warnings: list[str] = []
    images = request.init_images or []
    if not images:
        raise Refusal("init_images: there is none; send at least one picture in base64")
    batch_size, count = _counts(request, len(images), warnings)
    _refuse_what_is_not_done(request)
    check_scripts(request, warnings)
    _warn_of_seeds(request, warnings)
    stage: dict[str, Any] = {"alpha": "white"}
    stage |= _texts(request, warnings)
    stage |= _sampling(request, surroundings.sampler, warnings)
    stage |= _strength(request, surroundings.steps, warnings)
    stage |= _sizes(request, warnings) | _mask(request, warnings)
    stage |= _settings(request, surroundings, warnings)
    seed = draw() if request.seed is None or request.seed < 0 else request.seed
    values = {
        "pipeline": surroundings.pipeline, "priority": surroundings.priority, "img2img": stage,
    }  # fmt: skip
    seeds = [(seed + number) % 2**63 for number in range(count)]
    places = [number % batch_size % len(images) for number in range(count)]
    return Translation(values, seeds, places, batch_size, warnings)


def _counts(request: Img2ImgRequest, images: int, warnings: list[str]) -> tuple[int, int]:
    """Number of jobs of a round, and of all rounds. Several pictures make one round."""
    batch_size, rounds = request.batch_size or 1, request.n_iter or 1
    if images > 1:
        if batch_size not in (1, images):
            warnings.append(
                f"batch_size: {batch_size} had no effect, since there are {images} init_images."
            )
        batch_size = images
    if batch_size * rounds > MOST_JOBS:
        raise Refusal(
            f"batch_size, n_iter and init_images come to {batch_size * rounds} pictures; ask for "
            f"at most {MOST_JOBS} at once"
        )
    return batch_size, batch_size * rounds


def _refuse_what_is_not_done(request: Img2ImgRequest) -> None:
    if request.restore_faces:
        raise Refusal("restore_faces: faces are not restored here; send false")
    if request.tiling:
        raise Refusal("tiling: patterns that repeat are not made here; send false")


def _warn_of_seeds(request: Img2ImgRequest, warnings: list[str]) -> None:
    if request.subseed_strength:
        warnings.append("subseed_strength has no effect: seeds are not mixed here.")
    extra = request.model_extra or {}
    if any(_is_positive(extra.get(f"seed_resize_from_{side}")) for side in "wh"):
        warnings.append("seed_resize_from_w and seed_resize_from_h have no effect here.")
    if extra.get("refiner_checkpoint") not in (None, "", "None"):
        warnings.append("refiner_checkpoint has no effect: one model redraws.")


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and value > 0


def _texts(request: Img2ImgRequest, warnings: list[str]) -> dict[str, Any]:
    """The prompts as they are written: braces and underscores are text in this API."""
    if request.styles:
        warnings.append("styles have no effect: none are kept here.")
    texts = {"prompt": request.prompt, "negative_prompt": request.negative_prompt}
    return {name: literal(_clean(text)) for name, text in texts.items() if text is not None}


def _clean(text: str) -> str:
    """The text without halves of characters, which JSON can hold and no file can."""
    return text.encode("utf-8", "replace").decode("utf-8")


# --- sampling ---


def _sampling(request: Img2ImgRequest, own: str, warnings: list[str]) -> dict[str, Any]:
    values: dict[str, Any] = {
        name: value
        for name, value in (("steps", request.steps), ("guidance_scale", request.cfg_scale))
        if value is not None
    }
    text = request.sampler_name or request.sampler_index
    if text is None and request.scheduler is None:
        return values
    sampler, named = (own, "") if text is None else _sampler(str(text), warnings)
    schedule = named or _schedule(request.scheduler, sampler, warnings)
    if schedule != "normal" and not SAMPLERS[sampler].takes_schedules:
        warnings.append(
            f"The schedule {schedule} has no effect on the sampler {SAMPLERS[sampler].label}."
        )
        schedule = "normal"
    return values | {"sampler": sampler, "schedule": schedule}


def _sampler(text: str, warnings: list[str]) -> tuple[str, str]:
    """The sampler of that name, or a similar one, and the schedule in the name."""
    sampler, named = sampler_named(text)
    if sampler is not None:
        return sampler, named
    if (similar := similar_sampler(text)) is not None:
        label = SAMPLERS[similar].label
        warnings.append(f"There is no sampler {shown(text)}; {label}, a similar one, was taken.")
        return similar, named
    raise Refusal(
        "Sampler not found",  # programs look for these words
        status=404,
        code="sampler_not_found",
        more=f"sampler_name: there is no sampler {shown(text)}; {nearest(text, sampler_labels())}",
    )


def _schedule(text: str | None, sampler: str, warnings: list[str]) -> str:
    word = (text or "").strip().casefold()
    if word in AUTOMATIC:
        return schedule_of(sampler)
    if word in SCHEDULES or word in _SAME_AS_NORMAL:
        return word if word in SCHEDULES else "normal"
    names = ", ".join(name.capitalize() for name in SCHEDULES)
    warnings.append(f"There is no scheduler {shown(text)}, so Normal was taken; known: {names}.")
    return "normal"


def _strength(request: Img2ImgRequest, own_steps: int, warnings: list[str]) -> dict[str, Any]:
    """The strength; so low a one that no step would run becomes that of one step."""
    strength, steps = request.denoising_strength, request.steps or own_steps
    if strength is None or int(steps * strength) >= 1:
        return {} if strength is None else {"strength": strength}
    least = math.ceil(1e6 / steps) / 1e6  # rounded up, or the product might be a hair below 1
    warnings.append(
        f"denoising_strength was raised from {strength:g} to {least:g}, so that a step runs."
    )
    return {"strength": least}


# --- sizes and masks ---


def _sizes(request: Img2ImgRequest, warnings: list[str]) -> dict[str, Any]:
    if request.width is None and request.height is None:
        return {}
    width, height = request.width or DEFAULT_SIDE_PX, request.height or DEFAULT_SIDE_PX
    longer = {"max_size": max(width, height, LEAST_WORK_PX)}
    if _is_cropped(request):
        return {"size": "input", **longer}
    word = str(request.resize_mode if request.resize_mode is not None else "0").strip().casefold()
    mode = _RESIZE_NAMES.get(word, word)
    if mode not in _RESIZES:
        raise Refusal(
            f"resize_mode: should be 0 (stretch), 1 (crop) or 2 (fill), not {shown(word)}"
        )
    if mode == _LATENT:
        warnings.append("resize_mode: 3 was taken as 0: pictures are resized before they are read.")
    return {"size": f"{width}x{height}", "resize": _RESIZES[mode], **longer}


def _is_cropped(request: Img2ImgRequest) -> bool:
    """True if only the part around the mask is seen, which is this API's default."""
    return request.mask is not None and request.inpaint_full_res is not False


def _mask(request: Img2ImgRequest, warnings: list[str]) -> dict[str, Any]:
    if request.mask is None:
        return {"mask": "none"}
    values: dict[str, Any] = {
        "mask": "file",
        "mask_invert": bool(request.inpainting_mask_invert),
        "area": "masked" if _is_cropped(request) else "whole",
    }
    blurs = (request.mask_blur, request.mask_blur_x, request.mask_blur_y)
    if (blur := max((each for each in blurs if each is not None), default=None)) is not None:
        values["mask_blur"] = round(blur)
    if request.inpaint_full_res_padding is not None:
        values["padding"] = request.inpaint_full_res_padding
    if request.inpainting_fill not in (None, 1):
        warnings.append(
            f"inpainting_fill: {request.inpainting_fill} was taken as 1: the picture itself is "
            "what is redrawn under the mask."
        )
    return values


# --- settings ---


def _settings(
    request: Img2ImgRequest, surroundings: Surroundings, warnings: list[str]
) -> dict[str, Any]:
    """Values of `override_settings`, and of the options where these say nothing."""
    own, kept = dict(request.override_settings or {}), surroundings.options
    values: dict[str, Any] = {}
    checkpoint = own.pop("sd_model_checkpoint", None)
    if checkpoint not in (None, ""):
        values["model"] = require_checkpoint(surroundings.checkpoints, checkpoint).name
    elif kept.checkpoint is not None:
        values |= _kept_model(kept.checkpoint, surroundings.checkpoints, warnings)
    layer = own.pop("CLIP_stop_at_last_layers", None)
    layer = kept.clip_skip if layer in (None, "") else layer_of(layer)
    if layer is not None:
        values["clip_skip"] = layer
    samples = own.pop("samples_format", None) or kept.samples_format
    values["output"] = format_of(samples)
    if own.get("sd_vae") in (None, "", "Automatic", "None"):
        own.pop("sd_vae", None)
    without_effect = sorted(key for key in own if not key.startswith(_HARMLESS_SETTINGS))
    if without_effect:
        names = ", ".join(key[:60] for key in without_effect[:10])
        warnings.append(f"Settings that have no effect here: {names}.")
    return values


def _kept_model(
    name: str, checkpoints: Sequence[Checkpoint], warnings: list[str]
) -> dict[str, Any]:
    if (checkpoint := find_checkpoint(checkpoints, name)) is not None:
        return {"model": checkpoint.name}
    warnings.append(
        f"The checkpoint {shown(name)}, which was chosen by /sdapi/v1/options, is not there any "
        "more; that of the pipeline was taken."
    )
    return {}


def require_checkpoint(checkpoints: Sequence[Checkpoint], name: object) -> Checkpoint:
    """The checkpoint of that name. Raises `Refusal`."""
    checkpoint = find_checkpoint(checkpoints, name) if isinstance(name, str) else None
    if checkpoint is None:
        advice = nearest(str(name), [each.title for each in checkpoints])
        raise Refusal(
            f"sd_model_checkpoint: there is no checkpoint {shown(name)}; {advice}",
            status=404,
            code="unknown_model",
        )
    return checkpoint
