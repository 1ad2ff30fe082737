"""Orders run by the worker's runner in this process."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any

from dna_pipeline.base.files import sha256_file
from dna_pipeline.execution.protocol import Event, Order, OrderInput, StageDone, StageOrder
from dna_pipeline.execution.worker import runner
from dna_pipeline.execution.worker.context import WorkerContext
from dna_pipeline.execution.worker.lanes import Direct
from dna_pipeline.providers.base import Device, ModelCache, Provider

CPU = Device("cpu", "float32")
JOB = "a job"
WEIGHTS_SHA256 = "5" * 64
"""Hash of every model's weights unless a test says otherwise."""


class Meanwhile(Direct):
    """Turns of a job that waits while something happens."""

    def __init__(self, happens: Callable[[], object]) -> None:
        self._happens = happens

    def share(
        self, key: Hashable, item: Any, work: Any, rank: Any, check: Any, on_wait: Any
    ) -> Any:
        self._happens()
        return super().share(key, item, work, rank, check, on_wait)


def context(
    models: ModelCache | Mapping[str, Provider], events: list[Any], **changes: Any
) -> WorkerContext:
    """What a runner needs, with events that are put into a list.

    Args:
        models: the loaded models, or the entries of new ones on the CPU.
        changes: fields of `WorkerContext`.
    """
    cache = models if isinstance(models, ModelCache) else ModelCache(models, CPU)
    fields: dict[str, Any] = {
        "models": cache,
        "emit": events.append,
        "is_cancelled": lambda job: False,
        "must_yield": lambda job: False,
        "stage_timeout_s": 60,
        "release_memory": lambda: None,
        "fingerprint": lambda provider: ("/somewhere", WEIGHTS_SHA256),
        "environment": {},
    }
    return WorkerContext(**fields | changes)


def input_file(path: Path, role: str = "image", reference: str = "") -> OrderInput:
    return OrderInput(role, str(path), sha256_file(path), reference)


def order(
    image: Path | tuple[OrderInput, ...], work: Path, *stages: StageOrder, **changes: Any
) -> Order:
    """An order for an image, or for an image and its companions.

    Args:
        work: its work folder.
        changes: fields of `Order`.
    """
    inputs = image if isinstance(image, tuple) else (input_file(image),)
    fields: dict[str, Any] = {"job": JOB, "attempt": 1}
    return Order(stages=stages, inputs=inputs, work_dir=str(work), **fields | changes)


def run(order: Order, models: ModelCache | Mapping[str, Provider], **changes: Any) -> list[Any]:
    """All events of an order; `changes` as for `context`."""
    events: list[Event] = []
    runner.run(order, context(models, events, **changes))
    return events


def done(events: list[Any]) -> list[StageDone]:
    """The ends of stages among events."""
    return [event for event in events if isinstance(event, StageDone)]
