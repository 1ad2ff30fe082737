"""Times for people, by the local clock. Programs get RFC 3339 in UTC (`times.py`)."""

from __future__ import annotations

from datetime import UTC, datetime


def local(value: datetime) -> datetime:
    """The time in the machine's zone; in UTC at the ends of the calendar, where no zone fits."""
    try:
        return value.astimezone()
    except (OverflowError, OSError, ValueError):
        return value.astimezone(UTC)


def to_second(value: datetime) -> str:
    """`2026-12-01 22:00:05`, by the local clock."""
    return local(value).replace(tzinfo=None).isoformat(" ", "seconds")


def to_minute(value: datetime) -> str:
    """`2026-12-01 22:00`, by the local clock."""
    return local(value).replace(tzinfo=None).isoformat(" ", "minutes")


def briefly(value: datetime, now: datetime) -> str:
    """`22:00`, with the date before it if the time is not on the same day as `now`."""
    is_today = local(value).date() == local(now).date()
    return to_minute(value)[11:] if is_today else to_minute(value)
