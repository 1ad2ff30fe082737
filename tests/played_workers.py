"""States of workers, for tests that play the executor."""

from __future__ import annotations

from dna_pipeline.execution.worker_state import WorkerState


def free_worker(
    name: str = "local", process: str = "", models: frozenset[str] = frozenset(), problem: str = ""
) -> WorkerState:
    """A worker that may be given an order: played executors let the dispatcher count."""
    return WorkerState(
        name, process or f"{name}-1", "auto", "idle", is_free=True, models=models, problem=problem
    )
