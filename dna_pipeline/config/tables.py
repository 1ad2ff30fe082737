"""Tables of jobs: CSV as spreadsheets write it, and JSON Lines. A row is a job.

Each row has a number. In CSV it is the number that a spreadsheet shows, where row 1 has the names
of the columns; in JSON Lines it is the number of the line.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from dna_pipeline.base.errors import JobError, SidecarInvalid
from dna_pipeline.config import yaml12
from dna_pipeline.config.cells import EMPTY, cell_value, is_decimal_comma
from dna_pipeline.config.columns import Column, Columns, image_column, steps_to
from dna_pipeline.config.dialect import (
    SEPARATORS,
    Dialect,
    Sheet,
    clean,
    decode,
    has_curly_quotes,
    read_sheet,
)
from dna_pipeline.config.problems import Problem, error_of
from dna_pipeline.config.schema import Pipeline
from dna_pipeline.config.sentences import shown
from dna_pipeline.config.yaml12 import Document, KeyPath, is_mapping

MAX_BYTES = 64 << 20
MAX_ROWS = 100_000
MAX_COLUMNS = 1000

_IMAGE = re.compile(r'"image"\s*:\s*("(?:[^"\\]|\\.)*")')


_NUL = "text cannot hold a NUL character"


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row in the form of a sidecar with the key `image`.

    A row with an `error` has only the values that could be read; `error.where` is the column.
    """

    number: int
    document: Document
    error: JobError | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """All rows of a table except empty ones, and the form of the table."""

    rows: list[TableRow]
    dialect: Dialect


def is_table_name(path: str) -> bool:
    """True if the name is that of a table."""
    return path.lower().endswith((".csv", ".jsonl"))


def parse_table(pipelines: Mapping[str, Pipeline], name: str, data: bytes) -> Table:
    """Read a table.

    Args:
        pipelines: their stages define the kind of value in each column.

    Raises:
        SidecarInvalid: the whole table cannot be used. A fault of one row is in its `error`.
    """
    if len(data) > MAX_BYTES:
        raise SidecarInvalid(f"the table is larger than {MAX_BYTES >> 20} MiB")
    text, has_mark = decode(data)
    columns = Columns(pipelines)
    if name.lower().endswith(".jsonl"):
        return Table(_limited(_json_lines(columns, text)), Dialect())
    sheet = read_sheet(text, has_mark=has_mark)
    _check_columns(sheet)
    sheet_columns = [columns.column(name) for name in sheet.columns]
    _check_names(sheet_columns)
    dialect = replace(sheet.dialect, decimal=_decimal_of(sheet, sheet_columns))
    sheet = replace(sheet, dialect=dialect)
    rows = (_csv_row(sheet, sheet_columns, number, cells) for number, cells in sheet.rows())
    return Table(_limited(rows), dialect)


def _limited(rows: Iterable[TableRow]) -> list[TableRow]:
    result: list[TableRow] = []
    for row in rows:
        if len(result) == MAX_ROWS:
            raise SidecarInvalid(f"the table has more than {MAX_ROWS:,} rows; make several of it")
        result.append(row)
    if not result:
        raise SidecarInvalid("the table has no rows")
    return result


# --- CSV ---


def _check_columns(sheet: Sheet) -> None:
    start = f"row {sheet.header}"
    if len(sheet.columns) > MAX_COLUMNS:
        raise SidecarInvalid(f"{start}: the table has more than {MAX_COLUMNS:,} columns")
    names = [column for column in sheet.columns if column]
    if "image" not in map(str.casefold, names):
        rest = (
            f"it has: {', '.join(map(_shown, names[:20]))}"
            if names
            else "its first row names the columns"
        )
        signs = ", ".join(SEPARATORS.values())
        if word := image_column(names):
            rest = f"did you mean `image` by {shown(word)}? {rest}"
        text = f"{start}: no column is called 'image'; {rest} (columns are separated by {signs})"
        raise SidecarInvalid(text, where="image")


def _check_names(columns: list[Column]) -> None:
    names = Counter(column.name for column in columns if column.name)
    twice, number = next(iter(names.most_common(1)), ("", 0))
    if number > 1:
        raise SidecarInvalid(f"row 1: two columns are called {shown(twice)}", where=twice)


def _decimal_of(sheet: Sheet, columns: list[Column]) -> str:
    """The sign before decimals: a comma if any number of the table has a decimal comma."""
    numbers = [index for index, column in enumerate(columns) if column.is_number]
    if sheet.dialect.delimiter == "," or not numbers:
        return "."
    for _, cells in sheet.rows():
        if any(index < len(cells) and is_decimal_comma(cells[index]) for index in numbers):
            return ","
    return "."


def _shown(column: str) -> str:
    return yaml12.one_line(column, 60)


def _csv_row(sheet: Sheet, columns: list[Column], number: int, cells: list[str]) -> TableRow:
    value: dict[str, Any] = {}
    faults: list[Problem] = []
    for index, cell in enumerate(cells):
        if not clean(cell):
            continue
        if index >= len(columns):
            faults.append(_fault(number, "", _too_many(sheet, cells)))
            break
        column = columns[index]
        if not column.name:
            # In tables of pandas and R, the first column counts the rows and has no name.
            if index or not clean(cell).isdigit():
                text = f"{shown(cell)} stands in column {index + 1}, which has no name"
                faults.append(_fault(number, "", f"{text}; name it or empty it"))
            continue
        if problem := column.problem or (_NUL if "\0" in cell else ""):
            faults.append(_fault(number, column.name, problem))
            continue
        try:
            item = cell_value(cell, column, sheet.dialect, is_curly=sheet.is_curly)
            if item is not EMPTY:
                _put(value, column.name, item)
        except ValueError as fault:
            faults.append(_fault(number, column.name, str(fault), is_value=True))
    return TableRow(number, _document(number, value), error_of(faults))


def _fault(number: int, column: str, text: str, *, is_value: bool = False) -> Problem:
    """A fault of a row. `column` is the column that causes it; "" if none does."""
    text = f"{_shown(column)}: {text}" if column else text
    return Problem(column, text, number, wrong_key=not is_value, unit="row")


def _too_many(sheet: Sheet, cells: list[str]) -> str:
    name = SEPARATORS[sheet.dialect.delimiter]
    quotes = 'straight quotes ("…")' if any(map(has_curly_quotes, cells)) else "double quotes"
    number = max(index for index, cell in enumerate(cells, 1) if clean(cell))
    return (
        f"it has {number} cells where row {sheet.header} names {len(sheet.columns)} columns; "
        f"put text that holds a separator ({name}) in {quotes}"
    )


# --- JSON Lines ---


def _json_lines(columns: Columns, text: str) -> Iterator[TableRow]:
    start = text.lstrip()
    if start.startswith("[") or re.match(r"\{\s*[\r\n]", start):
        what = "one JSON array" if start.startswith("[") else "JSON that runs over several lines"
        text = f"the table is {what}; a .jsonl has one object a line, without brackets or commas"
        raise SidecarInvalid(f"{text} between them (`jq -c` writes it so)")
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1):
        if clean(line):
            yield _json_row(columns, number, line)


def _json_row(columns: Columns, number: int, line: str) -> TableRow:
    try:
        record = json.loads(
            line, object_pairs_hook=_unique_keys, parse_constant=_constant,
            parse_float=_finite, parse_int=_whole,
        )  # fmt: skip
        if not isinstance(record, dict):
            raise ValueError(f"should be an object, not {shown(record)}")
        value: dict[str, Any] = {}
        for key, item in yaml12.loads(yaml12.dumps(record).encode()).value.items():
            _put(value, columns.column(key).name, item)
    except (ValueError, TypeError, RecursionError) as fault:
        error = SidecarInvalid(f"row {number}: {_json_words(fault, line)}")
        return TableRow(number, _document(number, _image_of(line)), error)
    value = columns.with_whole_numbers(value)
    faults = [_fault(number, key, text) for key in value if (text := columns.column(key).problem)]
    return TableRow(number, _document(number, value), error_of(faults))


def _constant(name: str) -> object:
    """`EMPTY` for NaN, which Python and pandas write for a missing value."""
    if name != "NaN":
        raise ValueError(f"{name} is no number of JSON; write a finite one")
    return EMPTY


def _finite(digits: str) -> float:
    if not math.isfinite(number := float(digits)):
        text = "is too large for a number; write a smaller one, or text in quotes"
        raise ValueError(f"{_shown(digits)} {text}")
    return number


def _whole(digits: str) -> int:
    """An integer with no more digits than YAML may have; Python's own limit is another one."""
    if len(digits) > yaml12.MAX_DIGITS:
        raise ValueError(f"a number of more than {yaml12.MAX_DIGITS:,} digits")
    return int(digits)


def _json_words(fault: Exception, line: str) -> str:
    """The fault of a line in words, with the correction of common mistakes."""
    text = getattr(fault, "msg", None) or str(fault) or "nested too deep"
    if not isinstance(fault, json.JSONDecodeError):
        return text
    rest = line[fault.pos :].strip()
    if text == "Extra data" and rest == ",":
        return "a comma follows the object; in a .jsonl none does"
    if rest.startswith("'") or line.strip().startswith("{'"):
        return 'JSON has double quotes only; write {"image": "a.png"}'
    if re.match(r"[}\]]", rest) or re.match(r",\s*[}\]]", rest):
        return "a comma stands before a closing bracket; remove it"
    if word := re.match(r"(True|False|None)\b", rest):
        literal = {"True": "true", "False": "false", "None": "null"}[word[1]]
        return f"JSON has no {word[1]}; write {literal}"
    if rest[:1] in ("\u201c", "\u201d", "\u201e"):
        return 'the quotes are curly; write straight ones: {"image": "a.png"}'
    return f"this is no JSON: {text} at character {fault.pos + 1}"


def _image_of(line: str) -> dict[str, Any]:
    """The image of an invalid row, if it can be found, so that no other job takes that image."""
    match = _IMAGE.search(line)
    try:
        image = json.loads(match[1]) if match else ""
        image.encode()
    except ValueError:
        return {}
    return {"image": image} if image else {}


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for key, item in pairs:
        if key in value:
            raise ValueError(f"the key {shown(key)} stands there twice")
        if item is not EMPTY:
            value[key] = item
    return value


# --- CSV and JSON Lines ---


def _put(value: dict[str, Any], column: str, item: Any) -> None:
    """Set `a.b` in a mapping of mappings. Raises ValueError if it is set already."""
    *outer, last = steps_to(column)
    first = outer[0] if outer else last
    if not outer:
        if isinstance(value.get(first), dict) and isinstance(item, dict):
            value[first] |= item
        elif first in value:
            raise ValueError("is set twice in this row; keep one")
        else:
            value[first] = item
        return
    inner = value
    for key in outer:
        if not is_mapping(part := inner.setdefault(key, {})):
            raise ValueError("is set twice in this row; keep one")
        inner = part
    if last in inner:
        raise ValueError("is set twice in this row; keep one")
    inner[last] = item


def _document(number: int, value: dict[str, Any]) -> Document:
    lines: dict[KeyPath, int] = {(): number}
    return Document(value, lines, "row")
