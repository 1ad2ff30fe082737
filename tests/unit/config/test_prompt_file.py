"""Prompt files: the sidecar that a text beside an image stands for."""

from __future__ import annotations

from typing import Any

import pytest

from dna_pipeline.base.errors import SidecarInvalid
from dna_pipeline.config.prompt_file import as_yaml, is_prompt_file
from dna_pipeline.config.sidecar import parse_sidecar


def values(text: str) -> dict[str, Any]:
    return parse_sidecar(as_yaml(text.encode())).value.get("img2img", {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("\ufeff  \r\n", {}),
        ('a "red" cat: {big|small} # 1, __colour__\n',
         {"prompt": 'a "red" cat: {big|small} # 1, __colour__'}),
        ("a cat,\r\nsecond line", {"prompt": "a cat,\nsecond line"}),
        ("a cat\n--negative_prompt low, don't",
         {"prompt": "a cat", "negative_prompt": "low, don't"}),
        ('--prompt "a \\"big\\" cat" --negative_prompt "low -- bad" --steps 20 --cfg_scale 7.5',
         {"prompt": 'a "big" cat', "negative_prompt": "low -- bad", "steps": 20,
          "cfg_scale": 7.5}),
        ("--prompt 12 --seed -1 --sampler_name=Euler a",
         {"prompt": "12", "seed": -1, "sampler_name": "Euler a"}),
        ("a cat\nNegative prompt: low\nSteps: 9, Sampler: Euler a, Seed: 3",
         {"prompt": "a cat", "negative_prompt": "low", "steps": 9, "sampler": "Euler a",
          "seed": 3}),
        ("a\nSteps: many, Sampler: x, Seed: 3", {"prompt": "a\nSteps: many, Sampler: x, Seed: 3"}),
    ],
)  # fmt: skip
def test_forms(text: str, expected: dict[str, Any]) -> None:
    assert values(text) == expected


def test_what_is_said_twice_is_refused() -> None:
    for text in ('--prompt "a cat" --seed 1\n--prompt "a dog"', "a cat\n--prompt a dog"):
        with pytest.raises(SidecarInvalid, match=r"line 2: the key 'prompt' stands here twice"):
            values(text)


@pytest.mark.parametrize("number", ["9" * 5000, "-" + "9" * 1001, "9" * 400 + ".5"])
def test_a_number_that_is_too_long_stays_text(number: str) -> None:
    assert values(f"a cat\n--seed {number}") == {"prompt": "a cat", "seed": number}


def test_utf_16_is_read() -> None:
    assert parse_sidecar(as_yaml("a cat\r\nof 粘土".encode("utf-16"))).value == {
        "img2img": {"prompt": "a cat\nof 粘土"}
    }


def test_no_text_is_an_error() -> None:
    with pytest.raises(SidecarInvalid):
        parse_sidecar(as_yaml(b"caf\xe9"))


def test_names() -> None:
    assert is_prompt_file("a/Cat.TXT")
    assert not is_prompt_file("cat.yaml")


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("\n\na cat\nand a dog\n--steps 9\n--negative_prompt low",
         {"prompt": 3, "steps": 5, "negative_prompt": 6}),
        ("a cat\nof clay\nNegative prompt: low\nSteps: 9, Sampler: Euler a, Seed: 3",
         {"prompt": 1, "negative_prompt": 3, "steps": 4, "seed": 4}),
        ("--steps 9 --prompt x", {"prompt": 1, "steps": 1}),
    ],
)  # fmt: skip
def test_messages_name_the_line_of_the_text(text: str, lines: dict[str, int]) -> None:
    document = parse_sidecar(as_yaml(text.encode()))
    assert {name: document.line(("img2img", name)) for name in lines} == lines


@pytest.mark.timeout(20)  # in seconds; without a bound it takes hours
@pytest.mark.parametrize("part", ['--a "', "--a ", "a: ", " __a"])
def test_a_text_that_is_too_long_is_no_list_of_options(part: str) -> None:
    text = part * (200_000 // len(part)) + "b"
    assert values(text) == {"prompt": text}
