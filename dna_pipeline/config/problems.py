"""Problems of a YAML file, in words with which its writer can correct it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from pydantic import BaseModel, ValidationError

from dna_pipeline.base.errors import JobError, ParameterInvalid, SidecarInvalid
from dna_pipeline.config.sentences import nearest, nested_model, sentence, shown
from dna_pipeline.config.yaml12 import (
    Document,
    KeyPath,
    dotted,
    is_list,
    is_mapping,
    one_line,
)
from dna_pipeline.config.yaml_faults import without_blank

MAX_SHOWN = 20
MAX_COLLECTED = 100
"""Largest number of problems to collect: nobody corrects more at once, and a hostile file could
have a hundred thousand."""
MAX_TEXT_CHARS = 600


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault: its place and text, and `wrong_key`: True for a wrong key, False for a value."""

    where: str
    text: str
    line: int
    wrong_key: bool
    unit: str = "line"

    def __str__(self) -> str:
        text = one_line(self.text, MAX_TEXT_CHARS)
        return f"{self.unit} {self.line}: {text}" if self.line else text


def in_line_order(problems: Iterable[Problem]) -> list[Problem]:
    """Each problem once, from the file's top to its end."""
    return sorted(dict.fromkeys(problems), key=lambda p: p.line)


def as_lines(problems: Iterable[Problem]) -> list[str]:
    """A line for each problem, from the file's top to its end; at most `MAX_SHOWN` of them."""
    ordered = in_line_order(problems)
    lines = [str(problem) for problem in ordered[:MAX_SHOWN]]
    return [*lines, "and more of the kind"] if len(ordered) > MAX_SHOWN else lines


def error_of(problems: Iterable[Problem]) -> JobError | None:
    """The error for all these problems, with the place of the first one; None if there are none."""
    if not (ordered := in_line_order(problems)):
        return None
    has_wrong_key = any(problem.wrong_key for problem in ordered)
    kind = SidecarInvalid if has_wrong_key else ParameterInvalid
    return kind("\n".join(as_lines(ordered)), where=ordered[0].where)


def joined(errors: Sequence[JobError]) -> JobError:
    """One error for several of one file, with all lines of their details, each once.

    It has the code of a wrong key if there is one, as in `error_of`, else that of the first error.
    """
    first, *others = errors
    if not others:
        return first
    lead = next((error for error in errors if isinstance(error, SidecarInvalid)), first)
    lines = dict.fromkeys(line for error in errors for line in error.detail.splitlines())
    hint = " ".join(dict.fromkeys(error.hint for error in errors if error.hint))
    shown = list(lines)[:MAX_SHOWN]
    shown += ["and more of the kind"] if len(lines) > MAX_SHOWN else []
    return type(lead)("\n".join(shown), hint=hint, where=first.where)


def no_hint(*_: object) -> str:
    """No hint or advice: the standard text is the best."""
    return ""


def unknown_key(document: Document, path: KeyPath, keys: Iterable[str], hint: str = "") -> Problem:
    """The problem of an unknown key.

    Args:
        keys: the keys that are valid there.
        hint: a better advice than the nearest of these keys; "" if there is none.
    """
    key = str(path[-1])
    hint = without_blank(key) or hint or nearest(key, keys, is_key=True)
    text = f"unknown key '{dotted(path)}'; {hint}"
    return wrong_key(document, path, text)


def wrong_key(document: Document, path: KeyPath, text: str) -> Problem:
    """The problem of a key that is missing or should not stand there."""
    return Problem(dotted(path), text, document.line(path), True, document.unit)


def wrong_value(document: Document, path: KeyPath, text: str) -> Problem:
    """The problem of a value that cannot be used."""
    start = f"{dotted(path)}: " if path else ""
    return Problem(dotted(path), f"{start}{text}", document.line(path), False, document.unit)


def not_json(document: Document, besides: Iterable[Problem]) -> list[Problem]:
    """Problems of values that JSON, and so the manifest, cannot hold.

    Args:
        besides: problems that are reported already; their places are left out.
    """
    places = {problem.where for problem in besides}
    problems = (
        wrong_value(document, path, f"should be {expectation}, not {shown(value)}")
        for path, value in _leaves((), document.value)
        if (expectation := _json_wants(value)) and dotted(path) not in places
    )
    return list(islice(problems, MAX_COLLECTED))


def _leaves(path: KeyPath, value: Any) -> Iterator[tuple[KeyPath, Any]]:
    """All keys, and all values that are no collections, each with its place."""
    if is_mapping(value):
        for key, item in value.items():
            yield (*path, key), key
            yield from _leaves((*path, key), item)
    elif is_list(value):
        for index, item in enumerate(value):
            yield from _leaves((*path, index), item)
    else:
        yield path, value


def _json_wants(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return "a finite number"
    if isinstance(value, str) and re.search("[\ud800-\udfff]", value):
        return "text that UTF-8 can hold"
    return ""


def from_validation(
    error: ValidationError,
    document: Document,
    prefix: KeyPath,
    model: type[BaseModel],
    *,
    spelled: Mapping[str, str] | None = None,
    other_keys: Iterable[str] = (),
    partial: bool = False,
    hint: Callable[[str], str] = no_hint,
    advice: Callable[[str, object], str] = no_hint,
) -> list[Problem]:
    """Pydantic's errors as problems of the document.

    Args:
        prefix: path from the document's root to the value that was validated against `model`.
        spelled: the document's spellings of keys that were renamed before the validation.
        other_keys: keys that are valid there although `model` does not have them.
        partial: True if other places complete the value, so that missing keys and errors of the
            whole value are left out.
        hint: returns where an unknown key belongs, "" if that is unknown.
        advice: returns how to write a wrong value of a key, "" if that is unknown.
    """
    problems: list[Problem] = []
    values: dict[KeyPath, list[dict[str, Any]]] = {}
    for item in map(dict[str, Any], error.errors(include_url=False)):
        if len(problems) + len(values) >= MAX_COLLECTED:
            break
        loc: KeyPath = item["loc"]
        if partial and (not loc or (len(loc) == 1 and item["type"] == "missing")):
            continue
        path = (*prefix, *loc)
        if loc and loc[0] in (spelled or {}):
            path = (*prefix, (spelled or {})[str(loc[0])], *loc[1:])
        if item["type"] == "extra_forbidden":
            keys = [*_keys_at(model, loc[:-1]), *(other_keys if len(loc) == 1 else ())]
            text = hint(str(loc[0])) if len(loc) == 1 else ""
            problems.append(unknown_key(document, path, keys, text))
        elif item["type"] == "missing":
            problems.append(wrong_key(document, path, f"the key '{dotted(path)}' is missing"))
        else:
            values.setdefault(_document_path(document, path, prefix), []).append(item)
    for path, items in values.items():
        mend = advice(str(items[0]["loc"][0]), items[0]["input"]) if items[0]["loc"] else ""
        problems.append(wrong_value(document, path, _sentence(items, model, mend)))
    return problems


def _sentence(items: list[dict[str, Any]], model: type[BaseModel], mend: str) -> str:
    text = sentence(items, model)
    return f"{text.split('; did you mean ', 1)[0]}; {mend}" if mend else text


def _document_path(document: Document, path: KeyPath, prefix: KeyPath) -> KeyPath:
    """`path` without the choices of a union: pydantic names them, but no document has them."""
    while len(path) > len(prefix) + 1 and not document.has(path):
        path = path[:-1]
    return path


def _keys_at(model: type[BaseModel], path: KeyPath) -> list[str]:
    """The valid keys at that place in a model, which may hold models and lists of models."""
    for part in path:
        if isinstance(part, str) and (field := model.model_fields.get(part)) is not None:
            model = nested_model(field) or model
    return list(model.model_fields)
