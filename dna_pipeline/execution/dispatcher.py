"""Hands jobs to the executor and records what it reports of them."""

from __future__ import annotations

import queue as queues
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import structlog

from dna_pipeline.base import claim_folders, stage_files
from dna_pipeline.base.errors import (
    Cancelled,
    DeviceUnavailable,
    Failure,
    InboxUnavailable,
    SourceMissing,
    StageTimeout,
    WorkerCrashed,
)
from dna_pipeline.base.failpoints import point
from dna_pipeline.base.reachability import Look, look_directly
from dna_pipeline.config.schema import Config
from dna_pipeline.execution.local_executor import Executor
from dna_pipeline.execution.protocol import (
    Event,
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
from dna_pipeline.execution.scheduler import Holds
from dna_pipeline.ledger import batches, pauses, queue, requests, source_holds
from dna_pipeline.ledger.engine import Transaction
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.ledger.tables import Drop, Job

log = structlog.get_logger()

DEVICE_HINT = (
    "The device or its driver reported the error. See its state (`nvidia-smi`, the system's log), "
    "reload the driver or restart the machine, then `dna-pipeline retry`; or set "
    "`runtime.device: cpu` in pipeline.yaml."
)


def stage_stems(job: Job) -> dict[str, str]:
    """For each stage's id the start of its files' names: the id is in it where types repeat."""
    kinds = Counter(stage["type"] for stage in job.stages)
    return {
        stage["id"]: f"{job.stem}.{stage['id']}" if kinds[stage["type"]] > 1 else job.stem
        for stage in job.stages
    }


@dataclass(slots=True)
class Running:
    """The job at the executor, for status."""

    job: str
    inbox: str
    name: str
    attempt: int
    started: float = field(default_factory=time.monotonic)
    stage: str | None = None
    stage_since: float = 0.0
    phase: str | None = None
    step: int = 0
    steps: int = 0
    fraction: float = 0.0
    resting: bool = False

    def enter(self, stage: str, phase: str) -> None:
        """Note where it has come to."""
        if stage != self.stage:
            self.stage, self.stage_since = stage, time.monotonic()
            self.step = self.steps = 0
        self.phase = phase

    def left_s(self, expected: Mapping[str, float]) -> float | None:
        """Seconds to its end: by what its stages mostly take, else by its own pace so far.

        Args:
            expected: seconds of each of its stages in their order; empty where unknown.
        """
        now = time.monotonic()
        if self.stage is None and expected:
            return sum(expected.values())
        if self.stage is None or self.stage not in expected:
            pace = (now - self.started) / self.fraction if self.fraction else None
            return None if pace is None else pace * (1 - self.fraction)
        here = expected[self.stage]
        done = here * self.step / self.steps if self.steps else now - self.stage_since
        stages = list(expected)
        after = stages[stages.index(self.stage) + 1 :]
        return max(here - done, 0.0) + sum(expected[stage] for stage in after)

    def facts(self, expected: Mapping[str, float]) -> dict[str, Any]:
        """As `status.json` shows it."""
        facts = asdict(self)
        del facts["started"], facts["stage_since"], facts["resting"]
        left = self.left_s(expected)
        return facts | {"eta_s": None if left is None else round(left, 1)}


class Dispatcher:
    """The running job, and the queue behind it."""

    def __init__(
        self, config: Config, ledger: Ledger, executor: Executor, look: Look = look_directly
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._executor = executor
        self._look = look
        self.running: Running | None = None
        self.device: dict[str, Any] | None = None
        self.holds = Holds(config, ledger, look)
        self._heard: Event | None = None
        self._claimed: Job | None = None

    # --- orders ---

    def dispatch(self) -> None:
        """Hand out the next job if the executor is free."""
        while self.running is None:
            # Kept until it is handed over: a ledger in trouble must not leave a job that is marked
            # as running and is not.
            self._claimed = self._claimed or self.holds.claim()
            if self._claimed is None:
                return
            self._submit(self._claimed)
            self._claimed = None

    def _submit(self, job: Job) -> None:
        point("attempt-committed")
        order = self._order(job)
        log.info("job.started", job=job.id, name=job.name, attempt=job.attempt)
        self.running = Running(job.id, job.inbox, job.name, job.attempt)
        self._executor.submit(order)
        point("order-sent")

    def _order(self, job: Job) -> Order:
        drop, done = self._ledger.transact(
            lambda s: (s.get_one(Drop, job.drop_id), queue.finished_stages(s, job.id))
        )
        self._restore_stages(job, Path(drop.claim))
        files = {
            run.stage_id: tuple(
                FileRecord(f.path, f.role, f.media_type, f.bytes, f.sha256, f.facts) for f in rows
            )
            for run, rows in done
        }
        keys = {run.stage_id: run.stage_key for run, _ in done}
        stems = stage_stems(job)
        stages = tuple(
            StageOrder(s["id"], s["type"], s["params"], stems[s["id"]], files.get(s["id"]),
                       keys.get(s["id"]))
            for s in job.stages
        )  # fmt: skip
        return Order(
            job=job.id,
            attempt=job.attempt,
            stages=stages,
            source=str(Path(drop.claim, drop.image or "")),
            source_sha256=drop.sha256 or "",
            work_dir=str(self._config.work / job.id),
        )

    def _restore_stages(self, job: Job, claim: Path) -> None:
        """Bring the files that a retry kept to where the worker looks for them."""
        if not claim.is_relative_to(self._config.data):
            return  # in an inbox, which a retry never puts anything into
        try:
            stage_files.restore(claim, self._config.work / job.id)
        except OSError as error:
            # The worker runs the stages again whose files it does not find.
            log.warning("stages.lost", job=job.id, why=str(error))

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
                self.holds.device_found()
                log.info("worker.ready", device=event.device, dtype=event.dtype)
            case WorkerEnded():
                self._on_worker_ended(event)
            case _ if self.running is None or event.job != self.running.job:
                log.warning("event.stale", kind=event.kind, job=event.job)
            case Phase():
                self.running.enter(event.stage, event.phase)
            case Progress():
                self._on_progress(self.running, event)
            case StageDone():
                self._on_stage_done(self.running, event)
            case JobDone():
                self._ledger.transact(lambda s: self._succeed(s, event.job))
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
        code, detail, is_hold = failure.code, failure.detail, event.hold
        # Whatever it stumbled over: as likely as not, over that.
        if not is_hold and (why := self._source_away(event.job)) is not None:
            code, detail, is_hold = InboxUnavailable.code, why, True
        if is_hold:
            log.warning("job.held", job=event.job, code=code, why=detail)
            self._hold(event.job, code, detail)
            return
        if event.poisoned:
            log.error("device.failed", job=event.job, stage=event.stage, why=detail)
            # The worker's process has to end for it, so it is counted as the worker's end is.
            failure = WorkerCrashed(detail, hint=DEVICE_HINT).failure()
            self._ledger.transact(lambda s: self._worker_died(s, event.job, failure, event.stage))
            return
        log.warning("job.failed", job=event.job, code=failure.code, detail=failure.detail)
        if failure.code == SourceMissing.code:
            log.error("source.missing", job=event.job)
        self._ledger.transact(lambda s: self._fail(s, event.job, failure, event.stage))

    def _hold(self, job: str, code: str, detail: str) -> None:
        """Put the job back; where there is no device, no other need try for now."""

        def action(session: Transaction) -> None:
            queue.hold(session, job, code, detail)
            if code == DeviceUnavailable.code:
                queue.hold_where(session, "status", "queued", code, detail)

        self._ledger.transact(action)
        if code == DeviceUnavailable.code:
            self.holds.device_lost()
        elif code == InboxUnavailable.code:
            self.holds.sources.note(job)

    def _source_away(self, job_id: str) -> str | None:
        """Why the job's source cannot be reached; None if it can."""
        claim = self._ledger.transact(lambda s: source_holds.claim_of(s, job_id))
        return None if claim is None else claim_folders.unreachable(claim, self._look)

    def _succeed(self, session: Transaction, job: str) -> None:
        pauses.note_success(session, job)
        queue.computed(session, job)

    def _fail(self, session: Transaction, job: str, failure: Failure, stage: str | None) -> None:
        queue.fail(session, job, failure, stage)
        self._count(session, job, failure)

    def _count(self, session: Transaction, job: str, failure: Failure) -> None:
        limit = self._config.runtime.pause_after_failures
        if (why := pauses.note_failure(session, job, failure, limit)) is not None:
            log.error("pipeline.paused", why=why)
        found = queue.find_job(session, job)
        if found is None or found.batch is None:
            return
        if (why := batches.check_failures(session, found.batch)) is not None:
            log.error("batch.paused", why=why)

    def _worker_died(
        self, session: Transaction, job: str, failure: Failure, stage: str | None
    ) -> None:
        queue.worker_died(session, job, self._config.runtime.max_attempts, failure, stage)
        self._count(session, job, failure)

    def _on_worker_ended(self, event: WorkerEnded) -> None:
        if self.running is not None and event.job != self.running.job:
            return  # it was between two jobs, and the next is at another worker already
        self.device = None
        if self.running is None:
            return
        self._on_job_ended_with_worker(self.running, event)
        self.running = None

    def _on_job_ended_with_worker(self, running: Running, event: WorkerEnded) -> None:
        stage = running.stage
        match event.reason:
            case "closed":
                self._ledger.transact(lambda s: queue.interrupted(s, running.job))
            case "unready":
                log.error("worker.unready", why=event.detail)
                self._hold(running.job, DeviceUnavailable.code, event.detail)
            case "cancel":
                failure = Cancelled("ended by force: it did not react to the cancel").failure()
                self._ledger.transact(lambda s: queue.fail(s, running.job, failure, stage))
            case reason if (why := self._source_away(running.job)) is not None:
                log.error("worker.ended", job=running.job, why=event.detail, reason=reason)
                self._hold(running.job, InboxUnavailable.code, why)
            case reason:
                log.error("worker.ended", job=running.job, why=event.detail)
                kind = StageTimeout if reason == "timeout" else WorkerCrashed
                failure = kind(event.detail).failure()
                self._ledger.transact(lambda s: self._worker_died(s, running.job, failure, stage))

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
            requests.cancel_requests
        ):
            self._executor.cancel(self.running.job)

    def attend_hours(self) -> None:
        """Have the running job stop before its next stage once its inbox's hours are over."""
        running = self.running
        if running is not None and not running.resting and self.holds.rests(running.inbox):
            running.resting = True
            self._executor.rest(running.job)
