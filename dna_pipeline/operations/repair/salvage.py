"""Read the rows of a damaged ledger that can still be read, each table up to its first damage.

Callers trust a row only as far as the files on disk confirm it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dna_pipeline.ledger.engine import sqlite_module

_JOB_FILES = "SELECT id, sidecar_text FROM drops WHERE id = batch AND sidecar_text IS NOT NULL"
_DROPS = "drops WHERE state <> 'gone'"


@dataclass(slots=True)
class Salvage:
    """Readable remains of a damaged ledger.

    Attributes:
        settings: values by name.
        known_files: rows of that table, unchanged.
        drops: rows of the drops that still owned files, by id.
        jobs_of: ids of the jobs of each drop.
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

    job_links: dict[str, tuple[Any, Any, Any]] = field(
        default_factory=dict[str, tuple[Any, Any, Any]]
    )
    batches: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    batch_rows: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    row_of: dict[str, tuple[str, int]] = field(default_factory=dict[str, tuple[str, int]])
    job_files: dict[str, str] = field(default_factory=dict[str, str])


def salvage(path: Path) -> Salvage:
    """Read all readable rows of the file at `path`; none if it is gone."""
    remains = Salvage()
    if not path.exists():
        return remains
    remains.settings = {
        str(r[0]): str(r[1]) for r in _rows(path, "SELECT name, value FROM settings")
    }
    for row in _dicts(path, "known_files"):
        if (file := _decoded(row)) is not None:
            remains.known_files.append(file)
    for row in _dicts(path, _DROPS):
        if (drop := _decoded({"batch": None} | row)) is not None:
            remains.drops[str(drop["id"])] = drop
    # Read twice: long values lie in pages of their own, and if one is damaged, the ids can still be
    # read without them.
    for job, drop_id in _rows(path, "SELECT id, drop_id FROM jobs"):
        remains.jobs_of.setdefault(str(drop_id), set()).add(str(job))
        remains.job_links[str(job)] = (None, None, None)
    for job, batch, request, key in _rows(path, "SELECT id, batch, request, key FROM jobs"):
        remains.job_links[str(job)] = (batch, request, key)
    remains.batches = list(_dicts(path, "batches"))
    rows = _dicts(path, "batch_rows")
    remains.batch_rows = [row for row in rows if isinstance(row["number"], int)]
    remains.row_of = {
        str(row["job_id"]): (str(row["batch_id"]), row["number"])
        for row in remains.batch_rows
        if row["job_id"] is not None and row["status"] is None
    }
    remains.job_files = {str(r[0]): str(r[1]) for r in _rows(path, _JOB_FILES)}
    return remains


def _rows(path: Path, sql: str) -> Iterator[tuple[Any, ...]]:
    """Read the rows up to the first damaged page."""
    return (tuple(row.values()) for row in _select(path, sql))


def _dicts(path: Path, table: str) -> Iterator[dict[str, Any]]:
    """Read the rows of a table by column names, since older versions have fewer columns."""
    return _select(path, f"SELECT * FROM {table}")


def _select(path: Path, sql: str) -> Iterator[dict[str, Any]]:
    module = sqlite_module()
    try:
        uri = f"{path.absolute().as_uri()}?mode=ro"
        with closing(module.connect(uri, uri=True, timeout=5)) as connection:
            connection.text_factory = _as_text
            cursor = connection.execute(sql)
            names = [column[0] for column in cursor.description]
            for row in cursor:
                yield dict(zip(names, row, strict=True))
    except (module.DatabaseError, UnicodeDecodeError):
        return


def _as_text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _decoded(row: dict[str, Any]) -> dict[str, Any] | None:
    """Convert JSON and paths of a row to their own types; None if that fails."""
    values = dict(row)
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
