"""`outbox/status.json`: state of daemon and queue, for people's tools and `dna-pipeline status`."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import structlog

from dna_pipeline.base.files import write_bytes
from dna_pipeline.base.periodic import Throttle
from dna_pipeline.base.reachability import Look, look_directly
from dna_pipeline.base.times import format_time, utcnow
from dna_pipeline.config.schema import Config
from dna_pipeline.execution.dispatcher import Dispatcher
from dna_pipeline.execution.estimate import Estimator, QueueEstimate
from dna_pipeline.intake.service import IntakeService
from dna_pipeline.ledger.queries import Queries
from dna_pipeline.operations.inbox_progress import InboxProgress
from dna_pipeline.operations.ownership import find_leftovers
from dna_pipeline.operations.serving import addresses
from dna_pipeline.operations.status import (
    file_of,
    ledger_fields,
    progress_entries,
    queued_entry,
)

log = structlog.get_logger()

Observer = Callable[[dict[str, Any]], None]

INTERVAL_S = 1.0
IDLE_INTERVAL_S = 10.0
COST_SHARE = 20
COUNTS_SHARE = 50
ESTIMATE_COST_SHARE = 200
ESTIMATE_INTERVAL_S = 10.0
LEFTOVERS_INTERVAL_S = 30.0
RATE_INTERVAL_S = 10.0
PAGE_INTERVAL_S = 5.0
WAITING_SHOWN = 200
QUEUED_SHOWN = 50


class StatusFile:
    """Writes the file, at most once a second and only when something changed.

    Args:
        observe: called with the content each time that it was put together, from the daemon's main
            thread; it must return at once, and change nothing.
        config_state: gives the field `config`.
        since: start of the daemon; now by default.
        server_state: gives the field `server`.
        loading: gives the field `loading`.
    """

    def __init__(
        self,
        config: Config,
        queries: Queries,
        dispatcher: Dispatcher,
        intake: IntakeService,
        look: Look = look_directly,
        observe: Observer = lambda _: None,
        config_state: Callable[[], dict[str, Any] | None] = lambda: None,
        since: datetime | None = None,
        server_state: Callable[[], dict[str, Any] | None] = lambda: None,
        loading: Callable[[], dict[str, Any] | None] = lambda: None,
    ) -> None:
        self._config = config
        self._config_state = config_state
        self._server_state = server_state
        self._loading = loading
        self._observe = observe
        self._path = file_of(config.outbox)
        self._look = look
        self._queries = queries
        self._estimator = Estimator(queries, config)
        self._estimate = QueueEstimate(0, None)
        self._is_estimate_stale = True
        self._dispatcher = dispatcher
        self._intake = intake
        self._daemon = {
            "pid": os.getpid(), "host": platform.node(), "since": format_time(since or utcnow()),
        }  # fmt: skip
        self._places = {
            "inboxes": [
                {"name": inbox.name, "path": str(inbox.path), "pipeline": inbox.pipeline}
                for inbox in config.inboxes
            ],
            "pipelines": list(config.pipelines),
        }
        self._writing = Throttle(INTERVAL_S, COST_SHARE)
        self._counting = Throttle(0.0, COUNTS_SHARE)
        self._looking = Throttle(LEFTOVERS_INTERVAL_S, ESTIMATE_COST_SHARE)
        # A long queue costs the most time to estimate and its estimate changes slowly.
        self._estimating = Throttle(0.0, ESTIMATE_COST_SHARE, longest_s=ESTIMATE_INTERVAL_S)
        # The rate falls while nothing happens, so the ledger's changes do not tell when to count.
        self._rating = Throttle(RATE_INTERVAL_S, COUNTS_SHARE)
        self._rate = 0
        self._finding = Throttle(PAGE_INTERVAL_S, COUNTS_SHARE)
        self._page: str | None = None
        self._progress = InboxProgress()
        self._idle = Throttle(IDLE_INTERVAL_S)
        self._last: dict[str, Any] = {}
        self._counts: dict[str, Any] = {}
        self._done: dict[str, dict[str, int]] = {}
        self._leftovers: dict[str, Any] = {}
        self._is_stale = True

    def ledger_changed(self) -> None:
        """Note that counts and estimate may be out of date."""
        self._is_stale = self._is_estimate_stale = True

    def step(self, now: float) -> None:
        """Replace the file if it is time."""
        if not self._writing.is_due(now):
            return
        if self._is_stale and self._counting.is_due(now):
            self._count(now)
        started = time.monotonic()
        content = self._content()
        self._observe(content)
        self._writing.done(now, time.monotonic() - started)
        if content == self._last and not self._idle.is_due(now):
            return
        self._idle.done(now)
        self._last = content
        self._put({"written_at": format_time(utcnow()), **content})

    def close(self) -> None:
        """Write the file a last time, without a daemon."""
        self._count(time.monotonic())
        content = self._content() | {"daemon": None, "server": None, "page": None, "loading": None}
        self._observe(content)
        self._put({"written_at": format_time(utcnow()), **content})

    def _count(self, now: float) -> None:
        """Query the ledger; takes a tenth of a second with a million jobs."""
        started = time.monotonic()
        waiting = self._queries.jobs(status="queued", limit=QUEUED_SHOWN)
        self._counts = {
            **ledger_fields(self._queries),
            "queued": [queued_entry(job) for job in waiting],
        }
        names = [inbox.name for inbox in self._config.inboxes]
        self._done = self._progress.step(self._counts["queue"], names)
        self._is_stale = False
        self._counting.done(now, time.monotonic() - started)

    def _content(self) -> dict[str, Any]:
        waiting = self._intake.waiting()
        return {
            "daemon": self._daemon | self._first_device(),
            **self._places,
            **self._counts,
            **self._time_left(),
            "jobs_per_hour": self._jobs_per_hour(),
            **self._look_for_leftovers(),
            "config": self._config_state(),
            "server": self._server_state(),
            "page": self._find_page(),
            "loading": self._loading(),
            "waiting": waiting[:WAITING_SHOWN],
            "waiting_total": len(waiting),
        }

    def _first_device(self) -> dict[str, Any]:
        """The facts about the device of the first worker."""
        facts: dict[str, Any] = next(iter(self._dispatcher.workers.values()), {"device": None})
        return {name: value for name, value in facts.items() if name != "models"}

    def _look_for_leftovers(self) -> dict[str, Any]:
        """Fields about leftovers. They change seldom, so they are looked for seldom."""
        started = time.monotonic()
        if self._looking.is_due(started):
            self._leftovers = find_leftovers(self._config, self._look).to_dict()
            self._looking.done(started, time.monotonic() - started)
        return self._leftovers

    def _find_page(self) -> str | None:
        """Address of a server's page, whoever started the server; None if none runs."""
        started = time.monotonic()
        if self._finding.is_due(started):
            self._page = addresses.newest_url(self._config.data)
            self._finding.done(started, time.monotonic() - started)
        return self._page

    def _time_left(self) -> dict[str, Any]:
        started = time.monotonic()
        running = self._dispatcher.running
        if self._estimating.is_due(started) and (self._is_estimate_stale or running):
            self._is_estimate_stale = False
            self._estimator.refresh()
            self._estimate = self._estimator.queue()
            self._estimating.done(started, time.monotonic() - started)
        jobs = [job.to_dict(self._estimator.job(job.job)) for job in running.values()]
        first = jobs[0] if jobs else None
        workers = self._dispatcher.describe_workers(jobs)
        able = max(sum(worker["problem"] is None for worker in workers), 1)
        estimate = ends = self._estimate.shared(able)
        running_s = _shared_s([job["eta_s"] for job in jobs], able)
        if first is not None:
            ends = ends.behind(first["inbox"], running_s)
        batches: list[dict[str, Any]] = self._counts.get("batches", [])
        return {
            "progress": progress_entries(self._done, ends.inbox_s),
            "batches": [b | {"eta_s": ends.batch_s.get(b["batch"])} for b in batches],
            "running": first,
            "running_jobs": jobs,
            "workers": workers,
            "delayed": self._dispatcher.delayed(),
            **estimate.to_dict(bool(jobs), running_s),
        }

    def _jobs_per_hour(self) -> int:
        started = time.monotonic()
        if self._rating.is_due(started):
            self._rate = self._queries.finished_within(1)
            self._rating.done(started, time.monotonic() - started)
        return self._rate

    def _put(self, content: dict[str, Any]) -> None:
        if self._look(self._config.outbox).is_silent:
            return  # a result that waits for the outbox says so in the log and in the ledger
        try:
            write_bytes(self._path, json.dumps(content, indent=1, default=str).encode())
        except OSError as error:
            log.warning("status.not_written", why=error.strerror)


def _shared_s(remaining_s: Sequence[float | None], workers: int) -> float | None:
    """Seconds of running jobs, shared by the workers that do these and further ones; None if one
    is unknown."""
    durations = [seconds for seconds in remaining_s if seconds is not None]
    if len(durations) < len(remaining_s):
        return None
    return round(sum(durations) / workers, 1)
