"""The daemon's main loop, which joins inbox, ledger, executor and outbox.

The thread `intake` claims files (`IntakeService`). The main thread sends orders, listens to the
executor, has results published, and fulfils the requests that commands write to the ledger. The
next order is sent before the last job is published, so that the device never waits for the disk.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager, suppress
from functools import partial
from math import inf
from typing import Any

import structlog

from dna_pipeline.base.errors import ConfigError, Hold, InboxUnavailable, LedgerUnreadable
from dna_pipeline.base.periodic import SignalFlag, Throttle
from dna_pipeline.base.times import utcnow
from dna_pipeline.config.schema import Config
from dna_pipeline.intake.planning.table_rows import TableRows
from dna_pipeline.intake.table_intake import TableIntake
from dna_pipeline.ledger import health, queue, store
from dna_pipeline.ledger.engine import LedgerError, LedgerUnavailable
from dna_pipeline.ledger.queries import Queries
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.ledger.tables import Job
from dna_pipeline.operations import configuration
from dna_pipeline.operations.daemon.background import Background
from dna_pipeline.operations.daemon.config_watch import ConfigWatch
from dna_pipeline.operations.daemon.executors import check_executor, make_executor
from dna_pipeline.operations.daemon.lock import hold_lock
from dna_pipeline.operations.daemon.parts import CLOSE_GRACE_S, DaemonParts, ExecutorFactory
from dna_pipeline.operations.daemon.reporting import Reporting
from dna_pipeline.operations.daemon.run_waits import Report, RunWaits
from dna_pipeline.operations.daemon.server_process import ServerProcess
from dna_pipeline.operations.daemon.service_manager import ServiceManager
from dna_pipeline.operations.daemon.status_file import Observer
from dna_pipeline.operations.daemon.takeover import Takeover
from dna_pipeline.operations.ownership import check_data_folder

log = structlog.get_logger()

TICK_S = 0.25
REVIEW_S = 2.0
PUBLISH_RETRY_S = 5.0
PUBLISH_WAIT_S = 2.0
"""Time for which the loop waits for one result to be published, before it continues meanwhile."""
LEDGER_RETRY_S = 5.0
CLOSING_LIMIT_S = 0.5
"""Time in which a folder has to answer while the daemon ends."""


class Daemon(DaemonParts):
    """One run of `watch` or `run` with one data folder.

    Args:
        server: the HTTP server that runs beside it; None if there is none.
        table: rows of a table that `run` does in the place of all else; None for the inboxes.
    """

    def __init__(
        self,
        config: Config,
        executor: ExecutorFactory = make_executor,
        server: ServerProcess | None = None,
        table: TableRows | None = None,
    ) -> None:
        super().__init__(config, executor, server, table)
        self._has_chosen = False
        """True once only the jobs of the table's rows may start."""
        self._stop = SignalFlag()
        self._patient = True
        self.waiting: list[dict[str, Any]] = []
        """Files that were not claimed when `run` returned, with reasons."""
        self.is_stuck = False
        """True if a thread is still alive after `run`, since a dead disk blocks it."""
        self._service_manager = ServiceManager.from_environment()
        self._publish_retry = Throttle(PUBLISH_RETRY_S)
        self._publishing: Background | None = None
        self._review = Throttle(REVIEW_S)
        self._trouble = ""
        """Reason for which the ledger is unavailable; "" if it is available."""

    def stop(self) -> None:
        """End `run` within a quarter of a second. Safe to call from a signal handler and from any
        thread: so it sets no event, whose lock the interrupted code may hold."""
        self._stop.set()

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
            ConfigError: there is no ledger yet, and the data folder holds other people's files; or
                a package is missing that the executor needs.
            Locked: another daemon holds the data folder or an inbox that keeps its files, or works
                with a copy of the ledger.
        """
        with closing(self._probe):
            check_executor(self.config)
            check_data_folder(self.config, self._look)
            shown = self._service_manager.shown_beside(observe)
            with hold_lock(self.config.data), self._folders(), self._opened(shown):
                started()
                self._service_manager.ready()
                try:
                    with self._followed(is_followed=not until_idle):
                        self._work(RunWaits(report_waits), until_idle=until_idle)
                finally:
                    self._service_manager.stopping()

    def _work(self, waits: RunWaits, *, until_idle: bool) -> None:
        self._patient = not until_idle
        # `run` ends as soon as its jobs do, so it loads only what a job needs.
        self._begin_preload([] if until_idle else self.config.runtime.preload)
        while not self._stop.is_set():
            self._tick_or_sleep()
            self._service_manager.alive()
            self._preload.step()
            if until_idle and self._is_idle():
                # Written now, since closing leaves little time for it.
                self._write_batch_reports(inf)
                self.reporting.finish()
                if not self._has_sheets_to_make():
                    break
            if until_idle and not self.dispatcher.running:
                waits.step(time.monotonic(), self.intake.short_waits())
            self._wake.wait(TICK_S)
            self._wake.clear()

    @contextmanager
    def _followed(self, *, is_followed: bool) -> Generator[None]:
        """Take over edits of pipeline.yaml while the block runs."""
        if not is_followed:
            yield
            return
        watch = ConfigWatch(self.config.file, configuration.load)
        self._takeover = Takeover(watch, self, self._record_event)
        watch.start()
        try:
            yield
        finally:
            watch.close()

    @contextmanager
    def _opened(self, observe: Observer) -> Generator[None]:
        """Create, recover and start all parts; end them when the block is left."""
        path = self.config.ledger_path
        health.discard_building(path)  # else a repair that was interrupted would refuse others
        thorough = not health.was_stopped_cleanly(path)
        self.ledger = Ledger(path, thorough=thorough)
        self._queries = Queries(self.config.ledger_path)
        self._version = 0
        self.executor = self._make_executor(self.config, self._wake.set)
        self._observe = observe
        self._started = utcnow()
        self.reporting = Reporting(
            self.config, self.ledger, self._started, lambda: self.intake.is_quiet, self._look
        )
        self._start_parts({}, self._started)
        log.info("daemon.started", data=str(self.config.data), ledger=self.ledger.id)
        if self.server is not None:
            self.server.start()
        try:
            yield
        finally:
            self._stop.set()
            if self.table is not None:
                with suppress(LedgerError):  # the next daemon lets the other jobs start, too
                    self.dispatcher.scheduler.choose_only(None)
            if self.server is not None:
                self.server.begin_end()
            self._intake_thread.stop()
            self.sheets.close()
            self._probe.limit_s = CLOSING_LIMIT_S
            end = time.monotonic() + CLOSE_GRACE_S
            # The worker ends first: it holds the most memory, and depends on no other part.
            self.executor.close(CLOSE_GRACE_S / 2)
            with suppress(LedgerError):  # a stage that could not be recorded runs again
                self.dispatcher.drain()
            left_s = max(end - CLOSE_GRACE_S / 4 - time.monotonic(), 0.5)
            has_ended = self._intake_thread.join(left_s)
            self.is_stuck = not has_ended or not self._has_ended_publishing()
            self._intake_thread.close()
            self.is_stuck |= self.reporting.close()
            if self.server is not None:
                self.server.close()
            self._close()
            self._heartbeat.stop()
            self._probe.close()

    def _close(self) -> None:
        self.waiting = self.intake.waiting()
        self.intake.close()
        self._write_batch_reports()
        with suppress(LedgerUnreadable):  # then the file stays as it is
            self.status.close()
        self._queries.close()
        self.ledger.close()
        log.info("daemon.stopped")

    def _has_sheets_to_make(self) -> bool:
        with suppress(LedgerError, LedgerUnreadable):
            return self.sheets.has_work()
        return False

    # --- the loop ---

    def _tick_or_sleep(self) -> None:
        """Do one round of the loop. If the ledger is unavailable, by a full disk say, wait a
        moment."""
        try:
            self._tick()
            self._trouble = ""
        except (LedgerUnavailable, LedgerUnreadable) as error:
            trouble = str(error.orig if isinstance(error, LedgerUnavailable) else error)
            if trouble != self._trouble:
                log.error("ledger.unavailable", why=trouble)
            self._trouble = trouble
            self._stop.wait(LEDGER_RETRY_S)

    def _tick(self) -> None:
        if self._intake_thread.error is not None:
            raise RuntimeError("taking files in failed") from self._intake_thread.error
        now = time.monotonic()
        if self._takeover is not None and self._next_parts is None:
            self._takeover.step(now)
        if self._next_parts is not None:
            self._begin_parts(self._next_parts)
        self._has_changed |= self.dispatcher.listen()
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
            if self._is_possible(self._queries.has_cancel_requests):
                self.dispatcher.forward_cancels()
            self.model_loads.step()
            self._dispatch()
            self._publish_some(now)
            self._has_changed = False
        self.batch_reports.step(now)
        if self.thumbnails.step(now) | self.sheets.step(now):
            self._dispatch()
        self.cleanup.step(now)
        self.kept_results.step(now)
        self.reporting.step(now)
        self.status.step(now)

    def _dispatch(self) -> None:
        is_taken_over = self._takeover is not None and self._takeover.holds_back
        self.dispatcher.dispatch(holds_back=is_taken_over or not self._has_chosen_jobs())

    def _has_chosen_jobs(self) -> bool:
        """True if it is known which jobs may start: all, or those of the table's rows, which have
        to be taken in first."""
        if not self._has_chosen and isinstance(self.intake, TableIntake):
            if self.intake.jobs is None:
                return False
            self.dispatcher.scheduler.choose_only(self.intake.jobs)
        self._has_chosen = True
        return True

    def _settle_overtaken(self) -> None:
        """End held jobs whose sources are gone for good, as soon as the outbox can be reached."""
        sources = self.dispatcher.scheduler.sources
        if sources.has_missing_claims and self.overtaken.settle(only_held=True):
            sources.has_missing_claims = False

    def _look_for_change(self) -> None:
        """Notice commits to the ledger since the last call, by any connection."""
        before, self._version = self._version, self._queries.data_version()
        if before != self._version:
            self._has_changed = True
            self.status.ledger_changed()
            self.batch_reports.ledger_changed()
            self.reporting.ledger_changed()
            self.sheets.ledger_changed()
            self.thumbnails.ledger_changed()

    def _is_possible(self, is_so: Callable[[], bool]) -> bool:
        """Ask the ledger by a query that takes no lock; True also if the ledger cannot be read, so
        that the transaction that follows reports why.

        Each step of each job is a change of the ledger, and a transaction costs a millisecond.
        """
        try:
            return is_so()
        except ConfigError:
            return True

    def _publish_some(self, now: float) -> None:
        """Publish finished jobs, one after the other, and serve the executor between them."""
        if not self._publish_retry.is_due(now) or not self._has_published(0.0):
            return
        if not self._is_possible(self._queries.has_unpublished_jobs):
            return
        for job in self.ledger.transact(queue.to_publish):
            if self._stop.is_set():
                return
            self._publishing = Background("publish", job.id, partial(self._publish, job))
            if not self._has_published(PUBLISH_WAIT_S):
                return
            self.dispatcher.listen()
            self._dispatch()
            self._service_manager.alive()

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
            self._hold_publish(last.subject, reason)
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
            and not self._is_possible(self._queries.has_open_jobs)
        )

    def has_published(self) -> bool:
        return self._has_published(0.0)

    def _record_event(self, kind: str, data: dict[str, Any]) -> None:
        self.ledger.transact(lambda s: store.add_common_event(s, kind, data))
