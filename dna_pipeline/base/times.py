"""The written form of times: its text order is the time order, and any tool can read it."""

from __future__ import annotations

from datetime import UTC, datetime


def format_time(value: datetime) -> str:
    """RFC 3339 in UTC with microseconds, like `2026-12-01T21:00:00.000000Z`."""
    # strftime would write the year 999 with three digits, which is not RFC 3339 and sorts after
    # 1000, so isoformat is used.
    utc = value if value.tzinfo is UTC else value.astimezone(UTC)
    return utc.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def utcnow() -> datetime:
    return datetime.now(UTC)
