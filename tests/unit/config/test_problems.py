"""How faults are put into words."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dna_pipeline.config.problems import (
    MAX_COLLECTED,
    MAX_SHOWN,
    MAX_TEXT_CHARS,
    Problem,
    as_lines,
    dotted,
    from_validation,
    not_json,
    unknown_key,
)
from dna_pipeline.config.sentences import nearest, shown
from dna_pipeline.config.yaml12 import loads


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), ""),
        (("inboxes", 0, "path"), "inboxes[0].path"),
        ((0, 1, "a"), "[0][1].a"),
        (("meta", "größe", "a b"), "meta.größe.a b"),
        (("meta", "\x1b[2J\n"), r"meta.\x1b[2J\n"),
        (("x" * 100,), "x" * 57 + "…"),
    ],
)
def test_dotted(path: tuple, text: str):
    assert dotted(path) == text


def test_nearest():
    assert nearest("strenght", ["strength", "steps"]) == "did you mean 'strength'?"
    assert nearest("STEPS", ["strength", "steps"]) == "did you mean 'steps'?"
    assert nearest("cats", ["Cats"]) == "did you mean 'Cats'?"
    assert nearest("xyz", ["b", "a"]) == "known here: a, b"
    assert nearest("xyz", []) == "nothing is known here"
    many = [f"word{number:02}" for number in range(24)]
    assert nearest("xyz", many).endswith("word19 and 4 more")
    assert nearest("xyz", many, is_key=True) == "docs/reference.md lists all 24 that are known here"
    assert nearest("a" * 1_000_000, ["a" * 99]) == f"did you mean '{'a' * 99}'?"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (False, "false"),
        (3, "3"),
        (0.5, "0.5"),
        (math.inf, ".inf"),
        (-math.inf, "-.inf"),
        (math.nan, ".nan"),
        ("infinite banana", "'infinite banana'"),
        ("a\x1b[2J", r"'a\x1b[2J'"),
        ({"a": 1}, "a mapping"),
        ([1], "a list"),
        ([], "an empty list"),
        ("x" * 99, "'" + "x" * 56 + "…"),
    ],
)
def test_shown(value: object, text: str):
    assert shown(value) == text


def test_a_problem_as_text():
    assert str(Problem("a", "a: wrong", 3, wrong_key=False)) == "line 3: a: wrong"
    assert str(Problem("a", "a: wrong", 0, wrong_key=False)) == "a: wrong"


def test_line_order():
    problems = [Problem("", text, int(text[1]), True) for text in ("b2", "b1", "a1", "b1")]
    assert as_lines(problems) == ["line 1: b1", "line 1: a1", "line 2: b2"]


def test_of_very_many_the_first_are_told_and_shortly():
    problems = [Problem("", f"{i}\x1b[31m {'x' * 9999}", i + 1, True) for i in range(MAX_SHOWN)]
    assert "and more of the kind" not in as_lines(problems)
    lines = as_lines([*problems, Problem("", "last", 99, True)])
    assert lines[-2:] == [str(problems[-1]), "and more of the kind"]
    assert all(line.isprintable() and len(line) < MAX_TEXT_CHARS + 50 for line in lines)


def test_no_more_are_looked_for_than_anyone_mends():
    document = loads(b"a: [" + b".nan," * 5000 + b"]")
    assert len(not_json(document, [])) == MAX_COLLECTED


def test_unknown_key():
    document = loads(b"a:\n  b: 1")
    problem = unknown_key(document, ("a", "b"), ["c"])
    assert problem == Problem("a.b", "unknown key 'a.b'; known here: c", 2, wrong_key=True)


def test_values_that_json_cannot_hold():
    document = loads(b"a: .nan\nb: [1, .inf]\nc: {d: -.inf}\ne: 1.5")
    told = [Problem("a", "", 1, wrong_key=False)]
    assert [p.where for p in not_json(document, told)] == ["b[1]", "c.d"]


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    size: Annotated[int, Field(gt=0)] = 1


class Whole(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    part: Part = Part()
    parts: list[Part] = []
    maybe: Annotated[float, Field(ge=0.5, lt=2)] | None = None
    ceiling: Annotated[int, Field(le=9)] = 0
    names: Annotated[list[Annotated[str, Field(max_length=3)]], Field(max_length=2)] = []
    mode: Literal["slow", "fast", 3] = "slow"
    either: Part | Literal["none"] = "none"
    some: Annotated[list[int], Field(min_length=1)] = [1]


def test_sentences(cases):
    table = cases(
        r"""
    part: {size: 0}
        part.size: should be more than 0, not 0
    part: {size: x}
        part.size: should be a whole number, more than 0, not 'x'
    part: {sise: 1}
        unknown key 'part.sise'; did you mean 'size'?
    part: x
        part: should be a mapping, not 'x'
    parts: [{}, {size: 0}]
        parts[1].size: should be more than 0, not 0
    parts: [{sise: 0}]
        unknown key 'parts[0].sise'; did you mean 'size'?
    parts: [5]
        parts[0]: should be a mapping, not 5
    maybe: 2
        maybe: should be at least 0.5 and less than 2, not 2
    maybe: x
        maybe: should be a number, at least 0.5 and less than 2, not 'x'
    ceiling: 10
        ceiling: should be at most 9, not 10
    names: [abcd]
        names[0]: String should have at most 3 characters
    names: [a, b, c]
        names: List should have at most 2 items, not 3
    mode: fat
        mode: should be 'slow', 'fast' or 3, not 'fat'; did you mean 'fast'?
    mode: 4
        mode: should be 'slow', 'fast' or 3, not 4
    either: non
        either: should be a mapping or 'none', not 'non'; did you mean 'none'?
    some: []
        some: should not be empty
    hole: 1
        unknown key 'hole'; known here: ceiling, either, maybe, mode, names, part, parts,
        some
    """
    )
    for text, sentence in table.items():
        assert told(text) == [f"line 2: {sentence}"]


def told(text: str, **options: Any) -> list[str]:
    document = loads(f"\n{text}".encode())
    with pytest.raises(ValidationError) as caught:
        Whole.model_validate(document.value)
    return [str(p) for p in from_validation(caught.value, document, (), Whole, **options)]
