"""States of workers, for tests that play the executor."""

from __future__ import annotations

from dna_pipeline.execution.protocol import LoadedModel
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
