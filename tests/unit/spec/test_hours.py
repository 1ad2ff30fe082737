"""The hours of an inbox, by the clock on the local wall."""

import time as clock
from collections.abc import Iterator
from datetime import UTC, datetime, time

import pytest

from dna_pipeline.spec.hours import Hours


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    clock.tzset()
    yield
    monkeypatch.undo()
    clock.tzset()


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_hours_are_read():
    assert Hours.parse("9:30 - 24:00") == Hours(time(9, 30), time(0))
    assert str(Hours.parse("9:30-24:00")) == "09:30-00:00"


@pytest.mark.parametrize("text", ["", "22:00", "22-6", "22:00-06:60", "25:00-06:00", "6:00-06:00"])
def test_what_are_no_hours(text: str):
    with pytest.raises(ValueError, match="should be two"):
        Hours.parse(text)


@pytest.mark.parametrize(
    ("hours", "utc", "inside"),
    [
        ("22:00-06:00", "2026-01-10T20:59:59", False),
        ("22:00-06:00", "2026-01-10T21:00:00", True),
        ("22:00-06:00", "2026-01-11T04:59:59", True),
        ("22:00-06:00", "2026-01-11T05:00:00", False),
        ("09:00-17:00", "2026-01-10T07:59:59", False),
        ("09:00-17:00", "2026-01-10T08:00:00", True),
        ("09:00-17:00", "2026-01-10T16:00:00", False),
        ("18:00-24:00", "2026-01-10T22:59:59", True),
        ("18:00-24:00", "2026-01-10T23:00:00", False),
        # In the night of 29 March the clock jumps from 2 to 3, and six is an hour earlier.
        ("22:00-06:00", "2026-03-29T03:59:59", True),
        ("22:00-06:00", "2026-03-29T04:00:00", False),
        # In that of 25 October the hour from 2 to 3 comes twice.
        ("02:00-03:00", "2026-10-25T00:30:00", True),
        ("02:00-03:00", "2026-10-25T01:30:00", True),
        ("22:00-06:00", "2026-10-25T04:59:59", True),
        ("22:00-06:00", "2026-10-25T05:00:00", False),
    ],
)
def test_what_lies_within(hours: str, utc: str, inside: bool):
    assert Hours.parse(hours).contain(at(utc)) is inside
