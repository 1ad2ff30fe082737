"""Reports of the daemon to the outside: messages to receivers, and metrics.

Nothing of it may end, hold or slow a job: messages and metrics have threads of their own, and an
error of them is logged.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dna_pipeline.ledger.report_queries import ReportQueries
from dna_pipeline.operations.daemon.metrics import MetricsFile
from dna_pipeline.operations.daemon.notifications.notifier import Notifier
from dna_pipeline.operations.daemon.queue_events import QueueEvents

if TYPE_CHECKING:
    from collections.abc import Callable

    from dna_pipeline.base.reachability import Look
    from dna_pipeline.config.schema import Config
    from dna_pipeline.ledger.store import Ledger

FINISH_S = 20.0
"""Time in which a `run` sends its last messages; the next daemon sends the others."""


class Reporting:
    """Events of the queue, messages and metrics of one run of the daemon.

    Args:
        started: start of the daemon.
        is_quiet: says whether intake has nothing that will become a job soon.
    """

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        started: datetime,
        is_quiet: Callable[[], bool],
        look: Look,
    ) -> None:
        self._ledger = ledger
        self._started = started
        self._look = look
        self._queries = ReportQueries(ledger.path)
        self._events = QueueEvents(ledger, self._queries, is_quiet)
        self._notifier = Notifier(ledger, config.outbox, look)
        self._metrics: MetricsFile | None = None
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Take over receivers and the file of metrics; what is as before goes on undisturbed."""
        self._notifier.configure(config.receivers)
        if config.metrics != (self._metrics and self._metrics.path):
            self._close_metrics()
            self._metrics = self._open_metrics(config.metrics)

    def _open_metrics(self, path: Path | None) -> MetricsFile | None:
        if path is None:
            return None
        metrics = MetricsFile(path, self._ledger.path, self._started, self._look)
        metrics.start()
        return metrics

    def _close_metrics(self) -> None:
        if self._metrics is not None:
            self._metrics.close()
            self._metrics = None

    def ledger_changed(self) -> None:
        """Note that something was committed to the ledger."""
        self._events.ledger_changed()
        self._notifier.ledger_changed()

    def step(self, now: float) -> None:
        """Record events of the queue if it is time; brief, as the daemon's loop waits."""
        self._events.step(now)

    def observe(self, status: dict[str, Any]) -> None:
        """Take the newest content of `status.json`."""
        if self._metrics is not None:
            self._metrics.observe(status)

    def finish(self) -> None:
        """Record and send what there is, as a `run` ends; waits `FINISH_S` at most."""
        self._events.finish()
        self._notifier.finish(FINISH_S)

    def close(self) -> bool:
        """End all threads; True if one of them still waits for its receiver."""
        is_stuck = self._notifier.close()
        self._close_metrics()
        self._queries.close()
        return is_stuck
