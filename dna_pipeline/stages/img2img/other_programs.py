"""Words of AUTOMATIC1111, ComfyUI and Diffusers for the parameters of img2img, in ours."""

from __future__ import annotations

import re
from typing import Any

from dna_pipeline.providers.stable_diffusion.samplers import (
    SAMPLERS,
    SCHEDULES,
    sampler_named,
)


def translated(params: dict[str, Any]) -> dict[str, Any]:
    """Samplers, schedules and formats as other programs spell them, in our words.

    `DPM++ 2M Karras` sets the schedule too, if none is set beside it.
    """
    words = dict(params)
    if isinstance(output := words.get("output"), str):
        near = output.strip().casefold()
        words["output"] = "jpeg" if near == "jpg" else near
    if isinstance(schedule := words.get("schedule"), str):
        near = schedule.strip().casefold()
        words["schedule"] = near if near in SCHEDULES else schedule
    if isinstance(text := words.get("sampler"), str) and text not in SAMPLERS:
        own, named = sampler_named(text)
        is_taken = own is not None and (not named or SAMPLERS[own].takes_schedules)
        if is_taken and (not named or words.get("schedule", named) == named):
            words |= {"sampler": own} | ({"schedule": named} if named else {})
    return words


def advice(name: str, value: object) -> str:
    """Our name for a sampler or schedule that AUTOMATIC1111, ComfyUI or Diffusers name
    otherwise, and a size like 512 x 768 as it is written here.

    Args:
        name: of the parameter, as we call it.
    """
    sides = re.fullmatch(r"(\d{2,4})(?:\s*[x×*]\s*(\d{2,4}))?", str(value))
    if name == "size" and sides:
        return f"write size: {sides[1]}x{sides[2]}" if sides[2] else f"write max_size: {sides[1]}"
    if not isinstance(value, str):
        return ""
    if name == "max_size" and sides and sides[2]:
        return f"write the longer side alone: {max(map(int, sides.groups()))}"
    own, schedule = sampler_named(value)
    schedule = schedule if own is not None and SAMPLERS[own].takes_schedules else ""
    if name == "schedule":
        if own is not None:
            return f"that is a sampler: write sampler: {own}"
        near = value.strip().casefold()
        return f"write {near}" if near in SCHEDULES else ""
    if name != "sampler" or own is None:
        return ""
    if not schedule:
        return f"write sampler: {own}"
    # The name alone would have been translated, so a schedule is set beside it.
    return (
        f"the name means schedule {schedule}, and the key schedule names another; "
        f"write sampler: {own}, schedule: {schedule}"
    )
