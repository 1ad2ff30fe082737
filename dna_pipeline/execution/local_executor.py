"""The executor, which runs orders and reports events.

`Executor` is the interface that the daemon uses; `LocalExecutor` runs orders in one child process
that owns the device. The daemon imports this module and never torch. Messages carry no pixels: both
sides share the work folder.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Protocol

from dna_pipeline.execution.protocol import (
    Event,
    Order,
    Task,
)
from dna_pipeline.execution.worker_child import (
    DOUBTFUL_ENDS,
    Child,
    Load,
    WorkerSettings,
    put_ends,
)
from dna_pipeline.execution.worker_state import State, WorkerMemory, WorkerState

NAME = "local"
"""Name of the only worker; those of its processes add a number."""


class Executor(Protocol):
    """Runs orders on its workers and reports events.

    Each order ends with exactly one event that names it: JobDone, JobFailed or WorkerEnded for a
    job, TaskDone or TaskFailed for a task.
    """

    @property
    def capacity(self) -> int:
        """Number of orders that it runs at once."""
        ...

    def workers(self) -> tuple[WorkerState, ...]:
        """The states of its workers, always in the same order. `submit` may be called while one of
        them is free."""
        ...

    def submit(self, order: Order | Task, among: Collection[str] | None = None) -> None:
        """Run an order.

        Args:
            among: names of the workers of which one is to have it; None for any.
        """
        ...

    def cancel(self, job: str) -> None: ...
    def yield_after_stage(self, job: str) -> None:
        """Give the job back, held as `hours`, before its next stage begins."""
        ...

    def events(self) -> queue.SimpleQueue[Event]: ...
    def enforce_timeouts(self) -> None:
        """End workers that exceed a time limit; to be called about once a second."""
        ...

    def close(self, grace_s: float) -> None: ...


class LocalExecutor:
    """Runs orders in one child process, which is started with the first order and, after it has
    ended, with the next one.

    Args:
        wake: called after each event, from any thread.
        module: the module that the child runs, as `python -m` does; its messages are those of
            `dna_pipeline.execution.worker.process`.
        name: of the worker; its processes are called `NAME-1`, `NAME-2` and so on.
        events: the queue for its events; None to make one.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        wake: Callable[[], None] = lambda: None,
        module: str = "dna_pipeline.execution.worker.process",
        name: str = NAME,
        events: queue.SimpleQueue[Event] | None = None,
    ) -> None:
        self._settings = settings
        self._module = module
        self._wake = wake
        self._worker = name
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue() if events is None else events
        self._lock = threading.Lock()
        self._child: Child | None = None
        self._number = 0
        """Number of workers that were started, for their names."""
        self._is_closed = False
        self._memory = WorkerMemory()

    @property
    def capacity(self) -> int:
        return self._settings.capacity

    def workers(self) -> tuple[WorkerState, ...]:
        return (self.state(),)

    def state(self) -> WorkerState:
        """The state of its worker."""
        with self._lock:
            child = self._child
            load = Load(0, frozenset(), False) if child is None else child.load()
            state: State
            if child is None or child.ending is not None:
                state = "working" if load.orders else "not_started"
            elif not load.orders:
                state = "idle"
            else:
                state = "working" if child.is_ready else "starting"
            if not load.orders and self._memory.problem:
                state = "lost"
            memory = self._memory
            return WorkerState(
                self._worker, self._name, memory.device or self._settings.device, state,
                not load.is_full, memory.models, memory.problem, load.orders, load.last_needs,
            )  # fmt: skip

    @property
    def waits_for_device(self) -> bool:
        """True if it did not get its device, and should not try again yet."""
        return self._memory.waits_for_device

    @property
    def lost_at(self) -> float:
        """Time by `time.monotonic` at which it last did not get its device; 0 if it always did."""
        return self._memory.lost_at

    def events(self) -> queue.SimpleQueue[Event]:
        return self._events

    def submit(self, order: Order | Task, among: Collection[str] | None = None) -> None:
        """Start an attempt at a job, or a task; there is but one worker to choose."""
        with self._lock:
            if self._is_closed:
                put_ends(self._put, self._name, [order], "closed", "the executor was closed")
            elif self._child is None or not self._child.run(order):
                self._replace_child(order)

    @property
    def _name(self) -> str:
        return f"{self._worker}-{max(self._number, 1)}"

    def _replace_child(self, order: Order | Task) -> None:
        """Start a worker with that order. The worker object knows the order before its process
        starts, so that WorkerEnded names the job however early the process ends."""
        self._number += 1
        try:
            settings = self._next_settings()
            self._child = Child(self._module, self._name, settings, order, self._put)
        except Exception as error:  # for lack of memory, processes or threads
            why = f"no worker can be started: {error}"
            put_ends(self._put, self._name, [order], "unready", why)

    def _next_settings(self) -> WorkerSettings:
        # A broken device may have caused an unexpected end, so the next worker tests it first.
        is_doubtful = self._child is not None and self._child.ending in (None, *DOUBTFUL_ENDS)
        return replace(
            self._settings,
            self_test=is_doubtful,
            last_device=self._memory.device,
            last_gpu=self._memory.gpu,
        )

    def cancel(self, job: str) -> None:
        with self._lock:
            if self._child is not None:
                self._child.cancel(job)

    def yield_after_stage(self, job: str) -> None:
        with self._lock:
            if self._child is not None:
                self._child.yield_after_stage(job)

    def enforce_timeouts(self) -> None:
        with self._lock:
            if self._child is not None:
                self._child.enforce_timeouts(time.monotonic())

    def close(self, grace_s: float) -> None:
        """End the child: at once if it is idle, else after at most `grace_s` seconds. Later orders
        are not run."""
        with self._lock:
            self._is_closed = True
            if self._child is not None:
                self._child.close(grace_s)
                self._child = None

    def _put(self, event: Event) -> None:
        self._memory.note(event, self._name)
        self._events.put(event)
        self._wake()
