"""Limits of the results that are kept for later jobs: by age, by size, and by the disk's space."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import structlog

from dna_pipeline.base.periodic import PeriodicTask, Throttle
from dna_pipeline.config.schema import Config
from dna_pipeline.execution.result_store import KeptEntry, ResultStore

log = structlog.get_logger()

INTERVAL_S = 60.0
COST_SHARE = 100.0
"""A round takes at most a hundredth of the time."""
LONGEST_S = 3600.0
"""Time after which a round begins although nothing was kept since the last one, and the disk has
enough space."""
TEMPORARY_S = 3600.0
"""Age from which a half-made entry is left over: a worker takes seconds for one."""
PORTION = 100
"""Entries of one step."""


class KeptResults:
    """Removes the results that were not used for longest, one portion at each step."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._store = ResultStore(config.kept_results)
        self._task = PeriodicTask(self.round, Throttle(INTERVAL_S, COST_SHARE, longest_s=LONGEST_S))
        self._change: int | None = None
        """Time of the last change that the last round saw."""
        self._unchanged_until = 0.0

    def at_start(self) -> None:
        """Remove what a worker that was killed has left. No worker of this daemon runs yet."""
        self._store.remove_temporaries()

    def step(self, now: float) -> None:
        """Do one small step of a round if any is due: none of it is urgent."""
        try:
            self._task.step(now)
        except OSError as error:
            log.warning("cleanup.failed", why=str(error))

    def round(self) -> Iterator[None]:
        """Remove what is beyond the limits, a few entries at each step."""
        change = _changed_at(self._config.kept_results)
        if change is None or (change == self._change and self._may_wait()):
            return
        self._store.remove_temporaries(TEMPORARY_S)
        entries: list[KeptEntry] = []
        for entry in self._store.entries():
            entries.append(entry)
            if len(entries) % PORTION == 0:
                yield
        removed = 0
        for entry in self._beyond_limits(entries):
            self._store.remove(entry.path)
            removed += 1
            yield
        for number, path in enumerate(self._store.requests() if removed else ()):
            self._store.remove_note_if_stale(path)
            if number % PORTION == 0:
                yield
        if removed:
            log.info("results.removed", results=removed)
        self._change = change if not removed else _changed_at(self._config.kept_results)
        self._unchanged_until = time.time() + LONGEST_S

    def _may_wait(self) -> bool:
        """True if an unchanged store needs no round yet. Others may fill the disk meanwhile."""
        return time.time() < self._unchanged_until and not self._store.free_bytes_lacking()

    def _beyond_limits(self, entries: list[KeptEntry]) -> Iterator[KeptEntry]:
        """Give the entries to remove, those that were not used for longest first."""
        retention = self._config.retention
        oldest = time.time() - retention.reuse_days * 86400
        surplus = sum(entry.bytes for entry in entries) - retention.reuse_bytes
        for entry in sorted(entries, key=lambda entry: entry.used):
            if entry.used >= oldest and surplus <= 0 and not self._store.free_bytes_lacking():
                return
            surplus -= entry.bytes
            yield entry


def _changed_at(folder: Path) -> int | None:
    """Time of the last entry that was kept or removed, which both pass through the folder; None if
    there is no folder."""
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return None
