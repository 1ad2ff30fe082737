"""The file of metrics for node_exporter's textfile collector: `metrics:` in pipeline.yaml.

It is written on a thread of its own, so that neither a large ledger nor a slow disk delays a job.
Counters begin at 0 with each daemon, as those of every program do.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import structlog

from dna_pipeline import __version__
from dna_pipeline.base.errors import ConfigError
from dna_pipeline.base.files import write_bytes
from dna_pipeline.base.periodic import Throttle
from dna_pipeline.base.reachability import Look, look_directly
from dna_pipeline.base.times import utcnow
from dna_pipeline.ledger.report_queries import ReportQueries
from dna_pipeline.ledger.states import ENDS, OPEN
from dna_pipeline.operations.daemon.metrics_text import Metric, to_text

log = structlog.get_logger()

INTERVAL_S = 15.0
COST_SHARE = 50
"""Factor that limits the share of time that a large ledger may take."""

PAGE = 1000
"""Number of events or stage runs that are read at a time."""

CLOSE_S = 1.0

Record = dict[str, Any]


@dataclass(slots=True)
class Totals:
    """Numbers of what has ended since the daemon started.

    Attributes:
        ended: number of ended jobs by status, inbox and pipeline.
        stages: number and seconds of finished stages by type and device.
        event, run: numbers of the last event and the last stage run that were counted.
    """

    event: int
    run: int
    ended: Counter[tuple[str, str, str]] = field(default_factory=Counter[tuple[str, str, str]])
    stages: dict[tuple[str, str], tuple[int, float]] = field(
        default_factory=dict[tuple[str, str], tuple[int, float]]
    )

    def count(self, queries: ReportQueries) -> None:
        """Count what is new in the ledger."""
        while events := queries.events_with_jobs(ENDS, self.event, PAGE):
            for row in events:
                self.ended[row["kind"], row["inbox"] or "", row["pipeline"] or ""] += 1
            self.event = events[-1]["id"]
        for row in queries.stage_runs(self.run, PAGE):
            key = (row["type"], row["device"])
            number, seconds = self.stages.get(key, (0, 0.0))
            self.stages[key] = (number + 1, seconds + row["seconds"])
            self.run = row["id"]


class MetricsFile:
    """Replaces the file every 15 seconds, or more seldom where reading the ledger takes long.

    Args:
        ledger: path of the ledger.
        started: start of the daemon.
    """

    def __init__(
        self, path: Path, ledger: Path, started: datetime, look: Look = look_directly
    ) -> None:
        self.path = path
        self._ledger = ledger
        self._started = started
        self._look = look
        self._status: Record = {}
        self._problem = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def observe(self, status: Record) -> None:
        """Take the newest content of `status.json`. Returns at once."""
        self._status = status

    def close(self) -> None:
        """End the thread; the file then says that no daemon writes it."""
        self._stop.set()
        self._thread.join(CLOSE_S)
        if not self._thread.is_alive():
            self._put(to_text(self._daemon_metrics(is_up=False)))

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with closing(ReportQueries(self._ledger)) as queries:
                    self._work(queries)
            except ConfigError as error:
                self._report(str(error))
            except Exception:
                # Nothing about metrics may end the daemon.
                log.exception("metrics.failed")
            self._stop.wait(INTERVAL_S)

    def _work(self, queries: ReportQueries) -> None:
        totals = Totals(queries.last_event(), queries.last_stage_run())
        throttle = Throttle(INTERVAL_S, COST_SHARE)
        while not self._stop.is_set():
            started = time.monotonic()
            totals.count(queries)
            self._put(to_text(self._metrics(queries, totals)))
            throttle.done(started, time.monotonic() - started)
            self._stop.wait(max(throttle.next_at - time.monotonic(), 0.0))

    def _put(self, text: str) -> None:
        """Replace the file by one rename. A problem is logged once, until it has gone."""
        if (reach := self._look(self.path.parent)).is_silent:
            self._report(reach.why)
            return
        try:
            write_bytes(self.path, text.encode())
            # node_exporter is another user.
            self.path.chmod(0o644)
        except OSError as error:
            self._report(error.strerror or str(error))
        else:
            self._problem = ""

    def _report(self, why: str) -> None:
        if why != self._problem:
            log.warning("metrics.not_written", path=str(self.path), why=why)
        self._problem = why

    def _metrics(self, queries: ReportQueries, totals: Totals) -> Iterator[Metric]:
        yield from self._daemon_metrics(is_up=True)
        yield from queue_metrics(queries)
        yield from total_metrics(totals, since="the daemon was started")
        yield from _device_metrics(self._status.get("workers", ()))
        yield from receiver_metrics(queries)

    def _daemon_metrics(self, *, is_up: bool) -> Iterator[Metric]:
        about = "1 while a daemon runs, 0 after it was stopped."
        yield gauge("up", about).add(int(is_up), version=__version__)
        start = gauge("start_timestamp_seconds", "Unix time at which the daemon was started.")
        yield start.add(self._started.timestamp())
        written = gauge("written_timestamp_seconds", "Unix time at which this file was written.")
        yield written.add(round(time.time(), 3))
        if (number := self._status.get("waiting_total")) is not None:
            yield gauge("waiting_files", "Files in inboxes that are not taken in yet.").add(number)


def queue_metrics(queries: ReportQueries) -> Iterator[Metric]:
    """Jobs by status, the length of the queue, and holds."""
    jobs = gauge("jobs", "Jobs in the ledger by status, inbox and pipeline.")
    rows = queries.counts_by_pipeline()
    for status, inbox, pipeline, number in rows:
        jobs.add(number, status=status, inbox=inbox, pipeline=pipeline)
    yield jobs
    queued = sum(number for status, _, _, number in rows if status == OPEN[0])
    yield gauge("queue_length", "Jobs that have not started.").add(queued)
    created = queries.oldest_queued()
    age_s = 0.0 if created is None else max((utcnow() - created).total_seconds(), 0.0)
    about = "Age of the oldest job that has not started; 0 if there is none."
    yield gauge("queue_oldest_seconds", about).add(round(age_s, 3))
    held: Counter[str] = Counter()
    for hold in queries.holds():
        held[hold["code"]] += queued if hold["jobs"] is None else hold["jobs"]
    holds = gauge("held_jobs", "Jobs that wait for more than their turn, by hold.")
    for code, number in sorted(held.items()):
        holds.add(number, hold=code)
    yield holds


def total_metrics(totals: Totals, since: str) -> Iterator[Metric]:
    """Numbers of what has ended; `since` is a clause that says from when on."""
    about = f"Jobs that ended since {since}, by outcome."
    ended = Metric("dna_pipeline_jobs_ended_total", "counter", about)
    for (status, inbox, pipeline), number in sorted(totals.ended.items()):
        ended.add(number, status=status, inbox=inbox, pipeline=pipeline)
    yield ended
    about = f"Time of stages that finished since {since}."
    stages = Metric("dna_pipeline_stage_seconds", "summary", about)
    for (kind, device), (number, seconds) in sorted(totals.stages.items()):
        stages.add(round(seconds, 3), "_sum", stage=kind, device=device)
        stages.add(number, "_count", stage=kind, device=device)
    yield stages


def receiver_metrics(queries: ReportQueries) -> Iterator[Metric]:
    """Messages that receivers of notifications lack."""
    behind = gauge("receiver_behind", "Messages that a receiver of notifications lacks.")
    for row in queries.receivers():
        behind.add(row["behind"], receiver=row["name"])
    yield behind


def _device_metrics(workers: Iterable[Record]) -> Iterator[Metric]:
    state = gauge("worker_state", "1 for the state that a worker is in, by worker and device.")
    used = gauge("device_memory_used_bytes", "Memory in use on a worker's device.")
    size = gauge("device_memory_size_bytes", "Memory that a worker's device has.")
    for worker in workers:
        labels = {"worker": str(worker["worker"]), "device": str(worker.get("device"))}
        if "state" in worker:
            state.add(1, **labels, state=worker["state"])
        if worker.get("memory_bytes") is not None:
            used.add(worker["memory_bytes"], **labels)
            size.add(worker["memory_total_bytes"], **labels)
    yield state
    yield used
    yield size


def gauge(name: str, about: str) -> Metric:
    """A gauge of this program, without samples yet."""
    return Metric(f"dna_pipeline_{name}", "gauge", about)
