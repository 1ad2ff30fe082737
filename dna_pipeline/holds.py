"""What keeps a queued job from its turn although nothing is wrong with the job itself."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy.orm import Session

from dna_pipeline import room, sources
from dna_pipeline.errors import (
    ConfigError,
    DeviceUnavailable,
    DiskFull,
    Hours,
    InboxUnavailable,
    Paused,
    WeightsMissing,
)
from dna_pipeline.ledger import away, batches, model_sets, pauses, queue
from dna_pipeline.ledger.queue import Runnable
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.ledger.tables import Job
from dna_pipeline.ledger.times import utcnow
from dna_pipeline.spec.config import Config

log = structlog.get_logger()

DEVICE_RETRY_S = 2.0
"""When a device that was not there is tried again; twice as late each further time."""

MAX_DEVICE_RETRY_S = 480.0
DISK_RETRY_S = 10.0
INBOX_RETRY_S = 5.0


class Holds:
    """Finds the next job that may start; holds those before it that may not, and frees them."""

    def __init__(self, config: Config, ledger: Ledger) -> None:
        self._config = config
        self._ledger = ledger
        self._retry_at: dict[str, float] = {}
        self._device_losses = 0

    def claim(self) -> Job | None:
        """The next job that nothing stands against; all before it are held."""

        def action(session: Session) -> Job | None:
            if queue.is_paused(session):
                return None
            while (job := queue.next_runnable(session)) is not None:
                if not self._is_held(session, job):
                    return queue.claim_next(session)
            return None

        return self._ledger.transact(action)

    def _is_held(self, session: Session, job: Runnable) -> bool:
        """Hold the job if something stands against it, with all to which the same applies."""
        if (why := pauses.reason(session, job.pipeline)) is not None:
            queue.hold_where(session, "pipeline", job.pipeline, Paused.code, why)
        elif (why := batches.paused(session, job.batch)) is not None:
            queue.hold_where(session, "batch", str(job.batch), Paused.code, why)
        elif (why := self._resting(job.inbox)) is not None:
            queue.hold_where(session, "inbox", job.inbox, Hours.code, why)
        elif (why := self._missing(job.stages)) is not None:
            queue.hold_where(session, "models", job.models, WeightsMissing.code, why)
        elif (why := self._hold_away(session, job)) is not None:
            pass
        elif (why := self._lacks_any_room()) is not None:
            queue.hold_where(session, "status", "queued", DiskFull.code, why)
        elif (why := self._lacks_room(job)) is not None:
            queue.hold(session, job.id, DiskFull.code, why)
        else:
            return False
        log.warning("jobs.held", job=job.id, why=why)
        return True

    def review(self, *, patient: bool) -> None:
        """Free the jobs whose time has come or whose cause to wait is gone.

        What can only be found out by trying is tried once, and again if `patient`.
        """
        now = time.monotonic()

        def action(session: Session) -> None:
            queue.promote_due(session, utcnow())
            for models in queue.held_groups(session, WeightsMissing.code):
                stages = queue.stages_held(session, WeightsMissing.code, models)
                if self._missing(stages) is None:
                    queue.release(session, WeightsMissing.code, models)
            for inbox in queue.held_inboxes(session, Hours.code):
                if self._resting(inbox) is None:
                    queue.release_inbox(session, Hours.code, inbox)
            if self._is_due(DeviceUnavailable.code, now, None):  # until it is lost again
                queue.release(session, DeviceUnavailable.code)
            if self._is_due(InboxUnavailable.code, now, INBOX_RETRY_S):
                self._release_found(session)
            if self._is_due(DiskFull.code, now, DISK_RETRY_S if patient else None):
                self._release_if_roomy(session)

        self._ledger.transact(action)

    def device_lost(self) -> None:
        """No worker got hold of the device: wait with the next try, longer each time."""
        wait = min(DEVICE_RETRY_S * 2**self._device_losses, MAX_DEVICE_RETRY_S)
        self._retry_at[DeviceUnavailable.code] = time.monotonic() + wait
        self._device_losses += 1

    def device_found(self) -> None:
        """A worker has the device."""
        self._device_losses = 0

    def rests(self, inbox: str) -> bool:
        """Whether it is outside that inbox's hours."""
        return self._resting(inbox) is not None

    def _is_due(self, code: str, now: float, wait: float | None) -> bool:
        """Whether it is time to try again what that hold waits for; None: try just once."""
        if now < self._retry_at.get(code, 0.0):
            return False
        self._retry_at[code] = float("inf") if wait is None else now + wait
        return True

    @staticmethod
    def _hold_away(session: Session, job: Runnable) -> str | None:
        """If the job's source is out of reach, hold it with all that are from there."""
        claim = Path(job.claim)
        if (why := sources.away(claim)) is None:
            return None
        others = away.runnable_claims(session)
        lost = [i for i, c in others.items() if c.parent == claim.parent and sources.away(c)]
        away.hold(session, lost, why)
        return why

    @staticmethod
    def _release_found(session: Session) -> None:
        """Let the jobs whose sources are in reach again go on; `claim` holds the others again."""
        if any(sources.away(claim) is None for claim in away.held_claims(session)):
            away.release(session)

    def _release_if_roomy(self, session: Session) -> None:
        if self._lacks_any_room() is None:
            queue.release(session, DiskFull.code)

    # --- what may stand against a job, as sentences ---

    def _resting(self, inbox: str) -> str | None:
        found = self._config.inbox(inbox)
        if found is None or found.hours is None or found.hours.contain(utcnow()):
            return None
        begin = f"{found.hours.start:%H:%M}"
        return f"inbox {inbox!r} rests outside {found.hours}; its jobs go on at {begin}"

    def _missing(self, stages: Sequence[Mapping[str, Any]]) -> str | None:
        for name in model_sets.names_in(stages):
            provider = self._config.models.get(name)
            if provider is None:
                return f"model {name!r} is not declared in {self._config.file.name} any more"
            if (why := provider.missing()) is not None:
                return f"model {name!r}: {why}"
        return None

    def _lacks_any_room(self) -> str | None:
        return room.shortage([self._config.data, self._config.outbox], room.FLOOR_BYTES)

    def _lacks_room(self, job: Runnable) -> str | None:
        try:
            need = room.needed(job.source_bytes, job.width, job.height, job.stages)
        except (KeyError, ValueError, ConfigError):
            return None  # a stage that is gone or has changed: the worker says so
        return room.shortage([self._config.data, self._config.outbox], need)
