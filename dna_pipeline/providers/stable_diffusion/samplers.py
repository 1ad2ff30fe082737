"""The samplers: a name, the Diffusers scheduler that implements it, and what it can do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Sampler:
    """One sampler.

    Attributes:
        label: its name in other people's tools, as AUTOMATIC1111 spells it.
        scheduler: the class in Diffusers.
        options: what is set beyond the model's own scheduler configuration.
        takes_schedules: True if its noise can fall by any of `SCHEDULES`. The others have a
            schedule of their own and would ignore another one without a word.
        max_steps: most steps it can be asked for; None where there is no limit of its own.
        module: where the class is; in a module of our own, it corrects that of Diffusers.
    """

    label: str
    scheduler: str
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    takes_schedules: bool = True
    max_steps: int | None = None
    module: str = "diffusers"

    def scheduler_options(self, schedule: str) -> dict[str, Any]:
        """Keyword arguments for the scheduler's class.

        Where the sampler takes schedules, each is switched on or off explicitly: else the model's
        own configuration would decide.
        """
        switches = SCHEDULES.items() if self.takes_schedules else ()
        chosen = {option: schedule == name for name, option in switches if option}
        return {**self.options, **chosen}


def _multistep(algorithm: str) -> dict[str, Any]:
    return {"algorithm_type": algorithm, "solver_order": 2}


_DISTINCT_TIMES = 998
"""Most steps of samplers that need distinct times, of the 1000 at which a model was trained.

With more, there are configurations of models (`timestep_spacing`, `steps_offset`) that give one
level of noise twice, by whose difference these samplers divide, or, for ddim, a time after the
last.
"""

SCHEDULES: dict[str, str] = {
    "normal": "",
    "karras": "use_karras_sigmas",
    "exponential": "use_exponential_sigmas",
    "beta": "use_beta_sigmas",
}
"""How the noise falls from step to step, and the option of Diffusers that chooses it.

karras: Karras et al. 2022, equation 5. exponential: evenly in the logarithm of the noise. beta: by
quantiles of a beta distribution, Lee et al. 2024, arXiv 2407.12173.
"""

SAMPLERS: dict[str, Sampler] = {
    "lcm": Sampler("LCM", "LCMScheduler", takes_schedules=False, max_steps=50),
    "euler": Sampler("Euler", "EulerDiscreteScheduler"),
    "euler_a": Sampler("Euler a", "EulerAncestralDiscreteScheduler", takes_schedules=False),
    "dpmpp_2m": Sampler(
        "DPM++ 2M",
        "DPMSolverMultistepScheduler",
        _multistep("dpmsolver++"),
        max_steps=_DISTINCT_TIMES,
    ),
    "dpmpp_2m_sde": Sampler(
        "DPM++ 2M SDE",
        "DPMSolverMultistepScheduler",
        _multistep("sde-dpmsolver++"),
        max_steps=_DISTINCT_TIMES,
    ),
    "dpmpp_sde": Sampler(
        "DPM++ SDE",
        "DPMSolverSinglestepScheduler",
        {**_multistep("sde-dpmsolver++"), "lower_order_final": True},
    ),
    "heun": Sampler("Heun", "HeunDiscreteScheduler"),
    "lms": Sampler(
        "LMS",
        "LMSDiscreteScheduler",
        max_steps=_DISTINCT_TIMES,
        module="dna_pipeline.providers.stable_diffusion.lms",
    ),
    "dpm2": Sampler("DPM2", "KDPM2DiscreteScheduler"),
    "dpm2_a": Sampler("DPM2 a", "KDPM2AncestralDiscreteScheduler"),
    "ddim": Sampler("DDIM", "DDIMScheduler", takes_schedules=False, max_steps=_DISTINCT_TIMES),
    "uni_pc": Sampler("UniPC", "UniPCMultistepScheduler", max_steps=_DISTINCT_TIMES),
}
"""All samplers by their names in pipeline.yaml, in the order in which they are listed."""

_OTHER_NAMES = {
    "dpm2ancestral": "dpm2_a",
    "eulerancestral": "euler_a",
    "unipcbh2": "uni_pc",
}
"""Other programs' names, such as ComfyUI's, of some samplers, reduced to letters and digits."""


_FILLER = r"[\W_]*"
_PP = rf"[pP]{_FILLER}[pP]"
"""The letters of DPM++, which may be signs, too."""


def _any_of(words: Iterable[str], filler: str = "") -> str:
    """A regular expression of these words, which are of small letters and digits: letters may be
    large, and `filler` may stand between any two characters."""
    choices = [filler.join(c if c.isdigit() else f"[{c}{c.upper()}]" for c in w) for w in words]
    return f"(?:{'|'.join(choices)})".replace(_PP, rf"(?:{_PP}|\+\+)")


def _sampler_pattern() -> str:
    words: dict[bool, list[str]] = {True: [], False: []}
    for name, sampler in SAMPLERS.items():
        others = [word for word, own in _OTHER_NAMES.items() if own == name]
        names = [name.replace("_", ""), *others, sampler.scheduler.casefold()]
        words[sampler.takes_schedules] += names
    with_schedule = f"{_any_of(words[True], _FILLER)}(?:{_FILLER}{_any_of(SCHEDULES, _FILLER)})?"
    names = f"(?:{with_schedule}|{_any_of(words[False], _FILLER)})"
    return f"^(?:[kK]_)?{_FILLER}{names}{_FILLER}$"


SAMPLER_PATTERN = _sampler_pattern()
"""Regular expression of the texts that `sampler_named` knows and that are no contradiction, for
editors."""
SCHEDULE_PATTERN = rf"^\s*{_any_of(SCHEDULES)}\s*$"
"""Regular expression of the schedules' names, however they are capitalised."""


def sampler_named(text: str) -> tuple[str | None, str]:
    """Our name for a sampler that other programs name `text`, and the schedule in that name.

    `DPM++ 2M Karras` is `dpmpp_2m` with `karras`, whether or not the sampler takes it. None for an
    unknown sampler; "" if the name says nothing about the schedule.
    """
    words = text.casefold().replace("++", "pp").removeprefix("k_")
    plain = re.sub(r"[^a-z0-9]", "", words)
    schedule = next((name for name in SCHEDULES if plain.endswith(name)), "")
    plain = plain.removesuffix(schedule)
    names = {re.sub("[^a-z0-9]", "", name): name for name in SAMPLERS}
    classes = {each.scheduler.casefold(): name for name, each in reversed(SAMPLERS.items())}
    own = names.get(plain) or _OTHER_NAMES.get(plain) or classes.get(plain)
    return own, schedule
