"""Numbers, sizes and durations for people."""

from __future__ import annotations

NO_HISTORY = "no history yet"
"""Printed in place of a time if no similar job has run before."""


def duration(seconds: float) -> str:
    """Write a duration: `0.4 s`, `1 min 20 s`, `2 h 5 min`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(round(whole / 60), 60)
    return f"{hours:,} h {minutes} min" if minutes else f"{hours:,} h"


def size(number: int) -> str:
    """Write a number of bytes: `512 bytes`, `1.5 KiB`, `672 MiB`, `1.2 GiB`."""
    if number < 1024:
        return "1 byte" if number == 1 else f"{number} bytes"
    amount, unit = number / 1024, "KiB"
    for larger in ("MiB", "GiB", "TiB"):
        if amount >= 1023.5:
            amount, unit = amount / 1024, larger
    digits = 1 if amount < 9.95 else 0
    return f"{amount:.{digits}f}".removesuffix(".0") + f" {unit}"


def number_of(count: int, one: str, many: str = "") -> str:
    """Write a number with its noun: `1 row`, `5,000 rows`."""
    return f"1 {one}" if count == 1 else f"{count:,} {many or one + 's'}"


def jobs_text(number: int) -> str:
    """Write a number of jobs: `1 job`, `5,000 jobs`."""
    return number_of(number, "job")


def about(seconds: float) -> str:
    """Write an estimated duration, with the precision that an estimate has: `about 3 h 20 min`."""
    if seconds < 90:
        return f"about {max(round(seconds), 1)} s"
    minutes = round(seconds / 60)
    # An estimate of a day or more is not exact to the minute, so minutes are left out.
    return f"about {duration(60 * (minutes if minutes < 24 * 60 else minutes - minutes % 60))}"
