"""Removal of old events, and of folders that a crash left behind, while the daemon runs.

None of this is urgent, so it is done in small steps that do not delay the jobs. `cleanup.py`
decides what happens to a folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import structlog

from dna_pipeline.base.times import utcnow
from dna_pipeline.config.schema import Config
from dna_pipeline.ledger import store
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.operations.daemon.cleanup import Cleanup

log = structlog.get_logger()

INTERVAL_S = 3600.0


class Housekeeper:
    """Cleans up when the daemon starts and every hour after that."""

    def __init__(self, config: Config, ledger: Ledger, cleanup: Cleanup) -> None:
        self._config = config
        self._ledger = ledger
        self._cleanup = cleanup
        self._next_at = 0.0
        self._round: Iterator[None] = iter(())

    def step(self, now: float) -> None:
        """Do one small step if any is due; `now` is monotonic."""
        if now >= self._next_at:
            self._next_at = now + INTERVAL_S
            self._round = self._all()
        try:
            next(self._round, None)
        except OSError as error:
            # A generator that raised has ended, so the next round starts with a new one.
            log.warning("housekeeping.failed", why=str(error))

    def _all(self) -> Iterator[None]:
        yield from self._prune_events()
        yield from self._cleanup.steps(self._config.retention.work_hours * 3600)

    def _prune_events(self) -> Iterator[None]:
        before = utcnow() - timedelta(days=self._config.retention.events_days)
        after: int | None = 0
        while after is not None:
            after = self._ledger.transact(lambda s, a=after: store.prune_events(s, before, a))
            yield
