"""Columns of `batch.csv` for whatever differs between the rows of a batch."""

from __future__ import annotations

import json
from typing import Any

from dna_pipeline.spec.dialect import Dialect
from dna_pipeline.spec.yaml12 import is_mapping

MOST_COLUMNS = 256
"""Tables may have more `meta.` columns than anyone reads side by side."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_OF_JOB = ("pipeline", "priority", "not_before", "tags")


class VaryingColumns:
    """Finds the columns in which the jobs of one batch differ, and keeps them in mind.

    Every row is shown to `note`; a column that differed once stays, so that the file keeps its
    form while its jobs run.

    Attributes:
        version: grows with all that was learned: rows written before may lack a column.
    """

    def __init__(self) -> None:
        self.version = 0
        self._first: dict[str, Any] = {}
        self._first_meta: str | None = None
        self._varying: set[str] = set()
        self._given: set[str] = set()
        self._names: tuple[str, ...] = ()
        self._named_at = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The columns: of the job, of its stages in their order, then `meta`."""
        if self._named_at != self.version:
            places = {name: place for place, name in enumerate(self._first)}
            ordered = sorted(self._varying, key=lambda name: (places.get(name, len(places)), name))
            self._names = tuple(ordered[:MOST_COLUMNS])
            self._named_at = self.version
        return self._names

    def note(self, row: dict[str, Any], stages: list[dict[str, Any]]) -> None:
        """Compare a row of `batches.report` with those before it; one without a job tells nothing.

        A parameter of a stage that other rows do not have counts if its own row sets it.
        """
        if row["stages"] is None:
            return
        values = _of_job(row) | _of_stages(stages)
        for name, value in values.items():
            if name not in self._varying and self._first.setdefault(name, value) != value:
                self._add(name)
        if "pipeline" in self._varying:
            self._note_given(row["request"])
            for name in self._given - values.keys() - self._varying:
                if name in self._first:
                    self._add(name)
        self._note_meta(row["meta"])

    def cells(self, row: dict[str, Any], stages: list[dict[str, Any]]) -> list[Any]:
        """The values of a row in these columns; None where it has none."""
        if row["stages"] is None or not self.names:
            return [None] * len(self.names)
        values = _of_job(row) | _of_stages(stages)
        if self.names[-1].startswith("meta."):
            values |= {f"meta.{key}": value for key, value in json.loads(row["meta"]).items()}
        return [_tags(values) if name == "tags" else values.get(name) for name in self.names]

    def _add(self, name: str) -> None:
        self._varying.add(name)
        self.version += 1

    def _note_given(self, request: str | None) -> None:
        told: dict[str, Any] = json.loads(request) if request else {}
        names = {
            f"{key}.{name}"
            for key, item in told.items()
            if is_mapping(item) and key != "meta"
            for name in item
        }
        if names - self._given:
            self._given |= names
            self.version += 1

    def _note_meta(self, text: str) -> None:
        if self._first_meta is None:
            self._first_meta = text
        if text == self._first_meta or len(self._varying) > MOST_COLUMNS:
            return
        first, meta = json.loads(self._first_meta), json.loads(text)
        for key in first.keys() | meta.keys():
            name = f"meta.{key}"
            if name not in self._varying and first.get(key) != meta.get(key):
                self._add(name)


def _of_job(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in _OF_JOB}


def _of_stages(stages: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        f"{stage['id']}.{name}": value
        for stage in stages
        for name, value in stage["params"].items()
    }


def _tags(values: dict[str, Any]) -> str:
    return ", ".join(json.loads(values["tags"]))


def cell_text(value: Any, dialect: Dialect) -> str:
    """A value as a cell: numbers as the table writes them, and nothing that a spreadsheet takes for
    a formula."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value).replace(".", dialect.decimal)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"'{text}" if text.startswith(_FORMULA) else text
