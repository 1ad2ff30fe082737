"""What nobody needs any more goes: old events, and folders that a crash left behind.

Nothing here is urgent and nothing may disturb: one small step at a time, and a folder that may
hold the only bytes of something is moved to `<data>/recovered`, never removed.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import structlog

from dna_pipeline.ledger import queue, store
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.ledger.times import utcnow
from dna_pipeline.reachability import Look, look_directly
from dna_pipeline.spec.config import Config

log = structlog.get_logger()

INTERVAL_S = 3600.0


class Housekeeper:
    """Cleans up at the daemon's start and every hour after."""

    def __init__(self, config: Config, ledger: Ledger, look: Look = look_directly) -> None:
        self._config = config
        self._look = look
        self._ledger = ledger
        self._next_at = 0.0
        self._round: Iterator[None] = iter(())

    def step(self, now: float) -> None:
        """Do a little of what is due; `now` is monotonic."""
        if now >= self._next_at:
            self._next_at = now + INTERVAL_S
            self._round = self._all()
        try:
            next(self._round, None)
        except OSError as error:
            # A generator that raised is at its end; the next round begins anew.
            log.warning("housekeeping.failed", why=str(error))

    def _all(self) -> Iterator[None]:
        yield from self._prune_events()
        staging = self._config.outbox / ".dna" / self._ledger.id
        yield from self._sweep(self._config.work, self._is_open, _remove)
        if not self._look(self._config.outbox).is_silent:
            yield from self._sweep(staging, self._is_open, _remove)
        yield from self._sweep(self._config.data / "claims", self._owns_files, self._part_with)

    def _prune_events(self) -> Iterator[None]:
        before = utcnow() - timedelta(days=self._config.retention.events_days)
        after: int | None = 0
        while after is not None:
            after = self._ledger.transact(lambda s, a=after: store.prune_events(s, before, a))
            yield

    def _sweep(
        self, root: Path, is_needed: Callable[[str], bool], remove: Callable[[Path], None]
    ) -> Iterator[None]:
        """Deal with the folders in `root` that nothing has needed for long enough."""
        grace_s = self._config.retention.work_hours * 3600
        for folder in _subfolders(root):
            if _age_s(folder) > grace_s and not is_needed(folder.name):
                remove(folder)
                log.info("leftover.removed", folder=str(folder))
                yield

    def _is_open(self, job_id: str) -> bool:
        return self._ledger.transact(lambda s: queue.is_open(s, job_id))

    def _owns_files(self, drop_id: str) -> bool:
        state = self._ledger.transact(lambda s: store.drop_state(s, drop_id))
        return state not in ("gone", None)

    def _part_with(self, folder: Path) -> None:
        """Remove a copy that its job is done with; lay one of which nothing is known aside."""
        if self._ledger.transact(lambda s: store.drop_state(s, folder.name)) == "gone":
            _remove(folder)
        else:
            lay_aside(self._config.data, folder)


def lay_aside(data: Path, folder: Path) -> Path:
    """Move a copy that nobody owns to where people find it and nothing removes it."""
    home = data / "recovered"
    home.mkdir(exist_ok=True)
    target = home / folder.name
    folder.rename(target)
    log.warning("copy.recovered", folder=str(target))
    return target


def _subfolders(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.is_symlink())


def _age_s(folder: Path) -> float:
    try:
        return time.time() - folder.stat().st_mtime
    except OSError:
        return 0.0


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
