"""Samplers and schedules that clients of other programs name, as near to them as there is one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dna_pipeline.providers.stable_diffusion.samplers import SAMPLERS, SCHEDULES, sampler_named

NEAR_SAMPLERS = {
    "ddpm": "euler_a", "deis": "dpmpp_2m", "dpm_2": "dpm2", "dpm_adaptive": "dpmpp_2m",
    "dpm_fast": "dpmpp_2m", "dpm_solver": "dpmpp_2m", "dpmpp_2s_ancestral": "dpmpp_sde",
    "dpmpp_2m_sde_gpu": "dpmpp_2m_sde", "dpmpp_3m_sde": "dpmpp_2m_sde",
    "dpmpp_3m_sde_gpu": "dpmpp_2m_sde", "dpmpp_sde_gpu": "dpmpp_sde", "euler_cfg_pp": "euler",
    "euler_ancestral_cfg_pp": "euler_a", "heunpp2": "heun", "ipndm": "lms", "ipndm_v": "lms",
    "plms": "lms", "pndm": "lms", "res_multistep": "dpmpp_2m",
}  # fmt: skip
"""Samplers of ComfyUI and Diffusers that are not here, each with a similar one that is."""

NEAR_SCHEDULES = {
    "automatic": "normal", "ddim_uniform": "normal", "default": "normal",
    "kl_optimal": "karras", "linear_quadratic": "normal", "sgm_uniform": "normal",
    "simple": "normal", "uniform": "normal",
}  # fmt: skip
"""Schedules of other programs that are not here, each with a similar one that is."""

_SAMPLER_KEYS = ("sampler_name", "sampler")
_SCHEDULE_KEYS = ("scheduler", "schedule")


def nearest(fields: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Replace a sampler and a schedule by what comes nearest to them, if they are known elsewhere.

    A schedule that the sampler does not take is replaced, too: those clients send both always.
    Unknown words stay, for the check of the parameters.

    Args:
        fields: of a form; those of the two under any of their names.

    Returns:
        The fields, and a sentence about each replacement that changes the picture.
    """
    result, remarks = dict(fields), list[str]()
    sampler_key = next((key for key in _SAMPLER_KEYS if isinstance(fields.get(key), str)), None)
    schedule_key = next((key for key in _SCHEDULE_KEYS if isinstance(fields.get(key), str)), None)
    schedule = "" if schedule_key is None else fields[schedule_key].strip().casefold()
    if schedule in NEAR_SCHEDULES:
        near = NEAR_SCHEDULES[schedule]
        if schedule not in ("automatic", "default"):
            remarks.append(f"There is no schedule {schedule}; {near} was used.")
        schedule = near
    if sampler_key is None:
        return _with(result, schedule_key, schedule), remarks
    text = fields[sampler_key].strip()
    own, named = sampler_named(text)
    if own is None and (near := NEAR_SAMPLERS.get(_plain(text))) is not None:
        remarks.append(f"There is no sampler {text}; {near} was used.")
        own, named = near, ""
    if own is None:
        return _with(result, schedule_key, schedule), remarks
    if schedule in ("", "normal") and named:
        schedule = named  # `DPM++ 2M Karras` says it
    if schedule in SCHEDULES and schedule != "normal" and not SAMPLERS[own].takes_schedules:
        remarks.append(f"The sampler {own} takes no schedule {schedule}; normal was used.")
        schedule = "normal"
    if not SAMPLERS[own].takes_schedules:
        schedule = schedule or "normal"  # in place of one that the pipeline may have set
    result[sampler_key] = own
    return _with(result, schedule_key or "schedule", schedule), remarks


def _with(fields: dict[str, Any], key: str | None, schedule: str) -> dict[str, Any]:
    return fields | {key: schedule} if key is not None and schedule else fields


def _plain(text: str) -> str:
    words = text.casefold().replace("++", "pp").replace(" ", "_").replace("-", "_")
    return words.removesuffix("scheduler").rstrip("_").removeprefix("k_")
