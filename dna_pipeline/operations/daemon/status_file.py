"""`outbox/status.json`: what the daemon is at, for people's tools and for `dna-pipeline status`."""

from __future__ import annotations

import json
import os
import platform
import time
from typing import Any

import structlog

from dna_pipeline.base.files import write_bytes
from dna_pipeline.base.reachability import Look, look_directly
from dna_pipeline.base.times import format_time, utcnow
from dna_pipeline.config.schema import Config
from dna_pipeline.execution.dispatcher import Dispatcher
from dna_pipeline.execution.estimate import Estimator, Left
from dna_pipeline.intake.service import Gate
from dna_pipeline.ledger.queries import Views
from dna_pipeline.operations.ownership import find_leftovers
from dna_pipeline.operations.status import (
    batch_entry,
    file_of,
    queue_counts,
    queued_entry,
    recent_entry,
)

log = structlog.get_logger()

INTERVAL_S = 1.0
IDLE_INTERVAL_S = 10.0
COST_SHARE = 20
"""What takes t seconds to find out is not asked for again within so many times t."""

COUNTS_SHARE = 50
"""The same of what is asked of the ledger."""

LEFT_COST_SHARE = 200
LEFT_INTERVAL_S = 10.0
LEFTOVERS_INTERVAL_S = 30.0
WAITING_SHOWN = 200
QUEUED_SHOWN = 50


class StatusFile:
    """Writes the file, at most once a second and only when something changed."""

    def __init__(
        self,
        config: Config,
        views: Views,
        dispatcher: Dispatcher,
        gate: Gate,
        look: Look = look_directly,
    ) -> None:
        self._config = config
        self._outbox = config.outbox
        self._path = file_of(config.outbox)
        self._look = look
        self._views = views
        self._estimator = Estimator(views)
        self._left = Left(0, None)
        self._left_at = -float("inf")
        self._is_left_stale = True
        self._dispatcher = dispatcher
        self._gate = gate
        self._daemon = {
            "pid": os.getpid(), "host": platform.node(), "since": format_time(utcnow()),
        }  # fmt: skip
        self._places = {
            "inboxes": [
                {"name": inbox.name, "path": str(inbox.path), "pipeline": inbox.pipeline}
                for inbox in config.inboxes
            ],
            "pipelines": list(config.pipelines),
        }
        self._next_at = 0.0
        self._idle_since = -float("inf")
        self._last: dict[str, Any] = {}
        self._counts: dict[str, Any] = {}
        self._counts_at = 0.0
        self._leftovers: dict[str, Any] = {}
        self._leftovers_at = -float("inf")
        self._is_stale = True

    def ledger_changed(self) -> None:
        """What the ledger told last may be true no more."""
        self._is_stale = self._is_left_stale = True

    def write(self, now: float) -> None:
        """Replace the file if it is time."""
        if now < self._next_at:
            return
        if self._is_stale and now >= self._counts_at:
            self._count(now)
        started = time.monotonic()
        facts = self._facts()
        self._next_at = now + max(INTERVAL_S, COST_SHARE * (time.monotonic() - started))
        if facts == self._last and now < self._idle_since + IDLE_INTERVAL_S:
            return
        self._idle_since = now
        self._last = facts
        self._put({"written_at": format_time(utcnow()), **facts})

    def close(self) -> None:
        """Say that no daemon runs."""
        self._count(time.monotonic())
        self._put({"written_at": format_time(utcnow()), **self._facts(), "daemon": None})

    def _count(self, now: float) -> None:
        """Ask the ledger: a tenth of a second if it holds a million jobs."""
        started = time.monotonic()
        self._counts = {
            "queue": queue_counts(self._views),
            "queued": [
                queued_entry(job) for job in self._views.jobs(status="queued", limit=QUEUED_SHOWN)
            ],
            "batches": [batch_entry(batch) for batch in self._views.batches()],
            "holds": self._views.holds(),
            "recent": [recent_entry(job) for job in self._views.recent()],
        }
        self._is_stale = False
        self._counts_at = now + COUNTS_SHARE * (time.monotonic() - started)

    def _facts(self) -> dict[str, Any]:
        waiting = self._gate.waiting()
        return {
            "daemon": self._daemon | (self._dispatcher.device or {"device": None}),
            **self._places,
            **self._counts,
            **self._time_left(),
            **self._look_for_leftovers(),
            "waiting": waiting[:WAITING_SHOWN],
            "waiting_total": len(waiting),
        }

    def _look_for_leftovers(self) -> dict[str, Any]:
        """Facts of folders that nothing is done with: they change seldom, so seldom looked for."""
        started = time.monotonic()
        if started >= self._leftovers_at:
            self._leftovers = find_leftovers(self._config, self._look).facts()
            cost_s = time.monotonic() - started
            self._leftovers_at = started + max(LEFTOVERS_INTERVAL_S, LEFT_COST_SHARE * cost_s)
        return self._leftovers

    def _time_left(self) -> dict[str, Any]:
        started = time.monotonic()
        running = self._dispatcher.running
        if started >= self._left_at and (self._is_left_stale or running is not None):
            self._is_left_stale = False
            self._estimator.refresh()
            self._left = self._estimator.queue()
            cost_s = time.monotonic() - started
            # A long queue's estimate changes little in a moment, and costs the most.
            self._left_at = started + min(LEFT_COST_SHARE * cost_s, LEFT_INTERVAL_S)
        if running is None:
            return {"running": None, **self._left.facts()}
        facts = running.facts(self._estimator.job(running.job))
        return {"running": facts, **self._left.facts(True, facts["eta_s"])}

    def _put(self, facts: dict[str, Any]) -> None:
        if self._look(self._outbox).is_silent:
            return  # results that wait for it say so, in the log and in the ledger
        try:
            write_bytes(self._path, json.dumps(facts, indent=1, default=str).encode())
        except OSError as error:
            log.warning("status.not_written", why=error.strerror)
