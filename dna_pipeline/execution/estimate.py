"""About how long work will take, learned from the stages that were finished last.

Each stage says what its time grows with (`Stage.work`); a line through what it took, one for each
type and model, gives the seconds. What another device did is kept apart, and
where the last few stages ran faster or slower than their lines, the next are taken to do so too:
others may use the machine, and it may be hot.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import combinations
from statistics import median
from typing import Any

from pydantic import ValidationError

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.ledger.queries import Queries
from dna_pipeline.stages import registry
from dna_pipeline.stages.base import Stage

RECENT_RUNS = 2000
MAX_RUNS = 60
"""For each type and model; every two of them are compared."""

PACE_RUNS = 8
"""So many of the last stages tell the machine's pace."""

SAMPLE = 400
"""So many of the queue's jobs are looked at; the others take as long as these on average."""

HAND_OVER_S = 1.0
MAX_OVERHEAD_S = 120.0
"""What a stage took beyond its own time is loading and writing; more was a rest or a restart."""


@dataclass(frozen=True, slots=True)
class Line:
    """`seconds = fixed_s + slope * work`."""

    fixed_s: float
    slope: float

    def seconds(self, work: float) -> float:
        return self.fixed_s + self.slope * work


def fit(points: Sequence[tuple[float, float]]) -> Line:
    """The line through at least one (work, seconds), neither part below zero.

    The median of the slopes between every two points (Theil 1950, Sen 1968), so that up to
    about a quarter of them may be far off. Where all did the same work, time is taken to grow
    with it.
    """
    slopes = [(t2 - t1) / (w2 - w1) for (w1, t1), (w2, t2) in combinations(points, 2) if w1 != w2]
    slope = median(slopes) if slopes else None
    fixed = 0.0 if slope is None else median(t - slope * w for w, t in points)
    if slope is None or fixed < 0:
        return Line(0.0, median(t / w if w else 0.0 for w, t in points))
    return Line(fixed, slope) if slope >= 0 else Line(median(t for _, t in points), 0.0)


def pace(runs: Iterable[tuple[float, float]]) -> float:
    """How much longer than expected things take: the median of (seconds, expected), each weighed
    by the time that was expected; 1 without any."""
    ratios = sorted((took / expected, expected) for took, expected in runs if expected > 0)
    half = sum(expected for _, expected in ratios) / 2
    for ratio, expected in ratios:
        half -= expected
        if half <= 0:
            return ratio
    return 1.0


@dataclass(slots=True)
class _History:
    """How long one type of stage took with one model, on one device."""

    points: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=MAX_RUNS))
    line: Line | None = None


@dataclass(frozen=True, slots=True)
class QueueEstimate:
    """How many jobs can run now, and their seconds; None where too little is known."""

    jobs: int
    seconds: float | None

    def to_dict(self, running: bool = False, running_s: float | None = None) -> dict[str, Any]:
        """As `status` tells it, with the job that runs."""
        parts = [running_s] * running + [self.seconds] * (self.jobs > 0)
        known = [seconds for seconds in parts if seconds is not None]
        whole = bool(parts) and len(known) == len(parts)
        return {"runnable": self.jobs, "queue_eta_s": round(sum(known), 1) if whole else None}


class Estimator:
    """Looks at one ledger, again at each `refresh`."""

    def __init__(self, views: Queries) -> None:
        self._views = views
        self._known: dict[tuple[str, str | None], _History] = {}
        self._by_place: dict[tuple[Any, ...], _History] = {}
        self._latest: deque[tuple[Stage, float, float]] = deque(maxlen=PACE_RUNS)
        self._pace = 1.0
        self._last: dict[str, Any] = {"id": 0}
        self._size = (0, 0)

    def refresh(self) -> None:
        """Learn from the stages that were finished since the last time."""
        for run in self._views.stage_runs(self._last["id"], RECENT_RUNS):
            is_next = run["job_id"] == self._last.get("job_id")
            if not is_next:
                self._size = (run["width"] or 0, run["height"] or 0)
            stage = _stage(run["type"], run["params"])
            if stage is not None and all(self._size):
                self._learn(run, stage, _took(run, self._last))
                self._size = stage.output_size(*self._size)
            self._last = run
        self._pace = pace((took, self._seconds(stage, work)) for stage, work, took in self._latest)

    def _learn(self, run: dict[str, Any], stage: Stage, seconds: float) -> None:
        where = (stage.type, stage.model, run["provider"], run["device"], run["dtype"])
        known = self._by_place.setdefault(where, _History())
        if self._known.get((stage.type, stage.model)) is not known:
            self._known[stage.type, stage.model] = known
            self._latest.clear()
        work = stage.work(*self._size)
        known.points.append((work, seconds))
        known.line = None
        self._latest.append((stage, work, seconds))

    def stages(self, stages: Iterable[Any], width: int | None, height: int | None) -> list[float]:
        """Seconds of each stage of a job, as `jobs.stages` has them; none where one is unknown."""
        size = (width or 0, height or 0)
        found: list[float] = []
        for spec in stages:
            stage = _stage(spec["type"], spec["params"])
            if stage is None or (stage.type, stage.model) not in self._known or not all(size):
                return []
            found.append(self._pace * self._seconds(stage, stage.work(*size)))
            size = stage.output_size(*size)
        return found

    def _seconds(self, stage: Stage, work: float) -> float:
        """By the line of its type and model, which must be known."""
        known = self._known[stage.type, stage.model]
        known.line = known.line or fit(known.points)
        return known.line.seconds(work)

    def job(self, job_id: str) -> dict[str, float]:
        """Seconds of each of a job's stages, by their ids; none where one is unknown."""
        work = self._views.work_of(job_id)
        if work is None:
            return {}
        seconds = self.stages(work["stages"], work["width"], work["height"])
        return dict(zip([stage["id"] for stage in work["stages"]], seconds, strict=False))

    def queue(self) -> QueueEstimate:
        """All jobs that wait for nothing but their turn."""
        jobs = self._views.runnable()
        sample = self._views.runnable_sample(jobs // SAMPLE + 1) if jobs else []
        told = [self.stages(job["stages"], job["width"], job["height"]) for job in sample]
        return QueueEstimate(jobs, total(told, jobs))


def total(told: Sequence[Sequence[float]], jobs: int) -> float | None:
    """Seconds of so many jobs like those that are `told`; the unknown ones among these are taken
    to be like the others, unless they are the most."""
    known = [sum(seconds) for seconds in told if seconds]
    if not known or 2 * len(known) < len(told):
        return None
    return sum(known) / len(known) * jobs


def _stage(kind: str, params: dict[str, Any]) -> Stage | None:
    """None for what an older or another version wrote."""
    try:
        return registry.stage_class(kind).model_validate(params)
    except (KeyError, ConfigError, ValidationError):
        return None


def _took(run: dict[str, Any], before: dict[str, Any]) -> float:
    """Seconds of the device's and everyone's time, from the stage's turn to its end.

    A job's first stage begins as the job does or, where it follows at once, where the last ended.
    """
    begun: datetime | None = run["started_at"]
    ended: datetime | None = before.get("finished_at")
    if (ended is not None and run["job_id"] == before["job_id"]) or (
        begun and ended and timedelta() <= begun - ended <= timedelta(seconds=HAND_OVER_S)
    ):
        begun = ended
    seconds: float = run["seconds"]
    took = seconds if begun is None else (run["finished_at"] - begun).total_seconds()
    return took if seconds <= took <= seconds + MAX_OVERHEAD_S else seconds
