"""The samplers: a name, the Diffusers scheduler that implements it, and what it can do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Sampler:
    """One sampler.

    Attributes:
        label: its name in other people's tools, as AUTOMATIC1111 spells it.
        scheduler: the class in Diffusers.
        options: what is set beyond the model's own scheduler configuration.
        takes_karras: whether its noise schedule can be that of Karras et al. 2022, equation 5.
            The others would ignore it without a word.
        max_steps: most steps it can be asked for; None where there is no limit of its own.
    """

    label: str
    scheduler: str
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    takes_karras: bool = True
    max_steps: int | None = None

    def scheduler_options(self, *, karras: bool) -> dict[str, Any]:
        """Keyword arguments for the scheduler's class.

        Where the sampler supports Karras' schedule, it is switched on or off explicitly: else the
        model's own configuration would decide.
        """
        chosen = {"use_karras_sigmas": karras} if self.takes_karras else {}
        return {**self.options, **chosen}


def _multistep(algorithm: str) -> dict[str, Any]:
    return {"algorithm_type": algorithm, "solver_order": 2}


SAMPLERS: dict[str, Sampler] = {
    "lcm": Sampler("LCM", "LCMScheduler", takes_karras=False, max_steps=50),
    "euler": Sampler("Euler", "EulerDiscreteScheduler"),
    "euler_a": Sampler("Euler a", "EulerAncestralDiscreteScheduler", takes_karras=False),
    "dpmpp_2m": Sampler("DPM++ 2M", "DPMSolverMultistepScheduler", _multistep("dpmsolver++")),
    "dpmpp_2m_sde": Sampler(
        "DPM++ 2M SDE", "DPMSolverMultistepScheduler", _multistep("sde-dpmsolver++")
    ),
    "dpmpp_sde": Sampler(
        "DPM++ SDE",
        "DPMSolverSinglestepScheduler",
        {**_multistep("sde-dpmsolver++"), "lower_order_final": True},
    ),
    "ddim": Sampler("DDIM", "DDIMScheduler", takes_karras=False),
    "uni_pc": Sampler("UniPC", "UniPCMultistepScheduler"),
}
"""All samplers by their names in pipeline.yaml, in the order in which they are listed."""

_OTHER_NAMES = {
    "eulerancestral": "euler_a",
    "unipcbh2": "uni_pc",
}
"""Other programs' names, such as ComfyUI's, of some samplers, reduced to letters and digits."""


def sampler_named(text: str) -> tuple[str | None, str]:
    """Our name for a sampler that other programs name `text`, and the schedule in that name.

    `DPM++ 2M Karras` is `dpmpp_2m` with `karras`. None for an unknown sampler; "" if the name says
    nothing about the schedule.
    """
    words = text.casefold().replace("++", "pp").removeprefix("k_")
    plain = re.sub(r"[^a-z0-9]", "", words)
    schedule = "karras" if plain.endswith("karras") else ""
    plain = plain.removesuffix("karras")
    names = {re.sub("[^a-z0-9]", "", name): name for name in SAMPLERS}
    classes = {each.scheduler.casefold(): name for name, each in reversed(SAMPLERS.items())}
    own = names.get(plain) or _OTHER_NAMES.get(plain) or classes.get(plain)
    return own, schedule if own is not None and SAMPLERS[own].takes_karras else ""
