r"""Text with fields and wildcards, like `a {red|blue} chair, {meta.asset}, __light__`.

{field}    a value of the job's data: one of `FIELDS`, or `meta.a.b` for a value within its meta
{a|b||c}   one of the options; an option may be empty, and may hold fields and wildcards
{{ }}      a brace; within a wildcard, `}}` is a brace only after a `{{` in the same option, so that
           `{a|{b|c}}` is a wildcard within a wildcard
__name__   a line of the wildcard file of that name, which is itself such a text; `\__` is plain
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

from dna_pipeline.config.sentences import nearest, shown
from dna_pipeline.config.yaml12 import is_mapping

MAX_CHARS = 10_000
MAX_DEPTH = 8
FIELDS = ("batch", "folder", "inbox", "name", "pipeline", "row", "seed", "stem", "tags")
_META = "meta"
_PLAIN = re.compile(r"[^{}|]+|\|")
_FILE_NAME = re.compile(r"(?<![\\\w])__([^\W_]|[^\W_][\w ./-]{0,200}?[^\W_])__")

Lines = Callable[[str], Sequence[str]]
"""Gives the lines of the wildcard file of a name. Raises `TemplateError` for a file without any."""


class TemplateError(ValueError):
    """A text that cannot be filled in; the message is a clause with the reason."""


@dataclass(frozen=True, slots=True)
class _Field:
    path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Wildcard:
    options: tuple[_Parts, ...]


@dataclass(frozen=True, slots=True)
class _File:
    name: str


_Parts = tuple[str | _Field | _Wildcard | _File, ...]


def no_files(name: str) -> Sequence[str]:
    """Refuse every wildcard file, where there is no folder of them."""
    raise TemplateError(f"there is no wildcard file {name}.txt")


def plain(text: str) -> str:
    """The template that stands for a text in which braces mean nothing."""
    return text.replace("{", "{{").replace("}", "}}")


def literal(text: str) -> str:
    """The template that stands for a text in which neither braces nor `__name__` mean anything."""
    # An empty choice between two underscores keeps them from beginning the name of a file.
    return plain(text).replace("__", "_{|}_")


def check(text: str) -> None:
    """Raise `TemplateError` for a text that is invalid for the data of any job."""
    _Parser(text).parse()


def fill(text: str, data: Mapping[str, Any], seed: int | str, lines: Lines = no_files) -> str:
    """The text with its fields filled in and its wildcards chosen.

    Args:
        data: the value of each field, and `meta`, a mapping.
        seed: seed of the choices; equal seeds choose the same options. Each text starts from the
            seed again, so that `{cat|dog}` in one text and `{dog|cat}` in another always differ.
        lines: gives the lines of wildcard files.

    Raises:
        TemplateError: the text is invalid, names an unknown field (even in an option that is not
            chosen), or becomes longer than `MAX_CHARS`; or so does the line of a wildcard file
            that was chosen.
    """
    # Only `random()` is guaranteed to give the same numbers in every version of Python.
    filler = _Filler(data, Random(seed).random, lines)
    pieces: list[str] = []
    chars = 0
    for piece in filler.pieces(text):
        pieces.append(piece)
        chars += len(piece)
        if chars > MAX_CHARS:
            raise TemplateError(f"comes to more than {MAX_CHARS:,} characters")
    return "".join(pieces)


def _paths(parts: _Parts) -> Iterator[tuple[str, ...]]:
    for part in parts:
        if isinstance(part, _Field):
            yield part.path
        elif isinstance(part, _Wildcard):
            for option in part.options:
                yield from _paths(option)


_Option = TypeVar("_Option")


@dataclass(frozen=True, slots=True)
class _Filler:
    """Fills in a text, and the lines of wildcard files in it."""

    data: Mapping[str, Any]
    random: Callable[[], float]
    lines: Lines

    def pieces(self, text: str, files: tuple[str, ...] = ()) -> Iterator[str]:
        """Pieces of a text that stands in the last of `files`, each of which names the next."""
        parts = _Parser(text).parse()
        values = {path: _value(path, self.data) for path in set(_paths(parts))}
        yield from self._filled(parts, values, files)

    def _filled(
        self, parts: _Parts, values: Mapping[tuple[str, ...], str], files: tuple[str, ...]
    ) -> Iterator[str]:
        for part in parts:
            if isinstance(part, str):
                yield part
            elif isinstance(part, _Field):
                yield values[part.path]
            elif isinstance(part, _File):
                yield from self._line(part.name, files)
            else:
                yield from self._filled(self._chosen(part.options), values, files)

    def _line(self, name: str, files: tuple[str, ...]) -> Iterator[str]:
        if len(files) == MAX_DEPTH:
            way = " in ".join(f"__{file}__" for file in reversed(files[-2:]))
            raise TemplateError(f"wildcard files more than {MAX_DEPTH} deep: {way}")
        line = self._chosen(self.lines(name))
        try:
            yield from self.pieces(line, (*files, name))
        except TemplateError as error:
            if files:  # the outermost file names the way in
                raise
            raise TemplateError(f"in wildcard file {name}.txt, {shown(line)}: {error}") from None

    def _chosen(self, options: Sequence[_Option]) -> _Option:
        return options[int(self.random() * len(options))]


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
        parts: list[str | _Field | _Wildcard | _File] = []
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
                parts += _with_files(plain[0])
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


def _with_files(text: str) -> Iterator[str | _File]:
    """Plain text and the wildcard files that it names, in order."""
    for index, part in enumerate(_FILE_NAME.split(text)):
        if index % 2:
            yield _File(part)
        elif part:
            yield part


def _field(parts: _Parts) -> _Field:
    names = [part for part in parts if isinstance(part, str)]
    if len(names) < len(parts):
        raise TemplateError("a wildcard needs at least two options, like {a|b}")
    name = "".join(names).strip()
    path = tuple(name.split("."))
    if name not in FIELDS and not (path[0] == _META and len(path) > 1):
        raise TemplateError(_unknown(name, [*FIELDS, "meta.…"]))
    return _Field(path)
