"""Choices of rows, as people write them."""

from __future__ import annotations

import pytest

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.config.row_numbers import ALL_ROWS, parse_row_numbers


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("7", [7]), ("3-5", [3, 4, 5]), (" 3 - 5 ", [3, 4, 5]), ("8-", [8, 9]), ("-2", [0, 1, 2]),
        ("1-2,5,8-", [1, 2, 5, 8, 9]), ("-", list(range(10))), ("007", [7]),
    ],
)  # fmt: skip
def test_what_is_chosen(text: str, chosen: list[int]) -> None:
    rows = parse_row_numbers(text)
    assert [number for number in range(10) if number in rows] == chosen
    assert str(rows) == text.strip()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "'' is no row"), ("1,", "'' is no row"), ("a", "'a' is no row"),
        ("5-3", "ends before"),
        ("1.5", "'1.5' is no row"), ("--5", "is no row"), ("1:5", "is no row"), ("¹", "is no row"),
        ("1-2-3", "is no row"), ("9999999999", "is no row"),
    ],
)  # fmt: skip
def test_what_is_no_choice(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=f"--rows: .*{why}.*101-200"):
        parse_row_numbers(text)


def test_rows_that_a_table_lacks() -> None:
    numbers = [2, 3, 5, 6]
    for text, part in {
        "2-4": None, "-": None, "1-3": None, "6-100": None, "-2": None, "4": "4", "4-4": "4",
        "7-": "7-", "-1": "-1", "2,9-12": "9-12", "1": "1",
    }.items():  # fmt: skip
        assert parse_row_numbers(text).lacking(numbers) == part, text
    assert ALL_ROWS.lacking(numbers) is None
