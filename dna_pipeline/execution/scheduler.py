"""Picks the next job that may start. Holds queued jobs while a cause outside of them keeps them
from running, and releases them afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from pathlib import Path

import structlog

from dna_pipeline.base.errors import (
    DeviceUnavailable,
    DiskFull,
    Hours,
    OtherRows,
    SigningUnavailable,
    WeightsMissing,
)
from dna_pipeline.base.periodic import Throttle
from dna_pipeline.base.reachability import Look, look_directly
from dna_pipeline.base.times import utcnow
from dna_pipeline.config.schema import Config
from dna_pipeline.execution import disk_space
from dna_pipeline.execution.conditions import Condition, Obstacle
from dna_pipeline.execution.model_order import LOOK_AHEAD, ModelOrder, Models, Waiting
from dna_pipeline.execution.source_holds import SourceHolds
from dna_pipeline.ledger import holds, model_sets, pauses, queue
from dna_pipeline.ledger.engine import Transaction
from dna_pipeline.ledger.queue import Runnable
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.ledger.tables import Job
from dna_pipeline.media.marks.signing import Signer
from dna_pipeline.stages import registry

log = structlog.get_logger()

DEVICE_RETRY_S = 2.0
"""Seconds until a missing device is tried again; doubled after each further failure."""

MAX_DEVICE_RETRY_S = 480.0
DISK_RETRY_S = 10.0
SIGNING_RETRY_S = 30.0


@dataclass(frozen=True, slots=True)
class _Turn:
    """The job whose turn it is; `first` is the number of the job whose place comes first."""

    job: Runnable
    first: int


def _is_still_next(session: Transaction, turn: _Turn) -> bool:
    """True if the same job comes first, and the chosen one may still start."""
    first, job = queue.next_runnable(session), turn.job
    if first is None or first.seq != turn.first:
        return False
    if first.seq != job.seq and queue.runnable_at(session, job.seq) is None:
        return False
    return pauses.of_job(session, job.pipeline, job.batch) is None


class Scheduler:
    """Finds the next job that may start; holds the jobs before it that may not, and releases them.

    The file system is never asked inside a transaction: a disk that is slow, or does not answer,
    must not block the others that write to the ledger.

    Args:
        look: finds out whether a folder can be reached.

    Attributes:
        order: chooses among jobs of equal priority by their models.
    """

    def __init__(self, config: Config, ledger: Ledger, look: Look = look_directly) -> None:
        self._config = config
        self._ledger = ledger
        self._look = look
        self.order = ModelOrder(
            config.runtime.model_window_s,
            len(config.runtime.devices) * config.runtime.jobs_per_worker,
        )
        self.sources = SourceHolds(ledger, look)
        # That the device is back shows only when a job runs. So its jobs are released once, and
        # `device_lost` says when to release them again.
        self._device_retry = Throttle(inf)
        self._disk_retry = Throttle(DISK_RETRY_S)
        self._signing_retry = Throttle(SIGNING_RETRY_S)
        self._signer = signer_of(config)
        self._only: frozenset[str] | None = None
        """The only jobs that may start; None for all."""
        self.conditions = (
            Condition(
                OtherRows.code,
                "status",
                self._not_chosen,
                Throttle(0.0),
                lambda: self._only or (),
            ),
            Condition(Hours.code, "inbox", self._hours_reason, Throttle(0.0)),
            Condition(WeightsMissing.code, "models", self._missing_weights, Throttle(0.0)),
            self.sources,
            Condition(DiskFull.code, "status", self._disk_shortage, self._disk_retry),
            Condition(
                SigningUnavailable.code, "status", self._signing_problem, self._signing_retry
            ),
            Condition(DeviceUnavailable.code, "status", lambda _: None, self._device_retry),
        )
        """All kinds of holds that end by themselves. Holds until a time end in
        `holds.promote_due`."""
        self._device_losses = 0
        self._closed_inboxes: set[str] = set()
        """Inboxes outside their hours, whose jobs are all held already."""

    def choose_only(self, jobs: frozenset[str] | None) -> None:
        """Let only these jobs start, and hold the others when it is their turn; None: let all."""
        self._only = jobs
        self._ledger.transact(lambda s: holds.release(s, OtherRows.code))

    def claim(self, loaded: Sequence[Models] = (frozenset(),)) -> Job | None:
        """Claim the next job that may start, and hold all jobs whose turn comes before; None if
        there is none.

        Args:
            loaded: the models that each free worker has loaded.
        """
        while (turn := self._ledger.transact(partial(self._next, loaded=loaded))) is not None:
            obstacle = self._obstacle(turn.job)
            claimed = self._ledger.transact(
                partial(self._claim_or_hold, turn=turn, obstacle=obstacle)
            )
            if claimed is not None:
                self.order.note_start(claimed.id, claimed.seq, claimed.priority, turn.first)
                return claimed
        self.order.delay = None
        return None

    def _next(self, session: Transaction, *, loaded: Sequence[Models]) -> _Turn | None:
        """The next job that no pause keeps from its turn; those whose turn came before are held."""
        while (first := queue.next_runnable(session)) is not None:
            job = self._chosen(session, first, loaded)
            pause = pauses.of_job(session, job.pipeline, job.batch)
            if pause is None or pause.column == "status":
                return _Turn(job, first.seq) if pause is None else None
            pauses.hold(session, pause)
            log.warning("jobs.held", job=job.id, why=pause.why)
        return None

    def _chosen(self, session: Transaction, first: Runnable, loaded: Sequence[Models]) -> Runnable:
        """The job that comes next by its models: the first one or another of its priority."""

        def ahead() -> list[Waiting]:
            return [Waiting.of(*row) for row in queue.next_models(session, priority, LOOK_AHEAD)]

        priority, head = first.priority, Waiting.of(first.seq, first.models)
        seq = self.order.choose(first.id, priority, head, loaded, ahead)
        return first if seq == first.seq else queue.runnable_at(session, seq) or first

    def _claim_or_hold(
        self, session: Transaction, turn: _Turn, obstacle: Obstacle | None
    ) -> Job | None:
        """Claim the job, or hold it if there is an obstacle; do neither if another job is next by
        now."""
        job = turn.job
        if not _is_still_next(session, turn):
            return None
        if obstacle is None:
            return queue.claim_at(session, job.seq)
        number = obstacle.hold(session)
        log.warning("jobs.held", job=job.id, jobs=number, why=obstacle.why)
        return None

    def _obstacle(self, job: Runnable) -> Obstacle | None:
        """Find the first condition that keeps the job from starting."""
        for condition in self.conditions:
            if (obstacle := condition.obstacle(job)) is not None:
                return obstacle
        if (why := self._disk_shortage_of(job)) is not None:
            return Obstacle(DiskFull.code, why, {"id": [job.id]})
        return None

    def review(self, *, keep_trying: bool) -> None:
        """Release the jobs whose time has come or whose cause to wait is gone.

        Args:
            keep_trying: look for free disk space, and try to sign, at every call that is due, as
                `watch` does. If False, do so once only, so that a one-shot `run` ends.
        """
        now = time.monotonic()
        due = [condition for condition in self.conditions if condition.retry.is_due(now)]
        if self.sources in due:
            self.sources.review()
        looked_at = [condition for condition in due if isinstance(condition, Condition)]
        held = self._ledger.transact(lambda s: [(c, job) for c in looked_at for job in c.held(s)])
        ended = [(condition, job) for condition, job in held if condition.reason(job) is None]

        def action(session: Transaction) -> None:
            freed = holds.promote_due(session, utcnow())
            freed += sum(condition.release(session, job) for condition, job in ended)
            self._hold_outside_hours(session, has_freed=freed > 0)

        self._ledger.transact(action)
        # Only now: where the ledger could not be written, they stay due.
        for condition in due:
            condition.retry.done(now)
        if not keep_trying:
            self._disk_retry.next_at = inf
            # Only the worker sees that a certificate is wrong, so its jobs would be tried for ever.
            self._signing_retry.next_at = inf

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
        self._device_retry.next_at = time.monotonic() + wait
        self._device_losses += 1

    def device_available(self) -> None:
        """Reset the delay of `device_lost`, since a worker has a device, and release the jobs that
        wait for one at the next review."""
        self._device_losses = 0
        self._device_retry.next_at = time.monotonic()

    def is_outside_hours(self, inbox: str) -> bool:
        """True if that inbox has hours and they are not now."""
        settings = self._config.inbox(inbox)
        return settings is not None and settings.hours_reason(utcnow()) is not None

    # --- reasons why a job has to wait, as sentences; None if there is none ---

    def _not_chosen(self, job: Runnable) -> str | None:
        if self._only is None or job.id in self._only:
            return None
        return "waits for the end of `dna-pipeline run --table`, which does its rows alone"

    def _hours_reason(self, job: Runnable) -> str | None:
        settings = self._config.inbox(job.inbox)
        return None if settings is None else settings.hours_reason(utcnow())

    def _missing_weights(self, job: Runnable) -> str | None:
        for name in model_sets.names_in(job.stages):
            provider = self._config.models.get(name)
            if provider is None and (text := self._no_checkpoint(name)) is not None:
                return text
            if provider is None:
                return f"model {name!r} is not declared in {self._config.file.name} any more"
            if (why := provider.missing()) is not None:
                return f"model {name!r}: {why}"
        return self._missing_file(job)

    def _missing_file(self, job: Runnable) -> str | None:
        if not registry.needed_files(job.stages):
            return None
        try:
            registry.extra_files(job.stages, self._config.data)
        except WeightsMissing as error:
            return str(error)
        return None

    def _no_checkpoint(self, name: str) -> str | None:
        """Reason why the folder of checkpoints has no such model; None if there is no folder."""
        models = self._config.models
        if (text := models.ambiguity(name)) is not None or models.folder is None:
            return text
        return (
            f"model {name!r}: {models.folder} holds no such checkpoint any more; put it there again"
        )

    def _signing_problem(self, _: Runnable) -> str | None:
        return None if self._signer is None else self._signer.problem()

    def _disk_shortage(self, _: Runnable) -> str | None:
        return disk_space.shortage(self._disks(), disk_space.FLOOR_BYTES)

    def _disk_shortage_of(self, job: Runnable) -> str | None:
        need = disk_space.required_bytes(job.source_bytes, job.width, job.height, job.stages)
        return disk_space.shortage(self._disks(), need)

    def _disks(self) -> list[Path]:
        """The folders whose disks need free space. An outbox that does not answer is left out:
        results wait for it anyway."""
        outbox = self._config.outbox
        return [self._config.data, *([] if self._look(outbox).is_silent else [outbox])]


def signer_of(config: Config) -> Signer | None:
    """The signer that the configuration describes; None if it asks for none."""
    signing = config.signing
    if signing is None:
        return None
    return Signer(signing.certificate, signing.key, signing.algorithm, signing.timestamp_url)


def hold_outside_hours(session: Transaction, config: Config) -> None:
    """Hold all jobs of inboxes outside their hours, so that `status` shows the hold at once."""
    for inbox in config.inboxes:
        if (why := inbox.hours_reason(utcnow())) is not None:
            holds.hold_where(session, "inbox", [inbox.name], Hours.code, why)
