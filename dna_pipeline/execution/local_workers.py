"""Several workers, each with a device of its own; `LocalWorkers` has them on one machine."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from dna_pipeline.execution.local_executor import NAME, LocalExecutor
from dna_pipeline.execution.protocol import Event, Order, Task
from dna_pipeline.execution.worker_child import WorkerSettings, models_of
from dna_pipeline.execution.worker_state import WorkerState


class Worker(Protocol):
    """One of several workers, as `LocalExecutor` is one."""

    @property
    def capacity(self) -> int: ...
    @property
    def waits_for_device(self) -> bool:
        """True if it did not get its device, and should not try again yet."""
        ...

    @property
    def lost_at(self) -> float:
        """Time by `time.monotonic` at which it last did not get its device; 0 if it always did."""
        ...

    def state(self) -> WorkerState: ...
    def submit(self, order: Order | Task) -> None: ...
    def cancel(self, job: str) -> None: ...
    def yield_after_stage(self, job: str) -> None: ...
    def enforce_timeouts(self) -> None: ...
    def close(self, grace_s: float) -> None: ...


class Workers:
    """An executor of several workers.

    An order goes to a free worker with the fewest orders; among these, to the one that has to load
    the fewest models for it. A worker that did not get its device rests, longer each time, while
    the others go on; if none has one, they try one after another.

    Args:
        workers: by their names.
        events: the queue that all of them put their events into.
    """

    def __init__(self, workers: Mapping[str, Worker], events: queue.SimpleQueue[Event]) -> None:
        self._workers = workers
        self._events = events

    @property
    def capacity(self) -> int:
        return sum(worker.capacity for worker in self._workers.values())

    def workers(self) -> tuple[WorkerState, ...]:
        states = [worker.state() for worker in self._workers.values()]
        if all(state.problem for state in states):
            trying = self._to_try(states)
            return tuple(replace(s, is_free=s.is_free and s.name == trying) for s in states)
        return tuple(
            replace(state, is_free=False) if self._workers[state.name].waits_for_device else state
            for state in states
        )

    def _to_try(self, states: Sequence[WorkerState]) -> str | None:
        """The only worker that tries next to get its device, if none has one; None while one
        does so: the one that has failed the longest time ago."""
        if any(not state.is_free for state in states):
            return None
        return min(self._workers, key=lambda name: self._workers[name].lost_at)

    def events(self) -> queue.SimpleQueue[Event]:
        return self._events

    def submit(self, order: Order | Task, among: Collection[str] | None = None) -> None:
        """Give an order to a worker that is free, and one of these; a task that names its worker,
        to that one."""
        self._workers[self._choose(order, among)].submit(order)

    def _choose(self, order: Order | Task, among: Collection[str] | None) -> str:
        if isinstance(order, Task) and order.worker in self._workers:
            return order.worker
        states = [state for state in self.workers() if among is None or state.name in among]
        # Since the caller asked, a worker may have lost its device, or be about to end: then it
        # reports the order's end, or another process takes its place.
        free = [state for state in states if state.is_free] or states
        needed = models_of(order)
        return min(free, key=lambda state: _cost(state, needed)).name

    def cancel(self, job: str) -> None:
        for worker in self._workers.values():
            worker.cancel(job)

    def yield_after_stage(self, job: str) -> None:
        for worker in self._workers.values():
            worker.yield_after_stage(job)

    def enforce_timeouts(self) -> None:
        for worker in self._workers.values():
            worker.enforce_timeouts()

    def close(self, grace_s: float) -> None:
        """End all workers at the same time, as `LocalExecutor.close` ends one."""
        threads = [
            threading.Thread(target=worker.close, args=(grace_s,), name=f"close-{name}")
            for name, worker in self._workers.items()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


class LocalWorkers(Workers):
    """Several workers on this machine, each of which is a `LocalExecutor`.

    Args:
        settings: those of each worker.
        wake, module: as for `LocalExecutor`.
    """

    def __init__(
        self,
        settings: Sequence[WorkerSettings],
        wake: Callable[[], None] = lambda: None,
        module: str = "dna_pipeline.execution.worker.process",
    ) -> None:
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        workers = {
            name: LocalExecutor(each, wake, module, name, events)
            for name, each in zip(worker_names(len(settings)), settings, strict=True)
        }
        super().__init__(workers, events)


def worker_names(number: int) -> list[str]:
    """Names of so many workers."""
    return [NAME] if number == 1 else [f"w{n}" for n in range(1, number + 1)]


def _cost(state: WorkerState, needed: frozenset[str]) -> tuple[int, int, int, bool]:
    """Sorts workers for an order: by the orders that they have, by the models to load, by loaded
    ones that these may push out, and those that run before those that have to be started."""
    missing = needed - state.model_names
    others = state.model_names - needed if missing else frozenset[str]()
    return state.orders, len(missing), len(others), state.state in ("not_started", "lost")
