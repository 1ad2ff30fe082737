"""Rows of a file that asks for several jobs by `matrix`, `count`, `images`, or a table.

Touches no disk.

document → its combinations, each with its seeds → one row for each image → resolved like any other
sidecar
"""

from __future__ import annotations

import itertools
import math
from collections import ChainMap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from dna_pipeline.base.errors import JobError, ParameterInvalid, SidecarInvalid
from dna_pipeline.config import misplaced_keys, result_names, yaml12
from dna_pipeline.config.columns import image_column, steps_to
from dna_pipeline.config.image_paths import is_pattern
from dna_pipeline.config.problems import as_lines, dotted, from_validation, in_line_order
from dna_pipeline.config.schema import HEAD_KEYS, SidecarHead
from dna_pipeline.config.tables import TableRow
from dna_pipeline.config.yaml12 import Document, KeyPath, is_mapping

MAX_JOBS = 100_000
MAX_GLOB_CHARS = 1000

BATCH_KEYS = frozenset({"count", "image", "images", "matrix", "max_failures", "on_duplicate"})
"""Keys that define which jobs there are, not what one job does."""


@dataclass(frozen=True, slots=True)
class Row:
    """One job that the file asks for.

    Attributes:
        number: its place, from 1; in a table as `TableRow` counts.
        image: as written; None if it is missing or is no text.
        document: the same job as the sidecar of one image.
        error: the reason why the job is impossible; None if it is possible.
    """

    number: int
    image: str | None
    document: Document
    error: JobError | None = None


@dataclass(frozen=True, slots=True)
class BatchHead:
    """Settings of a job file, or of the YAML beside a table, for all its jobs together."""

    max_failures: int | None = None
    on_duplicate: str | None = None


def head_of(document: Document | None) -> BatchHead:
    """Settings of a document for all its jobs. Raises `ParameterInvalid` for invalid values."""
    if document is None:
        return BatchHead()
    values = {key: document.value.get(key) for key in ("max_failures", "on_duplicate")}
    head = _validated(document, {key: value for key, value in values.items() if value is not None})
    return BatchHead(head.max_failures, head.on_duplicate)


def patterns_of(document: Document) -> tuple[str, ...]:
    """Paths and globs of `images:`, or else of `image:`, as written. Raises `ParameterInvalid`."""
    if (value := document.value.get("images")) is None:
        image = document.value.get("image")
        return (image,) if isinstance(image, str) else ()
    images = _validated(document, {"images": value}).images or []
    patterns = (images,) if isinstance(images, str) else tuple(images)
    if any(is_pattern(text) and len(text) > MAX_GLOB_CHARS for text in patterns):
        where = document.place(("images",))
        text = f"{where}: images: a glob of more than {MAX_GLOB_CHARS:,} characters"
        raise ParameterInvalid(text, where="images")
    return patterns


def _validated(document: Document, values: dict[str, Any]) -> SidecarHead:
    try:
        return SidecarHead.model_validate(values)
    except ValidationError as error:
        problems = in_line_order(from_validation(error, document, (), SidecarHead))
        raise ParameterInvalid("\n".join(as_lines(problems)), where=problems[0].where) from None


def combinations(document: Document) -> list[Document]:
    """One document for each combination of the values of `matrix`, `count` times with other seeds.

    The last key changes fastest, and the seeds faster still. Without both, the document itself. No
    result has keys of `BATCH_KEYS`.

    Raises:
        ParameterInvalid: `matrix` is no mapping of `stage.parameter` to lists, `count` is no number
            of jobs, or they ask for too many.
        SidecarInvalid: a key of `matrix` names no parameter, or one that is also set outside.
    """
    count = count_of(document)
    plain = {key: value for key, value in document.value.items() if key not in BATCH_KEYS}
    if (raw_matrix := document.value.get("matrix")) is None:
        return _copies(Document(plain, document.lines, document.unit), count)
    matrix = _validated(document, {"matrix": raw_matrix}).matrix or {}
    if count * math.prod(map(len, matrix.values())) > MAX_JOBS:
        where = document.place(("matrix",))
        raise ParameterInvalid(f"{where}: matrix: asks for more than {MAX_JOBS:,} jobs")
    for key in matrix:
        _check_key(document, plain, key)
        _check_against_outer_axis(document, matrix, key)
    plainly = {path: line for path, line in document.lines.items() if path[:1] != ("matrix",)}
    axes = [
        [_Choice(key, value, document.line(("matrix", key, index)))
         for index, value in enumerate(values)]
        for key, values in matrix.items()
    ]  # fmt: skip
    combined = (_combined(plain, plainly, choices) for choices in itertools.product(*axes))
    return [copy for each in combined for copy in _copies(each, count)]


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis of a batch: the key of its values, `image` for its images or `count` for copies."""

    name: str
    values: tuple[Any, ...]


def axes_of(document: Document, images: Sequence[str] = ()) -> list[Axis]:
    """The axes of a document with a `matrix` or a `count`, the slowest first; else none.

    Row n of its batch is the n-th combination of their values.
    """
    matrix, count = _matrix_of(document), count_of(document)
    if not matrix and count == 1:
        return []
    axes = [Axis("image", tuple(images))] if len(images) > 1 else []
    axes += [Axis(key, tuple(values)) for key, values in matrix.items()]
    return axes + ([Axis("count", tuple(range(1, count + 1)))] if count > 1 else [])


def _matrix_of(document: Document) -> dict[str, list[Any]]:
    value = document.value.get("matrix")
    return dict(value) if is_mapping(value) else {}


def default_result_name(document: Document) -> str | None:
    """The template of the result folders' names that a document with a matrix or a count gives;
    None without both."""
    matrix, has_count = _matrix_of(document), count_of(document) > 1
    if not matrix and not has_count:
        return None
    return result_names.of_axes(matrix, has_count=has_count)


def count_of(document: Document) -> int:
    """Number of jobs with seeds of their own, from `count`. Raises `ParameterInvalid`."""
    if (value := document.value.get("count")) is None:
        return 1
    return _validated(document, {"count": value}).count or 1


def _copies(document: Document, count: int) -> list[Document]:
    """The document so many times, each with the next seeds; itself for one."""
    if count == 1:
        return [document]
    return [
        Document({**document.value, "seed_offset": offset}, document.lines, document.unit)
        for offset in range(count)
    ]


def _without_stage(key: str) -> str:
    """`did you mean img2img.strength?` for a parameter without its stage, which is no valid key."""
    stages = misplaced_keys.known_stages()
    names = misplaced_keys.with_parameter(key, stages)
    if key in HEAD_KEYS or not names:
        return ""
    choices = [f"{name}.{misplaced_keys.own_name(stages[name], key)}" for name in names]
    return f"did you mean {' or '.join(choices)}?"


def _check_key(document: Document, plain: dict[str, Any], key: str) -> None:
    first, dot, _ = key.partition(".")
    path: KeyPath = ("matrix", key)
    where = f"{document.place(path)}: {dotted(path)}"
    if not dot and (clause := _without_stage(first)):
        raise SidecarInvalid(f"{where}: should name one parameter; {clause}")
    if not dot and (first in BATCH_KEYS or is_mapping(plain.get(first))):
        raise SidecarInvalid(f"{where}: should name one parameter, like img2img.strength")
    if _has(plain, steps_to(key)):
        raise SidecarInvalid(f"{where}: is told outside the matrix too; keep one")


def _check_against_outer_axis(
    document: Document, matrix: Mapping[str, list[Any]], key: str
) -> None:
    """Refuse an axis like `img2img.loras.clay` if a value of the axis `img2img.loras` has a weight
    for it too. Without one, the axis adds its key to each of these mappings."""
    *outer, last = steps_to(key)
    above = ".".join(outer)
    if any(is_mapping(value) and last in value for value in matrix.get(above, ())):
        path: KeyPath = ("matrix", key)
        where = f"{document.place(path)}: {dotted(path)}"
        raise SidecarInvalid(f"{where}: is told by the axis {above} too; keep one")


def _has(value: object, path: KeyPath) -> bool:
    for key in path:
        if not is_mapping(value) or key not in value:
            return False
        value = value[key]
    return True


def _with(value: Any, path: KeyPath, item: object) -> Any:
    """A copy of a mapping of mappings, with another value at a path. A value on the way that should
    be a mapping and is none stays, so that its fault is reported."""
    if value is not None and not is_mapping(value):
        return value
    first, rest = str(path[0]), path[1:]
    outer: dict[str, Any] = dict(value or {})
    outer[first] = _with(outer.get(first), rest, item) if rest else item
    return outer


def _merged(before: Mapping[str, Any], item: Mapping[str, Any]) -> dict[str, Any]:
    """Both mappings; where both have a mapping, that of all its keys."""
    inner = {
        key: {**before[key], **value}
        for key, value in item.items()
        if is_mapping(value) and is_mapping(before.get(key))
    }
    return {**before, **item, **inner}


@dataclass(frozen=True, slots=True)
class _Choice:
    """One value of an axis of the matrix, and its line."""

    key: str
    value: Any
    line: int


def _combined(
    plain: dict[str, Any], plainly: dict[KeyPath, int], choices: Iterable[_Choice]
) -> Document:
    """The document of one combination. Combinations share equal values: there may be many."""
    value: dict[str, Any] = dict(plain)
    lines: dict[KeyPath, int] = {}
    # A whole mapping comes before the axes that add keys to it, in whatever order they stand.
    for choice in sorted(choices, key=lambda choice: len(steps_to(choice.key))):
        path = steps_to(choice.key)
        value = _with(value, path, choice.value)
        lines[path] = choice.line
    return Document(value, ChainMap(lines, plainly))


def rows_of_job_file(document: Document, images: Iterable[str]) -> list[Row]:
    """A row for each image and each combination. Raises as `combinations` does."""
    documents = combinations(document)
    images = list(images)
    if len(images) * len(documents) > MAX_JOBS:
        raise ParameterInvalid(f"images, matrix and count ask for more than {MAX_JOBS:,} jobs")
    pairs = itertools.product(images, documents)
    return [Row(number, image, combined) for number, (image, combined) in enumerate(pairs, 1)]


def rows_of_table(rows: Iterable[TableRow], common: Document | None) -> list[Row]:
    """Rows of a table. The YAML beside the table gives the values that a row lacks.

    A row with a `count` keeps its number for the first of its jobs. The others are numbered behind
    all rows of the table, so that the numbers of the table stay true.

    Raises:
        ParameterInvalid: the counts ask for too many jobs.
        SidecarInvalid: that YAML has `images` or `matrix`, and so asks for jobs of its own.
    """
    for key in ("images", "matrix"):
        if common is not None and common.value.get(key) is not None:
            text = f"{common.place((key,))}: {key}: belongs into a job file, not beside a table"
            raise SidecarInvalid(f"{text}, whose rows say which jobs there are", where=key)
    copies = [_rows_of(row, common) for row in rows]
    if sum(map(len, copies)) > MAX_JOBS:
        raise ParameterInvalid(f"count: asks for more than {MAX_JOBS:,} jobs", where="count")
    first, others = [group[0] for group in copies], [row for group in copies for row in group[1:]]
    last = first[-1].number if first else 0
    return first + [replace(row, number=number) for number, row in enumerate(others, last + 1)]


def _rows_of(row: TableRow, common: Document | None) -> list[Row]:
    """The jobs of one row: one, or as many as its `count` says."""
    whole = _table_row(row, common)
    value: dict[str, Any] = {"count": None if common is None else common.value.get("count")}
    value |= row.document.value
    try:
        count = count_of(Document(value, row.document.lines, row.document.unit))
    except ParameterInvalid as error:
        return [whole if whole.error is not None else replace(whole, error=error)]
    if whole.error is not None:
        return [whole]
    return [replace(whole, document=document) for document in _copies(whole.document, count)]


def _table_row(row: TableRow, common: Document | None) -> Row:
    value: dict[str, Any] = {} if common is None else dict(common.value)
    for key, item in row.document.value.items():
        before = value.get(key)
        if is_mapping(before) and is_mapping(item):
            value[key] = {**before, **item} if key == "meta" else _merged(before, item)
        else:
            value[key] = item
    image = value.pop("image", None)
    batch_keys = [key for key in row.document.value if key in BATCH_KEYS - {"image", "count"}]
    document = Document(
        {key: item for key, item in value.items() if key not in BATCH_KEYS},
        row.document.lines, row.document.unit,
    )  # fmt: skip
    error = row.error
    if error is None and batch_keys:
        text = f"row {row.number}: {batch_keys[0]}: belongs into the YAML beside the table"
        error = SidecarInvalid(text, where=batch_keys[0])
    if error is None and (not isinstance(image, str) or not image.strip()):
        text = f"row {row.number}: image: should name a file"
        if image is None and (word := image_column(row.document.value)):
            text += f"; did you mean `image` by {word!r}?"
        error = ParameterInvalid(text, where="image")
    return Row(row.number, image if isinstance(image, str) else None, document, error)


def request_text(document: Document) -> str:
    """A row as the text of an equal YAML file, written as JSON, which YAML readers accept."""
    return yaml12.dumps(document.value, indent=2) + "\n"
