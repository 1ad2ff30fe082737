"""Dates in the forms of spreadsheets and of everyday writing, as the form that is read."""

from __future__ import annotations

import re
from datetime import datetime

_CLOCK = r"(?:,?\s+(\d{1,2}):(\d\d)(?::(\d\d))?)?"
_DAY_FIRST = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4})" + _CLOCK)
_YEAR_FIRST = re.compile(r"(\d{4})[/.](\d{1,2})[/.](\d{1,2})" + _CLOCK)
_EITHER_FIRST = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})" + _CLOCK)


def dates_meant(text: str) -> list[str]:
    """The times that a text may mean, each as it should be written; none where it is no date.

    `01/02/2026` may mean two days.
    """
    days: list[str] = []
    if found := _DAY_FIRST.fullmatch(text):
        days = [_iso(found[3], found[2], found[1], found)]
    elif found := _YEAR_FIRST.fullmatch(text):
        days = [_iso(found[1], found[2], found[3], found)]
    elif found := _EITHER_FIRST.fullmatch(text):
        days = [
            _iso(found[3], *pair, found) for pair in ((found[1], found[2]), (found[2], found[1]))
        ]
    return list(dict.fromkeys(filter(None, days)))


def _iso(year: str, month: str, day: str, found: re.Match[str]) -> str:
    """The time that is meant, in the form that is read; "" if there is no such day or hour."""
    clock = f"T{int(found[4]):02}:{found[5]}" if found[4] else ""
    text = f"{year}-{int(month):02}-{int(day):02}{clock}" + (f":{found[6]}" if found[6] else "")
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return ""
    return text
