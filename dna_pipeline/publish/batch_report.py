"""`batch.csv`: the outcome of each row of a batch, kept up to date while its jobs run."""

from __future__ import annotations

import filecmp
import json
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from math import inf
from pathlib import Path
from typing import Any

import structlog

from dna_pipeline.base.errors import InboxUnavailable, OutboxUnavailable
from dna_pipeline.base.failpoints import failpoint
from dna_pipeline.base.files import copy_whole, fsync_tree, remove_temporaries
from dna_pipeline.base.layout import BATCH_REPORT, SOURCE, place_below
from dna_pipeline.base.naming import free_names
from dna_pipeline.base.periodic import PeriodicTask, Throttle
from dna_pipeline.config.dialect import Dialect
from dna_pipeline.ledger import batches
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.ledger.tables import Batch, Drop
from dna_pipeline.publish.batch_columns import VaryingColumns, cell_text
from dna_pipeline.publish.publisher import Publisher, folder_of

log = structlog.get_logger()

COLUMNS = (
    "row", "image", "job", "status", "code", "column", "detail", "seconds", "seed", "result",
)  # fmt: skip
INTERVAL_S = 2.0
COST_SHARE = 20
STEP_S = 0.05
"""Time in seconds that one step may take from the daemon's loop."""


@dataclass(eq=False)
class BatchReports:
    """Makes the folders of new batches, and writes the batch report of each unfinished batch."""

    _ledger: Ledger
    _publisher: Publisher
    _dispose_unneeded: Callable[[], None]
    """Removes the claims that no job and no batch report needs any more."""

    def __post_init__(self) -> None:
        self._written: dict[str, bytes] = {}
        self._troubles: dict[str, str] = {}
        """Reason for which a batch's report could not be written last, by the batch's id."""
        self._columns: dict[str, VaryingColumns] = {}
        self._is_stale = True
        self._task = PeriodicTask(self._all, Throttle(INTERVAL_S, COST_SHARE), STEP_S)

    def ledger_changed(self) -> None:
        """Note that something was committed to the ledger."""
        self._is_stale = True

    def step(self, now: float) -> None:
        """Write a part of the changed reports if it is time; brief, as the daemon's loop waits."""
        self._task.step(now, may_begin=self._is_stale)

    def write(self, limit_s: float = inf) -> None:
        """Bring all reports up to date, or as many as `limit_s` seconds allow.

        A round that `step` has begun is finished first, since its end removes the claims that it
        found unneeded.
        """
        started = time.monotonic()
        for _ in chain(self._task.rest(), self._all()):
            if time.monotonic() - started > limit_s:
                return

    def _all(self) -> Iterator[None]:
        """Write all reports, a batch or some of its rows at each step. A report that cannot be
        written now is tried again in the next round."""
        self._is_stale = True
        try:
            self._publisher.check_outbox()
        except OutboxUnavailable:
            return  # making the outbox anew could write below an empty mount point
        self._is_stale = False
        has_moved_on = False
        try:
            for batch_id in self._ledger.transact(batches.unfinished):
                has_moved_on |= yield from self._try(batch_id)
                yield
            if has_moved_on:
                self._dispose_unneeded()
        except BaseException:
            self._is_stale = True
            raise

    def _try(self, batch_id: str) -> Generator[None, None, bool]:
        try:
            has_moved_on = yield from self._report(batch_id)
        except (OSError, InboxUnavailable) as error:
            if (trouble := str(error)) != self._troubles.get(batch_id):
                log.warning("batch.not_written", batch=batch_id, why=trouble)
            self._troubles[batch_id] = trouble
            self._written.pop(batch_id, None)
            self._is_stale = True
            return False
        self._troubles.pop(batch_id, None)
        return has_moved_on

    def _report(self, batch_id: str) -> Generator[None, None, bool]:
        """Write one report; True if claims that were kept for it may be unneeded now."""
        batch = self._ledger.transact(lambda s: s.get_one(Batch, batch_id))
        folder = self._publisher.outbox.folder(folder_of(batch))
        if batch.state == "claimed":
            self._make_folder(batch, folder)
        data, has_ended = yield from self._read(batch)
        if self._written.get(batch_id) != data:
            self._publisher.outbox.put(data, folder / BATCH_REPORT)
            self._written[batch_id] = data
            failpoint("account-written")
        if batch.state == "claimed":
            self._ledger.transact(lambda s: batches.open_(s, batch_id))
        is_closed = has_ended and self._ledger.transact(lambda s: batches.close(s, batch_id))
        if is_closed:
            self._written.pop(batch_id, None)
            self._columns.pop(batch_id, None)
            log.info("batch.finished", batch=batch_id, folder=folder_of(batch))
        return is_closed or batch.state == "claimed"

    def _read(self, batch: Batch) -> Generator[None, None, tuple[bytes, bool]]:
        """Build the current report; give its bytes, and True if all its rows have ended."""
        dialect = Dialect.from_json(
            self._ledger.transact(lambda s: batches.dialect_of(s, batch.id))
        )
        columns = self._columns.setdefault(batch.id, VaryingColumns())
        while (report := (yield from self._pass(batch, dialect, columns))) is None:
            pass  # ends, since each incomplete pass adds a column at least
        return report

    def _pass(
        self, batch: Batch, dialect: Dialect, columns: VaryingColumns
    ) -> Generator[None, None, tuple[bytes, bool] | None]:
        """Read all rows once; None if a column was missing.

        Most missing columns show in the first rows, so the pass stops after these.
        """
        version = columns.version
        data = bytearray(_encoded(dialect.start + dialect.lines([[*COLUMNS, *columns.names]])))
        has_ended, after = True, 0
        while rows := self._ledger.transact(lambda s, a=after: batches.report(s, batch.id, a)):
            lines = [_line(row, folder_of(batch), dialect, columns) for row in rows]
            if after == 0 and columns.version != version:
                return None
            data += _encoded(dialect.lines(lines))
            has_ended &= all(_has_ended(row) for row in rows)
            after = rows[-1]["number"]
            if len(rows) < batches.REPORTED_AT_ONCE:
                break
            yield
        return (bytes(data), has_ended) if columns.version == version else None

    def _make_folder(self, batch: Batch, folder: Path) -> None:
        """Make the batch's folder, with the files that were dropped with it but have no job.

        Raises InboxUnavailable if one of these is out of reach.
        """
        self._publisher.outbox.make_folder(folder)
        if batch.originals != "archive":
            return
        for drop in self._ledger.transact(lambda s: batches.jobless_drops(s, batch.id)):
            if self._publisher.has_claim(Path(drop.claim)):
                _copy_all(drop, batch, folder / SOURCE)
        if batch.kind == "matrix":
            # A failure folder has the request of its own row alone, so keep the whole YAML here.
            name, text = self._ledger.transact(lambda s: batches.matrix_sidecar(s, batch.id))
            if name is not None and text is not None:
                self._publisher.outbox.put(text.encode(), folder / SOURCE / name)
        if (folder / SOURCE).is_dir():
            fsync_tree(folder / SOURCE)


def _copy_all(drop: Drop, batch: Batch, source: Path) -> None:
    claim = Path(drop.claim)
    inner = place_below(drop.folder, batch.folder)
    for path in claim.iterdir():
        _copy_beside(path, _make_folder(source, inner.split("/")))


def _make_folder(home: Path, parts: Iterable[str]) -> Path:
    """Make a folder below `home` and give it; a part gets a `_` if a file has its name."""
    home.mkdir(parents=True, exist_ok=True)
    for part in parts:
        while os.path.lexists(home / part) and not (home / part).is_dir():
            part = f"{part}_"
        home /= part
        home.mkdir(exist_ok=True)
    return home


def _copy_beside(path: Path, folder: Path) -> None:
    """Copy a file into the folder, under a free name, unless an equal copy from before a restart is
    there.

    Files of several folders of the inbox may come into one folder here, if the safe names of these
    folders are equal, or differ only in case on a file system that ignores case.
    """
    remove_temporaries(folder)
    for name in free_names(path.name):
        target = folder / name
        if not os.path.lexists(target):
            copy_whole(path, target)
            return
        if target.is_file() and filecmp.cmp(path, target, shallow=False):
            return


def _has_ended(row: dict[str, Any]) -> bool:
    return row["status"] is None or row["publish"] == "done"


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


def _line(row: dict[str, Any], folder: str, dialect: Dialect, columns: VaryingColumns) -> list[str]:
    """Write a row of `batches.report` as cells, for a batch in that folder of the outbox."""
    stages: list[dict[str, Any]] = json.loads(row["stages"]) if row["stages"] else []
    error: dict[str, Any] = json.loads(row["error"]) if row["error"] else {}
    # A duplicate row has the job of another batch. That job's status, code and detail count for
    # this row only if the job failed or was cancelled.
    own = row["row_status"] is None or row["status"] in ("failed", "cancelled")
    status = row["status"] if own else row["row_status"]
    code = row["row_code"] or (error.get("code") or row["hold"] if own else None)
    detail = row["detail"] or (error.get("detail") if own else None)
    result = os.path.relpath(row["publish_name"], folder) if row["publish"] == "done" else None
    values = (
        row["number"], row["image"], (row["job"] or "")[:8], status, code,
        row["field"], " / ".join((detail or "").splitlines()),
        _seconds(row, dialect) if own else None, _seeds(stages), result,
        *columns.cells(row, stages),
    )  # fmt: skip
    return [cell_text(value, dialect) for value in values]


def _seconds(row: dict[str, Any], dialect: Dialect) -> str | None:
    """Duration of the job's last attempt, from its start to the end of its stages."""
    if not row["started_at"] or not row["finished_at"]:
        return None
    ended, started = (datetime.fromisoformat(row[key]) for key in ("finished_at", "started_at"))
    return f"{(ended - started).total_seconds():.1f}".replace(".", dialect.decimal)


def _seeds(stages: list[dict[str, Any]]) -> str:
    return " ".join(str(s["params"]["seed"]) for s in stages if "seed" in s["params"])
