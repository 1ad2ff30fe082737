"""Report of the files that a `run` waits for while nothing else happens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dna_pipeline.base.periodic import Throttle

SILENCE_S = 6.0
"""Time for which a `run` waits for a file before it says so; a wait for a sidecar is shorter."""

REPORT_INTERVAL_S = 10.0
"""Minimum time between two reports."""

Report = Callable[[list[dict[str, Any]]], None]


class RunWaits:
    """Reports each file once, for each reason, that a `run` has waited for some seconds.

    Args:
        report: called, while no job runs, with entries of `IntakeService.short_waits`.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self._seen_at: dict[tuple[str, ...], float] = {}
        self._reported: set[tuple[str, ...]] = set()
        self._throttle = Throttle(REPORT_INTERVAL_S)

    def step(self, now: float, waits: list[dict[str, Any]]) -> None:
        """Report the files that have been in `waits` for `SILENCE_S`; `now` is monotonic."""
        self._seen_at = {_key(wait): self._seen_at.get(_key(wait), now) for wait in waits}
        due = [
            wait
            for wait in waits
            if _key(wait) not in self._reported and now - self._seen_at[_key(wait)] >= SILENCE_S
        ]
        if due and self._throttle.take(now):
            self._reported.update(map(_key, due))
            self._report(due)


def _key(wait: dict[str, Any]) -> tuple[str, ...]:
    return wait["inbox"], wait["file"], wait["reason"]
