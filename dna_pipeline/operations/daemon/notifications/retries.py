"""Times of the next attempts at a message that could not be sent."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

DELAYS_S = (5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600)
"""Delays after the first failed attempt, the second and so on; the last one repeats."""

JITTER = 0.1
"""Largest share by which a delay is longer or shorter, so that not all senders come at once."""

LONGEST_S = 24 * 3600.0
"""Longest delay that a receiver may ask for."""


def delay_s(failures: int, asked_s: float | None, random_share: float) -> float:
    """Give the delay before the next attempt.

    Args:
        failures: number of failed attempts, at least 1.
        asked_s: delay that the receiver asked for (`Retry-After`); None if it did not.
        random_share: from -1 to 1, drawn for each delay.
    """
    own = DELAYS_S[min(failures, len(DELAYS_S)) - 1] * (1 + JITTER * random_share)
    return own if asked_s is None else max(own, min(asked_s, LONGEST_S))


def next_attempt(failures: int, asked_s: float | None, now: datetime) -> datetime:
    """Give the time of the next attempt, after so many failed ones."""
    return now + timedelta(seconds=delay_s(failures, asked_s, random.uniform(-1, 1)))


def remaining_s(next_at: datetime | None, now: datetime) -> float:
    """Give the seconds until a recorded time; 0 if it is past, or so far off that the clock must
    have been put back."""
    if next_at is None:
        return 0.0
    seconds = (next_at - now).total_seconds()
    return seconds if 0 < seconds <= LONGEST_S * (1 + JITTER) else 0.0
