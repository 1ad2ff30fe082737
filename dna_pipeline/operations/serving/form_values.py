"""Parameters of stages from the fields of a form, whose values are all text."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_origin

from dna_pipeline.config.columns import kinds_of
from dna_pipeline.config.parameters import check_params
from dna_pipeline.config.yaml12 import Document
from dna_pipeline.stages import registry

if TYPE_CHECKING:
    from dna_pipeline.stages.base import Stage

YES = frozenset({"true", "1", "on", "yes", "y", "t"})
NO = frozenset({"false", "0", "off", "no", "n", "f"})
NULLS = frozenset({"null", "none"})


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """A field whose value cannot be used, by the name under which it was sent.

    Attributes:
        text: a clause like `should be at most 1, not 3`.
    """

    name: str
    text: str


class WrongFields(Exception):
    """Fields of a form cannot be used."""

    def __init__(self, problems: list[FieldProblem]) -> None:
        super().__init__("; ".join(f"{each.name}: {each.text}" for each in problems))
        self.problems = problems


def names_of(stage_type: str) -> frozenset[str]:
    """The names under which a form may set parameters of that stage."""
    stage = registry.stage_class(stage_type)
    return frozenset({*stage.model_fields, *stage.aliases})


def parameters_of(stage_type: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Read parameters of a stage from fields of a form, under any of their names.

    Numbers and switches may be text. An empty field counts as absent, except for the prompts, whose
    empty text is a value.

    Args:
        fields: those in `names_of` are read, all others are passed over.

    Raises:
        WrongFields: values of the wrong kind or out of range, or one parameter under two names.
    """
    stage = registry.stage_class(stage_type)
    problems: list[FieldProblem] = []
    values: dict[str, Any] = {}
    for name in names_of(stage_type) & fields.keys():
        try:
            values[name] = _value(stage, name, fields[name])
        except _Absent:
            continue
        except ValueError as error:
            problems.append(FieldProblem(name, str(error)))
    values = {name: values[name] for name in fields if name in values}
    document = Document({stage_type: values}, {(): 0}, "the request")
    own, wrong = check_params(stage, document, (stage_type,), values)
    for problem in wrong:
        name = problem.where.removeprefix(f"{stage_type}.")
        text = problem.text.removeprefix(f"{problem.where}: ")
        problems.append(FieldProblem(name, text))
    if problems:
        raise WrongFields(problems)
    return own


def spelling_of(stage_type: str, parameter: str, fields: Mapping[str, Any]) -> str:
    """Find the name under which a form sets a parameter of that stage; "" if it does not."""
    aliases = registry.stage_class(stage_type).aliases
    return next((name for name in fields if aliases.get(name, name) == parameter), "")


def switch(value: object) -> bool:
    """Read a switch. Raises ValueError for anything that is neither yes nor no."""
    if isinstance(value, bool):
        return value
    word = str(value).strip().casefold()
    if word in YES | NO:
        return word in YES
    raise ValueError(f"should be true or false, not {_shown(value)}")


def is_blank(value: object) -> bool:
    """True for a field that was sent without a value."""
    return value is None or (isinstance(value, str) and not value.strip())


class _Absent(Exception):
    """The field says nothing."""


def _value(stage: type[Stage], name: str, value: Any) -> Any:
    """The value of a field, of the type that its parameter has. Raises ValueError or `_Absent`."""
    own = stage.aliases.get(name, name)
    annotation = stage.model_fields[own].annotation
    if own in stage.templates and isinstance(value, str):
        return value
    if is_blank(value):
        raise _Absent
    if not isinstance(value, str):
        return _plain(value, kinds_of(annotation))
    if get_origin(annotation) in (list, dict):
        return _collection(value, is_list=get_origin(annotation) is list)
    return _read(value.strip(), kinds_of(annotation))


def _read(text: str, kinds: frozenset[str]) -> Any:
    """The value that a text stands for, among the kinds of values that a parameter takes."""
    word = text.casefold()
    if "null" in kinds and word in NULLS:
        return None
    if "bool" in kinds and (word in YES | NO or not kinds & {"word", "text"}):
        return switch(text)
    if "text" in kinds:
        return text
    if kinds & {"int", "float"} and (number := _number(text)) is not None:
        return _whole(number, kinds)
    if "word" in kinds:
        return text
    what = "a whole number" if "int" in kinds else "a number"
    raise ValueError(f"should be {what}, not {_shown(text)}")


def _number(text: str) -> int | float | None:
    """The number of a text; None if it is none, or no finite one."""
    for kind in (int, float):
        try:
            number = kind(text)
            return number if math.isfinite(number) else None
        except OverflowError:  # a whole number that is larger than any other one
            return None
        except ValueError:
            continue
    return None


def _plain(value: Any, kinds: frozenset[str]) -> Any:
    """A value that is no text: 1 and 0 are switches where there are no numbers."""
    if type(value) is int and value in (0, 1) and "bool" in kinds and not kinds & {"int", "float"}:
        return bool(value)
    return _whole(value, kinds)


def _whole(value: Any, kinds: frozenset[str]) -> Any:
    """`20.0` as 20 where a whole number is wanted, and 1 as 1.0 where none is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if "int" not in kinds:
        try:
            return float(value) if "float" in kinds else value
        except OverflowError:
            raise ValueError("is too large") from None
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _collection(text: str, *, is_list: bool) -> Any:
    """A list or mapping, in JSON; a list also with commas alone."""
    if text.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise ValueError("cannot be read as JSON") from None
    if is_list:
        return [part.strip() for part in text.split(",") if part.strip()]
    raise ValueError(f'should be a mapping in JSON, like {{"clay": 0.8}}, not {_shown(text)}')


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
