"""Loading of models before the first job needs them: `runtime.preload`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import structlog

from dna_pipeline.base.errors import Failure
from dna_pipeline.execution.dispatcher import Dispatcher
from dna_pipeline.execution.protocol import Task, TaskDone, TaskEnd

log = structlog.get_logger()


class Preload:
    """Requests the models of `runtime.preload` for each worker, before its next job.

    A model that cannot be loaded is logged and not requested again: the first job that needs it
    reports the cause, and a model that brings its worker down does so once.
    """

    def __init__(self, names: Sequence[str], dispatcher: Dispatcher) -> None:
        self._names = list(dict.fromkeys(names))
        self._dispatcher = dispatcher
        self._requested: list[str] = []
        """The models of the last request, in order."""
        self._served: set[str] = set()
        """Names of the workers for which the models were requested."""
        self._pending: set[str] = set()
        """The models that are requested and not loaded yet."""

    def begin(self) -> None:
        """Request the models, which starts the first worker."""
        self._request()

    def step(self) -> None:
        """Request the models for a worker that has replaced the last one."""
        new = self._dispatcher.workers.keys() - self._served
        if not new:
            return
        is_first = not self._served
        self._served |= new
        if not is_first:
            self._request()

    def to_dict(self) -> dict[str, Any] | None:
        """The field `loading` of `status.json`: the model that is loaded now, its number among
        those requested, from 1, and how many these are; None if none is loaded."""
        for number, name in enumerate(self._requested, 1):
            if name in self._pending:
                return {"model": name, "number": number, "of": len(self._requested)}
        return None

    def _request(self) -> None:
        self._requested = list(self._names)
        for name in self._names:
            if name not in self._pending:
                self._pending.add(name)
                task = Task(f"preload {name}", "load_model", name)
                self._dispatcher.request(task, lambda end, name=name: self._ended(name, end))

    def _ended(self, name: str, end: TaskEnd) -> None:
        self._pending.discard(name)
        if isinstance(end, TaskDone):
            log.info("model.preloaded", model=name, seconds=round(end.seconds, 1))
            return
        self._names = [other for other in self._names if other != name]
        failure = Failure.from_dict(end.failure)
        why = failure.detail or failure.message
        log.warning("model.not_preloaded", model=name, code=failure.code, why=why)
