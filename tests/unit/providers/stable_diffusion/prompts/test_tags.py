"""Tags of LoRAs in prompts."""

from __future__ import annotations

import pytest

from dna_pipeline.providers.stable_diffusion.prompts.emphasis import PromptError
from dna_pipeline.providers.stable_diffusion.prompts.tags import split, with_tags


@pytest.mark.parametrize(
    ("prompt", "text", "weights"),
    [
        ("a chair", "a chair", {}),
        ("a chair <lora:clay:0.8>", "a chair ", {"clay": 0.8}),
        ("<lora:clay>a chair", "a chair", {"clay": 1.0}),
        ("a <LoRA: clay : -.5 > chair", "a  chair", {"clay": -0.5}),
        ("<lora:b:1>(a:1.2)<lyco:a v2:0>", "(a:1.2)", {"b": 1.0, "a v2": 0.0}),
        ("<lora:styles/clay.v2:1>", "", {"styles/clay.v2": 1.0}),
        ("<hypernet:clay:1> a < b:c > d", "<hypernet:clay:1> a < b:c > d", {}),
    ],
)
def test_tags_are_taken_out(prompt: str, text: str, weights: dict[str, float]):
    assert split(prompt) == (text, weights)


@pytest.mark.parametrize(
    ("prompt", "phrase"),
    [
        ("<lora:clay:much>", 'the weight in "<lora:clay:much>" should be a number of at most 10'),
        ("<lora:clay:nan>", "should be a number"),
        ("<lora:clay:11>", "should be a number"),
        ("<lora:clay:0.5:0.8>", "has several weights, which is not supported; write one"),
        ("<lora: :0.5>", "names no LoRA"),
        ("<lora:a:1> <lora:a:0.5>", "names the LoRA 'a' twice; keep one tag"),
    ],
)
def test_tags_that_cannot_be_obeyed(prompt: str, phrase: str):
    with pytest.raises(PromptError) as error:
        split(prompt)
    assert phrase in str(error.value)


def test_tags_for_other_programs():
    assert with_tags("a chair", {}) == "a chair"
    assert with_tags("a chair", {"clay": 0.8, "b": 1.0}) == "a chair <lora:clay:0.8><lora:b:1>"
    assert split(with_tags("", {"clay": -2.5}))[1] == {"clay": -2.5}
