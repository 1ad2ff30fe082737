"""Estimates of how long jobs will take, learned from the stages that were finished last.

`Stage.work` gives the amount of work of a stage. For each type of stage and model, a line is fitted
through the (work, seconds) of its last runs, and gives the seconds of the next run. Runs on another
device are not mixed in. If the last few stages were faster or slower than their lines, the next
ones are expected to be so too: others may use the machine, and it may be hot. Stages that took kept
results teach nothing, and those that will take one cost next to nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import accumulate, combinations
from statistics import median
from typing import Any

from dna_pipeline.config.schema import Config
from dna_pipeline.execution.kept_requests import ReuseForecast
from dna_pipeline.execution.result_store import ALL
from dna_pipeline.ledger.queries import Queries
from dna_pipeline.stages import registry
from dna_pipeline.stages.base import Stage

RECENT_RUNS = 2000
MAX_RUNS = 60
"""Most runs remembered of each type and model; `fit` compares every two of them."""

PACE_RUNS = 8
"""Number of last stages that the machine's pace is computed from."""

KEPT_S = 0.1
"""Seconds of a stage that takes a kept result, about."""

MAX_SAMPLE = 400
"""Most jobs of the queue that are estimated one by one; the others are taken for their average."""

HAND_OVER_S = 1.0
"""Longest time from one job's end to the next one's start that counts as part of the next job."""
MAX_OVERHEAD_S = 120.0
"""Longest time around a stage's own seconds that counts as loading and writing; a longer one was
spent on waiting, as after a restart."""


@dataclass(frozen=True, slots=True)
class Line:
    """`seconds = fixed_s + slope * work`."""

    fixed_s: float
    slope: float

    def seconds(self, work: float) -> float:
        return self.fixed_s + self.slope * work


def fit(points: Sequence[tuple[float, float]]) -> Line:
    """The line through at least one point (work, seconds), with neither part below zero.

    Its slope is the median of the slopes between every two points (Theil 1950, Sen 1968), so that
    up to about a quarter of the points may be far off. If all points have the same work, the time
    is assumed to be proportional to the work.
    """
    slopes = [(t2 - t1) / (w2 - w1) for (w1, t1), (w2, t2) in combinations(points, 2) if w1 != w2]
    slope = median(slopes) if slopes else None
    fixed = 0.0 if slope is None else median(t - slope * w for w, t in points)
    if slope is None or fixed < 0:
        return Line(0.0, median(t / w if w else 0.0 for w, t in points))
    return Line(fixed, slope) if slope >= 0 else Line(median(t for _, t in points), 0.0)


def pace(runs: Iterable[tuple[float, float]]) -> float:
    """Factor by which runs took longer than expected; 1 without any runs.

    It is the median of seconds / expected, in which each run counts by its expected seconds.

    Args:
        runs: (seconds, expected seconds) of each run.
    """
    ratios = sorted((took / expected, expected) for took, expected in runs if expected > 0)
    half = sum(expected for _, expected in ratios) / 2
    for ratio, expected in ratios:
        half -= expected
        if half <= 0:
            return ratio
    return 1.0


@dataclass(slots=True)
class _History:
    """Points (work, seconds) of one type of stage with one model on one device; `line` is fitted
    when it is first needed."""

    points: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=MAX_RUNS))
    line: Line | None = None


@dataclass(frozen=True, slots=True)
class QueueEstimate:
    """The number of jobs that can run now, and their seconds; None where too little is known.

    Attributes:
        inbox_s, batch_s: seconds until the last of these jobs ends, by inbox and by batch. Those of
            which the sample has no job are left out.
    """

    jobs: int
    seconds: float | None
    inbox_s: Mapping[str, float] = field(default_factory=dict[str, float], compare=False)
    batch_s: Mapping[str, float] = field(default_factory=dict[str, float], compare=False)

    def shared(self, workers: int) -> QueueEstimate:
        """The estimate of the same jobs if so many workers do them side by side."""
        if workers == 1 or self.seconds is None:
            return self
        inbox_s = {name: round(end / workers, 1) for name, end in self.inbox_s.items()}
        batch_s = {name: round(end / workers, 1) for name, end in self.batch_s.items()}
        return QueueEstimate(self.jobs, self.seconds / workers, inbox_s, batch_s)

    def behind(self, inbox: str, running_s: float | None) -> QueueEstimate:
        """The estimate of the same jobs behind a running one of that inbox, which takes so many
        seconds more; without ends if these are unknown."""
        if running_s is None or (self.jobs and self.seconds is None):
            return QueueEstimate(self.jobs, self.seconds)
        inbox_s = {name: round(running_s + end, 1) for name, end in self.inbox_s.items()}
        batch_s = {name: round(running_s + end, 1) for name, end in self.batch_s.items()}
        if self.jobs <= MAX_SAMPLE:  # so an inbox that is not among them has no other job
            inbox_s = {inbox: running_s} | inbox_s
        return QueueEstimate(self.jobs, self.seconds, inbox_s, batch_s)

    def to_dict(self, running: bool = False, running_s: float | None = None) -> dict[str, Any]:
        """The estimate in the form that `status` shows, the running job's seconds included."""
        parts = [running_s] * running + [self.seconds] * (self.jobs > 0)
        durations = [seconds for seconds in parts if seconds is not None]
        whole = bool(parts) and len(durations) == len(parts)
        return {"runnable": self.jobs, "queue_eta_s": round(sum(durations), 1) if whole else None}


class Estimator:
    """Learns durations from one ledger at each `refresh`, and estimates jobs with them."""

    def __init__(self, queries: Queries, config: Config) -> None:
        self._queries = queries
        self._config = config
        runtime = config.runtime
        self._overlaps = runtime.jobs_per_worker > 1 and len(runtime.devices) == 1
        """True if stages of several jobs may run at once, and end one after another."""
        self._histories: dict[tuple[str, str | None], _History] = {}
        self._by_place: dict[tuple[Any, ...], _History] = {}
        self._latest: deque[tuple[Stage, float, float]] = deque(maxlen=PACE_RUNS)
        self._pace = 1.0
        self._last: dict[str, Any] = {"id": 0}
        self._size = (0, 0)

    def refresh(self) -> None:
        """Learn from the stages that were finished since the last call."""
        for run in self._queries.stage_runs(self._last["id"], RECENT_RUNS):
            is_next = run["job_id"] == self._last.get("job_id")
            if not is_next:
                self._size = (run["width"] or 0, run["height"] or 0)
            stage = registry.valid_stage(run["type"], run["params"])
            if stage is not None and all(self._size):
                if run["reused_from"] is None:
                    self._learn(run, stage, _took(run, self._last, overlaps=self._overlaps))
                self._size = stage.output_size(*self._size)
            self._last = run
        self._pace = pace((took, self._seconds(stage, work)) for stage, work, took in self._latest)

    def _learn(self, run: dict[str, Any], stage: Stage, seconds: float) -> None:
        where = (stage.type, stage.model, run["provider"], run["device"], run["dtype"])
        history = self._by_place.setdefault(where, _History())
        if self._histories.get((stage.type, stage.model)) is not history:
            self._histories[stage.type, stage.model] = history
            self._latest.clear()
        work = stage.work(*self._size)
        history.points.append((work, seconds))
        history.line = None
        self._latest.append((stage, work, seconds))

    def stages(
        self,
        stages: Sequence[Any],
        width: int | None,
        height: int | None,
        reuse: Sequence[str] | None = None,
    ) -> list[float]:
        """Seconds of each stage of a job; an empty list if one of them is unknown.

        Args:
            stages: as the column `jobs.stages` holds them.
            width, height: of the source, in pixels.
            reuse: what each stage takes of a kept result, as `ReuseForecast` gives it; None if all
                are computed.
        """
        size = (width or 0, height or 0)
        durations: list[float] = []
        for spec, part in zip(stages, reuse or [""] * len(stages), strict=True):
            stage = registry.valid_stage(spec["type"], spec["params"])
            if stage is None or (stage.type, stage.model) not in self._histories or not all(size):
                return []
            share = 1.0 - stage.part_share() if part else 1.0
            seconds = share * self._pace * self._seconds(stage, stage.work(*size))
            durations.append(KEPT_S if part == ALL else seconds)
            size = stage.output_size(*size)
        return durations

    def _seconds(self, stage: Stage, work: float) -> float:
        """Seconds by the line of the stage's type and model, of which runs must be known."""
        history = self._histories[stage.type, stage.model]
        history.line = history.line or fit(history.points)
        return history.line.seconds(work)

    def job(self, job_id: str) -> dict[str, float]:
        """Seconds of each of a job's stages by their ids; an empty dict if one is unknown."""
        work = self._queries.work_of(job_id)
        if work is None:
            return {}
        seconds = self._of_row(work, ReuseForecast(self._config))
        return dict(zip([stage["id"] for stage in work["stages"]], seconds, strict=False))

    def _of_row(self, job: Mapping[str, Any], forecast: ReuseForecast) -> list[float]:
        reuse = forecast.of_row(job)
        return self.stages(job["stages"], job["width"], job["height"], reuse)

    def queue(self) -> QueueEstimate:
        """The estimate of all jobs that wait for nothing but their turn."""
        jobs = self._queries.runnable()
        sample = self._queries.runnable_sample(jobs // MAX_SAMPLE + 1) if jobs else []
        forecast = ReuseForecast(self._config)
        durations = [self._of_row(job, forecast) for job in sample]
        seconds = total(durations, jobs)
        if seconds is None:
            return QueueEstimate(jobs, None)
        return QueueEstimate(
            jobs,
            seconds,
            _ends([job["inbox"] for job in sample], durations, seconds),
            _ends([job["batch"] for job in sample], durations, seconds),
        )


def total(durations: Sequence[Sequence[float]], jobs: int) -> float | None:
    """Seconds of `jobs` jobs that are like a sample of them; None if most of the sample is unknown.

    Args:
        durations: seconds of the stages of each job in the sample; an empty one is unknown, and
            counts as the average of the others.
    """
    estimated = [sum(seconds) for seconds in durations if seconds]
    if not estimated or 2 * len(estimated) < len(durations):
        return None
    return sum(estimated) / len(estimated) * jobs


def _ends(
    groups: Sequence[str | None], durations: Sequence[Sequence[float]], seconds: float
) -> dict[str, float]:
    """Seconds until the last job of each group ends, if all jobs take `seconds`.

    Args:
        groups: the group of each job in a sample, in the order in which the jobs run; None for a
            job without one.
        durations: as for `total`.
    """
    estimated = [sum(parts) for parts in durations if parts]
    average = sum(estimated) / len(estimated)
    costs = [sum(parts) if parts else average for parts in durations]
    scale = seconds / (sum(costs) or 1.0)
    passed = accumulate(costs)
    ends = {group: round(end * scale, 1) for group, end in zip(groups, passed, strict=True)}
    return {group: end for group, end in ends.items() if group is not None}


def _took(run: dict[str, Any], before: dict[str, Any], *, overlaps: bool = False) -> float:
    """Seconds from the stage's turn to its end, with loading and writing.

    The turn of a job's first stage begins with the job or, if the job follows another at once, at
    the end of that one.

    Args:
        overlaps: jobs of one worker overlap. What ended while the job ran took a part of its time
            then, so that its turn begins with that end.
    """
    if run["batch_size"] > 1:  # all of them end at once
        return run["seconds"] / run["batch_size"]
    begun: datetime | None = run["started_at"]
    ended: datetime | None = before.get("finished_at")
    if (ended is not None and run["job_id"] == before["job_id"]) or (
        begun and ended and timedelta() <= begun - ended <= timedelta(seconds=HAND_OVER_S)
    ):
        begun = ended
    seconds: float = run["seconds"]
    if overlaps and begun is not None and ended is not None and begun < ended:
        return min((run["finished_at"] - ended).total_seconds(), seconds + MAX_OVERHEAD_S)
    took = seconds if begun is None else (run["finished_at"] - begun).total_seconds()
    return took if seconds <= took <= seconds + MAX_OVERHEAD_S else seconds
