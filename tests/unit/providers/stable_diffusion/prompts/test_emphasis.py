"""Weights of words: the documentation's examples, and what people write beside them."""

from __future__ import annotations

import pytest

from dna_pipeline.providers.stable_diffusion.prompts.emphasis import (
    PromptError,
    Words,
    parse,
)

UP = 1.1
DOWN = 1 / 1.1

ONE_SECTION = [
    # no syntax
    ("", []),
    ("a red chair", [("a red chair", 1)]),
    ("a chair, wooden: oak", [("a chair, wooden: oak", 1)]),
    ("it is 12:30", [("it is 12:30", 1)]),
    ("C++, {red}, f = 2", [("C++, {red}, f = 2", 1)]),
    ("赤い椅子", [("赤い椅子", 1)]),
    ("one\ntwo", [("one\ntwo", 1)]),
    # round brackets
    ("(word)", [("word", UP)]),
    ("((word))", [("word", UP**2)]),
    ("(((word)))", [("word", UP**3)]),
    ("a (red) chair", [("a ", 1), ("red", UP), (" chair", 1)]),
    ("(red) (chair)", [("red", UP), (" ", 1), ("chair", UP)]),
    ("(red)(chair)", [("redchair", UP)]),
    ("()", []),
    ("a () b", [("a  b", 1)]),
    ("(a (b) c)", [("a ", UP), ("b", UP**2), (" c", UP)]),
    # square brackets
    ("[word]", [("word", DOWN)]),
    ("[[word]]", [("word", DOWN**2)]),
    ("a [red] chair", [("a ", 1), ("red", DOWN), (" chair", 1)]),
    ("([word])", [("word", 1)]),
    ("[(word)]", [("word", 1)]),
    ("[a:b]", [("a:b", DOWN)]),
    ("[a, (b:1.2)]", [("a, ", DOWN), ("b", 1.2 * DOWN)]),
    # numbers
    ("(word:1.5)", [("word", 1.5)]),
    ("(word:0.25)", [("word", 0.25)]),
    ("(word:.5)", [("word", 0.5)]),
    ("(word:2)", [("word", 2)]),
    ("(word:1.)", [("word", 1)]),
    ("(word:+1.2)", [("word", 1.2)]),
    ("(word:-1)", [("word", -1)]),
    ("(word:0)", [("word", 0)]),
    ("(word: 1.3)", [("word", 1.3)]),
    ("(word:1.3 )", [("word", 1.3)]),
    ("( red hat : .5 )", [(" red hat ", 0.5)]),
    ("(a, b:1.2), c", [("a, b", 1.2), (", c", 1)]),
    ("(scale 1:10)", [("scale 1", 10)]),
    ("(a:b:1.2)", [("a:b", 1.2)]),
    ("(a:b)", [("a:b", UP)]),
    ("((red) hat:1.2)", [("red", 1.2 * UP), (" hat", 1.2)]),
    ("((red:1.5) hat:1.2)", [("red", 1.5 * 1.2), (" hat", 1.2)]),
    ("(a:1.2) (b:1.2)", [("a", 1.2), (" ", 1), ("b", 1.2)]),
    # escapes
    (r"\(word\)", [("(word)", 1)]),
    (r"\[word\]", [("[word]", 1)]),
    (r"a\\b", [("a\\b", 1)]),
    (r"(miku \(singer\):1.2)", [("miku (singer)", 1.2)]),
    (r"miku \(singer\)", [("miku (singer)", 1)]),
    (r"(\(\))", [("()", UP)]),
    ("back\\slash", [("backslash", 1)]),
    ("end\\", [("end", 1)]),
    # not balanced
    ("(word", [("word", UP)]),
    ("[word", [("word", DOWN)]),
    ("((word)", [("word", UP**2)]),
    ("word)", [("word)", 1)]),
    ("word]", [("word]", 1)]),
    ("word:1.5)", [("word:1.5)", 1)]),
    ("(word:1.5", [("word:1.5", UP)]),
    ("(a]b)", [("a]b", UP)]),
    ("(a [b) c]", [("a ", UP), ("b", 1), (" c", DOWN)]),
    # a documentation's long example
    (
        "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
        [
            ("a ", 1),
            ("house", 1.3 * UP**2),
            (" ", UP),
            ("on", 1),
            (" a ", UP),
            ("hill", 0.5 * UP),
            (", sun, ", UP),
            ("sky", UP**4),
            (".", UP),
        ],
    ),
]


@pytest.mark.parametrize(("prompt", "expected"), ONE_SECTION, ids=[p for p, _ in ONE_SECTION])
def test_weights(prompt: str, expected: list[tuple[str, float]]) -> None:
    (section,) = parse(prompt)
    assert [words.text for words in section] == [text for text, _ in expected]
    weights = [weight for _, weight in expected]
    assert [words.weight for words in section] == pytest.approx(weights)  # pyright: ignore


@pytest.mark.parametrize(
    ("prompt", "sections"),
    [
        ("a BREAK b", ["a", "b"]),
        ("a\nBREAK\nb", ["a", "b"]),
        ("a, BREAK, b", ["a,", ", b"]),
        ("BREAK a", ["", "a"]),
        ("a BREAK", ["a", ""]),
        ("a BREAK BREAK b", ["a", "", "b"]),
        ("BREAKFAST, breaks, break", ["BREAKFAST, breaks, break"]),
    ],
)
def test_a_break_begins_a_section(prompt: str, sections: list[str]) -> None:
    assert ["".join(words.text for words in section) for section in parse(prompt)] == sections


def test_a_break_within_brackets_keeps_their_weight() -> None:
    assert parse("(a BREAK b:1.2) c") == [
        [Words("a", 1.2)],
        [Words("b", 1.2), Words(" c", 1.0)],
    ]


@pytest.mark.parametrize(
    ("prompt", "phrase"),
    [
        ("a [cat:dog:0.5]", '"[cat:dog:0.5]" changes the prompt at a step'),
        ("[cat:10]", '"[cat:10]" changes'),
        ("[cat::0.5]", '"[cat::0.5]" changes'),
        ("[(cat:1.2):dog: .5 ]", "changes"),
        ("([cat:dog:0.5]:1.2)", '"[cat:dog:0.5]" changes'),
        ("[cow|horse] in a field", '"[cow|horse]" alternates'),
        ("a cat AND a dog", "AND joins several prompts"),
        ("(word:1.2.3)", 'the weight in ":1.2.3)" is no number'),
        ("(word:.)", "is no number"),
    ],
)
def test_what_is_not_supported_is_refused(prompt: str, phrase: str) -> None:
    with pytest.raises(PromptError) as error:
        parse(prompt)
    assert phrase in str(error.value)


@pytest.mark.parametrize(
    "prompt",
    [
        r"\[cat:dog:0.5\]", r"[cat\|dog]", "a|b", "[(a|b)]", "[a (b:0.5)]", "sand AND_ and Andes",
        "<lora:clay:0.8>", "[<lora:clay:0.8>]",
    ],
)  # fmt: skip
def test_what_looks_alike_is_read(prompt: str) -> None:
    assert parse(prompt)


@pytest.mark.parametrize(
    "piece", ["(", "[", "(a", "(:1", "[a:", "\\", " ", ":", "BREAK ", "[(", "a]"]
)
def test_no_prompt_keeps_it_busy(piece: str) -> None:
    parse(piece * (10_000 // len(piece)))
