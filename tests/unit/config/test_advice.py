"""How to write a value that was written as people know it from elsewhere."""

from __future__ import annotations

import math

import pytest

from dna_pipeline.config import advice


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("0,6", "write 0.6"),
        ("-0,25", "write -0.25"),
        ("7,5", "write 7.5"),
        ("1,000", "write 1000, or 1.000"),
        ("1,000,000", "write 1000000"),
        ("0，6", "write 0.6"),
        ("60%", "write 0.6"),
        ("6.5 %", "write 0.065"),
        ("６０％", "write 0.6"),
        ("3/4", "write 0.75"),
        ("3/0", ""),
        ("30 s", "write 30"),
        ("7.5f", "write 7.5"),
        ("50k", "write 50000"),
        ("0.6", "write 0.6, in plain digits and without quotes"),
        ("1cm", "write the number alone, without a unit"),
        ("2 min", "write the number alone, without a unit"),
        ("much", ""),
        ("1,2,3", ""),
        (True, ""),
        (None, ""),
        ([0.6], ""),
        (math.inf, ""),
    ],
)
def test_numbers(value: object, said: str):
    assert advice.for_number(value, [], whole=False) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (20.0, "write 20"),
        (20.5, ""),
        (math.inf, ""),
        (math.nan, ""),
        (1e300, ""),
        ("512px", "write 512"),
        ("512 Pixels", "write 512"),
        ("1,000", "write 1000"),
        ("0,6", "write a whole number"),
        ("20,5", "write a whole number"),
        ("2.5", "write a whole number"),
        ("50%", "write the number that the percent stand for"),
        ("１２", "write 12, in plain digits and without quotes"),
    ],
)
def test_whole_numbers(value: object, said: str):
    assert advice.for_number(value, [], whole=True) == said


def test_percent_must_fit_the_range():
    assert advice.for_number("60%", [1], whole=False) == "write 0.6"
    assert advice.for_number("160%", [1], whole=False).startswith("write the number that")
    assert advice.for_percent(60, [1]) == "for 60 % write 0.6"
    assert advice.for_percent(85.5, [1.0]) == "for 85.5 % write 0.855"
    for value, most in ((2, [1]), (600, [1]), (60, [30]), (60, []), ("60", [1])):
        assert advice.for_percent(value, most) == ""


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("yes", "write true"),
        ("On", "write true"),
        (1, "write true"),
        ("no", "write false"),
        ("OFF", "write false"),
        (0, "write false"),
        ("false", "write false without quotes"),
        ("perhaps", ""),
        (2, ""),
        (None, ""),
    ],
)
def test_switches(value: object, said: str):
    assert advice.for_switch(value) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("hero", "write [hero]"),
        ("a, b;c", "write [a, b, c]"),
        ("*.png", 'write ["*.png"]'),
        ("a b, #1", 'write [a b, "#1"]'),
        (5, 'write ["5"]'),
        (", ".join("x" * 9 for _ in range(9)), "put it in brackets: [a, b]"),
        ({"a": 1}, ""),
        (None, ""),
    ],
)
def test_lists(value: object, said: str):
    assert advice.for_list(value) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (5, "put it in quotes"),
        ({"meta.asset": None}, 'put it in quotes: "{meta.asset}"'),
        ({"a": None, "b": None}, 'put it in quotes: "{a, b}"'),
        ({"a": 1}, "put text with braces or brackets in quotes"),
        (["red", 2], 'put it in quotes: "red, 2", without brackets or dashes'),
        (True, ""),
        (None, ""),
    ],
)
def test_text(value: object, said: str):
    assert advice.for_text(value) == said
