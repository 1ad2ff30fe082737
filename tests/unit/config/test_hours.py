"""The hours of an inbox, by the clock on the local wall."""

import time as clock
from collections.abc import Iterator
from datetime import UTC, datetime, time
from zoneinfo import ZoneInfo

import pytest

from dna_pipeline.config import hours as module
from dna_pipeline.config.hours import Hours


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    clock.tzset()
    yield
    monkeypatch.undo()
    clock.tzset()


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "JST-9")
    clock.tzset()
    yield
    monkeypatch.undo()
    clock.tzset()


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_hours_are_read():
    assert Hours.parse("9:30 - 24:00") == Hours(time(9, 30), time(0))
    assert str(Hours.parse("9:30-24:00")) == "09:30-00:00"
    zoned = Hours.parse(" 22:00-06:00  Europe/Berlin ")
    assert zoned == Hours(time(22), time(6), ZoneInfo("Europe/Berlin"))
    assert str(zoned) == "22:00-06:00 Europe/Berlin"


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


# The clock jumps from 2 to 3: in Berlin on 29 March at 01:00 UTC, in New York on 8 March at 07:00.
# It shows the hour from 2 to 3 (Berlin), from 1 to 2 (New York) twice: on 25 October from 00:00 to
# 02:00 UTC, on 1 November from 05:00 to 07:00.
@pytest.mark.parametrize(
    ("hours", "utc", "inside"),
    [
        ("22:00-06:00 Europe/Berlin", "2026-03-28T20:59:59", False),
        ("22:00-06:00 Europe/Berlin", "2026-03-28T21:00:00", True),
        ("22:00-06:00 Europe/Berlin", "2026-03-29T03:59:59", True),
        ("22:00-06:00 Europe/Berlin", "2026-03-29T04:00:00", False),
        ("22:00-06:00 Europe/Berlin", "2026-03-29T19:59:59", False),
        ("22:00-06:00 Europe/Berlin", "2026-03-29T20:00:00", True),
        ("02:30-04:00 Europe/Berlin", "2026-03-29T00:59:59", False),
        ("02:30-04:00 Europe/Berlin", "2026-03-29T01:00:00", True),
        ("02:30-04:00 Europe/Berlin", "2026-03-29T02:00:00", False),
        ("22:00-06:00 Europe/Berlin", "2026-10-24T20:00:00", True),
        ("22:00-06:00 Europe/Berlin", "2026-10-25T04:59:59", True),
        ("22:00-06:00 Europe/Berlin", "2026-10-25T05:00:00", False),
        ("22:00-06:00 Europe/Berlin", "2026-10-25T20:59:59", False),
        ("22:00-06:00 Europe/Berlin", "2026-10-25T21:00:00", True),
        ("02:00-03:00 Europe/Berlin", "2026-10-24T23:59:59", False),
        ("02:00-03:00 Europe/Berlin", "2026-10-25T00:00:00", True),
        ("02:00-03:00 Europe/Berlin", "2026-10-25T01:59:59", True),
        ("02:00-03:00 Europe/Berlin", "2026-10-25T02:00:00", False),
        ("18:00-24:00 Europe/Berlin", "2026-10-25T22:59:59", True),
        ("18:00-24:00 Europe/Berlin", "2026-10-25T23:00:00", False),
        ("00:00-08:00 America/New_York", "2026-03-08T04:59:59", False),
        ("00:00-08:00 America/New_York", "2026-03-08T05:00:00", True),
        ("00:00-08:00 America/New_York", "2026-03-08T11:59:59", True),
        ("00:00-08:00 America/New_York", "2026-03-08T12:00:00", False),
        ("20:00-24:00 America/New_York", "2026-03-09T03:59:59", True),
        ("20:00-24:00 America/New_York", "2026-03-09T04:00:00", False),
        ("22:00-06:00 America/New_York", "2026-11-01T01:59:59", False),
        ("22:00-06:00 America/New_York", "2026-11-01T02:00:00", True),
        ("22:00-06:00 America/New_York", "2026-11-01T10:59:59", True),
        ("22:00-06:00 America/New_York", "2026-11-01T11:00:00", False),
        ("01:30-01:45 America/New_York", "2026-11-01T05:30:00", True),
        ("01:30-01:45 America/New_York", "2026-11-01T06:00:00", False),
        ("01:30-01:45 America/New_York", "2026-11-01T06:30:00", True),
        ("22:00-06:00 UTC", "2026-03-29T05:59:59", True),
    ],
)
@pytest.mark.usefixtures("elsewhere")
def test_what_lies_within_in_a_zone(hours: str, utc: str, inside: bool):
    assert Hours.parse(hours).contain(at(utc)) is inside


@pytest.mark.parametrize(
    ("zone", "advice"),
    [
        ("Europe/Berln", "did you mean 'Europe/Berlin'?"),
        ("europe/berlin", "did you mean 'Europe/Berlin'?"),
        ("New York", "did you mean 'America/New_York'?"),
        ("../../etc/passwd", "they are called like Europe/Berlin"),
        ("Europe", "did you mean"),
        ("+01:00", "they are called like Europe/Berlin"),
    ],
)
def test_zones_that_are_none(zone: str, advice: str):
    with pytest.raises(ValueError, match="no time zone is called") as caught:
        Hours.parse(f"22:00-06:00 {zone}")
    assert f"no time zone is called {zone!r}; {advice}" in str(caught.value)


def test_a_machine_without_zones(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "available_timezones", set)
    with pytest.raises(ValueError, match="pip install tzdata"):
        Hours.parse("22:00-06:00 Nowhere")


@pytest.mark.parametrize(
    ("hours", "utc", "begin"),
    [
        ("22:00-06:00", "2026-01-10T12:00:00", "2026-01-10T21:00:00"),
        ("00:00-06:00", "2026-01-10T12:00:00", "2026-01-10T23:00:00"),
        ("09:00-17:00", "2026-01-10T17:00:00", "2026-01-11T08:00:00"),
        ("09:00-17:00", "2026-03-28T17:00:00", "2026-03-29T07:00:00"),
        ("22:00-06:00 Asia/Tokyo", "2026-01-10T12:00:00", "2026-01-10T13:00:00"),
        ("22:00-06:00 America/New_York", "2026-01-10T12:00:00", "2026-01-11T03:00:00"),
    ],
)
def test_when_the_hours_begin(hours: str, utc: str, begin: str):
    assert Hours.parse(hours).begin_after(at(utc)) == at(begin)
