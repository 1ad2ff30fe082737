"""The samplers by themselves: where they lead if the noise is predicted perfectly."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from dna_pipeline.providers.stable_diffusion.model import make_scheduler
from dna_pipeline.providers.stable_diffusion.samplers import SAMPLERS, SCHEDULES
from dna_pipeline.providers.stable_diffusion.single_file import SD15_CONFIG

pytestmark = [
    pytest.mark.slow,  # Diffusers takes seconds to import
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
]

RAW = json.loads((SD15_CONFIG / "scheduler/scheduler_config.json").read_bytes()) | {
    "set_alpha_to_one": True,  # else ddim ends one step short of the picture, as it was trained to
}
PAIRS = [
    (name, schedule)
    for name, sampler in SAMPLERS.items()
    for schedule in (SCHEDULES if sampler.takes_schedules else ("normal",))
]

Predict = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""The noise in what the model sees, from that and the cumulative product of alphas there."""


def noise(seed: int) -> torch.Tensor:
    return torch.randn(1, 4, 4, 4, generator=torch.Generator("cpu").manual_seed(seed))


def sampled(
    sampler: str, schedule: str, steps: int, strength: float, predict: Predict
) -> torch.Tensor:
    """The end of a way from `noise(0)` under `noise(1)`, taken as image to image takes it."""
    scheduler = make_scheduler(RAW, sampler, schedule)
    scheduler.set_timesteps(steps)
    start = (steps - int(steps * strength)) * scheduler.order
    timesteps = scheduler.timesteps[start:]
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(start)
    takes_noise = "generator" in inspect.signature(scheduler.step).parameters
    options = {"generator": torch.Generator("cpu").manual_seed(2)} if takes_noise else {}
    sample = scheduler.add_noise(noise(0), noise(1), timesteps[:1])
    for time in timesteps:
        seen = scheduler.scale_model_input(sample, time)
        predicted = predict(seen, _alphas(scheduler, sample, seen, time))
        sample = scheduler.step(predicted, time, sample, return_dict=False, **options)[0]
    return sample


def _alphas(scheduler: Any, sample: torch.Tensor, seen: torch.Tensor, time: Any) -> torch.Tensor:
    if not torch.equal(seen, sample):
        return (seen / sample).mean() ** 2
    if hasattr(scheduler, "sigmas"):
        at = scheduler.begin_index if scheduler.step_index is None else scheduler.step_index
        return 1 / (scheduler.sigmas[at] ** 2 + 1)
    return scheduler.alphas_cumprod[int(time)]


def perfect(seen: torch.Tensor, alphas: torch.Tensor) -> torch.Tensor:
    return (seen - alphas.sqrt() * noise(0)) / (1 - alphas).sqrt()


@pytest.mark.parametrize("strength", [0.1, 0.4, 0.75, 1.0])
@pytest.mark.parametrize(("sampler", "schedule"), PAIRS)
def test_perfect_predictions_lead_to_the_picture(sampler: str, schedule: str, strength: float):
    end = sampled(sampler, schedule, 20, strength, perfect)
    assert (end - noise(0)).abs().max() < 1e-3


@pytest.mark.parametrize("spacing", ["leading", "linspace"])
@pytest.mark.parametrize("sampler", [name for name, one in SAMPLERS.items() if one.max_steps])
def test_the_most_steps_give_numbers(monkeypatch: pytest.MonkeyPatch, sampler: str, spacing: str):
    monkeypatch.setitem(RAW, "timestep_spacing", spacing)
    steps = SAMPLERS[sampler].max_steps
    assert steps is not None
    assert sampled(sampler, "normal", steps, 1.0, perfect).isfinite().all()


@pytest.mark.parametrize(("steps", "strength"), [(10, 0.1), (20, 0.4), (20, 0.75), (12, 1.0)])
@pytest.mark.parametrize("schedule", ["normal", "karras"])
def test_lms_takes_the_steps_of_k_diffusion(schedule: str, steps: int, strength: float):
    """As its `sample_lms` does: the first step is of order 1, wherever it begins."""

    def predict(seen: torch.Tensor, alphas: torch.Tensor) -> torch.Tensor:
        return torch.sin(3 * seen) + alphas

    scheduler = make_scheduler(RAW, "lms", schedule)
    scheduler.set_timesteps(steps)
    sigmas = scheduler.sigmas[steps - int(steps * strength) :].double().numpy()
    sample = noise(0).double() + sigmas[0] * noise(1).double()
    derivatives: list[torch.Tensor] = []
    for at in range(len(sigmas) - 1):
        alphas = torch.tensor(1 / (sigmas[at] ** 2 + 1))
        derivatives = [predict(sample * alphas.sqrt(), alphas), *derivatives[:3]]
        for number, derivative in enumerate(derivatives):
            sample = sample + _coefficient(sigmas, at, number, len(derivatives)) * derivative
    assert torch.allclose(
        sampled("lms", schedule, steps, strength, predict).double(), sample, rtol=1e-3, atol=1e-3
    )


def _coefficient(sigmas: Any, at: int, number: int, order: int) -> float:
    """Integral over a step of the Lagrange polynomial of one derivative, in closed form."""
    product = np.polynomial.Polynomial([1.0])
    for other in set(range(order)) - {number}:
        width = sigmas[at - number] - sigmas[at - other]
        product *= np.polynomial.Polynomial([-sigmas[at - other], 1.0]) / width
    whole = product.integ()
    return float(whole(sigmas[at + 1]) - whole(sigmas[at]))
