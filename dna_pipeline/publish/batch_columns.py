"""Columns of `batch.csv` for the values that differ between the rows of a batch."""

from __future__ import annotations

import json
from typing import Any

from dna_pipeline.config.dialect import Dialect
from dna_pipeline.config.yaml12 import is_mapping

MOST_COLUMNS = 256
"""Maximum number of columns: a table may have more `meta.` columns than people can read."""

_Place = tuple[str, str]
"""Group and name of a value, such as a stage's id and its parameter."""

_JOB, _META = "", "meta"
_NONE: dict[str, Any] = {}

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_OF_JOB = ("pipeline", "priority", "not_before", "tags")


class VaryingColumns:
    """Finds and remembers the columns in which the jobs of one batch differ.

    A column that differed once stays, so that the file keeps its columns while its jobs run.

    Attributes:
        names: the columns: of the job, of its stages in their order, then of `meta`.
        version: number that grows with each new column. Rows that were read under an older version
            may lack a column.
    """

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self.version = 0
        self._columns: tuple[_Place, ...] = ()
        self._varying: set[_Place] = set()
        self._order: dict[_Place, int] = {}
        self._constant: dict[str, dict[str, Any]] = {}
        """Values that are equal in all rows so far, by group and name."""
        self._requested: set[_Place] = set()
        self._shows_tags = False

    def cells(self, row: dict[str, Any], stages: list[dict[str, Any]]) -> list[Any]:
        """Give a row's values in the columns, after adding the columns in which the row differs.

        A value is None if the row has none. A row without a job adds no column.

        Args:
            row: a row of `batches.report`.
            stages: stages of its job; empty if it has no job.
        """
        if row["stages"] is None:
            return [None] * len(self._columns)
        groups: dict[str, dict[str, Any]] = {stage["id"]: stage["params"] for stage in stages}
        groups[_JOB] = {name: row[name] for name in _OF_JOB}
        groups[_META] = {} if row["meta"] == "{}" else json.loads(row["meta"])
        self._compare(groups)
        if (_JOB, "pipeline") in self._varying:
            self._compare_requests(row["request"], groups)
        if self._shows_tags:
            groups[_JOB]["tags"] = ", ".join(json.loads(row["tags"]))
        return [groups.get(group, _NONE).get(name) for group, name in self._columns]

    def _compare(self, groups: dict[str, dict[str, Any]]) -> None:
        for group, values in groups.items():
            constant = self._constant.get(group)
            if constant is None:
                self._learn(group, values)
            elif not constant.items() <= values.items():
                for name in [n for n, v in constant.items() if n not in values or values[n] != v]:
                    self._add((group, name))
            elif group == _META and len(values) > len(constant):
                for name in values.keys() - constant.keys():
                    self._add((group, name))

    def _learn(self, group: str, values: dict[str, Any]) -> None:
        self._constant[group] = dict(values)
        for name in values:
            self._order[group, name] = len(self._order)

    def _compare_requests(self, request: str | None, groups: dict[str, dict[str, Any]]) -> None:
        """Add columns for parameters that some rows set, and that rows of another pipeline lack."""
        request_values: dict[str, Any] = json.loads(request) if request else {}
        places = {
            (group, name)
            for group, item in request_values.items()
            if group in groups and is_mapping(item)
            for name in item
            if name in groups[group]
        }
        if places - self._requested:
            self._requested |= places
            self.version += 1
        for place in self._requested - self._varying:
            if place[0] not in groups:
                self._add(place)

    def _add(self, place: _Place) -> None:
        self._constant[place[0]].pop(place[1], None)
        if place in self._varying or len(self._varying) >= MOST_COLUMNS:
            return
        self._varying.add(place)
        self.version += 1
        self._shows_tags = (_JOB, "tags") in self._varying
        ordered = sorted(self._varying, key=self._rank)
        self._columns = tuple(ordered)
        self.names = tuple(f"{group}.{name}" if group else name for group, name in ordered)

    def _rank(self, place: _Place) -> tuple[int, int, str]:
        group, name = place
        which = {_JOB: 0, _META: 2}.get(group, 1)
        return which, self._order.get(place, len(self._order)), name


def cell_text(value: Any, dialect: Dialect) -> str:
    """Write a value as a cell: numbers in the table's dialect, and text in a form that no
    spreadsheet takes for a formula."""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_FORMULA) else value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value).replace(".", dialect.decimal)
    return json.dumps(value, ensure_ascii=False)
