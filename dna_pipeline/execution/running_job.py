"""The state of a job at the executor, and the time that it has left."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from dna_pipeline.execution.protocol import Phase


@dataclass(slots=True)
class RunningJob:
    """A job at the executor, for status."""

    job: str
    inbox: str
    name: str
    attempt: int
    worker: str = ""
    started: float = field(default_factory=time.monotonic)
    stage: str | None = None
    stage_since: float = 0.0
    phase: str | None = None
    step: int = 0
    steps: int = 0
    fraction: float = 0.0
    turn_since: float = 0.0
    on_device: bool = True
    is_yielding: bool = False

    def enter(self, phase: Phase) -> None:
        """Record the worker, the stage and the phase that the job is in now."""
        if phase.stage != self.stage:
            self.stage, self.stage_since = phase.stage, time.monotonic()
            self.step = self.steps = 0
        if self.phase == "waiting":
            self.stage_since = time.monotonic()
        if phase.phase == "running":
            self.turn_since = time.monotonic()
        self.worker, self.phase, self.on_device = phase.worker, phase.phase, phase.on_device

    @property
    def is_before_turn(self) -> bool:
        """True if it has not had the device in this stage, or has not begun at all."""
        return self.phase in (None, "reading", "waiting", "loading")

    def turn_left_s(self, usual_s: float | None) -> float | None:
        """Seconds for which it still has the device; None if nothing is known.

        Args:
            usual_s: seconds that its stage took the last time; None if it is the first time.
        """
        if self.phase != "running" or not self.on_device:
            return 0.0
        passed = time.monotonic() - self.turn_since
        if self.step:
            return passed * (self.steps - self.step) / self.step
        return None if usual_s is None else usual_s - passed

    def remaining_s(self, expected: Mapping[str, float]) -> float | None:
        """Seconds until the job ends; None if nothing is known.

        They come from the durations that its stages usually have, else from the job's own pace
        so far.

        Args:
            expected: seconds of each of its stages in their order; empty where unknown.
        """
        now = time.monotonic()
        if self.stage is None and expected:
            return sum(expected.values())
        if self.stage is None or self.stage not in expected:
            pace = (now - self.started) / self.fraction if self.fraction else None
            return None if pace is None else pace * (1 - self.fraction)
        here = expected[self.stage]
        done = here * self.step / self.steps if self.steps else now - self.stage_since
        if self.phase == "waiting":
            done = 0.0
        stages = list(expected)
        after = stages[stages.index(self.stage) + 1 :]
        return max(here - done, 0.0) + sum(expected[stage] for stage in after)

    def to_dict(self, expected: Mapping[str, float]) -> dict[str, Any]:
        """The running job in the form that `status.json` shows.

        Args:
            expected: as for `remaining_s`.
        """
        values = asdict(self)
        for name in ("started", "stage_since", "turn_since", "on_device", "is_yielding"):
            del values[name]
        remaining = self.remaining_s(expected)
        return values | {"eta_s": None if remaining is None else round(remaining, 1)}
