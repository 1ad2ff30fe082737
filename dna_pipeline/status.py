"""`outbox/status.json`: what the daemon is at, for people's tools and for `dna-pipeline status`."""

from __future__ import annotations

import json
import os
import socket
import time
from typing import Any

import structlog

from dna_pipeline.artifact import write_bytes
from dna_pipeline.dispatch import Dispatcher
from dna_pipeline.intake.gate import Gate
from dna_pipeline.ledger.times import format_time, utcnow
from dna_pipeline.ledger.views import Views
from dna_pipeline.snapshot import file_of, queue_counts, queued_entry, recent_entry
from dna_pipeline.spec.config import Config

log = structlog.get_logger()

INTERVAL_S = 1.0
IDLE_INTERVAL_S = 10.0
COST_SHARE = 20
WAITING_SHOWN = 200
QUEUED_SHOWN = 50


class StatusFile:
    """Writes the file, at most once a second and only when something changed."""

    def __init__(self, config: Config, views: Views, dispatcher: Dispatcher, gate: Gate) -> None:
        self._path = file_of(config.outbox)
        self._views = views
        self._dispatcher = dispatcher
        self._gate = gate
        self._daemon = {
            "pid": os.getpid(), "host": socket.gethostname(), "since": format_time(utcnow()),
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

    def write(self, now: float) -> None:
        """Replace the file if it is time."""
        if now < self._next_at:
            return
        started = time.monotonic()
        facts = self._facts()
        # Counting a million jobs takes a while; it must not take the loop's time.
        self._next_at = now + max(INTERVAL_S, COST_SHARE * (time.monotonic() - started))
        if facts == self._last and now < self._idle_since + IDLE_INTERVAL_S:
            return
        self._idle_since = now
        self._last = facts
        self._put({"written_at": format_time(utcnow()), **facts})

    def close(self) -> None:
        """Say that no daemon runs."""
        self._put({"written_at": format_time(utcnow()), **self._facts(), "daemon": None})

    def _facts(self) -> dict[str, Any]:
        running = self._dispatcher.running
        waiting = self._gate.waiting()
        return {
            "daemon": self._daemon | (self._dispatcher.device or {"device": None}),
            **self._places,
            "queue": queue_counts(self._views),
            "running": None if running is None else running.facts(),
            "queued": [
                queued_entry(job) for job in self._views.jobs(status="queued", limit=QUEUED_SHOWN)
            ],
            "holds": self._views.holds(),
            "waiting": waiting[:WAITING_SHOWN],
            "waiting_total": len(waiting),
            "recent": [recent_entry(job) for job in self._views.recent()],
        }

    def _put(self, facts: dict[str, Any]) -> None:
        try:
            write_bytes(self._path, json.dumps(facts, indent=1, default=str).encode())
        except OSError as error:
            log.warning("status.not_written", why=error.strerror)
