"""The order of jobs of equal priority by their models, so that workers seldom change models.

A job comes before others of its priority, out of its place, if its models are loaded and theirs are
not. How long each job lets others pass is limited: it is passed by jobs that take
`runtime.model_window_s` together, and then it starts next. Where several models wait, their turns
share that time, so that none of them has to come out of turn with each of its jobs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dna_pipeline.ledger import model_sets

LOOK_AHEAD = 500
"""Number of jobs among which one with loaded models is looked for. To read them takes about a
millisecond."""

Models = frozenset[str]


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job that may start: its number, which is its place among those of its priority."""

    seq: int
    models: Models

    @classmethod
    def of(cls, seq: int, models: str) -> Waiting:
        """Make the value from the columns of a job."""
        return cls(seq, model_sets.names_of(models))


@dataclass(slots=True)
class _Overtaker:
    """A job that started before others of lower numbers; `seconds` is None while it runs."""

    seq: int
    started: float
    seconds: float | None = None


@dataclass(slots=True)
class _Window:
    """The jobs of one priority that let others pass.

    Attributes:
        overtakers: by their ids.
        limits_s: how long a job with these models lets others pass; the whole window where the
            models are not listed.
    """

    overtakers: dict[str, _Overtaker] = field(default_factory=dict[str, _Overtaker])
    limits_s: dict[Models, float] = field(default_factory=dict[Models, float])


@dataclass(frozen=True, slots=True)
class Delay:
    """The job that lets others pass now.

    Attributes:
        passed_s: seconds of work for which it did so.
        limit_s: those after which it starts next.
        first: the models whose jobs come first.
    """

    job: str
    models: Models
    passed_s: float
    limit_s: float
    first: Models

    def to_dict(self) -> dict[str, Any]:
        """The field `delayed` of `status.json`."""
        return {
            "job": self.job, "models": sorted(self.models), "passed_s": round(self.passed_s, 1),
            "limit_s": round(self.limit_s, 1), "first": sorted(self.first),
        }  # fmt: skip


class ModelOrder:
    """Chooses the next job, and remembers which jobs came out of their places.

    What it remembers goes with the daemon: after a restart the time is counted anew.

    Args:
        window_s: seconds of work for which a job lets others pass; 0: jobs keep their places.
        workers: number of workers, which do that work side by side.
        clock: gives seconds.

    Attributes:
        delay: the job that was passed by the last choice; None if none was.
    """

    def __init__(
        self, window_s: float, workers: int = 1, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._window_s = window_s
        self._workers = workers
        self._clock = clock
        self._windows: dict[int, _Window] = {}
        self.delay: Delay | None = None

    def choose(
        self,
        job: str,
        priority: int,
        head: Waiting,
        loaded: Sequence[Models],
        ahead: Callable[[], Iterable[Waiting]],
    ) -> int:
        """Choose the job to start; gives its number.

        Args:
            job: id of the job whose place is the first.
            priority: of that job.
            head: that job.
            loaded: the models of each worker that is free.
            ahead: gives the next jobs of its priority in order, that one included. Asked only if
                another may come before it.
        """
        self.delay = None
        window = self._window(priority, head)
        if self._window_s <= 0 or _fits(head.models, loaded) or _loses_none(head.models, loaded):
            return head.seq
        jobs = list(ahead())
        if not window.limits_s:
            window.limits_s = self._limits(jobs, loaded)
        passed_s, limit_s = self._passed_s(window), self._limit_s(window, head)
        if passed_s >= limit_s:
            return head.seq
        for other in jobs:
            if other.models and _fits(other.models, loaded):
                self.delay = Delay(job, head.models, passed_s, limit_s, other.models)
                return other.seq
        return head.seq

    def note_start(self, job: str, seq: int, priority: int, head_seq: int) -> None:
        """Remember a job that starts, if it comes before one of a lower number."""
        if seq > head_seq:
            window = self._windows.setdefault(priority, _Window())
            window.overtakers[job] = _Overtaker(seq, self._clock())

    def note_end(self, job: str) -> None:
        """Note that a job does not run any more."""
        for window in self._windows.values():
            if (overtaker := window.overtakers.get(job)) and overtaker.seconds is None:
                overtaker.seconds = self._clock() - overtaker.started

    def _window(self, priority: int, head: Waiting) -> _Window:
        """The window of that priority, without overtakers that no job lets pass any more."""
        window = self._windows.get(priority, _Window())
        for job in [j for j, other in window.overtakers.items() if other.seq <= head.seq]:
            del window.overtakers[job]
        if not window.overtakers:
            window.limits_s.clear()
        self._windows = {p: other for p, other in self._windows.items() if other.overtakers}
        self._windows[priority] = window
        return window

    def _limits(self, jobs: Iterable[Waiting], loaded: Sequence[Models]) -> dict[Models, float]:
        """Share the window among the models that wait, in the order in which they come."""
        groups = dict.fromkeys(job.models for job in jobs if not _fits(job.models, loaded))
        return {
            models: self._window_s * number / len(groups) for number, models in enumerate(groups, 1)
        }

    def _limit_s(self, window: _Window, head: Waiting) -> float:
        return window.limits_s.get(head.models, self._window_s)

    def _passed_s(self, window: _Window) -> float:
        """Seconds for which the first job has let others pass. Jobs behind it were passed by a part
        of these only, so that its time is the longest."""
        now = self._clock()
        seconds = (
            now - other.started if other.seconds is None else other.seconds
            for other in window.overtakers.values()
        )  # fmt: skip
        return sum(seconds) / self._workers


def _fits(models: Models, loaded: Sequence[Models]) -> bool:
    """True if one of the workers has loaded all these models."""
    return any(models <= there for there in loaded)


def _loses_none(models: Models, loaded: Sequence[Models]) -> bool:
    """True if one of the workers has loaded nothing but some of these models."""
    return any(there <= models for there in loaded)
