"""Progress of certain jobs, for commands that wait for their end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import closing
from dataclasses import dataclass

from dna_pipeline.base.periodic import Throttle
from dna_pipeline.config.schema import Config
from dna_pipeline.ledger.wait_queries import WaitQueries
from dna_pipeline.operations.daemon.lock import is_held

LOOK_S = 0.5
COST_SHARE = 20
DAEMON_LOOK_S = 2.0


@dataclass(frozen=True, slots=True)
class Progress:
    """The state of the jobs at one instant.

    Attributes:
        percent: share of the whole work that is done; 100 once all jobs have ended.
        outcomes: numbers of the jobs that have ended, by status; `gone` if the ledger has the job
            no more.
        hold: code of the hold of one job that waits, and its sentence; None if none waits.
        daemon_missing_s: seconds since when no daemon runs; 0 while one does.
    """

    percent: int
    outcomes: Counter[str]
    has_ended: bool
    hold: tuple[str, str] | None = None
    daemon_missing_s: float = 0.0


class JobProgress:
    """Reads how far jobs are, each time of those alone that have not ended."""

    def __init__(self, queries: WaitQueries, jobs: Collection[str]) -> None:
        self._queries = queries
        self._total = len(jobs)
        self._open = list(jobs)
        self._outcomes: Counter[str] = Counter()
        self._percent = 0

    def read(self) -> Progress:
        """Read the progress. It never goes back, even if a job begins anew."""
        states = self._queries.states(self._open)
        ended = {job for job in self._open if job not in states or _has_ended(states[job])}
        self._outcomes.update(states[job]["status"] if job in states else "gone" for job in ended)
        self._open = [job for job in self._open if job not in ended]
        running = [job for job in self._open if states[job]["status"] == "running"]
        steps = self._queries.last_progress(running)
        done = self._total - len(self._open) + sum(step["fraction"] for step in steps.values())
        # All but the end is less than everything, whatever rounding says.
        share = min(int(100 * done / max(self._total, 1)), 99) if self._open else 100
        self._percent = max(self._percent, share)
        holds = (states[job] for job in self._open if states[job]["status"] == "queued")
        hold = next(((s["hold"], s["hold_detail"] or "") for s in holds if s["hold"]), None)
        return Progress(self._percent, self._outcomes, not self._open, hold)


def _has_ended(state: dict[str, str | None]) -> bool:
    """True if the job has its end, and its folder in the outbox."""
    return state["status"] in ("completed", "failed", "cancelled") and state["publish"] == "done"


def follow(config: Config, jobs: Collection[str]) -> Iterator[Progress]:
    """Read the progress of jobs again and again, until all have ended. Raises `ConfigError`."""
    throttle, daemon_look = Throttle(LOOK_S, COST_SHARE), Throttle(DAEMON_LOOK_S)
    daemon_seen_at = time.monotonic()
    with closing(WaitQueries(config.ledger_path)) as queries:
        progress = JobProgress(queries, jobs)
        while True:
            now = time.monotonic()
            current = progress.read()
            throttle.done(now, time.monotonic() - now)
            if daemon_look.take(now) and is_held(config.data):
                daemon_seen_at = now
            missing_s = now - daemon_seen_at
            is_missing = missing_s > 2 * DAEMON_LOOK_S
            yield Progress(
                current.percent, current.outcomes, current.has_ended, current.hold,
                missing_s if is_missing else 0.0,
            )  # fmt: skip
            if current.has_ended:
                return
            time.sleep(max(throttle.next_at - time.monotonic(), 0.0))
