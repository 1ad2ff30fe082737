"""Text with fields and wildcards, like `a {red|blue} chair, {meta.asset}`.

{field}    a value of the job's data: one of `FIELDS`, or `meta.a.b` for a value within its meta
{a|b||c}   one of the options; an option may be empty, and may hold fields and wildcards
{{ }}      a brace; within a wildcard, `}}` is a brace only after a `{{` in the same option, so that
           `{a|{b|c}}` is a wildcard within a wildcard
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from dna_pipeline.config.sentences import nearest, shown
from dna_pipeline.config.yaml12 import is_mapping

MAX_CHARS = 10_000
MAX_DEPTH = 8
FIELDS = ("batch", "folder", "inbox", "name", "pipeline", "row", "seed", "stem", "tags")
_META = "meta"
_PLAIN = re.compile(r"[^{}|]+|\|")


class TemplateError(ValueError):
    """A text that cannot be filled in; the message is a clause with the reason."""


@dataclass(frozen=True, slots=True)
class _Field:
    path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Wildcard:
    options: tuple[_Parts, ...]


_Parts = tuple[str | _Field | _Wildcard, ...]


def check(text: str) -> None:
    """Raise `TemplateError` for a text that is invalid for the data of any job."""
    _Parser(text).parse()


def fill(text: str, data: Mapping[str, Any], seed: int | str) -> str:
    """The text with its fields filled in and its wildcards chosen.

    Args:
        data: the value of each field, and `meta`, a mapping.
        seed: seed of the choices; equal seeds choose the same options. Each text starts from the
            seed again, so that `{cat|dog}` in one text and `{dog|cat}` in another always differ.

    Raises:
        TemplateError: the text is invalid, names an unknown field (even in an option that is not
            chosen), or becomes longer than `MAX_CHARS`.
    """
    parts = _Parser(text).parse()
    values = {path: _value(path, data) for path in set(_paths(parts))}
    # Only `random()` is guaranteed to give the same numbers in every version of Python.
    pieces = list(_pieces(parts, values, Random(seed).random))
    if sum(map(len, pieces)) > MAX_CHARS:
        raise TemplateError(f"comes to more than {MAX_CHARS:,} characters")
    return "".join(pieces)


def _paths(parts: _Parts) -> Iterator[tuple[str, ...]]:
    for part in parts:
        if isinstance(part, _Field):
            yield part.path
        elif isinstance(part, _Wildcard):
            for option in part.options:
                yield from _paths(option)


def _pieces(parts: _Parts, values: Mapping[tuple[str, ...], str], random: Any) -> Iterator[str]:
    for part in parts:
        if isinstance(part, str):
            yield part
        elif isinstance(part, _Field):
            yield values[part.path]
        else:
            chosen = part.options[int(random() * len(part.options))]
            yield from _pieces(chosen, values, random)


def _value(path: tuple[str, ...], data: Mapping[str, Any]) -> str:
    value: Any = data
    for key in path:
        if not is_mapping(value) or key not in value:
            fields = [*FIELDS, *_leaves((_META,), data[_META])]
            raise TemplateError(_unknown(".".join(path), fields))
        value = value[key]
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise TemplateError(f"{{{'.'.join(path)}}} is {shown(value)}, not text or a number")
    return str(value)


def _leaves(path: tuple[str, ...], value: Any) -> Iterator[str]:
    """The names of all values below `path` that are no mappings."""
    if not is_mapping(value):
        yield ".".join(path)
        return
    for key, item in value.items():
        yield from _leaves((*path, key), item)


def _unknown(name: str, fields: list[str]) -> str:
    return f"unknown field {{{name[:60]}}}; {nearest(name, fields)}"


class _Parser:
    """Recursive descent parser of templates, at most `MAX_DEPTH` levels deep."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def parse(self, depth: int = 0) -> _Parts:
        """The parts up to the `|` or `}` that ends an option; outside of braces, up to the end."""
        parts: list[str | _Field | _Wildcard] = []
        braces = 0
        while self.at < len(self.text):
            if self._take("{{"):
                parts.append("{")
                braces += 1
            elif (depth == 0 or braces) and self._take("}}"):
                parts.append("}")
                braces -= 1
            elif self.text[self.at] == "{":
                parts.append(self._group(depth + 1))
            elif depth and self.text[self.at] in "|}":
                break
            elif (plain := _PLAIN.match(self.text, self.at)) is not None:
                parts.append(plain[0])
                self.at = plain.end()
            else:
                raise TemplateError(f"{self._here()} closes nothing; for a brace write }}}}")
        return tuple(parts)

    def _group(self, depth: int) -> _Field | _Wildcard:
        opened = self._here()
        if depth > MAX_DEPTH:
            raise TemplateError(f"braces within braces, more than {MAX_DEPTH} deep")
        self.at += 1
        options = [self.parse(depth)]
        while self._take("|"):
            options.append(self.parse(depth))
        if not self._take("}"):
            raise TemplateError(f"{opened} is not closed; for a brace write {{{{")
        return _Wildcard(tuple(options)) if len(options) > 1 else _field(options[0])

    def _take(self, word: str) -> bool:
        is_next = self.text.startswith(word, self.at)
        self.at += len(word) if is_next else 0
        return is_next

    def _here(self) -> str:
        return f"the {self.text[self.at]} at character {self.at + 1}"


def _field(parts: _Parts) -> _Field:
    names = [part for part in parts if isinstance(part, str)]
    if len(names) < len(parts):
        raise TemplateError("a wildcard needs at least two options, like {a|b}")
    name = "".join(names).strip()
    path = tuple(name.split("."))
    if name not in FIELDS and not (path[0] == _META and len(path) > 1):
        raise TemplateError(_unknown(name, [*FIELDS, "meta.…"]))
    return _Field(path)
