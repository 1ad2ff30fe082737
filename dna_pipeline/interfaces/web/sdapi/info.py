"""The text `info` of an answer: how its pictures were made."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dna_pipeline import __version__
from dna_pipeline.interfaces.web.sdapi.requests import Img2ImgRequest
from dna_pipeline.interfaces.web.sdapi.translation import Translation
from dna_pipeline.operations.serving.catalogue import SAMPLERS, SHORT_HASH_CHARS, STAGE

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Generated:
    """A picture of the answer.

    Attributes:
        job: as `Queries.job` gives it.
        data: bytes of the file.
        text: the file's text `parameters`; "" if it has none.
    """

    job: Record
    data: bytes
    text: str


def info_of(
    request: Img2ImgRequest,
    translation: Translation,
    generated: list[Generated],
    warnings: list[str],
    hide: Callable[[str], str],
) -> str:
    """The JSON text; `warnings` and `jobs` in it are this product's own keys."""
    runs = [_run_of(one.job) for one in generated]
    first: Record = runs[0] if runs else {"params": {}, "model": None}
    params: Record = first["params"]
    seeds = [run["params"].get("seed", -1) for run in runs] or translation.seeds[:1]
    prompts = [run["params"].get("prompt", request.prompt or "") for run in runs]
    negatives = [run["params"].get("negative_prompt", "") for run in runs]
    model: Record = first["model"] or {}
    size = _size_of(generated)
    said = [hide(text) for run in runs for text in run.get("warnings", [])]
    info = {
        "prompt": prompts[0] if prompts else request.prompt or "",
        "all_prompts": prompts,
        "negative_prompt": negatives[0] if negatives else request.negative_prompt or "",
        "all_negative_prompts": negatives,
        "seed": seeds[0],
        "all_seeds": seeds,
        "subseed": seeds[0],
        "all_subseeds": seeds,
        "subseed_strength": 0,
        "width": size[0],
        "height": size[1],
        "sampler_name": _label(params.get("sampler")),
        "cfg_scale": params.get("guidance_scale"),
        "steps": params.get("steps"),
        "batch_size": translation.batch_size,
        "restore_faces": False,
        "face_restoration_model": None,
        "sd_model_name": model.get("name"),
        "sd_model_hash": (model.get("sha256") or "")[:SHORT_HASH_CHARS] or None,
        "sd_vae_name": None,
        "sd_vae_hash": None,
        "seed_resize_from_w": -1,
        "seed_resize_from_h": -1,
        "denoising_strength": params.get("strength"),
        "extra_generation_params": {"Schedule type": str(params.get("schedule", "")).capitalize()},
        "index_of_first_image": 0,
        "infotexts": [one.text for one in generated],
        "styles": [],
        "job_timestamp": timestamp(generated[0].job["created_at"]) if generated else "0",
        "clip_skip": params.get("clip_skip", 1),
        "is_using_inpainting_conditioning": False,
        "version": f"dna-pipeline {__version__}",
        "warnings": list(dict.fromkeys([*warnings, *said])),
        "jobs": [one.job["id"] for one in generated],
    }
    return json.dumps(info, ensure_ascii=False)


def timestamp(time: Any) -> str:
    """A time as this API writes it: digits alone."""
    return time.strftime("%Y%m%d%H%M%S")


def _run_of(job: Record) -> Record:
    """The last run of img2img of a job."""
    runs: list[Record] = [run for run in job["stage_runs"] if run["type"] == STAGE]
    return runs[-1] if runs else {"params": {}, "model": None}


def _size_of(generated: list[Generated]) -> tuple[int, int]:
    for one in generated:
        for row in reversed(one.job["artifacts"]):
            facts: Record = row["facts"]
            if "width" in facts and "height" in facts:
                return facts["width"], facts["height"]
    return 0, 0


def _label(sampler: str | None) -> str | None:
    return SAMPLERS[sampler].label if sampler in SAMPLERS else sampler
