"""Conversion of dates in the forms of spreadsheets and of daily use to the valid form."""

from __future__ import annotations

import re
from datetime import datetime

_CLOCK = r"(?:,?\s+(\d{1,2}):(\d\d)(?::(\d\d))?)?"
_DAY_FIRST = r"(\d{1,2})\.(\d{1,2})\.(\d{4})" + _CLOCK
_YEAR_FIRST = r"(\d{4})[/.](\d{1,2})[/.](\d{1,2})" + _CLOCK
_EITHER_FIRST = r"(\d{1,2})/(\d{1,2})/(\d{4})" + _CLOCK


def possible_dates(text: str) -> list[str]:
    """The times that a text may mean, each in the valid form; empty if the text is no date.

    `01/02/2026` may mean two days.
    """
    days: list[str] = []
    if match := re.fullmatch(_DAY_FIRST, text):
        days = [_iso(match[3], match[2], match[1], match)]
    elif match := re.fullmatch(_YEAR_FIRST, text):
        days = [_iso(match[1], match[2], match[3], match)]
    elif match := re.fullmatch(_EITHER_FIRST, text):
        days = [
            _iso(match[3], *pair, match) for pair in ((match[1], match[2]), (match[2], match[1]))
        ]
    return list(dict.fromkeys(filter(None, days)))


def _iso(year: str, month: str, day: str, match: re.Match[str]) -> str:
    """The time in the valid form; "" if there is no such day or hour."""
    clock = f"T{int(match[4]):02}:{match[5]}" if match[4] else ""
    text = f"{year}-{int(month):02}-{int(day):02}{clock}" + (f":{match[6]}" if match[6] else "")
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return ""
    return text
