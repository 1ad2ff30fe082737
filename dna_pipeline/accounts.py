"""`batch.csv`: what became of each row of a batch, kept current while its jobs run."""

from __future__ import annotations

import csv
import io
import json
import os
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import structlog

from dna_pipeline.artifact import copy_file, fsync_tree, safe_name, write_bytes
from dna_pipeline.faults import point
from dna_pipeline.ledger import batches
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.ledger.tables import Batch, Drop
from dna_pipeline.publish import SOURCE
from dna_pipeline.publishing import Publisher, folder_of

log = structlog.get_logger()

NAME = "batch.csv"
COLUMNS = (
    "row", "image", "job", "status", "code", "column", "detail", "seconds", "seed", "result",
)  # fmt: skip
INTERVAL_S = 2.0
COST_SHARE = 20

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Accounts:
    """Makes the folders of new batches and keeps the account of each that is not done."""

    def __init__(self, ledger: Ledger, publisher: Publisher) -> None:
        self._ledger = ledger
        self._publisher = publisher
        self._written: dict[str, bytes] = {}
        self._next_at = 0.0
        self._is_stale = True

    def ledger_changed(self) -> None:
        """Something was committed."""
        self._is_stale = True

    def step(self, now: float) -> None:
        """Write what has changed, if it is time."""
        if not self._is_stale or now < self._next_at:
            return
        started = time.monotonic()
        self._is_stale = False
        self.write()
        self._next_at = now + max(INTERVAL_S, COST_SHARE * (time.monotonic() - started))

    def write(self) -> None:
        """Bring all accounts up to date. What cannot be written now is tried again."""
        for batch in self._ledger.transact(batches.unfinished):
            try:
                self._account(batch)
            except OSError as error:
                log.warning("batch.not_written", batch=batch.id, why=str(error))
                self._written.pop(batch.id, None)
                self._is_stale = True

    def _account(self, batch: Batch) -> None:
        folder = self._publisher.outbox.folder(folder_of(batch))
        rows = self._ledger.transact(lambda s: batches.report(s, batch.id))
        if batch.state == "claimed":
            self._lay(batch, folder)
        data = as_csv(rows, folder_of(batch))
        if self._written.get(batch.id) != data:
            write_bytes(folder / NAME, data)
            self._written[batch.id] = data
            point("account-written")
        if batch.state == "claimed":
            self._ledger.transact(lambda s: batches.set_state(s, batch.id, "open"))
            self._publisher.dispose()
        if all(_has_ended(row) for row in rows):
            self._ledger.transact(lambda s: batches.set_state(s, batch.id, "done"))
            self._written.pop(batch.id, None)
            log.info("batch.finished", batch=batch.id, folder=folder_of(batch))

    def _lay(self, batch: Batch, folder: Path) -> None:
        """Its folder, and in it what was dropped with it and no job has."""
        self._publisher.outbox.make_folder(folder)
        if batch.originals != "archive":
            return
        for drop in self._ledger.transact(lambda s: batches.jobless_drops(s, batch.id)):
            _copy_all(drop, batch, folder / SOURCE)
        if (folder / SOURCE).is_dir():
            fsync_tree(folder / SOURCE)


def _copy_all(drop: Drop, batch: Batch, source: Path) -> None:
    claim = Path(drop.claim)
    below = Path(os.path.relpath(drop.folder or ".", batch.folder or "."))
    inner = [safe_name(part) for part in below.parts if part != ".."]
    for path in claim.iterdir() if claim.is_dir() else ():
        target = source.joinpath(*inner, path.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.is_file() or target.stat().st_size != path.stat().st_size:
            target.unlink(missing_ok=True)
            copy_file(path, target)


def _has_ended(row: dict[str, Any]) -> bool:
    return row["status"] is None or row["publish"] == "done"


def as_csv(rows: list[dict[str, Any]], folder: str) -> bytes:
    """The account of those rows of `batches.report`, for a batch in that folder of the outbox."""
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([_cell(value) for value in _line(row, folder)])
    return file.getvalue().encode("utf-8", "backslashreplace")


def _line(row: dict[str, Any], folder: str) -> tuple[Any, ...]:
    error: dict[str, Any] = json.loads(row["error"]) if row["error"] else {}
    own = row["told"] is None
    code = row["told_code"] or (error.get("code") or row["hold"] if own else None)
    detail = row["detail"] or (error.get("detail") if own else None)
    result = os.path.relpath(row["publish_name"], folder) if row["publish"] == "done" else None
    return (
        row["number"], row["image"], (row["job"] or "")[:8], row["told"] or row["status"], code,
        row["field"], " / ".join((detail or "").splitlines()), _seconds(row) if own else None,
        _seeds(row), result,
    )  # fmt: skip


def _seconds(row: dict[str, Any]) -> str | None:
    """How long its last attempt took, from start to the end of its stages."""
    if not row["started_at"] or not row["finished_at"]:
        return None
    ended, started = (datetime.fromisoformat(row[key]) for key in ("finished_at", "started_at"))
    return f"{(ended - started).total_seconds():.1f}"


def _seeds(row: dict[str, Any]) -> str:
    stages: list[dict[str, Any]] = json.loads(row["stages"]) if row["stages"] else []
    return " ".join(str(s["params"]["seed"]) for s in stages if "seed" in s["params"])


def _cell(value: Any) -> str:
    """A cell that no spreadsheet takes for a formula."""
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
