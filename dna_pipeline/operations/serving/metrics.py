"""Metrics of a server: what the ledger knows, and whether a daemon runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import datetime

from dna_pipeline import __version__
from dna_pipeline.base.errors import ConfigError
from dna_pipeline.config.schema import Config
from dna_pipeline.ledger.health import FileId, file_id
from dna_pipeline.ledger.report_queries import ReportQueries
from dna_pipeline.operations.daemon.lock import holder, is_held
from dna_pipeline.operations.daemon.metrics import (
    Totals,
    gauge,
    queue_metrics,
    receiver_metrics,
    total_metrics,
)
from dna_pipeline.operations.daemon.metrics_text import Metric, to_text

LEAST_AGE_S = 1.0
"""Age up to which a text is given again: all jobs are read for it."""
COST_SHARE = 20
"""Factor that limits the share of time that a large ledger may take."""


class LedgerMetrics:
    """Makes the text of metrics. Threads may share it. Counters begin at 0 with the first text."""

    def __init__(self, config: Config, now: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._now = now
        self._lock = threading.Lock()
        self._text = ""
        self._fresh_until = 0.0
        self._totals: Totals | None = None
        self._file: FileId | None = None

    def text(self) -> str:
        """The metrics of now, or of a moment ago."""
        with self._lock:
            began = self._now()
            if not self._text or began >= self._fresh_until:
                self._text = to_text(self._metrics())
                ended = self._now()
                self._fresh_until = ended + max(LEAST_AGE_S, (ended - began) * COST_SHARE)
            return self._text

    def _metrics(self) -> Iterator[Metric]:
        is_up = is_held(self._config.data)
        yield gauge("up", "1 while a daemon runs.").add(int(is_up), version=__version__)
        if is_up and (started := self._daemon_start()) is not None:
            about = "Unix time at which the daemon was started."
            yield gauge("start_timestamp_seconds", about).add(started.timestamp())
        if file_id(self._config.ledger_path) is None:
            return  # no ledger yet
        with suppress(ConfigError), closing(ReportQueries(self._config.ledger_path)) as queries:
            yield from queue_metrics(queries)
            yield from total_metrics(self._count(queries), since="the server was started")
            yield from receiver_metrics(queries)

    def _daemon_start(self) -> datetime | None:
        with suppress(KeyError, TypeError, ValueError):
            return datetime.fromisoformat((holder(self._config.data) or {})["since"])
        return None

    def _count(self, queries: ReportQueries) -> Totals:
        """Count what has ended since the last text; from 0 again in another ledger."""
        if (file := file_id(self._config.ledger_path)) != self._file or self._totals is None:
            self._totals = Totals(queries.last_event(), queries.last_stage_run())
            self._file = file
        self._totals.count(queries)
        return self._totals
