"""Runs of some rows of a table, for farms whose tasks are commands."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dna_pipeline.base.errors import ConfigError, JobError
from dna_pipeline.base.layout import batch_folder
from dna_pipeline.base.naming import printable
from dna_pipeline.base.periodic import Throttle
from dna_pipeline.config.inboxes import holds_file
from dna_pipeline.config.row_numbers import ALL_ROWS, parse_row_numbers
from dna_pipeline.config.schema import SUBMIT_INBOX, Config, Inbox
from dna_pipeline.config.tables import is_table_name
from dna_pipeline.intake.planning.table_rows import TableRows
from dna_pipeline.intake.table_intake import TableIntake
from dna_pipeline.ledger.wait_queries import WaitQueries
from dna_pipeline.operations.job_progress import JobProgress

if TYPE_CHECKING:
    from dna_pipeline.operations.daemon.loop import Daemon

COST_SHARE = 20
"""Share of the time that looking may take, as a divisor."""


def choose_rows(config: Config, file: Path, rows: str | None) -> TableRows:
    """Find a table and the inbox whose settings its rows have: that in whose folder it lies, else
    that of `submit`.

    The images of a table that lies in no inbox lie beside or below it, or in the source roots of
    any inbox.

    Args:
        rows: as people write them; None for all.

    Raises:
        ConfigError: there is no such table, or the rows are not written as they should be.
    """
    numbers = ALL_ROWS if rows is None else parse_row_numbers(rows)
    if not is_table_name(file.name):
        raise ConfigError(f"--table {printable(file)}: a table ends in .csv or .jsonl")
    if not file.is_file():
        raise ConfigError(f"--table {printable(file)}: there is no such file")
    real = Path(os.path.realpath(file.parent)) / file.name
    if real.is_symlink():
        raise ConfigError(f"--table {printable(file)}: is a link; name the file that it leads to")
    for inbox in config.inboxes:
        if holds_file(inbox, real, _real):
            home = _real(inbox.path)
            kept = replace(inbox, path=home, originals="keep", on_change="all")
            return TableRows(kept, real.relative_to(home).as_posix(), numbers)
    return TableRows(_inbox_of(config, real.parent), real.name, numbers)


def _real(folder: Path) -> Path:
    return Path(os.path.realpath(folder))


def _inbox_of(config: Config, folder: Path) -> Inbox:
    """The inbox of a table that lies in no inbox."""
    inbox = config.inbox(SUBMIT_INBOX)
    assert inbox is not None
    roots = dict.fromkeys(root for each in config.inboxes for root in each.source_roots)
    return replace(inbox, path=folder, source_roots=tuple(roots), originals="keep")


class TableProgress:
    """Reports how far the rows are, while the daemon runs.

    Args:
        report: called with the percentage, about once a second at most.
    """

    def __init__(self, daemon: Daemon, report: Callable[[int], None]) -> None:
        self._daemon = daemon
        self._report = report
        self._throttle = Throttle(0.0, COST_SHARE)
        self._progress: JobProgress | None = None
        self._queries: WaitQueries | None = None

    def observe(self, _: dict[str, Any]) -> None:
        """Look at the ledger; to be called with each status of the daemon."""
        jobs, now = _intake_of(self._daemon).jobs, time.monotonic()
        if not jobs or not self._throttle.is_due(now):
            return
        if self._queries is None or self._progress is None:
            self._queries = WaitQueries(self._daemon.config.ledger_path)
            self._progress = JobProgress(self._queries, jobs)
        self._report(self._progress.read().percent)
        self._throttle.done(now, time.monotonic() - now)

    def close(self) -> None:
        """Report the last state. To be called after the end of the daemon."""
        if self._queries is not None and self._progress is not None:
            with closing(self._queries):
                self._report(self._progress.read().percent)


def _intake_of(daemon: Daemon) -> TableIntake:
    assert isinstance(daemon.intake, TableIntake)
    return daemon.intake


def table_report(daemon: Daemon) -> dict[str, Any]:
    """Report what became of the rows.

    Returns:
        `table`, `rows` as they were asked for, `batch`, its `folder` below the outbox (both None if
        no row was taken in), `outcomes`: the numbers of rows by the status of the job on which each
        counts, and `all_completed`.

    Raises:
        ConfigError: the table as a whole is wrong, or has no such rows.
    """
    intake, chosen = _intake_of(daemon), daemon.table
    assert chosen is not None
    if isinstance(intake.error, JobError):
        text = intake.error.detail or intake.error.sentence
        raise ConfigError(f"{printable(chosen.table)}: {text} ({intake.error.code})")
    if intake.error is not None:
        raise intake.error
    outcomes: dict[str, int] = {}
    folder: str | None = None
    if (batch := intake.batch) is not None and intake.jobs is not None:
        with closing(WaitQueries(daemon.config.ledger_path)) as queries:
            outcomes = queries.row_outcomes(batch)
            row = queries.batch(batch)
        folder = batch_folder(row["inbox"], row["folder"], row["stem"], batch)
    return {
        "table": printable(chosen.file), "rows": str(chosen.rows), "batch": folder and batch,
        "folder": folder, "outcomes": outcomes, "all_completed": set(outcomes) == {"completed"},
    }  # fmt: skip
