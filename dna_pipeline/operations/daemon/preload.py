"""Loading of models before the first job needs them: `runtime.preload`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import structlog

from dna_pipeline.base.errors import DeviceUnavailable, Failure
from dna_pipeline.execution.dispatcher import Dispatcher
from dna_pipeline.execution.protocol import Task, TaskDone, TaskEnd

log = structlog.get_logger()


class Preload:
    """Requests the models of `runtime.preload` for each worker, before its next job.

    A model that cannot be loaded is logged and not requested again: the first job that needs it
    reports the cause, and a model that brings its worker down does so once. Where only the device
    was missing, the models are requested again once the worker has it.
    """

    def __init__(self, names: Sequence[str], dispatcher: Dispatcher) -> None:
        self._names = list(dict.fromkeys(names))
        self._dispatcher = dispatcher
        self._requested: list[str] = []
        """The models of the last request, in order."""
        self._served: set[str] = set()
        """Names of the processes for which the models were requested."""
        self._begun: set[str] = set()
        """Names of the workers whose first process was ready, or did not get its device."""
        self._pending: set[tuple[str, str]] = set()
        """Workers and models that are requested and not loaded yet."""

    def begin(self) -> None:
        """Request the models for all workers, which starts them."""
        if self._names:
            self._request(self._dispatcher.worker_names())

    def step(self) -> None:
        """Request the models for processes that have replaced others."""
        for process in self._dispatcher.workers.keys() - self._served:
            self._served.add(process)
            worker = self._dispatcher.worker_of(process)
            if worker in self._begun:
                self._request([worker])
            elif worker is not None:
                self._begun.add(worker)

    def to_dict(self) -> dict[str, Any] | None:
        """The field `loading` of `status.json`: the model that is loaded now, its number among
        those requested, from 1, and how many these are; None if none is loaded."""
        pending = {name for _, name in self._pending}
        for number, name in enumerate(self._requested, 1):
            if name in pending:
                return {"model": name, "number": number, "of": len(self._requested)}
        return None

    def _request(self, workers: Iterable[str]) -> None:
        self._requested = list(self._names)
        for worker in workers:
            for name in self._names:
                if (worker, name) in self._pending:
                    continue
                self._pending.add((worker, name))
                task = Task(f"preload {name} {worker}", "load_model", name, worker=worker)
                self._dispatcher.request(task, partial(self._ended, worker, name))

    def _ended(self, worker: str, name: str, end: TaskEnd) -> None:
        self._pending.discard((worker, name))
        if isinstance(end, TaskDone):
            log.info("model.preloaded", model=name, worker=worker, seconds=round(end.seconds, 1))
            return
        failure = Failure.from_dict(end.failure)
        if failure.code == DeviceUnavailable.code:
            self._begun.add(worker)
        else:
            self._names = [other for other in self._names if other != name]
        why = failure.detail or failure.message
        log.warning("model.not_preloaded", model=name, code=failure.code, why=why)
