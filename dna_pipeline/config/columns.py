"""Columns of a table: the key of each, and the kind of value in its cells."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from dna_pipeline.config.parameters import keys_of
from dna_pipeline.config.schema import HEAD_KEYS, Pipeline
from dna_pipeline.config.yaml12 import is_mapping, one_line
from dna_pipeline.stages import registry

MAX_EXACT = 2**53
"""Largest number up to which a float holds every whole number."""

_MOST_NAMED = 3
_MAX_CACHED = 1000
"""Largest number of columns in the cache: each row of JSON Lines may have keys of its own."""
_LIKENESS = 0.8
_OF_TYPES: dict[Any, str] = {
    bool: "bool", int: "int", float: "float", str: "text", NoneType: "null",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        name: the key of the column, like `img2img.prompt`; "" for a column without a name.
        kinds: kinds of its values: `text`, `word`, `int`, `float`, `bool`, `null`; empty if they
            are unknown.
        problem: the reason why its cells cannot be used; "" if they can.
    """

    name: str
    kinds: frozenset[str] = frozenset()
    problem: str = ""

    @property
    def is_number(self) -> bool:
        return bool(self.kinds & {"int", "float"}) and "text" not in self.kinds

    @property
    def is_free_text(self) -> bool:
        """True if its cells are text for people or models, so that any text is valid."""
        return "." in self.name and "text" in self.kinds


_IMAGE_WORDS = frozenset(
    {"file", "files", "filename", "filepath", "path", "images", "imagefile", "imagename"}
    | {"imagepath", "img", "imgs", "picture", "photo", "input", "inputimage", "bild", "datei"}
)
"""Names that people give to the column of the images, without blanks and signs."""


def image_column(names: Iterable[str]) -> str:
    """The first of these columns that is probably meant as `image`; "" if none is."""
    return next((n for n in names if re.sub(r"[\W_]", "", n).casefold() in _IMAGE_WORDS), "")


_HEAD = {
    "image": frozenset({"text"}), "pipeline": frozenset({"text"}),
    "not_before": frozenset({"text"}), "priority": frozenset({"int"}),
    "seed": frozenset({"int", "word"}), "seed_offset": frozenset({"int"}),
    "count": frozenset({"int"}), "metadata": frozenset({"word"}),
    "reuse": frozenset({"word"}),
    "result_name": frozenset({"text"}),
}  # fmt: skip


def steps_to(name: str) -> tuple[str, ...]:
    """The keys that lead to the value of a column: `img2img.loras.clay` is the key `clay` of the
    parameter `loras`. The names below `meta` are those of people, and may hold dots."""
    first, dot, rest = name.partition(".")
    parameter, inner_dot, key = rest.partition(".")
    if not dot:
        return (first,)
    return (first, parameter, key) if inner_dot and first != "meta" else (first, rest)


class Columns:
    """The valid columns for a configuration's pipelines."""

    def __init__(self, pipelines: Mapping[str, Pipeline]) -> None:
        self._types: dict[str, set[str]] = {}
        self._mappings: dict[str, frozenset[str]] = {}
        """The parameters that are mappings, with the kinds of their values: each key of one may be
        a column, like `img2img.loras.clay`."""
        for pipeline in pipelines.values():
            for spec in pipeline.stages:
                for key in keys_of(spec):
                    self._types.setdefault(key, set()).add(spec.type)
        self._fields: dict[str, dict[str, frozenset[str]]] = {
            key: self._fields_of(types) for key, types in self._types.items()
        }
        self._columns: dict[str, Column] = {}
        self._keys = {key.casefold(): key for key in (*self._types, *HEAD_KEYS)}

    def column(self, name: str) -> Column:
        """The column of that name; case does not count."""
        if (column := self._columns.get(name)) is None:
            column = self._column(name)
            if len(self._columns) < _MAX_CACHED:
                self._columns[name] = column
        return column

    def _column(self, name: str) -> Column:
        first, dot, rest = (part.strip() for part in name.partition("."))
        first = first if first in self._types else self._keys.get(first.casefold(), first)
        if not dot:
            return Column(first, _HEAD.get(first, frozenset()), self._problem(first))
        if first == "meta" and rest:
            return Column(f"meta.{rest}", frozenset({"text"}))
        if not rest or not self._is_stage(first):
            return Column(name, problem=self._problem(name))
        fields = self._fields.get(first, {})
        if rest not in fields:
            rest = next((f for f in fields if f.casefold() == rest.casefold()), rest)
        if (inner := self._in_mapping(fields, rest)) is not None:
            return Column(f"{first}.{inner}", self._mappings[inner.partition(".")[0]])
        return Column(f"{first}.{rest}", fields.get(rest, frozenset()))

    def _in_mapping(self, fields: Mapping[str, frozenset[str]], rest: str) -> str | None:
        """The name `loras.clay` of a key within a parameter that is a mapping; None for another."""
        name, dot, key = (part.strip() for part in rest.partition("."))
        own = next((f for f in fields if f.casefold() == name.casefold()), "")
        return f"{own}.{key}" if dot and key and own in self._mappings else None

    def with_whole_numbers(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """A row with `20.0` as 20 for parameters that take a whole number: some programs write all
        numbers with decimals."""
        return {
            key: {k: self._whole(f"{key}.{k}", v) for k, v in item.items()}
            if is_mapping(item) and key != "meta"
            else self._whole(key, item)
            for key, item in value.items()
        }

    def _whole(self, name: str, value: Any) -> Any:
        if not isinstance(value, float) or "int" not in self.column(name).kinds:
            return value
        is_exact = math.isfinite(value) and abs(value) <= MAX_EXACT and value.is_integer()
        return int(value) if is_exact else value

    def _fields_of(self, types: set[str]) -> dict[str, frozenset[str]]:
        """Kinds of the parameters of these stage types, by parameter name and by alias."""
        kinds_by_name: dict[str, frozenset[str]] = {}
        for stage in map(registry.stage_class, sorted(types)):
            names = {name: name for name in stage.model_fields} | stage.aliases
            for name, own in names.items():
                annotation = stage.model_fields[own].annotation
                if get_origin(annotation) is dict:
                    self._mappings[name] = kinds_of(get_args(annotation)[1])
                kinds = kinds_of(annotation)
                kinds_by_name[name] = kinds_by_name.get(name, frozenset()) | kinds
        return kinds_by_name

    def _problem(self, name: str) -> str:
        """The problem of a column that names no stage, with the columns it may mean; "" if none."""
        if not name or not self._types or name in HEAD_KEYS or self._is_stage(name):
            return ""
        is_whole_stage = self._is_stage(name.rstrip(". "))
        is_searched = len(self._columns) < _MAX_CACHED and not is_whole_stage
        alike = self._similar_columns(name) if is_searched else []
        note = f"`meta.{one_line(name, 60).strip('. ') or 'note'}`"
        if alike:
            names = " or ".join(f"`{text}`" for text in alike[:_MOST_NAMED])
            return (
                f"there is no such column; did you mean {names}? ({note} is copied to the manifest)"
            )
        return f"there is no such column; did you mean {note}, which is copied to the manifest?"

    def _is_stage(self, name: str) -> bool:
        return name in self._types or name in registry.stage_types()

    def _similar_columns(self, name: str) -> list[str]:
        """The columns with a parameter of that name, else the one with the most similar name."""
        parameters = {
            f"{key}.{field}": field.casefold()
            for key, fields in self._fields.items()
            for field in fields
        }
        word = name.casefold()[:100]
        if same := [column for column, field in parameters.items() if field == word]:
            return same
        by_word = {field: column for column, field in parameters.items()}
        by_word |= {key: key for key in HEAD_KEYS} | {key: key for key in parameters}
        return [by_word[close] for close in get_close_matches(word, by_word, n=1, cutoff=_LIKENESS)]


def kinds_of(annotation: Any) -> frozenset[str]:
    """The kinds of values that a parameter with this annotation takes; see `Column.kinds`."""
    if annotation in _OF_TYPES:
        return frozenset({_OF_TYPES[annotation]})
    if get_origin(annotation) is Literal:
        return frozenset(
            "bool" if isinstance(value, bool) else "word" for value in get_args(annotation)
        )
    if get_origin(annotation) in (list, dict):
        return frozenset()
    return frozenset[str]().union(*map(kinds_of, get_args(annotation)))
