"""Picks the next job that may start. Holds queued jobs while a cause outside of them keeps them
from running, and releases them afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from dna_pipeline.base.errors import (
    ConfigError,
    DeviceUnavailable,
    DiskFull,
    Hours,
    InboxUnavailable,
    Paused,
    WeightsMissing,
)
from dna_pipeline.base.reachability import Look, look_directly
from dna_pipeline.base.times import utcnow
from dna_pipeline.config.schema import Config
from dna_pipeline.execution import disk_space
from dna_pipeline.execution.source_holds import Obstacle, SourceHolds
from dna_pipeline.ledger import batches, holds, model_sets, pauses, queue
from dna_pipeline.ledger.engine import Transaction
from dna_pipeline.ledger.queue import Runnable
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.ledger.tables import Job

log = structlog.get_logger()

DEVICE_RETRY_S = 2.0
"""Seconds until a missing device is tried again; doubled after each further failure."""

MAX_DEVICE_RETRY_S = 480.0
DISK_RETRY_S = 10.0
INBOX_RETRY_S = 5.0


class Scheduler:
    """Finds the next job that may start; holds the jobs before it that may not, and releases them.

    The file system is never asked inside a transaction: a disk that is slow, or does not answer,
    must not block the others that write to the ledger.

    Args:
        look: finds out whether a folder can be reached.
    """

    def __init__(self, config: Config, ledger: Ledger, look: Look = look_directly) -> None:
        self._config = config
        self._ledger = ledger
        self._look = look
        self.sources = SourceHolds(ledger, look)
        self._retry_at: dict[str, float] = {}
        self._device_losses = 0
        self._closed_inboxes: set[str] = set()
        """Inboxes outside their hours, whose jobs are all held already."""

    def claim(self) -> Job | None:
        """Claim the next job that may start, and hold all jobs before it; None if there is none."""
        while (job := self._ledger.transact(self._next)) is not None:
            obstacle = self._obstacle(job)
            claimed = self._ledger.transact(
                partial(self._claim_or_hold, job=job, obstacle=obstacle)
            )
            if claimed is not None:
                return claimed
        return None

    def _next(self, session: Transaction) -> Runnable | None:
        """The next job that nothing in the ledger or the configuration keeps from its turn; all
        jobs before it are held."""
        if queue.is_paused(session):
            return None
        while (job := queue.next_runnable(session)) is not None:
            if not self._is_held(session, job):
                return job
        return None

    def _claim_or_hold(
        self, session: Transaction, job: Runnable, obstacle: Obstacle | None
    ) -> Job | None:
        """Claim the job, or hold it if there is an obstacle; do neither if another job is next by
        now."""
        after = self._next(session)
        if after is None or after.id != job.id:
            return None
        if obstacle is None:
            return queue.claim_next(session)
        obstacle.hold(session)
        log.warning("jobs.held", job=job.id, why=obstacle.why)
        return None

    def _is_held(self, session: Transaction, job: Runnable) -> bool:
        """Hold the job if a pause or its inbox's hours keep it from its turn, and with it all jobs
        that have the same cause; False if nothing does."""
        if (why := pauses.reason(session, job.pipeline)) is not None:
            holds.hold_where(session, "pipeline", job.pipeline, Paused.code, why)
        elif (why := batches.paused(session, job.batch)) is not None:
            holds.hold_where(session, "batch", str(job.batch), Paused.code, why)
        elif (why := self._hours_reason(job.inbox)) is not None:
            holds.hold_where(session, "inbox", job.inbox, Hours.code, why)
        else:
            return False
        log.warning("jobs.held", job=job.id, why=why)
        return True

    def _obstacle(self, job: Runnable) -> Obstacle | None:
        """Find what keeps the job from starting outside the ledger: weights, source, disk space."""
        if (why := self._missing_weights(job.stages)) is not None:
            values = {"value": job.models, "code": WeightsMissing.code, "detail": why}
            return Obstacle(why, partial(holds.hold_where, column="models", **values))
        if (obstacle := self.sources.obstacle(job)) is not None:
            return obstacle
        if (why := self._disk_shortage()) is not None:
            values = {"value": "queued", "code": DiskFull.code, "detail": why}
            return Obstacle(why, partial(holds.hold_where, column="status", **values))
        if (why := self._disk_shortage_of(job)) is not None:
            return Obstacle(why, partial(holds.hold, job_id=job.id, code=DiskFull.code, detail=why))
        return None

    def review(self, *, keep_trying: bool) -> None:
        """Release the jobs whose time has come or whose cause to wait is gone.

        Args:
            keep_trying: look for free disk space at every call that is due, as `watch` does. If
                False, look once only, so that a one-shot `run` ends.
        """
        now = time.monotonic()
        waiting = self._ledger.transact(_held_models)
        complete = [
            models for models, stages in waiting.items() if self._missing_weights(stages) is None
        ]
        if self._is_due(InboxUnavailable.code, now, INBOX_RETRY_S):
            self.sources.review()
        is_due = self._is_due(DiskFull.code, now, DISK_RETRY_S if keep_trying else None)
        is_roomy = is_due and self._disk_shortage() is None

        def action(session: Transaction) -> None:
            freed = holds.promote_due(session, utcnow())
            for models in complete:
                freed += holds.release(session, WeightsMissing.code, models)
            for inbox in holds.held_inboxes(session, Hours.code):
                if self._hours_reason(inbox) is None:
                    holds.release_inbox(session, Hours.code, inbox)
            # Once: whether the device is back shows only when a job runs, and if that fails,
            # `device_lost` sets the next time.
            if self._is_due(DeviceUnavailable.code, now, None):
                freed += holds.release(session, DeviceUnavailable.code)
            if is_roomy:
                freed += holds.release(session, DiskFull.code)
            self._hold_outside_hours(session, has_freed=freed > 0)

        self._ledger.transact(action)

    def _hold_outside_hours(self, session: Transaction, *, has_freed: bool) -> None:
        """Hold the jobs of inboxes whose hours have ended, before it is their turn.

        The statement reads all jobs that can run, so it is executed only if the hours of an inbox
        have ended or jobs were released since the last call.
        """
        closed = {inbox.name for inbox in self._config.inboxes if self.is_outside_hours(inbox.name)}
        if has_freed or closed - self._closed_inboxes:
            hold_outside_hours(session, self._config)
        self._closed_inboxes = closed

    def device_lost(self) -> None:
        """Delay the next attempt, since no worker got the device; longer each time."""
        wait = min(DEVICE_RETRY_S * 2**self._device_losses, MAX_DEVICE_RETRY_S)
        self._retry_at[DeviceUnavailable.code] = time.monotonic() + wait
        self._device_losses += 1

    def device_available(self) -> None:
        """Reset the delay of `device_lost`, since a worker has the device."""
        self._device_losses = 0

    def is_outside_hours(self, inbox: str) -> bool:
        """True if that inbox has hours and they are not now."""
        return self._hours_reason(inbox) is not None

    def _is_due(self, code: str, now: float, wait: float | None) -> bool:
        """True if it is time to check again whether the cause of a hold is gone.

        Args:
            code: of the hold.
            now: in seconds of the monotonic clock.
            wait: seconds until the next check; None if there is to be no further one.
        """
        if now < self._retry_at.get(code, 0.0):
            return False
        self._retry_at[code] = float("inf") if wait is None else now + wait
        return True

    # --- reasons why a job has to wait, as sentences; None if there is none ---

    def _hours_reason(self, inbox: str) -> str | None:
        settings = self._config.inbox(inbox)
        return None if settings is None else settings.hours_reason(utcnow())

    def _missing_weights(self, stages: Sequence[Mapping[str, Any]]) -> str | None:
        for name in model_sets.names_in(stages):
            provider = self._config.models.get(name)
            if provider is None:
                return f"model {name!r} is not declared in {self._config.file.name} any more"
            if (why := provider.missing()) is not None:
                return f"model {name!r}: {why}"
        return None

    def _disk_shortage(self) -> str | None:
        return disk_space.shortage(self._disks(), disk_space.FLOOR_BYTES)

    def _disk_shortage_of(self, job: Runnable) -> str | None:
        try:
            need = disk_space.required_bytes(job.source_bytes, job.width, job.height, job.stages)
        except (KeyError, ValueError, ConfigError):
            return None  # the stage's class is gone or has changed: the worker reports that
        return disk_space.shortage(self._disks(), need)

    def _disks(self) -> list[Path]:
        """The folders whose disks need free space. An outbox that does not answer is left out:
        results wait for it anyway."""
        outbox = self._config.outbox
        return [self._config.data, *([] if self._look(outbox).is_silent else [outbox])]


def hold_outside_hours(session: Transaction, config: Config) -> None:
    """Hold all jobs of inboxes outside their hours, so that `status` shows the hold at once."""
    for inbox in config.inboxes:
        if (why := inbox.hours_reason(utcnow())) is not None:
            holds.hold_where(session, "inbox", inbox.name, Hours.code, why)


def _held_models(session: Transaction) -> dict[str, list[dict[str, Any]]]:
    """The sets of models that jobs wait for, each with the stages of one of these jobs."""
    code = WeightsMissing.code
    return {
        models: holds.stages_held(session, code, models)
        for models in holds.held_groups(session, code)
    }
