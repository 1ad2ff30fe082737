"""Tables of jobs: CSV as spreadsheets write it, and JSON Lines. A row is a job.

A row is told by a number: in CSV as a spreadsheet shows it, the names of the columns being row 1;
in JSON Lines the line's.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from dna_pipeline import registry
from dna_pipeline.errors import JobError, SidecarInvalid
from dna_pipeline.spec import yaml12
from dna_pipeline.spec.config import Pipeline
from dna_pipeline.spec.params import keys_of
from dna_pipeline.spec.sentences import shown
from dna_pipeline.spec.yaml12 import Document, KeyPath

MAX_BYTES = 64 << 20
MAX_ROWS = 100_000
MAX_COLUMNS = 1000
_MAX_CELL = 1 << 20

_IMAGE = re.compile(r'"image"\s*:\s*("(?:[^"\\]|\\.)*")')
_TEXT = {"image", "pipeline", "not_before"}


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row as a sidecar would say it, `image` being one of its keys.

    With an `error`, what could be read of it; `error.where` is the column.
    """

    number: int
    document: Document
    error: JobError | None = None


def is_table_name(path: str) -> bool:
    """Whether the name is that of a table."""
    return path.lower().endswith((".csv", ".jsonl"))


def read_table(pipelines: Mapping[str, Pipeline], name: str, data: bytes) -> list[TableRow]:
    """All rows, empty ones passed over.

    Args:
        pipelines: they tell which columns hold text, whatever it looks like.

    Raises:
        SidecarInvalid: it is no table at all.
    """
    if len(data) > MAX_BYTES:
        raise SidecarInvalid(f"the table is larger than {MAX_BYTES >> 20} MiB")
    try:
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SidecarInvalid(f"line {line}: the table is not UTF-8; save it as such") from None
    rows: list[TableRow] = []
    for row in _json_lines(text) if name.lower().endswith(".jsonl") else _csv(pipelines, text):
        if len(rows) == MAX_ROWS:
            raise SidecarInvalid(f"the table has more than {MAX_ROWS:,} rows; make several of it")
        rows.append(row)
    if not rows:
        raise SidecarInvalid("the table has no rows")
    return rows


# --- CSV ---


def _csv(pipelines: Mapping[str, Pipeline], text: str) -> Iterator[TableRow]:
    header = text.split("\n", 1)[0]
    # A spreadsheet writes semicolons where the comma is for decimals, and tabs on request.
    delimiter = max(",;\t", key=header.count)
    csv.field_size_limit(_MAX_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        columns = [cell.strip() for cell in next(reader, list[str]())]
        _check_columns(columns)
        kinds = {column: _is_text(pipelines, column) for column in columns}
        for number, cells in enumerate(reader, 2):
            if any(cell.strip() for cell in cells):
                yield _csv_row(number, columns, cells, kinds)
    except csv.Error as error:
        raise SidecarInvalid(f"line {reader.line_num}: this is no CSV: {error}") from None


def _check_columns(columns: list[str]) -> None:
    if len(columns) > MAX_COLUMNS:
        raise SidecarInvalid(f"row 1: the table has more than {MAX_COLUMNS:,} columns")
    named = [column for column in columns if column]
    twice, number = next(iter(Counter(named).most_common(1)), ("", 0))
    if number > 1:
        raise SidecarInvalid(f"row 1: two columns are called {shown(twice)}", where=twice)
    if "image" not in named:
        told = (
            f"it has: {', '.join(map(_shown, named[:20]))}"
            if named
            else "its first row names the columns"
        )
        raise SidecarInvalid(f"row 1: no column is called 'image'; {told}", where="image")


def _shown(column: str) -> str:
    return yaml12.one_line(column, 60)


def _is_text(pipelines: Mapping[str, Pipeline], column: str) -> bool:
    """Whether a column's cells are text as they stand: `12` or `no` may be a prompt."""
    first, dot, parameter = column.partition(".")
    if not dot or first == "meta":
        return first in _TEXT or first == "meta"
    types = {s.type for p in pipelines.values() for s in p.stages if first in keys_of(s)}
    for kind in map(registry.stage_class, types):
        field = kind.model_fields.get(kind.aliases.get(parameter, parameter))
        if field is not None and str in (field.annotation, *get_args(field.annotation)):
            return True
    return False


def _csv_row(number: int, columns: list[str], cells: list[str], kinds: dict[str, bool]) -> TableRow:
    value: dict[str, Any] = {}
    error: JobError | None = None
    for index, cell in enumerate(cells):
        if not cell.strip():
            continue
        if index >= len(columns) or not columns[index]:
            error = SidecarInvalid(f"row {number}: {shown(cell)} stands in a column without a name")
            continue
        column = columns[index]
        try:
            _put(value, column, _cell(column, cell, is_text=kinds[column]))
        except ValueError as fault:
            error = SidecarInvalid(f"row {number}: {_shown(column)}: {fault}", where=column)
    return TableRow(number, _document(number, value), error)


def _cell(column: str, cell: str, *, is_text: bool) -> Any:
    """What a cell says. Raises ValueError."""
    if "\0" in cell:
        raise ValueError("text cannot hold a NUL character")
    if column == "tags":
        return [tag.strip() for tag in cell.replace(";", ",").split(",") if tag.strip()]
    if is_text:
        return cell if column.partition(".")[2] else cell.strip()
    text = cell.strip()
    if text[0] in "[{":
        return yaml12.loads(text.encode()).value
    return yaml12.scalar(text)


# --- JSON Lines ---


def _json_lines(text: str) -> Iterator[TableRow]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield _json_row(number, line)


def _json_row(number: int, line: str) -> TableRow:
    try:
        given = json.loads(line, object_pairs_hook=_once)
        if not isinstance(given, dict):
            raise ValueError(f"should be an object, not {shown(given)}")
        value: dict[str, Any] = {}
        for key, item in yaml12.loads(yaml12.dumps(given).encode()).value.items():
            _put(value, key, item)
    except (ValueError, RecursionError) as fault:
        text = getattr(fault, "msg", None) or str(fault) or "nested too deep"
        error = SidecarInvalid(f"row {number}: {text}")
        return TableRow(number, _document(number, _image_of(line)), error)
    return TableRow(number, _document(number, value))


def _image_of(line: str) -> dict[str, Any]:
    """The image of a row that is wrong, as far as it can be seen: nobody else is to take it."""
    found = _IMAGE.search(line)
    try:
        image = json.loads(found[1]) if found else ""
        image.encode()
    except ValueError:
        return {}
    return {"image": image} if image else {}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for key, item in pairs:
        if key in value:
            raise ValueError(f"the key {shown(key)} stands there twice")
        value[key] = item
    return value


# --- both ---


def _put(value: dict[str, Any], column: str, item: Any) -> None:
    """Set `a.b` in a mapping of mappings. Raises ValueError."""
    first, dot, rest = column.partition(".")
    if not dot:
        if isinstance(value.get(first), dict) and isinstance(item, dict):
            value[first] |= item
        elif first in value:
            raise ValueError("is told in two ways")
        else:
            value[first] = item
        return
    inner = value.setdefault(first, {})
    if not isinstance(inner, dict) or rest in inner:
        raise ValueError("is told in two ways")
    inner[rest] = item


def _document(number: int, value: dict[str, Any]) -> Document:
    lines: dict[KeyPath, int] = {(): number}
    return Document(value, lines, "row")
