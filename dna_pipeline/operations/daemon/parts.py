"""The parts of the daemon that depend on the configuration, and their replacement by those of
another one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog

from dna_pipeline.base.errors import ConfigError, SigningUnavailable
from dna_pipeline.base.reachability import FolderProbe
from dna_pipeline.config.schema import Config, Inbox
from dna_pipeline.execution.dispatcher import Dispatcher
from dna_pipeline.execution.local_executor import Executor
from dna_pipeline.execution.scheduler import signer_of
from dna_pipeline.intake.claiming.owner import Heartbeat, record_of
from dna_pipeline.intake.inbox_folders import make_folder, make_inboxes
from dna_pipeline.intake.planning.table_rows import TableRows
from dna_pipeline.intake.service import IntakeService
from dna_pipeline.intake.table_intake import TableIntake
from dna_pipeline.ledger import queue
from dna_pipeline.ledger.engine import LedgerError
from dna_pipeline.ledger.queries import Queries
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.operations.daemon.cleanup import Cleanup
from dna_pipeline.operations.daemon.executors import check_executor, has_same_executor
from dna_pipeline.operations.daemon.intake_thread import IntakeThread
from dna_pipeline.operations.daemon.kept_results import KeptResults
from dna_pipeline.operations.daemon.ledger_copy import refuse_copy
from dna_pipeline.operations.daemon.lock import KeptInboxes, holder
from dna_pipeline.operations.daemon.model_loads import ModelLoads
from dna_pipeline.operations.daemon.outbox_folder import make_outbox
from dna_pipeline.operations.daemon.preload import Preload
from dna_pipeline.operations.daemon.reporting import Reporting
from dna_pipeline.operations.daemon.server_process import ServerProcess
from dna_pipeline.operations.daemon.sheets import SheetMaker
from dna_pipeline.operations.daemon.status_file import Observer, StatusFile
from dna_pipeline.operations.daemon.takeover import Takeover
from dna_pipeline.operations.daemon.thumbnails import Thumbnails
from dna_pipeline.operations.repair.overtaken import OvertakenJobs
from dna_pipeline.publish.batch_report import BatchReports
from dna_pipeline.publish.publisher import Publisher

log = structlog.get_logger()

CLOSE_GRACE_S = 8.0
"""Time in which all parts together have to end: less than the ten seconds that are promised."""

ExecutorFactory = Callable[[Config, Callable[[], None]], Executor]


@dataclass(frozen=True, slots=True)
class _NextParts:
    """The begin of new parts after a takeover.

    Attributes:
        is_worker_kept: the worker is that of the parts before.
        has_preloaded: it has the models of `runtime.preload` already.
    """

    is_worker_kept: bool
    has_preloaded: bool


class DaemonParts:
    """The parts, which the daemon's loop uses.

    Attributes:
        config: that of the parts; a takeover replaces it.
        server: the HTTP server beside the daemon; None if there is none.
        table: rows of a table that are taken in and done in the place of all else; None for
            the inboxes.
    """

    intake: IntakeService
    ledger: Ledger
    executor: Executor
    reporting: Reporting
    _queries: Queries
    _observe: Observer
    _started: datetime
    """Start of the daemon."""

    def __init__(
        self,
        config: Config,
        executor: ExecutorFactory,
        server: ServerProcess | None,
        table: TableRows | None = None,
    ) -> None:
        self.config = config
        self.server = server
        self.table = table
        self._make_executor = executor
        self._probe = FolderProbe()
        self._look = self._probe.look
        self._wake = threading.Event()
        self._takeover: Takeover | None = None
        self._next_parts: _NextParts | None = None
        """Set between the end of the parts of one configuration and the begin of the next."""
        self._has_changed = True
        """True if the ledger was written to since the loop last acted on all of it."""

    @contextmanager
    def _folders(self) -> Generator[None]:
        """Make all folders, and lock the inboxes that keep their files, while the block runs."""
        self._make_folders()
        self._kept = KeptInboxes(self.config.data, self._look)
        self._hold_inboxes(self.config)
        with closing(self._kept):
            yield

    def _hold_inboxes(self, config: Config) -> None:
        """Lock the inboxes that keep their files, and ask the others for the owner of their claims.

        Raises `Locked`.
        """
        inboxes = self._watched_inboxes(config)
        others = [(inbox.name, inbox.path) for inbox in inboxes if not inbox.keeps]
        refuse_copy(others, config.ledger_path, self._look)
        self._kept.hold((inbox.name, inbox.path) for inbox in inboxes if inbox.keeps)

    def _watched_inboxes(self, config: Config) -> Sequence[Inbox]:
        """The inboxes that are watched: none while rows of a table are done."""
        return config.inboxes if self.table is None else ()

    def _start_parts(self, workers: Mapping[str, dict[str, Any]], started: datetime) -> None:
        """Make, recover and start the parts that depend on the configuration.

        Args:
            workers: facts about the workers that are there already.
            started: start of the daemon.
        """
        look = self._look
        self.publisher = Publisher(self.config, self.ledger, look)
        self.dispatcher = Dispatcher(self.config, self.ledger, self.executor, look)
        self.dispatcher.workers |= workers
        self._preload = Preload([], self.dispatcher)
        self.cleanup = Cleanup(self.config, self.ledger, look)
        self.kept_results = KeptResults(self.config)
        self.intake = self._make_intake()
        self.batch_reports = BatchReports(
            self.ledger, self.publisher, self.cleanup.dispose_unneeded
        )
        self.status = StatusFile(
            self.config, self._queries, self.dispatcher, self.intake, look, self._show,
            self._config_state, started, self._server_state, self._loading,
        )  # fmt: skip
        self.sheets = SheetMaker(self.config, self.ledger, self.dispatcher, look, self._wake.set)
        self.overtaken = OvertakenJobs(self.config, self.ledger, look)
        self.model_loads = ModelLoads(self.ledger, self._queries, self.dispatcher)
        self.thumbnails = Thumbnails(self.config, self.ledger, self._queries, self.dispatcher, look)
        self._recover()
        watched = self._watched_inboxes(self.config)
        self._intake_thread = IntakeThread(self.intake, watched, look, self._wake.set)
        self._heartbeat = self._make_heartbeat()
        self._heartbeat.start()
        self._intake_thread.start()
        if (signer := signer_of(self.config)) and (why := signer.problem()) is not None:
            log.error("signing.unavailable", code=SigningUnavailable.code, why=why)

    def _make_intake(self) -> IntakeService:
        look = self._kept.look
        if self.table is None:
            return IntakeService(self.config, self.ledger, self.cleanup, look)
        return TableIntake(self.config, self.ledger, self.cleanup, self.table, look)

    def _show(self, status: dict[str, Any]) -> None:
        """Hand the content of `status.json` on."""
        self._observe(status)
        self.reporting.observe(status)

    def _loading(self) -> dict[str, Any] | None:
        return self._preload.to_dict()

    def _config_state(self) -> dict[str, Any] | None:
        return None if self._takeover is None else self._takeover.state.to_dict()

    def _server_state(self) -> dict[str, Any] | None:
        return None if self.server is None else self.server.state.to_dict()

    def _make_heartbeat(self) -> Heartbeat:
        inboxes = self._watched_inboxes(self.config)
        places = [inbox.path for inbox in inboxes if not inbox.keeps]
        record = record_of(self.config.ledger_path, holder(self.config.data) or {})
        return Heartbeat(places, self.ledger.id, record, self._look)

    def _begin_preload(self, models: Sequence[str]) -> None:
        self._preload = Preload(models, self.dispatcher)
        self._preload.begin()

    def _write_batch_reports(self, limit_s: float = CLOSE_GRACE_S / 4) -> None:
        """Write the reports a last time; skip them if the ledger fails."""
        with suppress(LedgerError):
            self.batch_reports.write(limit_s)

    def _make_folders(self) -> None:
        for folder in (self.config.data, self.config.work):
            make_folder(folder, self._look)
        make_outbox(self.config, self._look)
        if self.table is None:
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
        self.model_loads.recover()
        back = self.ledger.transact(queue.recover)
        for job_id in back:
            log.info("job.resumed", job=job_id)
        self.cleanup.at_start()
        self.kept_results.at_start()
        self.publisher.recover()

    # --- takeover of an edited pipeline.yaml ---

    def is_computing(self) -> bool:
        return not self.dispatcher.is_idle

    def end_intake(self) -> bool:
        self._intake_thread.stop()
        self.sheets.close()
        return self._intake_thread.join(0.0) and not self.sheets.is_writing

    def resume_intake(self) -> None:
        self._intake_thread.resume()
        self.sheets.reopen()

    def report_by(self, config: Config) -> None:
        self.reporting.configure(config)
        self.config = config

    def replace(self, config: Config) -> bool:
        """End the parts that depend on the configuration; the loop begins them anew at once.

        No job runs, and intake has ended. Raises `Locked` and `ConfigError`, before anything was
        changed.
        """
        check_executor(config)
        self._hold_inboxes(config)
        is_worker_kept = has_same_executor(config, self.config)
        is_same_preload = config.runtime.preload == self.config.runtime.preload
        self._end_parts()
        if not is_worker_kept:
            self.executor.close(CLOSE_GRACE_S / 2)
            self.executor = self._make_executor(config, self._wake.set)
        self.config = config
        self._next_parts = _NextParts(is_worker_kept, is_worker_kept and is_same_preload)
        return is_worker_kept

    def _end_parts(self) -> None:
        self._intake_thread.close()
        self.sheets.close()
        self._heartbeat.stop()
        self.intake.close()
        self._write_batch_reports()

    def _begin_parts(self, parts: _NextParts) -> None:
        """Begin all parts after a takeover. Where the ledger fails, the next round of the loop
        tries again."""
        self._make_folders()
        # First what may fail with the ledger: a thread that was started is not started again.
        self.reporting.configure(self.config)
        self._start_parts(self.dispatcher.workers if parts.is_worker_kept else {}, self._started)
        if parts.has_preloaded:
            self._preload = Preload(self.config.runtime.preload, self.dispatcher)
        else:
            self._begin_preload(self.config.runtime.preload)
        self._next_parts, self._has_changed = None, True
        self.status.ledger_changed()
