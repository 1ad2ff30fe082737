"""Reader of YAML 1.2 for files from untrusted sources.

Scalars are read by the core schema of YAML 1.2 (§10.3.2): `no` and `22:00` are text, `6e-1` is a
number. Tags outside that schema, merge keys and duplicate keys are refused. Bytes, values, text
and depth have limits; an alias counts each time it is used. The line of every value is recorded.
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
"""Tags of YAML 1.2's core schema. Another word after `!!` is probably part of a text."""
_TO_ESCAPE = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")
"""Characters that JSON text may contain, but that are invalid or end a line in YAML."""
_LIKE_A_PATH = re.compile(r"(?<=\")([A-Za-z](?=:\\[^\\])|\.(?=\.?\\[^\\]))")
"""First letter of a text in double quotes that looks like a path with single backslashes, which
`yaml_slips` would refuse."""


def is_mapping(value: object) -> TypeGuard[dict[str, Any]]:
    """True if a document's value is a mapping."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[Any]]:
    """True if a document's value is a list."""
    return isinstance(value, list)


@dataclass(frozen=True)
class Document:
    """A document as plain values (dict, list, str, int, float, bool, None) and their lines.

    Its values must not be changed: all uses of an alias, and several jobs, share one object.

    Attributes:
        lines: the line of each value, by its path.
        unit: unit of `lines`: `line`, or `row` for a table; `--set` for a command's options, which
            have none.
    """

    value: Any
    lines: Mapping[KeyPath, int] = field(default_factory=dict[KeyPath, int])
    unit: str = "line"

    def line(self, path: KeyPath) -> int:
        """The line of that value, or of the nearest value that contains it."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.lines:
                return self.lines[path[:end]]
        return 1

    def place(self, path: KeyPath) -> str:
        """`line 3` or `row 17`: the place of that value for messages."""
        return f"{self.unit} {self.line(path)}"

    def start(self, path: KeyPath) -> str:
        """`line 3: `, the start of a message; "" if the document has no lines."""
        return f"{self.place(path)}: " if self.line(path) else ""

    def has(self, path: KeyPath) -> bool:
        """True if the document has a value at that path."""
        try:
            reduce(getitem, path, self.value)
        except (LookupError, TypeError):
            return False
        return True


@dataclass
class _OpenCollection:
    """A collection that is being filled.

    Attributes:
        nodes_before, chars_before: the reader's counts at the start of the collection.
        flow: finds values that a comma cut, in braces or brackets; None in block style.
        key: the key of a mapping whose value follows.
        key_start, key_end: start and end of that key, in characters.
        height: number of levels of collections, from this one down.
    """

    value: dict[str, Any] | list[Any]
    path: KeyPath
    anchor: str | None
    nodes_before: int
    chars_before: int
    flow: FlowText | FlowNumbers | None
    key: str | None = None
    key_start: int = 0
    key_end: int = 0
    height: int = 1

    def end_text(self) -> None:
        """Note that no part of a text can follow the last value."""
        if self.flow is not None:
            self.flow.end()


@dataclass(frozen=True, slots=True)
class _AnchoredValue:
    """A value with an anchor, and the cost of each alias of it, which the limits count."""

    value: Any
    nodes: int
    chars: int
    height: int


def dumps(value: Any, indent: int | None = None) -> str:
    """A plain value as JSON that is also YAML, so that `loads` gives the same value again."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    text = _LIKE_A_PATH.sub(lambda match: f"\\u{ord(match[1]):04x}", text)
    return _TO_ESCAPE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def load(path: Path) -> Document:
    """Read a file. Raises `YamlError`, also for a file that is too large, and OSError."""
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    return loads(data)


def loads(data: bytes) -> Document:
    """Read UTF-8 (or BOM-marked UTF-16) bytes that hold at most one document.

    Raises:
        YamlError: the text cannot be used; with the line of each problem that has one.
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
    """The error of the parser together with the slips before it.

    A slip in the same line or the one above is the probable cause of the parser's error, which is
    then left out.
    """
    problems = [
        (slip.line, f"{dotted(slip.path)}: {slip.text}" if slip.path else slip.text)
        for slip in slips
    ]
    if problem and not any(line - 1 <= at <= line for at, _ in problems):
        problems.append((line, problem))
    (first_line, first), *more = problems
    return YamlError(first, first_line, more)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


class _Builder:
    """Turns parser events into values without recursion, so that deep nesting needs no stack."""

    def __init__(self, finder: SlipFinder) -> None:
        self.finder = finder
        self.stack: list[_OpenCollection] = []
        self.lines: dict[KeyPath, int] = {}
        self.anchors: dict[str, _AnchoredValue] = {}
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
            self.anchors[event.anchor] = _AnchoredValue(value, 1, chars, 0)
        in_flow = self._in_flow()
        top = self.stack[-1] if self.stack else None
        path = self._put(value, line)
        self.finder.value(path, event, value, in_flow=in_flow)
        if top is not None and top.flow is not None:
            top.flow.scalar(path, event, top.key_start, top.key_end)

    def _value(self, event: Any, line: int) -> Any:
        """The value of a scalar; null, and a slip, if its unknown tag seems to be part of text."""
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
            anchored = _AnchoredValue(None, 1, 0, 0)
        self.finder.mark_used(event.anchor)
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
        flow = (FlowText if is_mapping else FlowNumbers)(self.finder) if event.flow_style else None
        self.stack.append(_OpenCollection(value, path, event.anchor, self.nodes, self.chars, flow))
        self._count(1, 0, line)

    def _close(self) -> None:
        done = self.stack.pop()
        done.end_text()
        if self.stack:
            self.stack[-1].height = max(self.stack[-1].height, done.height + 1)
        if done.anchor:
            nodes, chars = self.nodes - done.nodes_before, self.chars - done.chars_before
            self.anchors[done.anchor] = _AnchoredValue(done.value, nodes, chars, done.height)

    def _grow(self, height: int, line: int) -> None:
        """Check the depth before a value of that height is added at the present place."""
        if len(self.stack) + height > MAX_DEPTH:
            raise YamlError(f"nested more than {MAX_DEPTH} levels deep", line)
        if self.stack:
            self.stack[-1].height = max(self.stack[-1].height, height + 1)

    def _end_text(self) -> None:
        if self.stack:
            self.stack[-1].end_text()

    def _in_flow(self) -> bool:
        return bool(self.stack) and self.stack[-1].flow is not None

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
        """Path of the next value."""
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
        return float(str(value))  # float(int) raises for large numbers; this gives infinity
    if type(value).__name__ != {"null": "NoneType"}.get(kind, kind):
        raise _wrong_tag(event.tag, line)
    return value
