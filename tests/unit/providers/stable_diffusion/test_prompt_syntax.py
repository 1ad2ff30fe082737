"""Parts of prompts that other programs obey."""

from __future__ import annotations

import pytest

from dna_pipeline.providers.stable_diffusion.prompt_syntax import unread


@pytest.mark.parametrize(
    ("prompt", "example"),
    [
        ("a (red:1.4) chair", "(red:1.4)"),
        ("( red hat : .5 )", "( red hat : .5 )"),
        ("(red:1)", "(red:1)"),
        ("(blurry:-0.5)", "(blurry:-0.5)"),
        ("a ((red)) chair", "((red))"),
        ("(((masterpiece)))", "((masterpiece))"),
        ("a [blue] chair", "[blue]"),
        ("[cat:dog:0.5]", "[cat:dog:0.5]"),
        ("[red|blue] hair", "[red|blue]"),
        ("((red:1.2) chair:1.1)", "((red:1.2) chair:1.1)"),
        (r"(miku \(singer\):1.2)", r"(miku \(singer\):1.2)"),
        ("(version 2:1.3)", "(version 2:1.3)"),
    ],
)
def test_weights(prompt: str, example: str) -> None:
    assert unread(prompt) == [f'weights ("{example}")']


@pytest.mark.parametrize(
    ("prompt", "phrase"),
    [
        ("clay <lora:clay:0.8>", 'LoRA tags ("<lora:clay:0.8>")'),
        ("<LoRA:clay>", 'LoRA tags ("<LoRA:clay>")'),
        ("<lyco:x:1:0.5>", 'LoRA tags ("<lyco:x:1:0.5>")'),
        ("<hypernet:ink:1>", 'hypernetwork tags ("<hypernet:ink:1>")'),
    ],
)
def test_tags(prompt: str, phrase: str) -> None:
    assert unread(prompt) == [phrase]


def test_both_are_named_once_and_shortened() -> None:
    weight, tag = unread(f"({'red ' * 30}:1.3), (x:2), <lora:a:1> <lora:b:1>")
    assert weight == f'weights ("({"red " * 9}re…")'
    assert tag == 'LoRA tags ("<lora:a:1>")'


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "a chair (wooden)",
        "a chair (wooden, (oak))",
        "((a) and (b))",
        "a model (scale 1:10)",
        "(16:9)",
        "a clock (at 12:30)",
        "smile :-) and :( and (:",
        "(red:1.4",
        r"\(red:1.4\) and \((x)\) and \[x]",
        "table [3]",
        "a < b > c, 3<lora>4",
        "C++, {red}, f(x) = 2",
    ],
)
def test_ordinary_text_is_passed_over(prompt: str) -> None:
    assert unread(prompt) == []


@pytest.mark.parametrize("piece", ["(", "(a", "(()", "[", "(:1", "(\\", "()", "<lora:", "((a)"])
def test_no_prompt_keeps_it_busy(piece: str) -> None:
    assert unread(piece * (10_000 // len(piece))) == []
