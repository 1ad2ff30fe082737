"""What keeps a queued job from its turn although nothing is wrong with the job itself."""

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
"""When a device that was not there is tried again; twice as late each further time."""

MAX_DEVICE_RETRY_S = 480.0
DISK_RETRY_S = 10.0
INBOX_RETRY_S = 5.0


class Scheduler:
    """Finds the next job that may start; holds those before it that may not, and frees them.

    What the ledger cannot tell is asked of the file system, and never inside a transaction: a disk
    that is slow, or does not answer, must not stop everyone who writes to the ledger.

    Args:
        look: says whether a folder can be reached.
    """

    def __init__(self, config: Config, ledger: Ledger, look: Look = look_directly) -> None:
        self._config = config
        self._ledger = ledger
        self._look = look
        self.sources = SourceHolds(ledger, look)
        self._retry_at: dict[str, float] = {}
        self._device_losses = 0
        self._closed_inboxes: set[str] = set()
        """Inboxes whose jobs were all held since their hours ended."""

    def claim(self) -> Job | None:
        """The next job that nothing stands against; all before it are held."""
        while (job := self._ledger.transact(self._next)) is not None:
            obstacle = self._obstacle(job)
            claimed = self._ledger.transact(
                partial(self._claim_or_hold, job=job, obstacle=obstacle)
            )
            if claimed is not None:
                return claimed
        return None

    def _next(self, session: Transaction) -> Runnable | None:
        """The next job that nothing in the ledger stands against; all before it are held."""
        if queue.is_paused(session):
            return None
        while (job := queue.next_runnable(session)) is not None:
            if not self._is_held(session, job):
                return job
        return None

    def _claim_or_hold(
        self, session: Transaction, job: Runnable, obstacle: Obstacle | None
    ) -> Job | None:
        """Claim the job, or hold it; neither if another one is next by now."""
        after = self._next(session)
        if after is None or after.id != job.id:
            return None
        if obstacle is None:
            return queue.claim_next(session)
        obstacle.hold(session)
        log.warning("jobs.held", job=job.id, why=obstacle.why)
        return None

    def _is_held(self, session: Transaction, job: Runnable) -> bool:
        """Hold the job if something stands against it, with all to which the same applies."""
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
        if (found := self.sources.obstacle(job)) is not None:
            return found
        if (why := self._disk_shortage()) is not None:
            values = {"value": "queued", "code": DiskFull.code, "detail": why}
            return Obstacle(why, partial(holds.hold_where, column="status", **values))
        if (why := self._disk_shortage_of(job)) is not None:
            return Obstacle(why, partial(holds.hold, job_id=job.id, code=DiskFull.code, detail=why))
        return None

    def review(self, *, keep_trying: bool) -> None:
        """Free the jobs whose time has come or whose cause to wait is gone.

        What can only be found out by trying is tried once, and again if `patient`.
        """
        now = time.monotonic()
        held = self._ledger.transact(_held_models)
        complete = [
            models for models, stages in held.items() if self._missing_weights(stages) is None
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
            if self._is_due(DeviceUnavailable.code, now, None):  # until it is lost again
                freed += holds.release(session, DeviceUnavailable.code)
            if is_roomy:
                freed += holds.release(session, DiskFull.code)
            self._hold_outside_hours(session, has_freed=freed > 0)

        self._ledger.transact(action)

    def _hold_outside_hours(self, session: Transaction, *, has_freed: bool) -> None:
        """Hold the jobs of inboxes whose hours have ended, before it is their turn.

        Only when the hours end or jobs were freed: the statement reads all jobs that can run.
        """
        resting = {
            inbox.name for inbox in self._config.inboxes if self.is_outside_hours(inbox.name)
        }
        if has_freed or resting - self._closed_inboxes:
            hold_outside_hours(session, self._config)
        self._closed_inboxes = resting

    def device_lost(self) -> None:
        """No worker got hold of the device: wait with the next try, longer each time."""
        wait = min(DEVICE_RETRY_S * 2**self._device_losses, MAX_DEVICE_RETRY_S)
        self._retry_at[DeviceUnavailable.code] = time.monotonic() + wait
        self._device_losses += 1

    def device_available(self) -> None:
        """A worker has the device."""
        self._device_losses = 0

    def is_outside_hours(self, inbox: str) -> bool:
        """Whether it is outside that inbox's hours."""
        return self._hours_reason(inbox) is not None

    def _is_due(self, code: str, now: float, wait: float | None) -> bool:
        """Whether it is time to try again what that hold waits for; None: try just once."""
        if now < self._retry_at.get(code, 0.0):
            return False
        self._retry_at[code] = float("inf") if wait is None else now + wait
        return True

    # --- what may stand against a job, as sentences ---

    def _hours_reason(self, inbox: str) -> str | None:
        found = self._config.inbox(inbox)
        return None if found is None else found.hours_reason(utcnow())

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
            return None  # a stage that is gone or has changed: the worker says so
        return disk_space.shortage(self._disks(), need)

    def _disks(self) -> list[Path]:
        """The folders that need room. Results wait for an outbox that does not answer."""
        outbox = self._config.outbox
        return [self._config.data, *([] if self._look(outbox).is_silent else [outbox])]


def hold_outside_hours(session: Transaction, config: Config) -> None:
    """Hold all jobs of inboxes outside their hours, so that `status` says so at once."""
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
