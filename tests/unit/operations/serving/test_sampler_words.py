"""Samplers and schedules as clients of other programs name them."""

from __future__ import annotations

import pytest

from dna_pipeline.operations.serving.form_values import parameters_of
from dna_pipeline.operations.serving.sampler_words import NEAR_SAMPLERS, NEAR_SCHEDULES, nearest
from dna_pipeline.providers.stable_diffusion.samplers import SAMPLERS, SCHEDULES


@pytest.mark.parametrize(
    ("sampler", "schedule", "expected", "remarks"),
    [
        ("euler", "normal", ("euler", "normal"), 0),
        ("euler_ancestral", "karras", ("euler_a", "normal"), 1),
        ("euler_ancestral", None, ("euler_a", "normal"), 0),
        ("DPM++ 2M Karras", "normal", ("dpmpp_2m", "karras"), 0),
        ("DPM++ 2M Karras", None, ("dpmpp_2m", "karras"), 0),
        ("DPM++ 2M Karras", "exponential", ("dpmpp_2m", "exponential"), 0),
        ("Euler a", "Automatic", ("euler_a", "normal"), 0),
        ("dpmpp_2m", "simple", ("dpmpp_2m", "normal"), 1),
        ("dpmpp_3m_sde_gpu", "karras", ("dpmpp_2m_sde", "karras"), 1),
        ("PNDMScheduler", "normal", ("lms", "normal"), 1),
        ("dpm_2_ancestral", "beta", ("dpm2_a", "beta"), 0),
        (None, "sgm_uniform", (None, "normal"), 1),
        (None, "karras", (None, "karras"), 0),
    ],
)
def test_words(
    sampler: str | None, schedule: str | None, expected: tuple[str | None, str], remarks: int
):
    fields = {"sampler_name": sampler, "scheduler": schedule}
    given = {name: value for name, value in fields.items() if value is not None}
    words, said = nearest(given)
    values = parameters_of("img2img", words)
    assert (values.get("sampler"), values["schedule"]) == expected
    assert len(said) == remarks


def test_unknown_words_stay_for_the_check():
    fields = {"sampler_name": "magic", "scheduler": "odd", "steps": "x"}
    assert nearest(fields) == (fields, [])


def test_what_comes_near_is_here():
    assert set(NEAR_SAMPLERS.values()) <= SAMPLERS.keys()
    assert set(NEAR_SCHEDULES.values()) <= SCHEDULES.keys()
