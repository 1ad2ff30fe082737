"""How times are written: so that text order is time order, and any tool can read them."""

from __future__ import annotations

from datetime import UTC, datetime


def format_time(value: datetime) -> str:
    """RFC 3339 in UTC with microseconds, like `2026-12-01T21:00:00.000000Z`."""
    # strftime writes the year 999 with three digits, which is no RFC 3339 and sorts after 1000.
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def utcnow() -> datetime:
    return datetime.now(UTC)
