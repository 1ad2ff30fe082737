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

_DROPS = """SELECT id, inbox, state, originals, folder, claim, image, sidecar, stat, error
    FROM drops WHERE state <> 'gone'"""


@dataclass(slots=True)
class Salvage:
    """Attributes:
    settings: by name.
    known_files: rows of that table, as they were.
    drops: those that still owned files, by id.
    jobs_of: the ids of the jobs of each drop.
    """

    settings: dict[str, str] = field(default_factory=dict[str, str])
    known_files: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    drops: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    jobs_of: dict[str, set[str]] = field(default_factory=dict[str, set[str]])

    def drop_of(self) -> dict[str, str]:
        """The drop of each job."""
        return {job: drop for drop, jobs in self.jobs_of.items() for job in jobs}


def salvage(path: Path) -> Salvage:
    """Read what the file still gives; nothing where it is gone."""
    found = Salvage()
    if not path.exists():
        return found
    found.settings = {str(r[0]): str(r[1]) for r in _rows(path, "SELECT name, value FROM settings")}
    for row in _rows(path, "SELECT inbox, path, stat, key, error FROM known_files"):
        known = _decoded(("inbox", "path", "stat", "key", "error"), row)
        if known is not None:
            found.known_files.append(known | {"drop_id": None})
    names = tuple(
        name.strip() for name in _DROPS.split("FROM")[0].removeprefix("SELECT").split(",")
    )
    for row in _rows(path, _DROPS):
        if (drop := _decoded(names, row)) is not None:
            found.drops[str(drop["id"])] = drop
    for job, drop_id in _rows(path, "SELECT id, drop_id FROM jobs"):
        found.jobs_of.setdefault(str(drop_id), set()).add(str(job))
    return found


def _rows(path: Path, sql: str) -> Iterator[tuple[Any, ...]]:
    """The rows up to the first damaged page."""
    module = sqlite_module()
    try:
        uri = f"{path.absolute().as_uri()}?mode=ro"
        with closing(module.connect(uri, uri=True, timeout=5)) as connection:
            yield from connection.execute(sql)
    except module.DatabaseError:
        return


def _decoded(names: tuple[str, ...], row: tuple[Any, ...]) -> dict[str, Any] | None:
    """A row with its JSON and paths in their own types; None where that cannot be."""
    values: dict[str, Any] = dict(zip(names, row, strict=True))
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
