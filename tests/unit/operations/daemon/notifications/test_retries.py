"""Times between the attempts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dna_pipeline.operations.daemon.notifications.retries import (
    LONGEST_S,
    delay_s,
    next_attempt,
    remaining_s,
)
from dna_pipeline.operations.daemon.notifications.webhook import retry_after_s

NOW = datetime(2026, 11, 29, 21, 0, tzinfo=UTC)


def test_the_delays_grow():
    assert [delay_s(n, None, 0) for n in (1, 2, 3, 4)] == [5, 300, 1800, 7200]
    assert delay_s(100, None, 0) == 14 * 3600


def test_they_differ_by_a_tenth_at_most():
    assert delay_s(2, None, -1) == pytest.approx(270)
    assert delay_s(2, None, 1) == pytest.approx(330)
    times = {next_attempt(2, None, NOW) for _ in range(20)}
    assert len(times) > 1
    assert all(NOW + timedelta(seconds=270) <= at <= NOW + timedelta(seconds=330) for at in times)


def test_a_longer_delay_that_the_receiver_asks_for_is_heeded():
    assert delay_s(1, 900.0, 0) == 900
    assert delay_s(2, 10.0, 0) == 300
    assert delay_s(1, 10.0**9, 0) == LONGEST_S


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("120", 120.0),
        (" 7 ", 7.0),
        ("Sun, 29 Nov 2026 21:10:00 GMT", 600.0),
        ("Sun, 29 Nov 2026 20:00:00 GMT", 0.0),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after(header: str | None, expected: float | None):
    assert retry_after_s(header, NOW) == expected


def test_a_recorded_time_is_not_waited_for_if_the_clock_was_put_back():
    assert remaining_s(NOW + timedelta(seconds=90), NOW) == 90
    assert remaining_s(NOW - timedelta(seconds=1), NOW) == 0
    assert remaining_s(None, NOW) == 0
    assert remaining_s(NOW + timedelta(days=300), NOW) == 0
