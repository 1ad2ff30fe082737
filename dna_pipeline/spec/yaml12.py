"""YAML as people mean it, from files that nobody vouches for.

Scalars are read by the core schema of YAML 1.2 (§10.3.2): `no` and `22:00` are text, `6e-1` is a
number. No tags but those of that schema, no merge keys, no duplicate keys; bounded in bytes and,
with aliases counted as often as they are used, in values, text and depth. Every value remembers
its line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any, TypeGuard

import yaml

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_NODES = 50_000
MAX_CHARS = 4 << 20
MAX_DIGITS = 1000
MAX_PROBLEM_CHARS = 300

_yaml: Any = yaml

_NULL = re.compile(r"null|Null|NULL|~|")
_TRUE = re.compile(r"true|True|TRUE")
_FALSE = re.compile(r"false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+")
_OCT = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INF = re.compile(r"([-+]?)\.(inf|Inf|INF)")
_NAN = re.compile(r"\.(nan|NaN|NAN)")
_NUMBER_START = frozenset("+-.0123456789")
_TAG = "tag:yaml.org,2002:"
_TO_ESCAPE = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")
"""What may stand in JSON as it is, and to YAML is no text, or the end of a line."""
_HINTS = {
    "mapping values are not allowed": "mend the indentation, or put text with a colon in quotes",
    "cannot start any token": "put such text in quotes",
    "did not find expected key": "look for a wrong indentation or a missing quote or bracket",
    "did not find expected '-'": "look for a wrong indentation",
    "unexpected end of stream": "a closing quote is missing",
    "did not find expected ','": "a closing bracket or a comma is missing",
}
"""What people mostly did where libyaml finds that."""

KeyPath = tuple[str | int, ...]


def is_mapping(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether a document's value is a mapping."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Whether a document's value is a list."""
    return isinstance(value, list)


class YamlError(ValueError):
    """The text is not YAML that can be used. `line` counts from 1; 0 where no line is to blame."""

    def __init__(self, problem: str, line: int = 0) -> None:
        problem = one_line(problem, MAX_PROBLEM_CHARS)
        super().__init__(f"line {line}: {problem}" if line else problem)
        self.problem = problem
        self.line = line


def one_line(text: str, most: int) -> str:
    """At most so many characters that can be read: keys and tags are text of strangers too."""
    text = text if len(text) <= most else f"{text[: most - 1]}…"
    return text if text.isprintable() else repr(text)[1:-1]


@dataclass(frozen=True)
class Document:
    """A document as plain values (dict, list, str, int, float, bool, None) and their lines.

    `unit` is what its `lines` count: lines, or the rows of a table. Nobody changes its values: an
    alias, and what several jobs are told alike, is there once.
    """

    value: Any
    lines: Mapping[KeyPath, int] = field(default_factory=dict[KeyPath, int])
    unit: str = "line"

    def line(self, path: KeyPath) -> int:
        """The line of that value, or of the nearest one around it."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.lines:
                return self.lines[path[:end]]
        return 1

    def place(self, path: KeyPath) -> str:
        """`line 3` or `row 17`: where to look for that value."""
        return f"{self.unit} {self.line(path)}"

    def has(self, path: KeyPath) -> bool:
        """Whether something is written there."""
        try:
            reduce(getitem, path, self.value)
        except (LookupError, TypeError):
            return False
        return True


@dataclass
class _Open:
    """A collection that is being filled; `key` is the pending key of a mapping."""

    value: dict[str, Any] | list[Any]
    path: KeyPath
    anchor: str | None
    nodes_before: int
    chars_before: int
    key: str | None = None
    height: int = 1


@dataclass(frozen=True, slots=True)
class _Anchored:
    """A value with a name, and what each use of it costs."""

    value: Any
    nodes: int
    chars: int
    height: int


def dumps(value: Any, indent: int | None = None) -> str:
    """A plain value as JSON that is YAML, too: it is read back as it was."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return _TO_ESCAPE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def load(path: Path) -> Document:
    """Read a file. Raises `YamlError` also for one that is too large; OSError passes through."""
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    return loads(data)


def loads(data: bytes) -> Document:
    """Read UTF-8 (or BOM-marked UTF-16) bytes that hold at most one document.

    Raises:
        YamlError: with the line where one is to blame.
    """
    if len(data) > MAX_BYTES:
        raise YamlError(f"the file is larger than {MAX_BYTES // 1024} KiB")
    try:
        return _Builder().build(_yaml.parse(data, Loader=_yaml.CSafeLoader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 0
        raise YamlError(_explain(error, data, line), line) from None
    except yaml.YAMLError as error:
        line = data.count(b"\n", 0, getattr(error, "position", 0) or 0) + 1
        text = f"this is not plain text: {_first_line(error)}; save the file as UTF-8"
        raise YamlError(text, line) from None


def _explain(error: yaml.MarkedYAMLError, data: bytes, line: int) -> str:
    text = ", ".join(part for part in (error.context, error.problem) if part)
    here = data.splitlines()[line - 1 : line]
    if here and re.match(rb"\s*\t", here[0]):
        return f"{text}; indent with spaces, not with tabs"
    hints = [hint for sign, hint in _HINTS.items() if sign in text]
    return "; ".join([text or "this is not YAML", *hints])


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


class _Builder:
    """Turns parser events into values without recursion, so that depth costs no stack."""

    def __init__(self) -> None:
        self.stack: list[_Open] = []
        self.lines: dict[KeyPath, int] = {}
        self.anchors: dict[str, _Anchored] = {}
        self.nodes = 0
        self.chars = 0
        self.root: Any = None
        self.documents = 0

    def build(self, events: Iterator[Any]) -> Document:
        for event in events:
            line = event.start_mark.line + 1
            if isinstance(event, yaml.DocumentStartEvent):
                self._start_document(line)
            elif isinstance(event, yaml.ScalarEvent):
                self._scalar(event, line)
            elif isinstance(event, yaml.AliasEvent):
                self._alias(event, line)
            elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
                self._open(event, line)
            elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                self._close()
        return Document(self.root, self.lines)

    def _start_document(self, line: int) -> None:
        self.documents += 1
        if self.documents > 1:
            raise YamlError("only one document is allowed in a file", line)

    def _scalar(self, event: Any, line: int) -> None:
        if "\0" in event.value:
            raise YamlError("text cannot hold a NUL character", line)
        if self._wants_key():
            self._take_key(event, line)
            return
        value = _resolve(event, line)
        chars = len(event.value)
        self._count(1, chars, line)
        if event.anchor:
            self.anchors[event.anchor] = _Anchored(value, 1, chars, 0)
        self._put(value, line)

    def _alias(self, event: Any, line: int) -> None:
        if self._wants_key():
            raise YamlError("an alias cannot be a key", line)
        anchored = self.anchors.get(event.anchor)
        if anchored is None:
            raise YamlError(f"the alias *{event.anchor} has no anchor before it", line)
        self._count(anchored.nodes, anchored.chars, line)
        self._grow(anchored.height, line)
        self._put(anchored.value, line)

    def _open(self, event: Any, line: int) -> None:
        if self._wants_key():
            raise YamlError("a key must be plain text", line)
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        if event.tag not in (None, "!", _TAG + ("map" if is_mapping else "seq")):
            raise _wrong_tag(event.tag, line)
        value: dict[str, Any] | list[Any] = {} if is_mapping else []
        self._grow(1, line)
        path = self._put(value, line)
        self.stack.append(_Open(value, path, event.anchor, self.nodes, self.chars))
        self._count(1, 0, line)

    def _close(self) -> None:
        done = self.stack.pop()
        if self.stack:
            self.stack[-1].height = max(self.stack[-1].height, done.height + 1)
        if done.anchor:
            nodes, chars = self.nodes - done.nodes_before, self.chars - done.chars_before
            self.anchors[done.anchor] = _Anchored(done.value, nodes, chars, done.height)

    def _grow(self, height: int, line: int) -> None:
        """A value of that height is about to be put where we are."""
        if len(self.stack) + height > MAX_DEPTH:
            raise YamlError(f"nested more than {MAX_DEPTH} levels deep", line)
        if self.stack:
            self.stack[-1].height = max(self.stack[-1].height, height + 1)

    def _wants_key(self) -> bool:
        return (
            bool(self.stack)
            and isinstance(self.stack[-1].value, dict)
            and (self.stack[-1].key is None)
        )

    def _take_key(self, event: Any, line: int) -> None:
        top, key = self.stack[-1], event.value
        if event.tag not in (None, "!", f"{_TAG}str"):
            raise _wrong_tag(event.tag, line)
        if event.anchor:
            raise YamlError("a key cannot have an anchor", line)
        if key == "<<" and _is_plain(event):
            raise YamlError("merge keys (<<) are not known here; write the keys out", line)
        if key in top.value:
            raise YamlError(f"the key {key!r} stands here twice", line)
        self._count(0, len(key), line)
        top.key = key
        self.lines[(*top.path, key)] = line

    def _put(self, value: Any, line: int) -> KeyPath:
        if not self.stack:
            self.root = value
            return ()
        top = self.stack[-1]
        if isinstance(top.value, list):
            path = (*top.path, len(top.value))
            top.value.append(value)
            self.lines[path] = line
        else:
            assert top.key is not None
            path = (*top.path, top.key)
            top.value[top.key] = value
            top.key = None
        return path

    def _count(self, nodes: int, chars: int, line: int) -> None:
        self.nodes += nodes
        self.chars += chars
        if self.nodes > MAX_NODES:
            raise YamlError(f"more than {MAX_NODES:,} values", line)
        if self.chars > MAX_CHARS:
            raise YamlError(f"more than {MAX_CHARS:,} characters, aliases written out", line)


def _wrong_tag(tag: str, line: int) -> YamlError:
    shown = f"!!{tag.removeprefix(_TAG)}" if tag.startswith(_TAG) else tag
    return YamlError(f"the tag {shown} cannot be used here", line)


def _is_plain(event: Any) -> bool:
    return event.style in (None, "")


def _resolve(event: Any, line: int) -> Any:
    text: str = event.value
    if event.tag in (None, "!"):
        return scalar(text, line) if _is_plain(event) else text
    if event.tag == f"{_TAG}str":
        return text
    value = scalar(text, line)
    kind = event.tag.removeprefix(_TAG)
    if kind == "float" and type(value) is int:
        return float(str(value))  # of text, since float(int) raises where this gives infinity
    if type(value).__name__ != {"null": "NoneType"}.get(kind, kind):
        raise _wrong_tag(event.tag, line)
    return value


def scalar(text: str, line: int = 0) -> Any:
    """The value of a plain scalar by YAML 1.2's core schema.

    Raises:
        YamlError: a number of more than `MAX_DIGITS` characters, costly to read and to print.
    """
    if text[:1] in _NUMBER_START:
        return _number(text, line)
    if _NULL.fullmatch(text):
        return None
    if _TRUE.fullmatch(text) or _FALSE.fullmatch(text):
        return text[0] in "tT"
    return text


def _number(text: str, line: int) -> Any:
    """A number, or text that only begins like one."""
    bases = ((_INT, 10), (_OCT, 8), (_HEX, 16))
    base = next((base for pattern, base in bases if pattern.fullmatch(text)), None)
    if base is None and not _FLOAT.fullmatch(text):
        return _not_finite(text)
    if len(text) > MAX_DIGITS:
        raise YamlError(f"a number of more than {MAX_DIGITS:,} digits", line)
    if base is None:
        return float(text)
    return int(text if base == 10 else text[2:], base)


def _not_finite(text: str) -> Any:
    if match := _INF.fullmatch(text):
        return float(f"{match[1]}inf")
    return float("nan") if _NAN.fullmatch(text) else text
