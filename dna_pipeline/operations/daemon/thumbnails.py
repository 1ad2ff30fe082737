"""Thumbnails that somebody who looks at results waits for, made by the worker between jobs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import structlog

from dna_pipeline.base.errors import DeviceUnavailable
from dna_pipeline.base.periodic import Throttle
from dna_pipeline.base.reachability import Look, look_directly
from dna_pipeline.config.schema import Config
from dna_pipeline.execution.dispatcher import Dispatcher
from dna_pipeline.execution.protocol import Task, TaskDone, TaskEnd, ThumbnailOrder
from dna_pipeline.ledger import thumbnails
from dna_pipeline.ledger.queries import Queries
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.ledger.thumbnails import Wanted
from dna_pipeline.publish.sheet.entries import thumbnail_path
from dna_pipeline.publish.sheet.folder import SUFFIX

log = structlog.get_logger()

PORTION = 16
"""Thumbnails of one task: less than a second, for which a job waits."""
PAUSE_S = 20.0
"""Time between two portions while jobs run, so that they lose hardly any of theirs."""
RETRY_S = 60.0
"""Time until device or outbox are tried again that were not there."""


class Thumbnails:
    """Passes requests of the ledger to the worker, one portion at a time."""

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        queries: Queries,
        dispatcher: Dispatcher,
        look: Look = look_directly,
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._queries = queries
        self._dispatcher = dispatcher
        self._look = look
        self._pause = Throttle(PAUSE_S)
        self._retry = Throttle(RETRY_S)
        self._is_stale = True
        self._portion: Sequence[Wanted] = ()
        """Pictures at the worker."""
        self._number = 0
        self._clock = 0.0

    def ledger_changed(self) -> None:
        """Note that there may be new requests."""
        self._is_stale = True

    def step(self, now: float) -> bool:
        """Pass the next portion on; True if there is one, so that the dispatcher has to look."""
        self._clock = now
        if self._portion or not self._is_stale or not self._retry.is_due(now):
            return False
        if self._dispatcher.running and not self._pause.is_due(now):
            return False
        if not self._queries.has_thumbnails_to_make():
            self._is_stale = False
            return False
        if not self._look(self._config.outbox).is_there:
            self._retry.done(now)
            return False
        self._portion = self._ledger.transact(lambda s: thumbnails.take(s, PORTION))
        if not self._portion:
            return False
        self._pause.done(now)
        self._number += 1
        orders = tuple(self._order(picture) for picture in self._portion)
        task = Task(f"wanted thumbnails {self._number}", "make_thumbnails", thumbnails=orders)
        self._dispatcher.request(task, partial(self._ended, self._portion))
        return True

    def _order(self, picture: Wanted) -> ThumbnailOrder:
        target = thumbnail_path(self._config.thumbnails, picture.sha256, SUFFIX)
        return ThumbnailOrder(str(self._config.outbox / picture.place), str(target))

    def _ended(self, portion: Sequence[Wanted], end: TaskEnd) -> None:
        self._portion, self._is_stale = (), True
        hashes = [picture.sha256 for picture in portion]
        if isinstance(end, TaskDone):
            sources = set(end.facts.get("failed", ()))
            failed = [
                picture.sha256
                for picture in portion
                if str(self._config.outbox / picture.place) in sources
            ]
            made = [sha256 for sha256 in hashes if sha256 not in failed]
            self._ledger.transact(lambda s: thumbnails.finish(s, made, failed))
            log.info("thumbnails.made", made=len(made), failed=len(failed))
            return
        if end.failure.get("code") == DeviceUnavailable.code:
            self._ledger.transact(lambda s: thumbnails.put_back(s, hashes))
            self._retry.done(self._clock)
        log.warning("thumbnails.failed", pictures=len(portion), code=end.failure.get("code"))
