"""Read the rows of a damaged ledger that can still be read: all but those in damaged pages.

Callers trust a row only as far as the files on disk confirm it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

from dna_pipeline.ledger import queue
from dna_pipeline.ledger.sqlite import open_reader, sqlite_module
from dna_pipeline.ledger.store import Ledger

MAX_SKIPPED = 10_000
"""Maximum number of rows in a run of damaged pages. Behind more of them, the rest of the table is
not read."""


@dataclass(slots=True)
class Salvage:
    """Readable remains of a damaged ledger.

    Attributes:
        settings: values by name.
        known_files: rows of that table, unchanged.
        drops: rows of the drops that still owned files, by id.
        jobs_of: ids of the jobs of each drop.
        open_jobs: inbox, folder and name of a job that was queued or running, by its drop's id.
        job_links: batch, request and dedup key of each job.
        batches: rows of that table, unchanged, with times as text.
        batch_rows: likewise.
        row_of: batch and row number of each job of a batch that has not ended.
        job_files: text of each batch's job file.
    """

    settings: dict[str, str] = field(default_factory=dict[str, str])
    known_files: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    drops: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    jobs_of: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    open_jobs: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    job_links: dict[str, tuple[Any, Any, Any]] = field(
        default_factory=dict[str, tuple[Any, Any, Any]]
    )
    batches: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    batch_rows: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    row_of: dict[str, tuple[str, int]] = field(default_factory=dict[str, tuple[str, int]])
    job_files: dict[str, str] = field(default_factory=dict[str, str])


def has_all_jobs(ledger: Ledger, remains: Salvage, drop_id: str) -> bool:
    """True if the damaged ledger shows jobs of a drop, and the new one has all of them."""
    jobs = remains.jobs_of.get(drop_id, set())
    rebuilt_jobs = (ledger.transact(lambda s, i=job: queue.find_job(s, i)) for job in jobs)
    return bool(jobs) and None not in rebuilt_jobs


def salvage(path: Path) -> Salvage:
    """Read all readable rows of the file at `path`; none if it is gone."""
    remains = Salvage()
    if not path.exists():
        return remains
    remains.settings = {
        str(row["name"]): str(row["value"]) for row in _rows(path, "settings", "name, value")
    }
    for row in _rows(path, "known_files"):
        if (file := _decoded(row)) is not None:
            remains.known_files.append(file)
    _read_drops(path, remains)
    _read_jobs(path, remains)
    remains.batches = list(_rows(path, "batches"))
    rows = _rows(path, "batch_rows")
    remains.batch_rows = [row for row in rows if isinstance(row["number"], int)]
    remains.row_of = {
        str(row["job_id"]): (str(row["batch_id"]), row["number"])
        for row in remains.batch_rows
        if row["job_id"] is not None and row["status"] is None
    }
    return remains


def _read_drops(path: Path, remains: Salvage) -> None:
    for row in _rows(path, "drops"):
        if row["state"] != "gone" and (drop := _decoded({"batch": None} | row)) is not None:
            remains.drops[str(drop["id"])] = drop
    for row in _rows(path, "drops", "id, batch, sidecar_text"):
        if row["id"] == row["batch"] and row["sidecar_text"] is not None:
            remains.job_files[str(row["id"])] = str(row["sidecar_text"])


def _read_jobs(path: Path, remains: Salvage) -> None:
    """Read the jobs several times, with more columns each time: long values lie in pages of their
    own, and if one is damaged, the columns before it can still be read."""
    for row in _rows(path, "jobs", "id, drop_id"):
        remains.jobs_of.setdefault(str(row["drop_id"]), set()).add(str(row["id"]))
        remains.job_links[str(row["id"])] = (None, None, None)
    for row in _rows(path, "jobs", "drop_id, inbox, folder, name, status"):
        if row["status"] in ("queued", "running"):
            remains.open_jobs[str(row["drop_id"])] = row
    for row in _rows(path, "jobs", "id, batch, request, key"):
        remains.job_links[str(row["id"])] = (row["batch"], row["request"], row["key"])


def _rows(path: Path, table: str, columns: str = "*") -> Iterator[dict[str, Any]]:
    """Read the rows of a table by column names, since older versions have fewer columns.

    A query that meets a damaged page ends there. So the next one begins behind the last row that
    was read, and then one row later each time, until it is past the page.
    """
    errors = (sqlite_module().DatabaseError, UnicodeDecodeError)
    try:
        connection = open_reader(path)
    except errors:
        return
    with closing(connection):
        connection.text_factory = partial(str, encoding="utf-8", errors="replace")
        try:
            connection.execute(f"SELECT {columns} FROM {table} LIMIT 0")
        except errors:
            return  # not a database, or without this table or column
        sql = f"SELECT rowid, {columns} FROM {table} NOT INDEXED WHERE rowid > ? ORDER BY rowid"
        last, skipped = 0, 0
        while skipped < MAX_SKIPPED:
            try:
                cursor = connection.execute(sql, (last,))
                names = [column[0] for column in cursor.description[1:]]
                for number, *values in cursor:
                    last, skipped = max(last, number), 0
                    yield dict(zip(names, values, strict=True))
                return
            except errors:
                last, skipped = last + 1, skipped + 1


def list_of(text: object) -> list[Any] | None:
    """Decode the list in a JSON column; None if there is none or it is damaged."""
    try:
        value = json.loads(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return cast(list[Any], value) if isinstance(value, list) else None


def _decoded(row: dict[str, Any]) -> dict[str, Any] | None:
    """Convert JSON and paths of a row to their own types; None if that fails."""
    values = dict(row)
    if "companions" in values:
        values["companions"] = list_of(values["companions"])
    try:
        for name in {"stat", "error"} & values.keys():
            value = values[name]
            # known_files.error is a bare code, drops.error a mapping.
            is_json = isinstance(value, str) and value[:1] in "{["
            values[name] = json.loads(value) if is_json else value
        for name in {"folder", "claim", "image", "sidecar", "path"} & values.keys():
            values[name] = None if values[name] is None else os.fsdecode(values[name])
    except (ValueError, TypeError):
        return None
    return values if isinstance(values["stat"], dict) else None
