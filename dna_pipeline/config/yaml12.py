"""YAML as people mean it, from files that nobody vouches for.

Scalars are read by the core schema of YAML 1.2 (§10.3.2): `no` and `22:00` are text, `6e-1` is a
number. No tags but those of that schema, no merge keys, no duplicate keys; bounded in bytes and,
with aliases counted as often as they are used, in values, text and depth. Every value remembers
its line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any, TypeGuard

import yaml

from dna_pipeline.config.yaml_errors import KeyPath, YamlError, dotted
from dna_pipeline.config.yaml_errors import one_line as one_line
from dna_pipeline.config.yaml_faults import explain, not_utf8
from dna_pipeline.config.yaml_scalars import MAX_DIGITS as MAX_DIGITS
from dna_pipeline.config.yaml_scalars import scalar
from dna_pipeline.config.yaml_slips import FlowNumbers, FlowText, Slip, SlipFinder, quote_it

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_NODES = 50_000
MAX_CHARS = 4 << 20

_yaml: Any = yaml

_TAG = "tag:yaml.org,2002:"
_KINDS = frozenset({"", "bool", "float", "int", "null", "str", "map", "seq"})
"""The tags of YAML 1.2's core schema; words behind `!!` that are none are a part of the text."""
_TO_ESCAPE = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")
"""What may stand in JSON as it is, and to YAML is no text, or the end of a line."""
_LIKE_A_PATH = re.compile(r"(?<=\")([A-Za-z](?=:\\[^\\])|\.(?=\.?\\[^\\]))")
"""What begins like a path in double quotes with its backslashes not doubled; see `yaml_slips`."""


def is_mapping(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether a document's value is a mapping."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Whether a document's value is a list."""
    return isinstance(value, list)


@dataclass(frozen=True)
class Document:
    """A document as plain values (dict, list, str, int, float, bool, None) and their lines.

    `unit` is what its `lines` count: lines, or the rows of a table; `--set` for a command's
    options, which have none. Nobody changes its values: an alias, and what several jobs are told
    alike, is there once.
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

    def start(self, path: KeyPath) -> str:
        """`line 3: `, to begin a message with; "" where the document has no lines."""
        return f"{self.place(path)}: " if self.line(path) else ""

    def has(self, path: KeyPath) -> bool:
        """Whether something is written there."""
        try:
            reduce(getitem, path, self.value)
        except (LookupError, TypeError):
            return False
        return True


@dataclass
class _Open:
    """A collection that is being filled.

    Attributes:
        key: the pending key of a mapping.
        key_start, key_end: where that stands, in characters.
        flow: finds what a comma cut, in braces or brackets; None in block style.
        in_flow: the collection stands in braces or brackets.
    """

    value: dict[str, Any] | list[Any]
    path: KeyPath
    anchor: str | None
    nodes_before: int
    chars_before: int
    flow: FlowText | FlowNumbers | None
    in_flow: bool
    key: str | None = None
    key_start: int = 0
    key_end: int = 0
    height: int = 1

    def end_text(self) -> None:
        """No further text can follow the last value: another kind of value begins, or none."""
        if self.flow is not None:
            self.flow.end()


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
    text = _LIKE_A_PATH.sub(lambda found: f"\\u{ord(found[1]):04x}", text)
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
    finder = SlipFinder(data)
    try:
        document = _Builder(finder).build(_yaml.parse(data, Loader=_yaml.CSafeLoader))
    except yaml.MarkedYAMLError as error:
        raise _with_slips(*explain(error, finder.lines), finder.slips) from None
    except YamlError as error:
        raise _with_slips(error.problem, error.line, finder.slips) from None
    except yaml.YAMLError as error:
        line = data.count(b"\n", 0, getattr(error, "position", 0) or 0) + 1
        raise YamlError(not_utf8(data, _first_line(error)), line) from None
    finder.finish()
    if finder.slips:
        raise _with_slips("", 0, finder.slips)
    return document


def _with_slips(problem: str, line: int, slips: Iterable[Slip]) -> YamlError:
    """The error with all that was wrong before it. What a slip a line above led to is left out."""
    told = [
        (slip.line, f"{dotted(slip.path)}: {slip.text}" if slip.path else slip.text)
        for slip in slips
    ]
    if problem and not any(line - 1 <= at <= line for at, _ in told):
        told.append((line, problem))
    (first_line, first), *more = told
    return YamlError(first, first_line, more)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


class _Builder:
    """Turns parser events into values without recursion, so that depth costs no stack."""

    def __init__(self, finder: SlipFinder) -> None:
        self.finder = finder
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
        value = self._value(event, line)
        chars = len(event.value)
        self._count(1, chars, line)
        if event.anchor:
            self.anchors[event.anchor] = _Anchored(value, 1, chars, 0)
        in_flow = self._in_flow()
        top = self.stack[-1] if self.stack else None
        path = self._put(value, line)
        self.finder.value(path, event, value, in_flow=in_flow)
        if top is not None and top.flow is not None:
            top.flow.scalar(path, event, top.key_start, top.key_end)

    def _value(self, event: Any, line: int) -> Any:
        """What a scalar says; null for one with a tag that text seems to begin with."""
        try:
            return _resolve(event, line)
        except YamlError as error:
            kind = (event.tag or _TAG).removeprefix(_TAG)
            if event.tag is None or kind in _KINDS or not _is_plain(event):
                raise
            path = self._next_path()
            key = str(path[-1]) if path and not self._in_flow() else None
            tag = event.tag if kind == event.tag else f"!!{kind}"
            mend = quote_it(f"{tag} {event.value}", key, "it")
            self.finder.add(path, f"{error.problem}; if it is text, {mend}", line)
            return None

    def _alias(self, event: Any, line: int) -> None:
        if self._wants_key():
            raise YamlError("an alias cannot be a key", line)
        self._end_text()
        anchored = self.anchors.get(event.anchor)
        if anchored is None:
            text = f"the alias *{event.anchor} has no anchor before it"
            self.finder.add((), f"{text}; put text that begins with * in quotes", line)
            anchored = _Anchored(None, 1, 0, 0)
        self.finder.used(event.anchor)
        self._count(anchored.nodes, anchored.chars, line)
        self._grow(anchored.height, line)
        self._put(anchored.value, line)

    def _open(self, event: Any, line: int) -> None:
        if self._wants_key():
            text = "a key must be plain text; put text with brackets or braces in quotes"
            raise YamlError(text, line)
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        if event.tag not in (None, "!", _TAG + ("map" if is_mapping else "seq")):
            raise _wrong_tag(event.tag, line)
        value: dict[str, Any] | list[Any] = {} if is_mapping else []
        self._grow(1, line)
        self._end_text()
        path = self._put(value, line)
        in_flow = bool(event.flow_style)
        flow = (FlowText if is_mapping else FlowNumbers)(self.finder) if in_flow else None
        self.stack.append(_Open(value, path, event.anchor, self.nodes, self.chars, flow, in_flow))
        self._count(1, 0, line)

    def _close(self) -> None:
        done = self.stack.pop()
        done.end_text()
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

    def _end_text(self) -> None:
        if self.stack:
            self.stack[-1].end_text()

    def _in_flow(self) -> bool:
        return bool(self.stack) and self.stack[-1].in_flow

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
        path = (*top.path, key)
        if key in top.value:
            first = f"first in line {self.lines[path]}"
            self.finder.add((), f"the key {key!r} stands here twice, {first}; keep one", line)
        self._count(0, len(key), line)
        self.finder.key(path, event)
        top.key = key
        top.key_start, top.key_end = event.start_mark.index, event.end_mark.index
        self.lines[path] = line

    def _next_path(self) -> KeyPath:
        """Where the next value belongs."""
        if not self.stack:
            return ()
        top = self.stack[-1]
        if isinstance(top.value, list):
            return (*top.path, len(top.value))
        assert top.key is not None
        return (*top.path, top.key)

    def _put(self, value: Any, line: int) -> KeyPath:
        path = self._next_path()
        if not self.stack:
            self.root = value
            return path
        top = self.stack[-1]
        if isinstance(top.value, list):
            top.value.append(value)
            self.lines[path] = line
        else:
            assert top.key is not None
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
