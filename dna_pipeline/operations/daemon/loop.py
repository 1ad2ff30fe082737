"""The daemon's main loop, which joins inbox, ledger, executor and outbox.

The thread `intake` claims files (`IntakeService`). The main thread sends orders, listens to the
executor, has results published, and fulfils the requests that commands write to the ledger. The
next order is sent before the last job is published, so that the device never waits for the disk.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager, suppress
from functools import partial
from math import inf
from typing import Any

import structlog

from dna_pipeline.base.errors import ConfigError, Hold, InboxUnavailable, SigningUnavailable
from dna_pipeline.base.periodic import Throttle
from dna_pipeline.base.reachability import FolderProbe
from dna_pipeline.config.schema import Config
from dna_pipeline.execution.dispatcher import Dispatcher
from dna_pipeline.execution.local_executor import Executor, LocalExecutor, WorkerSettings
from dna_pipeline.execution.scheduler import signer_of
from dna_pipeline.intake.claiming.owner import Heartbeat
from dna_pipeline.intake.discovery.watcher import Watcher
from dna_pipeline.intake.inbox_folders import make_folder, make_inboxes
from dna_pipeline.intake.service import IntakeService
from dna_pipeline.ledger import health, queue
from dna_pipeline.ledger.engine import LedgerError, LedgerUnavailable
from dna_pipeline.ledger.queries import Queries
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.ledger.tables import Job
from dna_pipeline.operations.daemon.cleanup import Cleanup
from dna_pipeline.operations.daemon.lock import hold_kept, hold_lock, holder
from dna_pipeline.operations.daemon.preload import Preload
from dna_pipeline.operations.daemon.run_waits import Report, RunWaits
from dna_pipeline.operations.daemon.sheets import SheetMaker
from dna_pipeline.operations.daemon.status_file import Observer, StatusFile
from dna_pipeline.operations.ownership import check_data_folder
from dna_pipeline.operations.repair.overtaken import OvertakenJobs
from dna_pipeline.publish.batch_report import BatchReports
from dna_pipeline.publish.publisher import Publisher

log = structlog.get_logger()

TICK_S = 0.25
REVIEW_S = 2.0
PUBLISH_RETRY_S = 5.0
PUBLISH_WAIT_S = 2.0
"""Time for which the loop waits for one result to be published, before it continues meanwhile."""
LEDGER_RETRY_S = 5.0
CLOSE_GRACE_S = 8.0
"""Time in which all parts together have to end: less than the ten seconds that are promised."""

CLOSING_LIMIT_S = 0.5
"""Time in which a folder has to answer while the daemon ends."""

ExecutorFactory = Callable[[WorkerSettings, Callable[[], None]], Executor]


def worker_settings(config: Config) -> WorkerSettings:
    """Extract the part of the configuration that the worker needs."""
    models = {
        name: {"provider": provider.name_in_config, **provider.model_dump(mode="json")}
        for name, provider in config.models.declared.items()
    }
    runtime, folder, signing = config.runtime, config.models.folder, config.signing
    return WorkerSettings(
        device=runtime.device,
        dtype=runtime.dtype,
        data=str(config.data),
        models=models,
        stage_timeout_s=runtime.stage_timeout_s,
        idle_unload_s=runtime.idle_unload_s,
        checkpoints=None if folder is None else str(folder),
        signing=None if signing is None else {
            "certificate": str(signing.certificate), "key": str(signing.key),
            "algorithm": signing.algorithm, "timestamp_url": signing.timestamp_url,
        },
    )  # fmt: skip


class Publishing:
    """Publishes one job on a thread of its own, so that a disk that stops answering blocks that
    thread and not the daemon's loop."""

    def __init__(self, job: str, publish: Callable[[], None]) -> None:
        self.job = job
        self._publish = publish
        self._error: BaseException | None = None
        self._ended = threading.Event()
        threading.Thread(target=self._run, name="publish", daemon=True).start()

    def _run(self) -> None:
        try:
            self._publish()
        except BaseException as error:
            self._error = error
        finally:
            self._ended.set()

    def has_ended(self, wait_s: float) -> bool:
        """True if publishing has ended; waits up to `wait_s` for it."""
        return self._ended.wait(wait_s)

    def check(self) -> None:
        """Raise the error that ended publishing, if there was one."""
        if self._error is not None:
            raise self._error


class Daemon:
    """One run of `watch` or `run` with one data folder."""

    def __init__(self, config: Config, executor: ExecutorFactory = LocalExecutor) -> None:
        self.config = config
        self._make_executor = executor
        self._probe = FolderProbe()
        self._look = self._probe.look
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._hints = threading.Event()
        self._patient = True
        self.waiting: list[dict[str, Any]] = []
        """Files that were not claimed when `run` returned, with reasons."""
        self.is_stuck = False
        """True if a thread is still alive after `run`, since a dead disk blocks it."""
        self._intake_error: BaseException | None = None
        self._publish_retry = Throttle(PUBLISH_RETRY_S)
        self._publishing: Publishing | None = None
        self._review = Throttle(REVIEW_S)
        self._trouble = ""
        """Reason for which the ledger is unavailable; "" if it is available."""
        self._has_changed = True
        """True if the ledger was written to since the loop last acted on all of it."""

    def stop(self) -> None:
        """End `run` soon. Safe to call from a signal handler and from any thread."""
        self._stop.set()
        self._wake.set()

    def run(
        self,
        *,
        until_idle: bool = False,
        started: Callable[[], None] = lambda: None,
        report_waits: Report = lambda _: None,
        observe: Observer = lambda _: None,
    ) -> None:
        """Work until stopped or, with `until_idle`, until nothing can continue without a person.

        Args:
            observe: called about once a second with the content of `status.json`, from this thread.

        Raises:
            ConfigError: there is no ledger yet, and the data folder holds other people's files.
            Locked: another daemon holds the data folder, or an inbox that keeps its files.
        """
        with closing(self._probe):
            check_data_folder(self.config, self._look)
            with hold_lock(self.config.data), self._folders(), self._opened(observe):
                started()
                self._work(RunWaits(report_waits), until_idle=until_idle)

    def _work(self, waits: RunWaits, *, until_idle: bool) -> None:
        self._patient = not until_idle
        # `run` ends as soon as its jobs do, so it loads only what a job needs.
        preload = Preload([] if until_idle else self.config.runtime.preload, self.dispatcher)
        preload.begin()
        while not self._stop.is_set():
            self._tick_or_sleep()
            preload.step()
            if until_idle and self._is_idle():
                # Written now, since closing leaves little time for it.
                self._write_batch_reports(inf)
                if not self._has_sheets_to_make():
                    break
            if until_idle and not self.dispatcher.running:
                waits.step(time.monotonic(), self.intake.short_waits())
            self._wake.wait(TICK_S)
            self._wake.clear()

    @contextmanager
    def _folders(self) -> Generator[None]:
        """Make all folders, and lock the inboxes that keep their files, while the block runs."""
        self._make_folders()
        inboxes = [(inbox.name, inbox.path) for inbox in self.config.inboxes if inbox.keeps]
        answering = [(name, path) for name, path in inboxes if self._look(path).is_there]
        with hold_kept(answering, self.config.data):
            yield

    @contextmanager
    def _opened(self, observe: Observer) -> Generator[None]:
        """Create, recover and start all parts; end them when the block is left."""
        path = self.config.ledger_path
        thorough = not health.was_stopped_cleanly(path)
        self.ledger = Ledger(path, thorough=thorough)
        self._queries = Queries(self.config.ledger_path)
        self._versions = self._queries.data_version()
        self._version = 0
        look = self._look
        self.publisher = Publisher(self.config, self.ledger, look)
        self.executor = self._make_executor(worker_settings(self.config), self._wake.set)
        self.dispatcher = Dispatcher(self.config, self.ledger, self.executor, look)
        self.cleanup = Cleanup(self.config, self.ledger, look)
        self.intake = IntakeService(self.config, self.ledger, self.cleanup, look)
        self.batch_reports = BatchReports(
            self.ledger, self.publisher, self.cleanup.dispose_unneeded, look
        )
        self.status = StatusFile(
            self.config, self._queries, self.dispatcher, self.intake, look, observe
        )
        self.sheets = SheetMaker(self.config, self.ledger, self.dispatcher, look, self._wake.set)
        self.overtaken = OvertakenJobs(self.config, self.ledger, look)
        self._recover()
        watcher = Watcher(self.config.inboxes, self._hint, _warn, look)
        watcher.refresh()
        heartbeat = self._heartbeat()
        heartbeat.start()
        intake = threading.Thread(
            target=self._run_intake, args=(watcher,), name="intake", daemon=True
        )
        intake.start()
        if (signer := signer_of(self.config)) and (why := signer.problem()) is not None:
            log.error("signing.unavailable", code=SigningUnavailable.code, why=why)
        log.info("daemon.started", data=str(self.config.data), ledger=self.ledger.id)
        try:
            yield
        finally:
            self._stop.set()
            self._hints.set()
            self.sheets.close()
            self._probe.limit_s = CLOSING_LIMIT_S
            end = time.monotonic() + CLOSE_GRACE_S
            # The worker ends first: it holds the most memory, and depends on no other part.
            self.executor.close(CLOSE_GRACE_S / 2)
            with suppress(LedgerError):  # a stage that could not be recorded runs again
                self.dispatcher.drain()
            intake.join(max(end - CLOSE_GRACE_S / 4 - time.monotonic(), 0.5))
            self.is_stuck = intake.is_alive() or not self._has_ended_publishing()
            watcher.stop()
            self._close()
            heartbeat.stop()
            self._probe.close()

    def _heartbeat(self) -> Heartbeat:
        places = [inbox.path for inbox in self.config.inboxes if not inbox.keeps]
        about = (holder(self.config.data) or {}) | {"data": str(self.config.data)}
        return Heartbeat(places, self.ledger.id, about, self._look)

    def _close(self) -> None:
        self.waiting = self.intake.waiting()
        self.intake.close()
        self._write_batch_reports()
        self.status.close()
        self._versions.close()
        self._queries.close()
        self.ledger.close()
        log.info("daemon.stopped")

    def _write_batch_reports(self, limit_s: float = CLOSE_GRACE_S / 4) -> None:
        """Write the reports a last time; skip them if the ledger fails."""
        with suppress(LedgerError):
            self.batch_reports.write(limit_s)

    def _has_sheets_to_make(self) -> bool:
        with suppress(LedgerError):
            return self.sheets.has_work()
        return False

    def _make_folders(self) -> None:
        for folder in (self.config.data, self.config.work, self.config.outbox):
            make_folder(folder, self._look)
        make_inboxes(self.config, self._watched_before(), self._look)

    def _watched_before(self) -> set[str]:
        """Give the names of the inboxes that a daemon with this data folder has watched before."""
        if not self.config.ledger_path.exists():
            return set()
        with suppress(ConfigError), closing(Queries(self.config.ledger_path)) as queries:
            return queries.watched_inboxes()
        return set()  # a ledger that cannot be read is refused when it is opened

    def _recover(self) -> None:
        """Resume the unfinished work of the last daemon, from the ledger and the claims."""
        self.intake.recover()
        # First of all, since the next steps queue running jobs again and move unknown copies away.
        self.dispatcher.scheduler.sources.has_missing_claims = not self.overtaken.settle()
        back = self.ledger.transact(queue.recover)
        for job_id in back:
            log.info("job.resumed", job=job_id)
        self.cleanup.at_start()
        self.publisher.recover()

    # --- intake's thread ---

    def _hint(self, name: str) -> None:
        self.intake.hint(name)
        self._hints.set()

    def _run_intake(self, watcher: Watcher) -> None:
        refresh_s = min((i.rescan_s for i in self.config.inboxes), default=30.0)
        refresh = Throttle(refresh_s)
        refresh.done(time.monotonic())
        try:
            while not self._stop.is_set():
                if self.intake.step():
                    self._wake.set()
                    continue
                self._hints.wait(min(self.intake.seconds_to_next(), refresh_s))
                self._hints.clear()
                if refresh.take(time.monotonic()):
                    watcher.refresh()
        except BaseException as error:
            # Without intake the daemon would wait for ever, so the main loop raises this and ends.
            self._intake_error = error
            self._wake.set()

    # --- the loop ---

    def _tick_or_sleep(self) -> None:
        """Do one round of the loop. If the ledger is unavailable, by a full disk say, wait a
        moment."""
        try:
            self._tick()
            self._trouble = ""
        except LedgerUnavailable as error:
            if (trouble := str(error.orig)) != self._trouble:
                log.error("ledger.unavailable", why=trouble)
            self._trouble = trouble
            self._stop.wait(LEDGER_RETRY_S)

    def _tick(self) -> None:
        if self._intake_error is not None:
            raise RuntimeError("taking files in failed") from self._intake_error
        now = time.monotonic()
        self.dispatcher.listen()
        self.executor.enforce_timeouts()
        if self._review.take(now):
            self.dispatcher.scheduler.review(keep_trying=self._patient)
            self.dispatcher.enforce_hours()
            self._settle_overtaken()
            # A wait may end without a commit to the ledger, so all of the following is tried.
            self._has_changed = True
        self._look_for_change()
        # Cancels, and jobs to start or publish, are found in the ledger alone, so skip all three if
        # it is unchanged. A change that is noticed only here must reach the running job too.
        if self._has_changed:
            self.dispatcher.forward_cancels()
            self.dispatcher.dispatch()
            self._publish_some(now)
            self._has_changed = False
        self.batch_reports.step(now)
        if self.sheets.step(now):
            self.dispatcher.dispatch()
        self.cleanup.step(now)
        self.status.step(now)

    def _settle_overtaken(self) -> None:
        """End held jobs whose sources are gone for good, as soon as the outbox can be reached."""
        sources = self.dispatcher.scheduler.sources
        if sources.has_missing_claims and self.overtaken.settle(only_held=True):
            sources.has_missing_claims = False

    def _look_for_change(self) -> None:
        """Notice commits to the ledger since the last call, by any connection."""
        before, self._version = self._version, next(self._versions)
        if before != self._version:
            self._has_changed = True
            self.status.ledger_changed()
            self.batch_reports.ledger_changed()
            self.sheets.ledger_changed()

    def _publish_some(self, now: float) -> None:
        """Publish finished jobs, one after the other, and serve the executor between them."""
        if not self._publish_retry.is_due(now) or not self._has_published(0.0):
            return
        for job in self.ledger.transact(queue.to_publish):
            if self._stop.is_set():
                return
            self._publishing = Publishing(job.id, partial(self._publish, job))
            if not self._has_published(PUBLISH_WAIT_S):
                return
            self.dispatcher.listen()
            self.dispatcher.dispatch()

    def _publish(self, job: Job) -> None:
        self.publisher.publish(job)
        self.cleanup.dispose_unneeded(job.drop_id)

    def _has_published(self, wait_s: float) -> bool:
        """True if the next job may be published: the last one is done or waits for its source."""
        if (last := self._publishing) is None:
            return True
        try:
            if not last.has_ended(wait_s):
                self.publisher.check_outbox()
                return False
            self._publishing = None
            last.check()
        except Hold as reason:
            self._hold_publish(last.job, reason)
            return isinstance(reason, InboxUnavailable)  # concerns this job alone
        return True

    def _has_ended_publishing(self) -> bool:
        return self._publishing is None or self._publishing.has_ended(PUBLISH_WAIT_S / 4)

    def _hold_publish(self, job: str, reason: Hold) -> None:
        self.ledger.transact(lambda s: queue.hold_publish(s, job, reason.code, str(reason)))
        log.warning("publish.held", job=job, why=str(reason))
        if isinstance(reason, InboxUnavailable):
            self.dispatcher.scheduler.sources.note_hold(job)
        else:
            self._publish_retry.done(time.monotonic())

    def _is_idle(self) -> bool:
        return (
            self.intake.is_quiet
            and not self.dispatcher.running
            and not self.sheets.is_at_work
            and not self._queries.has_open_jobs()
        )


def _warn(inbox: str, sentence: str) -> None:
    log.warning("inbox.watched_less_well", inbox=inbox, why=sentence)
