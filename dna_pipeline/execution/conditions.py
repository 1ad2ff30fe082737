"""Conditions: causes outside of jobs that keep them from their turn, and end by themselves."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dna_pipeline.base.periodic import Throttle
from dna_pipeline.ledger import holds
from dna_pipeline.ledger.engine import Transaction
from dna_pipeline.ledger.queue import Runnable


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Something that keeps a job from its turn, and with it all jobs that have the same cause.

    Attributes:
        code: of the hold.
        why: a sentence for people.
        jobs: values of columns, which choose the jobs to hold.
        spared: ids of jobs among these that are not held.
    """

    code: str
    why: str
    jobs: Mapping[holds.Column, Iterable[str | Path]]
    spared: Collection[str] = ()

    def hold(self, session: Transaction) -> int:
        """Hold the jobs; return their number."""
        number = sum(
            holds.hold_where(session, column, values, self.code, self.why)
            for column, values in self.jobs.items()
        )
        return number - holds.release(session, self.code, "id", self.spared)


@dataclass(frozen=True, slots=True)
class Condition:
    """A kind of hold: what causes it, for which jobs, and when to look for its end.

    Attributes:
        code: of the hold.
        column: jobs with the same value in this column are held and released together.
        reason: why a job cannot run, as a sentence; None if it can. Asked outside of transactions,
            since it may look at disks.
        retry: says when to ask again for the jobs that are held.
        spared: gives the ids of jobs that it never holds.
    """

    code: str
    column: Literal["status", "inbox", "models"]
    reason: Callable[[Runnable], str | None]
    retry: Throttle
    spared: Callable[[], Collection[str]] = tuple[str, ...]

    def obstacle(self, job: Runnable) -> Obstacle | None:
        """The obstacle to this job's start; None if the condition does not concern it."""
        if (why := self.reason(job)) is None:
            return None
        jobs: Mapping[holds.Column, list[str]] = {self.column: [getattr(job, self.column)]}
        return Obstacle(self.code, why, jobs, self.spared())

    def held(self, session: Transaction) -> list[Runnable]:
        """One held job for each value of the column."""
        return holds.held_jobs(session, self.code, self.column)

    def release(self, session: Transaction, job: Runnable) -> int:
        """Release the jobs that have the same value as this one; return their number."""
        return holds.release(session, self.code, self.column, [getattr(job, self.column)])
