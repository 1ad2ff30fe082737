"""What can still be read from a damaged ledger; each table by itself, as far as it goes.

Nothing here is trusted further than the files on disk bear it out.
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
    """Attributes:
    settings: by name.
    known_files: rows of that table, as they were.
    drops: those that still owned files, by id.
    jobs_of: the ids of the jobs of each drop.
    told: the batch, the request and the key of each job.
    batches, batch_rows: rows of these tables, as they were; times as text.
    row_of: the batch and the number of the row of each job that is in one.
    job_files: the text of each batch's job file.
    """

    settings: dict[str, str] = field(default_factory=dict[str, str])
    known_files: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    drops: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    jobs_of: dict[str, set[str]] = field(default_factory=dict[str, set[str]])

    told: dict[str, tuple[Any, Any, Any]] = field(default_factory=dict[str, tuple[Any, Any, Any]])
    batches: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    batch_rows: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    row_of: dict[str, tuple[str, int]] = field(default_factory=dict[str, tuple[str, int]])
    job_files: dict[str, str] = field(default_factory=dict[str, str])


def salvage(path: Path) -> Salvage:
    """Read what the file still gives; nothing where it is gone."""
    found = Salvage()
    if not path.exists():
        return found
    found.settings = {str(r[0]): str(r[1]) for r in _rows(path, "SELECT name, value FROM settings")}
    for row in _dicts(path, "known_files"):
        if (known := _decoded(row)) is not None:
            found.known_files.append(known)
    for row in _dicts(path, _DROPS):
        if (drop := _decoded({"batch": None} | row)) is not None:
            found.drops[str(drop["id"])] = drop
    # Twice, since what is long lies in pages of its own, any of which may be damaged.
    for job, drop_id in _rows(path, "SELECT id, drop_id FROM jobs"):
        found.jobs_of.setdefault(str(drop_id), set()).add(str(job))
        found.told[str(job)] = (None, None, None)
    for job, batch, request, key in _rows(path, "SELECT id, batch, request, key FROM jobs"):
        found.told[str(job)] = (batch, request, key)
    found.batches = list(_dicts(path, "batches"))
    rows = _dicts(path, "batch_rows")
    found.batch_rows = [row for row in rows if isinstance(row["number"], int)]
    found.row_of = {
        str(row["job_id"]): (str(row["batch_id"]), row["number"])
        for row in found.batch_rows
        if row["job_id"] is not None and row["status"] is None
    }
    found.job_files = {str(r[0]): str(r[1]) for r in _rows(path, _JOB_FILES)}
    return found


def _rows(path: Path, sql: str) -> Iterator[tuple[Any, ...]]:
    """The rows up to the first damaged page."""
    return (tuple(row.values()) for row in _select(path, sql))


def _dicts(path: Path, table: str) -> Iterator[dict[str, Any]]:
    """The rows of a table by its columns, which an older version may have fewer of."""
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
    """A row with its JSON and paths in their own types; None where that cannot be."""
    values = dict(row)
    try:
        for name in {"stat", "error"} & values.keys():
            told = values[name]
            # known_files.error is a bare code, drops.error a mapping.
            is_json = isinstance(told, str) and told[:1] in "{["
            values[name] = json.loads(told) if is_json else told
        for name in {"folder", "claim", "image", "sidecar", "path"} & values.keys():
            values[name] = None if values[name] is None else os.fsdecode(values[name])
    except (ValueError, TypeError):
        return None
    return values if isinstance(values["stat"], dict) else None
