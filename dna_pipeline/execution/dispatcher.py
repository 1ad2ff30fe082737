"""Hands jobs to the executor and records its events in the ledger."""

from __future__ import annotations

import queue as queues
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
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
from dna_pipeline.base.failpoints import failpoint
from dna_pipeline.base.reachability import Look, look_directly
from dna_pipeline.config.schema import Config
from dna_pipeline.execution import orders
from dna_pipeline.execution.kept_requests import JobRequests
from dna_pipeline.execution.local_executor import Executor
from dna_pipeline.execution.protocol import (
    Event,
    JobDone,
    JobEvent,
    JobFailed,
    MemoryUse,
    ModelsLoaded,
    Order,
    Phase,
    Progress,
    StageDone,
    Task,
    TaskDone,
    TaskEnd,
    TaskFailed,
    WorkerEnded,
    WorkerReady,
)
from dna_pipeline.execution.running_job import RunningJob
from dna_pipeline.execution.scheduler import Scheduler
from dna_pipeline.execution.suspects import Suspects
from dna_pipeline.execution.worker_state import WorkerState
from dna_pipeline.ledger import holds, pauses, queue, requests
from dna_pipeline.ledger.engine import Transaction
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.ledger.tables import Drop, Job

log = structlog.get_logger()

DEVICE_HINT = (
    "The device or its driver reported the error. See its state (`nvidia-smi`, the system's log), "
    "reload the driver or restart the machine, then `dna-pipeline retry`; or set "
    "`runtime.device: cpu` in pipeline.yaml."
)


AHEAD_S = 2.0
"""Time before a worker's device is free at which the worker gets its next job, to prepare it."""


class Dispatcher:
    """Sends the next job's order to the executor, and records the events that come back.

    A worker may have several jobs and tasks. Where it ends and nothing says which of them was the
    cause, no job is charged with an attempt: see `Suspects`.

    Attributes:
        running: the jobs at the executor by their ids, the oldest first.
        workers: device, number type, GPU and memory of each worker that is ready, by the name of
            its process. Which models it has is known to the executor.
    """

    def __init__(
        self, config: Config, ledger: Ledger, executor: Executor, look: Look = look_directly
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._executor = executor
        self._look = look
        self.running: dict[str, RunningJob] = {}
        self.workers: dict[str, dict[str, Any]] = {}
        self._tasks: dict[str, Callable[[TaskEnd], None]] = {}
        self._waiting_tasks: deque[Task] = deque()
        self._idle_tasks: deque[Task] = deque()
        self.scheduler = Scheduler(config, ledger, look)
        self._event: Event | None = None
        self._claimed_job: Job | None = None
        self._suspects = Suspects()
        self._progress: dict[str, dict[str, Any]] = {}
        """Progress of jobs that is not recorded yet."""
        self._usual_s: dict[tuple[str, str | None], float] = {}
        """Seconds that each stage of an inbox took the last time."""

    @property
    def is_idle(self) -> bool:
        """True if no job and no task is at the executor or about to be. Tasks for idle time that
        have not begun do not count."""
        has_tasks = len(self._tasks) > len(self._idle_tasks)
        return not (self.running or has_tasks or self._event or self._claimed_job)

    def worker_names(self) -> list[str]:
        """Names of all workers, which a task may ask for."""
        return [state.name for state in self._executor.workers()]

    def worker_of(self, process: str) -> str | None:
        """Name of the worker whose process has that name; None if it is not its process of now."""
        states = self._executor.workers()
        return next((state.name for state in states if state.process == process), None)

    def describe_workers(self, jobs: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """The field `workers` of `status.json`.

        Args:
            jobs: all running jobs, as `RunningJob.to_dict` gives them.
        """
        by_worker: dict[str, list[dict[str, Any]]] = {}
        for job in jobs:
            by_worker.setdefault(job["worker"], []).append(job)
        return [
            {"dtype": None, "gpu": None}
            | state.to_dict()
            | self.workers.get(state.process, {})
            | {"jobs": by_worker.get(state.process, [])}
            for state in self._executor.workers()
        ]

    def delayed(self) -> dict[str, Any] | None:
        """The field `delayed` of `status.json`: the job that lets others pass, since they need the
        models that are loaded; None if none does."""
        delay = self.scheduler.order.delay
        return None if delay is None else delay.to_dict()

    # --- orders ---

    def dispatch(self, *, holds_back: bool = False) -> None:
        """Submit tasks that wait, then the next jobs, as long as the executor has room; where no
        job may start, a task for idle time, and beside jobs if another worker is free.

        Args:
            holds_back: True to begin neither a further job nor a task for idle time.
        """
        self._fail_tasks_of_lost_workers()
        while (task := self._next_task()) is not None:
            self._waiting_tasks.remove(task)
            self._executor.submit(task)
        while free := self._free_for_job():
            # `_submit` reads the ledger, which may fail after the job was marked as running, and
            # workers may end meanwhile. So the job is remembered, and submitted at the next call.
            if self._claimed_job is None and holds_back:
                return
            if self._claimed_job is None:
                self._claimed_job = self.scheduler.claim([worker.model_names for worker in free])
            if self._claimed_job is None:
                self._submit_idle_task()
                return
            if self._claimed_job.id in self._suspects and free[0].orders:
                return  # it waits until a worker has no other order
            if not self._submit(self._claimed_job):
                return
            self._claimed_job = None

    def _submit_idle_task(self) -> None:
        at_rest = {worker.name for worker in self._free() if not worker.orders}
        if self._idle_tasks and at_rest:
            self._executor.submit(self._idle_tasks.popleft(), at_rest)

    def _free(self) -> list[WorkerState]:
        """The workers that may be given an order now; of these, those that have the fewest."""
        waiting = len(self._waiting_tasks) + len(self._idle_tasks)
        at_work = len(self.running) + len(self._tasks) - waiting
        if at_work >= self._executor.capacity:
            return []
        free = [worker for worker in self._executor.workers() if worker.is_free]
        least = min((worker.orders for worker in free), default=0)
        return [worker for worker in free if worker.orders == least]

    def _free_for_job(self) -> list[WorkerState]:
        """The workers that may be given a job now. One that has jobs gets another only shortly
        before the device is free: what is given away is not overtaken any more by a job of higher
        priority, or by a newer export of its file."""
        return [worker for worker in self._free() if self._has_time_for_job(worker)]

    def _has_time_for_job(self, worker: WorkerState) -> bool:
        if not worker.orders:
            return True
        jobs = [job for job in self.running.values() if job.worker in ("", worker.process)]
        if sum(job.is_before_turn for job in jobs) >= self._config.runtime.most_together:
            return False
        computing = [job for job in jobs if not job.is_before_turn]
        left_s = [job.turn_left_s(self._usual_s.get((job.inbox, job.stage))) for job in computing]
        return all(seconds is not None and seconds <= AHEAD_S for seconds in left_s)

    def _next_task(self) -> Task | None:
        """The first task that waits and can be submitted: to any worker, or to its own."""
        names = {"", *(worker.name for worker in free)} if (free := self._free()) else set[str]()
        return next((task for task in self._waiting_tasks if task.worker in names), None)

    def _fail_tasks_of_lost_workers(self) -> None:
        """End tasks for workers that rest without a device: nobody knows when they go on."""
        states = self._executor.workers()
        lost = {w.name: w.problem for w in states if w.state == "lost" and not w.is_free}
        for task in [task for task in self._waiting_tasks if task.worker in lost]:
            failure = Failure(DeviceUnavailable.code, "", lost[task.worker])
            self._tasks[task.id](TaskFailed(task.id, failure.to_dict()))
            del self._tasks[task.id]
            self._waiting_tasks.remove(task)

    def request(self, task: Task, done: Callable[[TaskEnd], None]) -> None:
        """Run a task before the next job. `listen`, or else `drain`, calls `done` with the event
        that ends the task."""
        self._tasks[task.id] = done
        self._waiting_tasks.append(task)

    def request_when_idle(self, task: Task, done: Callable[[TaskEnd], None]) -> None:
        """Run a task once no job may start and a worker has neither a job nor a task; as `request`
        else.

        A job that comes meanwhile waits for the task, so the task should take a second at most.
        """
        self._tasks[task.id] = done
        self._idle_tasks.append(task)

    def _submit(self, job: Job) -> bool:
        """Give a claimed job away; False if no worker has room for it any more."""
        failpoint("attempt-committed")
        order = self._order(job)
        free = self._free_for_job()
        if not free or (order.alone and free[0].orders):
            return False
        log.info("job.started", job=job.id, name=job.name, attempt=job.attempt)
        self.running[job.id] = RunningJob(job.id, job.inbox, job.name, job.attempt)
        self._executor.submit(order, {worker.name for worker in free})
        failpoint("order-sent")
        return True

    def _order(self, job: Job) -> Order:
        drop, done = self._ledger.transact(
            lambda s: (s.get_one(Drop, job.drop_id), queue.finished_stages(s, job.id))
        )
        self._restore_stages(job, Path(drop.claim))
        work = self._config.work / job.id
        order = orders.order_of(job, drop, done, work, JobRequests(self._config))
        return replace(order, alone=job.id in self._suspects)

    def _restore_stages(self, job: Job, claim: Path) -> None:
        """Move the stage files that a retry preserved to the folder where the worker looks."""
        if not claim.is_relative_to(self._config.data):
            return  # the claim is in an inbox, where a retry never puts stage files
        try:
            stage_files.restore(claim, self._config.work / job.id)
        except OSError as error:
            # No harm is done: the worker runs a stage again if its files are missing.
            log.warning("stages.lost", job=job.id, why=str(error))

    # --- events ---

    def listen(self) -> bool:
        """Record all events that the executor reported since the last call.

        Returns:
            True if a task ended or a job is in another phase, so that the executor may have room
            although the ledger is unchanged.
        """
        events = self._executor.events()
        has_room = False
        while True:
            if self._event is None:
                try:
                    self._event = events.get_nowait()
                except queues.Empty:
                    self._record_progress()
                    return has_room
            if not isinstance(self._event, Progress | Phase):
                self._record_progress()
            has_room |= isinstance(self._event, TaskDone | TaskFailed | Phase)
            # Recording may fail, for instance on a full disk. So the event is remembered and
            # recorded at the next call: the end of a job must not be lost.
            self._handle(self._event)
            self._event = None

    def _handle(self, event: Event) -> None:
        match event:
            case WorkerReady():
                gpu = event.environment.get("gpu")
                facts = {"device": event.device, "dtype": event.dtype, "gpu": gpu}
                self.workers[event.worker] = facts
                self.scheduler.device_available()
                log.info("worker.ready", worker=event.worker, **facts)
            case ModelsLoaded():
                states = {model.name: model.state for model in event.models}
                log.info("models.changed", worker=event.worker, models=states)
            case WorkerEnded():
                self._on_worker_ended(event)
            case TaskDone() | TaskFailed():
                if (done := self._tasks.get(event.task)) is not None:
                    done(event)
                    del self._tasks[event.task]
            case _ if (running := self.running.get(event.job)) is None:
                log.warning("event.stale", kind=event.kind, job=event.job)
            case _:
                self._on_job_event(running, event)

    def _on_job_event(self, running: RunningJob, event: JobEvent) -> None:
        match event:
            case Phase():
                running.enter(event)
                self._note_memory(running.worker, event.memory)
            case Progress():
                self._on_progress(running, event)
            case StageDone():
                self._on_stage_done(running, event)
            case JobDone():
                self._ledger.transact(lambda s: self._succeed(s, event.job))
                failpoint("outcome-committed")
                self._suspects.clear(event.job)
                self._forget(event.job)
            case JobFailed():
                self._on_failed(event)
                self._suspects.clear(event.job)
                self._forget(event.job)

    def _forget(self, job: str) -> None:
        """Note that a job is not at the executor any more."""
        del self.running[job]
        self.scheduler.order.note_end(job)

    def _note_memory(self, worker: str, memory: MemoryUse | None) -> None:
        """Remember how much memory a worker's device uses, for status."""
        if memory is not None and worker in self.workers:
            self.workers[worker]["memory_bytes"] = memory.used
            self.workers[worker]["memory_total_bytes"] = memory.total

    def _on_progress(self, running: RunningJob, event: Progress) -> None:
        self._note_memory(running.worker, event.memory)
        running.step, running.steps = event.step, event.steps
        running.fraction = event.fraction
        data = {
            "stage": event.stage, "step": event.step, "steps": event.steps,
            "fraction": event.fraction,
        }  # fmt: skip
        self._progress[event.job] = data

    def _record_progress(self) -> None:
        """Record the progress of all jobs in one transaction, of each the newest that was reported.

        Many workers report so much of it that a transaction for each would take all the time.
        """
        if self._progress:

            def action(session: Transaction) -> None:
                for job, data in self._progress.items():
                    queue.add_progress(session, job, data)

            self._ledger.transact(action)
            self._progress.clear()

    def _on_stage_done(self, running: RunningJob, event: StageDone) -> None:
        record: dict[str, Any] = asdict(event) | {"attempt": running.attempt}
        job, files = record.pop("job"), record.pop("artifacts")
        record["stage_id"] = record.pop("stage")
        failpoint("stage-reported")
        self._ledger.transact(lambda s: queue.finish_stage(s, job, record, files))
        failpoint("stage-committed")
        if event.reused_from is None:
            self._usual_s[running.inbox, event.stage] = event.seconds
        log.info("stage.finished", job=job, stage=event.stage, seconds=event.seconds)

    def _on_failed(self, event: JobFailed) -> None:
        failure = Failure.from_dict(event.failure)
        code, detail, is_hold = failure.code, failure.detail, event.hold
        # If the source folder is unreachable, assume that caused the failure and hold the job.
        if not is_hold and (why := self._unreachable_source(event.job)) is not None:
            code, detail, is_hold = InboxUnavailable.code, why, True
        if is_hold:
            log.warning("job.held", job=event.job, code=code, why=detail)
            self._hold(event.job, event.worker, code, detail)
            return
        if event.poisoned:
            log.error("device.failed", job=event.job, stage=event.stage, why=detail)
            # The worker process must end after this fault, so the fault counts as a dead worker.
            failure = WorkerCrashed(detail, hint=DEVICE_HINT).failure()
            self._ledger.transact(lambda s: self._worker_died(s, event.job, failure, event.stage))
            return
        log.warning("job.failed", job=event.job, code=failure.code, detail=failure.detail)
        if failure.code == SourceMissing.code:
            log.error("source.missing", job=event.job)
        self._ledger.transact(lambda s: self._fail(s, event.job, failure, event.stage))

    def _hold(self, job: str, worker: str, code: str, detail: str) -> None:
        """Put the job of that worker back as held. If the worker has lost its device, only its own
        job goes back, for the other workers; if none of these has a device, all jobs are held."""
        if code == DeviceUnavailable.code:
            self._on_device_lost(job, worker, detail)
            return
        self._ledger.transact(lambda s: holds.hold(s, job, code, detail))
        if code == InboxUnavailable.code:
            self.scheduler.sources.note_hold(job)

    def _on_device_lost(self, job: str, worker: str, detail: str) -> None:
        code = DeviceUnavailable.code
        others = [w for w in self._executor.workers() if w.process != worker]
        if len(self.worker_names()) > 1 and any(not other.problem for other in others):
            self._ledger.transact(lambda s: queue.requeue_interrupted(s, job, detail, code))
            return

        def action(session: Transaction) -> None:
            holds.hold(session, job, code, detail)
            holds.hold_where(session, "status", ["queued"], code, detail)

        self._ledger.transact(action)
        self.scheduler.device_lost()

    def _unreachable_source(self, job_id: str) -> str | None:
        """The reason why the job's source cannot be reached; None if it can."""
        claim = self._ledger.transact(lambda s: holds.claim_of(s, job_id))
        return None if claim is None else claim_folders.unreachable_reason(claim, self._look)

    def _succeed(self, session: Transaction, job: str) -> None:
        pauses.note_success(session, job)
        queue.finish_computing(session, job)

    def _fail(self, session: Transaction, job: str, failure: Failure, stage: str | None) -> None:
        queue.fail(session, job, failure, stage)
        self._count_failure(session, job, failure)

    def _count_failure(self, session: Transaction, job: str, failure: Failure) -> None:
        limit = self._config.runtime.pause_after_failures
        if (why := pauses.note_failure(session, job, failure, limit)) is not None:
            log.error("pipeline.paused", why=why)
        counted = queue.find_job(session, job)
        if (why := pauses.check_batch(session, counted and counted.batch)) is not None:
            log.error("batch.paused", why=why)

    def _worker_died(
        self, session: Transaction, job: str, failure: Failure, stage: str | None
    ) -> None:
        queue.worker_died(session, job, self._config.runtime.max_attempts, failure, stage)
        self._count_failure(session, job, failure)

    def _on_worker_ended(self, event: WorkerEnded) -> None:
        self.workers.pop(event.worker, None)
        jobs = [job for job in event.jobs if job in self.running]
        is_unclear = event.reason == "crash" and event.cause is None and event.shared
        for job in jobs:
            if is_unclear or event.cause not in (None, job):
                self._on_ended_beside(job, event)
            else:
                self._on_job_ended_with_worker(self.running[job], event)
            self._forget(job)
        if is_unclear and event.jobs:
            self._suspects.add(event.jobs)
        elif event.reason == "crash" and event.jobs:
            self._suspects.convict(event.jobs[0])

    def _on_ended_beside(self, job: str, event: WorkerEnded) -> None:
        """Put a job back whose worker ended, where another one may have been, or was, the cause."""
        log.warning("job.interrupted", job=job, why=event.detail)
        may_be = "may have been" if event.cause is None else "was"
        why = f"{event.detail}; another job or task {may_be} the cause"
        self._ledger.transact(lambda s: queue.requeue_interrupted(s, job, why, WorkerCrashed.code))

    def _on_job_ended_with_worker(self, running: RunningJob, event: WorkerEnded) -> None:
        stage = running.stage
        match event.reason:
            case "closed":
                self._ledger.transact(lambda s: queue.requeue_interrupted(s, running.job))
            case "lost":  # with its node, say; the job may be quite innocent
                log.warning("worker.lost", job=running.job, why=event.detail)
                self._ledger.transact(lambda s: queue.requeue_lost(s, running.job, event.detail))
            case "unready":
                log.error("worker.unready", why=event.detail)
                self._hold(running.job, event.worker, DeviceUnavailable.code, event.detail)
            case "cancel":
                failure = Cancelled("ended by force: it did not react to the cancel").failure()
                self._ledger.transact(lambda s: queue.fail(s, running.job, failure, stage))
            case reason if (why := self._unreachable_source(running.job)) is not None:
                log.error("worker.ended", job=running.job, why=event.detail, reason=reason)
                self._hold(running.job, event.worker, InboxUnavailable.code, why)
            case reason:
                log.error("worker.ended", job=running.job, why=event.detail)
                kind = StageTimeout if reason == "timeout" else WorkerCrashed
                failure = kind(event.detail).failure()
                self._ledger.transact(lambda s: self._worker_died(s, running.job, failure, stage))

    def drain(self) -> None:
        """Record the last events of a closed executor; a job without an end counts as
        interrupted, and a task without an end has failed."""
        self.listen()
        failure = WorkerCrashed("the daemon ended before the task").failure().to_dict()
        self._waiting_tasks.clear()
        self._idle_tasks.clear()
        for task in list(self._tasks):
            self._tasks.pop(task)(TaskFailed(task, failure))
        for job in list(self.running):
            self._ledger.transact(lambda s, i=job: queue.requeue_interrupted(s, i))
            del self.running[job]

    # --- requests of people, and hours ---

    def forward_cancels(self) -> None:
        """Tell the executor which running jobs someone asked to cancel."""
        if self.running:
            for job in self._ledger.transact(requests.cancel_requests):
                if job in self.running:
                    self._executor.cancel(job)

    def enforce_hours(self) -> None:
        """Make running jobs stop before their next stage if the hours of their inboxes are over."""
        for running in self.running.values():
            if not running.is_yielding and self.scheduler.is_outside_hours(running.inbox):
                running.is_yielding = True
                self._executor.yield_after_stage(running.job)
