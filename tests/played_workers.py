"""States of workers, for tests that play the executor."""

from __future__ import annotations

from dataclasses import replace

from dna_pipeline.execution.protocol import LoadedModel, Order, Task
from dna_pipeline.execution.worker_state import WorkerState

SINCE = "2026-12-01T22:00:00Z"


def loaded_model(name: str) -> LoadedModel:
    """A model that a worker has."""
    return LoadedModel(name, "loaded", "cuda:0", SINCE)


def free_worker(
    name: str = "local", process: str = "", models: frozenset[str] = frozenset(), problem: str = ""
) -> WorkerState:
    """A worker that may be given an order: played executors let the dispatcher count."""
    loaded = tuple(loaded_model(name) for name in sorted(models))
    return WorkerState(
        name, process or f"{name}-1", "auto", "idle", is_free=True, models=loaded, problem=problem
    )


class PlayedWorker:
    """One of several workers: takes orders that never end, and is in the state that a test puts it
    in."""

    capacity = 3
    waits_for_device = False
    lost_at = 0.0

    def __init__(self, state: WorkerState) -> None:
        self.now = state
        self.given: list[Order | Task] = []

    def state(self) -> WorkerState:
        return self.now

    def submit(self, order: Order | Task) -> None:
        self.given.append(order)
        self.now = replace(self.now, orders=self.now.orders + 1)

    def cancel(self, job: str) -> None: ...
    def yield_after_stage(self, job: str) -> None: ...
    def enforce_timeouts(self) -> None: ...
    def close(self, grace_s: float) -> None: ...
