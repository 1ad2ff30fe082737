"""Hands jobs to the executor and records what it reports of them."""

from __future__ import annotations

import queue as queues
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import structlog

from dna_pipeline.errors import (
    Cancelled,
    DeviceUnavailable,
    DiskFull,
    Failure,
    SourceMissing,
    StageTimeout,
    WeightsMissing,
    WorkerCrashed,
)
from dna_pipeline.executor import (
    Beat,
    Event,
    Executor,
    FileRecord,
    JobDone,
    JobFailed,
    Order,
    Phase,
    Progress,
    Ready,
    StageDone,
    StageOrder,
    WorkerEnded,
)
from dna_pipeline.faults import point
from dna_pipeline.ledger import queue
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.ledger.tables import Drop, Job, utcnow
from dna_pipeline.publishing import stage_stems
from dna_pipeline.spec.config import Config

log = structlog.get_logger()

DEVICE_RETRY_S = 30.0
DISK_RETRY_S = 10.0


@dataclass(slots=True)
class Running:
    """The job at the executor, for status."""

    job: str
    inbox: str
    name: str
    attempt: int
    started: float = field(default_factory=time.monotonic)
    stage: str | None = None
    phase: str | None = None
    step: int = 0
    steps: int = 0
    fraction: float = 0.0

    def facts(self) -> dict[str, Any]:
        """As `status.json` shows it."""
        elapsed = time.monotonic() - self.started
        left = elapsed / self.fraction * (1 - self.fraction) if self.fraction > 0 else None
        facts = asdict(self)
        del facts["started"]
        return facts | {"eta_s": None if left is None else round(left, 1)}


class Dispatcher:
    """The running job, and the queue behind it."""

    def __init__(self, config: Config, ledger: Ledger, executor: Executor) -> None:
        self._config = config
        self._ledger = ledger
        self._executor = executor
        self.running: Running | None = None
        self.device: dict[str, Any] | None = None
        self.worker: Beat | None = None
        self._hold_retry: dict[str, float] = {}
        self._heard: Event | None = None

    # --- orders ---

    def dispatch(self) -> None:
        """Hand out the next job if the executor is free."""
        while self.running is None:
            job = self._claim()
            if job is None:
                return
            self._submit(job)

    def _claim(self) -> Job | None:
        """The next job whose models are there; those whose are not are held, all alike at once."""

        def action(session: Any) -> Job | None:
            if queue.is_paused(session):
                return None
            while (job := queue.next_runnable(session)) is not None:
                if (why := self._missing(job.models)) is None:
                    return queue.claim_next(session)
                log.warning("jobs.held", models=job.models, why=why)
                queue.hold_alike(session, job.models, WeightsMissing.code, why)
            return None

        return self._ledger.transact(action)

    def _missing(self, models: str) -> str | None:
        for name in filter(None, models.split(",")):
            provider = self._config.models.get(name)
            if provider is None:
                return f"model {name!r} is not declared in {self._config.file.name} any more"
            if (why := provider.missing()) is not None:
                return f"model {name!r}: {why}"
        return None

    def _submit(self, job: Job) -> None:
        log.info("job.started", job=job.id, name=job.name, attempt=job.attempt)
        self.running = Running(job.id, job.inbox, job.name, job.attempt)
        point("attempt-committed")
        self._executor.submit(self._order(job))
        point("order-sent")

    def _order(self, job: Job) -> Order:
        drop, done = self._ledger.transact(
            lambda s: (s.get_one(Drop, job.drop_id), queue.finished_stages(s, job.id))
        )
        files = {
            run.stage_id: tuple(
                FileRecord(f.path, f.role, f.media_type, f.bytes, f.sha256, f.facts) for f in rows
            )
            for run, rows in done
        }
        stems = stage_stems(job)
        stages = tuple(
            StageOrder(s["id"], s["type"], s["params"], stems[s["id"]], files.get(s["id"]))
            for s in job.stages
        )
        return Order(
            job=job.id,
            attempt=job.attempt,
            stages=stages,
            source=str(Path(drop.claim, drop.image or "")),
            source_sha256=drop.sha256 or "",
            work_dir=str(self._config.work / job.id),
        )

    # --- events ---

    def listen(self) -> None:
        """Record everything that the executor reported since the last time."""
        events = self._executor.events()
        while True:
            if self._heard is None:
                try:
                    self._heard = events.get_nowait()
                except queues.Empty:
                    return
            # Kept until it is recorded: a full disk must not make a job's end unheard of.
            self._hear(self._heard)
            self._heard = None

    def _hear(self, event: Event) -> None:
        match event:
            case Ready():
                self.device = {"device": event.device, "dtype": event.dtype}
                self.device |= {"gpu": event.environment.get("gpu")}
                log.info("worker.ready", device=event.device, dtype=event.dtype)
            case Beat():
                self.worker = event
            case WorkerEnded():
                self._on_worker_ended(event)
            case _ if self.running is None or event.job != self.running.job:
                log.warning("event.stale", kind=event.kind, job=event.job)
            case Phase():
                self.running.stage, self.running.phase = event.stage, event.phase
            case Progress():
                self._on_progress(self.running, event)
            case StageDone():
                self._on_stage_done(self.running, event)
            case JobDone():
                self._ledger.transact(lambda s: queue.computed(s, event.job))
                point("outcome-committed")
                self.running = None
            case JobFailed():
                self._on_failed(event)
                self.running = None

    def _on_progress(self, running: Running, event: Progress) -> None:
        running.step, running.steps = event.step, event.steps
        running.fraction = event.fraction
        data = {
            "stage": event.stage, "step": event.step, "steps": event.steps,
            "fraction": event.fraction,
        }  # fmt: skip
        self._ledger.transact(lambda s: queue.add_progress(s, event.job, data))

    def _on_stage_done(self, running: Running, event: StageDone) -> None:
        facts: dict[str, Any] = asdict(event) | {"attempt": running.attempt}
        job, files = facts.pop("job"), facts.pop("artifacts")
        facts["stage_id"] = facts.pop("stage")
        point("stage-reported")
        self._ledger.transact(lambda s: queue.finish_stage(s, job, facts, files))
        point("stage-committed")
        log.info("stage.finished", job=job, stage=event.stage, seconds=event.seconds)

    def _on_failed(self, event: JobFailed) -> None:
        failure = Failure.from_dict(event.failure)
        if event.hold:
            log.warning("job.held", job=event.job, code=failure.code, why=failure.detail)
            code, detail = failure.code, failure.detail
            self._ledger.transact(lambda s: queue.hold(s, event.job, code, detail))
            return
        log.warning("job.failed", job=event.job, code=failure.code, detail=failure.detail)
        if failure.code == SourceMissing.code:
            log.error("source.missing", job=event.job)
        self._ledger.transact(lambda s: queue.fail(s, event.job, failure, event.stage))

    def _on_worker_ended(self, event: WorkerEnded) -> None:
        self.device = self.worker = None
        if self.running is None or event.job != self.running.job:
            return  # it was between two jobs; the next may be at another worker already
        self._on_job_ended_with_worker(self.running, event)
        self.running = None

    def _on_job_ended_with_worker(self, running: Running, event: WorkerEnded) -> None:
        stage = running.stage
        match event.reason:
            case "closed":
                self._ledger.transact(lambda s: queue.interrupted(s, running.job))
            case "cancel":
                failure = Cancelled("ended by force: it did not react to the cancel").failure()
                self._ledger.transact(lambda s: queue.fail(s, running.job, failure, stage))
            case reason:
                log.error("worker.ended", job=running.job, why=event.detail)
                kind = StageTimeout if reason == "timeout" else WorkerCrashed
                failure = kind(event.detail).failure()
                limit = self._config.runtime.max_attempts
                self._ledger.transact(
                    lambda s: queue.worker_died(s, running.job, limit, failure, stage)
                )

    def drain(self) -> None:
        """After the executor was closed: record its last words."""
        self.listen()
        if self.running is not None:
            job = self.running.job
            self._ledger.transact(lambda s: queue.interrupted(s, job))
            self.running = None

    # --- what people and time change ---

    def attend_cancels(self) -> None:
        """Pass on the wish to cancel the running job."""
        if self.running is not None and self.running.job in self._ledger.transact(
            queue.cancel_requests
        ):
            self._executor.cancel(self.running.job)

    def review_holds(self, *, patient: bool) -> None:
        """Free the jobs whose time has come or whose cause to wait is gone.

        What can only be found out by trying is tried once, and again if `patient`.
        """
        now = time.monotonic()

        def action(session: Any) -> None:
            queue.promote_due(session, utcnow())
            for models in queue.held_groups(session, WeightsMissing.code):
                if self._missing(models) is None:
                    queue.release(session, WeightsMissing.code, models)
            for code, wait in ((DeviceUnavailable.code, DEVICE_RETRY_S),
                               (DiskFull.code, DISK_RETRY_S)):  # fmt: skip
                if now >= self._hold_retry.get(code, 0.0):
                    self._hold_retry[code] = now + wait if patient else float("inf")
                    queue.release(session, code)

        self._ledger.transact(action)
