"""The state of a worker, as its executor knows it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from dna_pipeline.base.errors import DeviceUnavailable
from dna_pipeline.execution.protocol import (
    Event,
    JobFailed,
    LoadedModel,
    ModelsLoaded,
    TaskFailed,
    WorkerEnded,
    WorkerReady,
)

FIRST_REST_S = 2.0
"""Seconds for which a worker rests after it did not get its device; doubled after each further
failure in a row."""

MAX_REST_S = 480.0

State = Literal["not_started", "starting", "idle", "working", "lost"]
"""`not_started`: the next order starts its process. `starting`: it has an order and is not ready
yet. `lost`: it did not get its device, and rests until it tries again."""


@dataclass(frozen=True, slots=True)
class WorkerState:
    """A worker at one instant.

    Attributes:
        name: of the worker, whatever process does its work; a task may name it.
        process: name of its process of now, or of its last or first one, as events have it.
        device: the device that it is to use, as `runtime.device` has it.
        is_free: it may be given an order.
        models: all that it has or is loading.
        orders: number of orders that it has.
        last_needs: the models that the last of these needs.
        problem: the reason why it did not get its device; "" if it did, or has not tried yet.
        node: the machine of a Ray cluster that it is on; "" for this machine, or none yet.
    """

    name: str
    process: str
    device: str
    state: State
    is_free: bool
    models: tuple[LoadedModel, ...] = ()
    problem: str = ""
    orders: int = 0
    last_needs: frozenset[str] = frozenset()
    node: str = ""

    @property
    def model_names(self) -> frozenset[str]:
        """Names of the models that it has when it has done its orders. Where a model has to be
        loaded for them, it may push out all others."""
        names = frozenset(model.name for model in self.models)
        return names if self.last_needs <= names else self.last_needs

    def to_dict(self) -> dict[str, Any]:
        """The state in the form in which `status.json` shows it."""
        return {
            "worker": self.process, "state": self.state, "device": self.device,
            "models": [asdict(model) for model in self.models], "problem": self.problem or None,
            "node": self.node or None,
        }  # fmt: skip


class WorkerMemory:
    """Facts about a worker's device and models, learned from the events of its processes.

    Events come from a thread of each process, one after another; other threads may read.

    Attributes:
        models: as in `WorkerState`.
        problem: as in `WorkerState`.
        lost_at: time at which the device was last not there; 0 if it always was.
        device, gpu: the device of the last process that was ready, and its hardware; None before.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._losses = 0
        self._rests_until = 0.0
        self.lost_at = 0.0
        self.models: tuple[LoadedModel, ...] = ()
        self.problem = ""
        self.device: str | None = None
        self.gpu: str | None = None

    @property
    def waits_for_device(self) -> bool:
        """True if the device should not be tried again yet."""
        return self._losses > 0 and self._now() < self._rests_until

    def note(self, event: Event, process: str) -> None:
        """Learn from an event.

        Args:
            process: name of the process of now; the end of an older one says nothing of it.
        """
        match event:
            case WorkerReady():
                # A worker with a worse device never becomes ready, so this is the best so far.
                gpu = event.environment.get("gpu")
                self.gpu = gpu if isinstance(gpu, str) else None
                self.device = event.device
                self._losses, self.problem, self.models = 0, "", ()
            case ModelsLoaded():
                self.models = event.models
            case JobFailed() | TaskFailed() if _has_no_device(event):
                self._lose(str(event.failure.get("detail") or event.failure.get("message")))
            case WorkerEnded() if event.worker == process:
                self.models = ()
                if event.reason == "unready":
                    self._lose(event.detail)
            case _:
                pass

    def _lose(self, why: str) -> None:
        rest_s = min(FIRST_REST_S * 2**self._losses, MAX_REST_S)
        self.lost_at = self._now()
        self._rests_until = self.lost_at + rest_s
        self._losses += 1
        self.problem = why or "it did not get its device"


def _has_no_device(event: JobFailed | TaskFailed) -> bool:
    return event.poisoned and event.failure.get("code") == DeviceUnavailable.code
