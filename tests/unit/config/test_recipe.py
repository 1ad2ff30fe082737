"""Sidecars that ask for what a result was made with."""

from __future__ import annotations

from dna_pipeline.config import recipe


def test_stages_of_other_packages_are_written_too() -> None:
    stage = {"id": "a-b", "type": "stranger", "params": {"text": "{x}", "on": True}}
    assert recipe.as_sidecar([stage]) == '"a-b":\n  text: "{x}"\n  "on": true\n'


def test_a_stage_without_parameters() -> None:
    assert recipe.as_sidecar([{"id": "cut", "type": "cut", "params": {}}]) == "cut: {}\n"


def test_the_text_of_other_programs() -> None:
    text = "a cat\nNegative prompt: low\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5"
    (stage,) = recipe.a1111_stages(text)
    assert stage["params"]["prompt"] == "a cat"
    assert recipe.as_sidecar([stage]).splitlines()[:3] == [
        "img2img:", '  prompt: "a cat"', '  negative_prompt: "low"',
    ]  # fmt: skip
