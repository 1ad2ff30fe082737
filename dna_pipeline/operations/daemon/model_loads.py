"""Loading of models that somebody asked for by a request in the ledger."""

from __future__ import annotations

from functools import partial

import structlog

from dna_pipeline.base.errors import Failure
from dna_pipeline.execution.dispatcher import Dispatcher
from dna_pipeline.execution.protocol import Task, TaskDone, TaskEnd
from dna_pipeline.ledger import model_loads
from dna_pipeline.ledger.engine import Transaction
from dna_pipeline.ledger.queries import Queries
from dna_pipeline.ledger.store import Ledger

log = structlog.get_logger()


class ModelLoads:
    """Passes new requests to the dispatcher, before its next job, and records how they end.

    A request is given to a worker once: what brings worker or daemon down does not do so again.
    """

    def __init__(self, ledger: Ledger, queries: Queries, dispatcher: Dispatcher) -> None:
        self._ledger = ledger
        self._queries = queries
        self._dispatcher = dispatcher

    def recover(self) -> None:
        """Fail the requests that the last daemon left."""
        self._ledger.transact(model_loads.recover)

    def step(self) -> None:
        """Pass new requests on. Called after each change of the ledger, so it only reads if there
        are none."""
        if not self._queries.has_requested_loads():
            return
        for number, model in self._ledger.transact(model_loads.take):
            task = Task(f"load {number}", "load_model", model)
            self._dispatcher.request(task, partial(self._ended, number, model))

    def _ended(self, number: int, model: str, end: TaskEnd) -> None:
        self._ledger.transact(partial(self._record, number=number, end=end))
        if isinstance(end, TaskDone):
            log.info("model.loaded", model=model, seconds=round(end.seconds, 1))
        else:
            log.warning("model.not_loaded", model=model, code=end.failure["code"])

    def _record(self, session: Transaction, number: int, end: TaskEnd) -> None:
        if isinstance(end, TaskDone):
            device = self._dispatcher.workers.get(end.worker, {}).get("device")
            model_loads.finish(session, number, device, end.seconds)
        else:
            model_loads.fail(session, number, Failure.from_dict(end.failure))
