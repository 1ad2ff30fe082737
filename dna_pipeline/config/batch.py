"""One file that asks for several jobs: `matrix`, `images`, or a table. Pure.

document → its combinations → for each image, a row → resolved like any other sidecar
"""

from __future__ import annotations

import itertools
import math
from collections import ChainMap
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from dna_pipeline.base.errors import JobError, ParameterInvalid, SidecarInvalid
from dna_pipeline.config import misplaced_keys, yaml12
from dna_pipeline.config.columns import image_column
from dna_pipeline.config.image_paths import is_pattern
from dna_pipeline.config.problems import as_lines, dotted, from_validation, in_line_order
from dna_pipeline.config.sidecar import HEAD_KEYS, SidecarHead
from dna_pipeline.config.tables import TableRow
from dna_pipeline.config.yaml12 import Document, KeyPath, is_mapping

MAX_JOBS = 100_000
MAX_GLOB_CHARS = 1000

OF_BATCH = frozenset({"image", "images", "matrix", "max_failures", "on_duplicate"})
"""Keys that say which jobs there are, not what one of them does."""


@dataclass(frozen=True, slots=True)
class Row:
    """One job that is asked for.

    Attributes:
        number: its place, from 1; in a table as `TableRow` counts.
        image: as written; None where it is not said or of no use.
        document: what a sidecar of that image alone would say.
        error: why there can be no such job.
    """

    number: int
    image: str | None
    document: Document
    error: JobError | None = None


@dataclass(frozen=True, slots=True)
class BatchHead:
    """What a job file, or the YAML beside a table, says of all its jobs together."""

    max_failures: int | None = None
    on_duplicate: str | None = None


def head_of(document: Document | None) -> BatchHead:
    """Raises `ParameterInvalid` for values of those keys that cannot be used."""
    if document is None:
        return BatchHead()
    given = {key: document.value.get(key) for key in ("max_failures", "on_duplicate")}
    head = _validated(document, {key: value for key, value in given.items() if value is not None})
    return BatchHead(head.max_failures, head.on_duplicate)


def patterns_of(document: Document) -> tuple[str, ...]:
    """What `images:` or else `image:` names, as written. Raises `ParameterInvalid`."""
    if (given := document.value.get("images")) is None:
        image = document.value.get("image")
        return (image,) if isinstance(image, str) else ()
    images = _validated(document, {"images": given}).images or []
    found = (images,) if isinstance(images, str) else tuple(images)
    if any(is_pattern(text) and len(text) > MAX_GLOB_CHARS for text in found):
        where = document.place(("images",))
        text = f"{where}: images: a glob of more than {MAX_GLOB_CHARS:,} characters"
        raise ParameterInvalid(text, where="images")
    return found


def _validated(document: Document, given: dict[str, Any]) -> SidecarHead:
    try:
        return SidecarHead.model_validate(given)
    except ValidationError as error:
        problems = in_line_order(from_validation(error, document, (), SidecarHead))
        raise ParameterInvalid("\n".join(as_lines(problems)), where=problems[0].where) from None


def combinations(document: Document) -> list[Document]:
    """The documents that `matrix` makes of one, the last key changing first; without a matrix the
    document itself. All are without the keys of `OF_BATCH`.

    Raises:
        ParameterInvalid: it is no mapping of `stage.parameter` to lists, or asks for too many.
        SidecarInvalid: of a key that tells what is told outside the matrix too.
    """
    plain = {key: value for key, value in document.value.items() if key not in OF_BATCH}
    if (given := document.value.get("matrix")) is None:
        return [Document(plain, document.lines, document.unit)]
    matrix = _validated(document, {"matrix": given}).matrix or {}
    if math.prod(map(len, matrix.values())) > MAX_JOBS:
        where = document.place(("matrix",))
        raise ParameterInvalid(f"{where}: matrix: asks for more than {MAX_JOBS:,} jobs")
    for key in matrix:
        _check_key(document, plain, key)
    plainly = {path: line for path, line in document.lines.items() if path[:1] != ("matrix",)}
    axes = [
        [_Choice(key, value, document.line(("matrix", key, index)))
         for index, value in enumerate(values)]
        for key, values in matrix.items()
    ]  # fmt: skip
    return [_combined(plain, plainly, choices) for choices in itertools.product(*axes)]


def _without_stage(key: str) -> str:
    """`did you mean img2img.strength?` for a stage's parameter alone, which is no key here."""
    stages = misplaced_keys.known_stages()
    names = misplaced_keys.with_parameter(key, stages)
    if key in HEAD_KEYS or not names:
        return ""
    choices = [f"{name}.{misplaced_keys.own_name(stages[name], key)}" for name in names]
    return f"did you mean {' or '.join(choices)}?"


def _check_key(document: Document, plain: dict[str, Any], key: str) -> None:
    first, dot, rest = key.partition(".")
    path: KeyPath = ("matrix", key)
    where = f"{document.place(path)}: {dotted(path)}"
    if not dot and (clause := _without_stage(first)):
        raise SidecarInvalid(f"{where}: should name one parameter; {clause}")
    if not dot and (first in OF_BATCH or is_mapping(plain.get(first))):
        raise SidecarInvalid(f"{where}: should name one parameter, like img2img.strength")
    inner = plain.get(first)
    if (not dot and first in plain) or (is_mapping(inner) and rest in inner):
        raise SidecarInvalid(f"{where}: is told outside the matrix too; keep one")


@dataclass(frozen=True, slots=True)
class _Choice:
    """One value of an axis, and the line that it stands in."""

    key: str
    value: Any
    line: int


def _combined(
    plain: dict[str, Any], plainly: dict[KeyPath, int], choices: Iterable[_Choice]
) -> Document:
    """What is the same for all combinations is shared by them: there may be many."""
    value: dict[str, Any] = dict(plain)
    lines: dict[KeyPath, int] = {}
    for choice in choices:
        first, dot, rest = choice.key.partition(".")
        if dot:
            inner = value.get(first)
            value[first] = {**(inner if is_mapping(inner) else {}), rest: choice.value}
        else:
            value[first] = choice.value
        lines[(first, rest) if dot else (first,)] = choice.line
    return Document(value, ChainMap(lines, plainly))


def rows_of_job_file(document: Document, images: Iterable[str]) -> list[Row]:
    """For each image each combination. Raises as `combinations` does."""
    made = combinations(document)
    images = list(images)
    if len(images) * len(made) > MAX_JOBS:
        raise ParameterInvalid(f"images and matrix ask for more than {MAX_JOBS:,} jobs")
    pairs = itertools.product(images, made)
    return [Row(number, image, told) for number, (image, told) in enumerate(pairs, 1)]


def rows_of_table(rows: Iterable[TableRow], common: Document | None) -> list[Row]:
    """A table's rows; what the YAML beside it says holds where a row says nothing.

    Raises:
        SidecarInvalid: that YAML asks for jobs of its own.
    """
    for key in ("images", "matrix"):
        if common is not None and common.value.get(key) is not None:
            text = f"{common.place((key,))}: {key}: belongs into a job file, not beside a table"
            raise SidecarInvalid(f"{text}, whose rows say which jobs there are", where=key)
    return [_table_row(row, common) for row in rows]


def _table_row(row: TableRow, common: Document | None) -> Row:
    value: dict[str, Any] = {} if common is None else dict(common.value)
    for key, item in row.document.value.items():
        before = value.get(key)
        value[key] = {**before, **item} if is_mapping(before) and is_mapping(item) else item
    image = value.pop("image", None)
    batch_keys = [key for key in row.document.value if key in OF_BATCH - {"image"}]
    document = Document(
        {key: item for key, item in value.items() if key not in OF_BATCH},
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


def request(document: Document) -> str:
    """A row as a YAML that says the same; it is written as JSON, which YAML understands."""
    return yaml12.dumps(document.value, indent=2) + "\n"
