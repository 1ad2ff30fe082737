"""Slips in hand-written YAML: text that the parser would cut or change without an error.

`#`, `&`, `!`, commas in braces and backslashes have meanings in YAML that few people think of
while they write a prompt. The result is a valid document with another meaning, and so a wrong
picture. Each check here finds one kind of slip, and advises how to write the intended text.

A `#` after or in place of plain text is refused as a slip in four cases: no blank follows it
(`#1`, `#hero`); one blank separates it from several words (`a red chair # best`); a number follows
(`chair # 3`); or a bracket before it is still open. Any other `#` begins a comment, as in YAML.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from dna_pipeline.config.yaml_errors import YamlError
from dna_pipeline.config.yaml_scalars import scalar

LIST_KEYS = frozenset({"tags", "images", "formats"})
"""Keys whose value is a list. Their text in braces that a comma cut is a list, not a sentence."""

MOST_SLIPS = 100
MAX_SHOWN = 60
"""Longest text that a message repeats."""

_LINE_END = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_COMMENT = re.compile(r"([ \t]+)#(.*)")
_NUMBER_SIGN = re.compile(r"[^\s#]")
_PAIRS = {"“": "”", "„": "“”", "‘": "’", "«": "»", "”": "”", "‚": "‘"}
_PATH_IN_DOUBLE = re.compile(r"\"(?:[A-Za-z]:|\.{1,2})\\[^\\/\"]")
ODD_BLANKS = "\u00a0\u2002\u2003\u2007\u2009\u200b\u202f\u3000\ufeff"
"""Blanks that look like the ordinary one but are letters in YAML."""


@dataclass(frozen=True, slots=True)
class Slip:
    """A fault of a document that can still be read: path of its key, problem and line."""

    path: tuple[str | int, ...]
    text: str
    line: int


def lines_of(data: bytes) -> list[str]:
    """The lines as libyaml counts them. Bytes that are no valid text become U+FFFD."""
    is_utf16 = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    return _LINE_END.split(data.decode("utf-16" if is_utf16 else "utf-8-sig", "replace"))


def in_quotes(text: str) -> str:
    """The text as a YAML scalar in quotes; "" if it is too long for a message or unprintable."""
    if len(text) > MAX_SHOWN or not text.isprintable():
        return ""
    if '"' in text or "\\" in text:
        return "'" + text.replace("'", "''") + "'"
    return f'"{text}"'


def quote_it(text: str, key: str | None = None, what: str = "the text") -> str:
    """The advice to put a text in quotes, with the quoted text if it is short."""
    quoted = in_quotes(text.strip())
    start = f"{key}: " if key else ""
    return f"put {what} in quotes: {start}{quoted}" if quoted else f"put {what} in quotes"


def in_list(texts: Iterable[str], *, of_text: bool) -> str:
    """A list in brackets of these items; "" if it is too long for a message or unprintable.

    Args:
        of_text: True if the items are text, so that `12` or `true` gets quotes.
    """
    written = f"[{', '.join(_item(text, of_text=of_text) for text in texts)}]"
    return written if len(written) <= MAX_SHOWN and written.isprintable() else ""


def _item(text: str, *, of_text: bool) -> str:
    try:
        is_word = isinstance(scalar(text), str)
    except YamlError:
        is_word = True
    if is_word:
        return text if re.fullmatch(r"[A-Za-z_][\w ./-]*", text) else in_quotes(text)
    return in_quotes(text) if of_text else text


def cut_text(text: str, line: str, column: int) -> str | None:
    """The part of a plain text that YAML takes for a comment.

    Args:
        text: the plain scalar before the comment; "" if there is none.
        line: the line in which the scalar ends.
        column: the column at which the scalar ends.

    Returns:
        The `#` and all text after it; None if there is no comment or an intended one.
    """
    match = _COMMENT.match(line, column)
    if match is None:
        return None
    blanks, comment = match[1], match[2]
    is_number_sign = _NUMBER_SIGN.match(comment) is not None
    is_in_words = len(blanks) == 1 and re.search(r"\s", text) is not None
    is_numbered = bool(text) and len(blanks) == 1 and re.match(r"[ \t][0-9]", comment) is not None
    is_open = any(text.count(a) > text.count(b) for a, b in ("()", "[]", "{}"))
    return (
        f"#{comment}".rstrip() if is_number_sign or is_in_words or is_numbered or is_open else None
    )


def typographic(text: str) -> str | None:
    """The pair of a word processor's quotes around a text; None if there is none."""
    ends = _PAIRS.get(text[:1], "")
    if len(text) > 1 and text[-1] in ends and not any(q in text[1:-1] for q in (text[0], *ends)):
        return f"{text[0]} {text[-1]}"
    return None


@dataclass
class _Run:
    """A value in braces and the words after it that have no value of their own.

    Attributes:
        is_plain: True if the value has no quotes.
        end: end of the last part, in characters.
        parts: the value, then the words.
        is_tight: True if no blank follows any of the commas.
    """

    path: tuple[str | int, ...]
    key: str
    line: int
    is_plain: bool
    end: int
    parts: list[str] = field(default_factory=list[str])
    is_tight: bool = True


class SlipFinder:
    """Checks each scalar of a document and collects faults in `slips`."""

    def __init__(self, data: bytes) -> None:
        self.slips: list[Slip] = []
        self.lines = lines_of(data)
        self._unused: dict[str, Slip] = {}

    def finish(self) -> None:
        """Add the slips that only the whole document shows: anchors that no alias uses."""
        self.slips += self._unused.values()

    def add(self, path: Iterable[str | int], text: str, line: int) -> None:
        self.slips.append(Slip(tuple(path), text, line))

    @property
    def has_enough(self) -> bool:
        """True after `MOST_SLIPS`: nobody reads more, and a hostile file could have thousands."""
        return len(self.slips) > MOST_SLIPS

    def key(self, path: tuple[str | int, ...], event: Any) -> None:
        """Check a key."""
        text: str = event.value
        if not event.style and (odd := set(text[:1] + text[-1:]) & set(ODD_BLANKS)):
            code = f"U+{ord(min(odd)):04X}"
            start = f"the line holds a blank that is none to YAML ({code}, as web pages have it)"
            self.add(path[:-1], f"{start}; type ordinary spaces there", event.start_mark.line + 1)

    def value(self, path: tuple[str | int, ...], event: Any, value: Any, *, in_flow: bool) -> None:
        """Check a scalar that is a value.

        Args:
            value: its value as YAML reads it.
            in_flow: True if it stands in braces or brackets, where its line may hold more keys.
        """
        if self.has_enough:
            return
        if event.style == '"':
            self._path(path, event)
        elif not event.style and (not event.value or isinstance(value, str)):
            text = self._plain(path, event, in_flow=in_flow)
            if text is not None:
                self.add(path, text, event.start_mark.line + 1)

    def mark_used(self, anchor: str) -> None:
        """Note that an alias uses that anchor."""
        self._unused.pop(anchor, None)

    def _plain(self, path: tuple[str | int, ...], event: Any, *, in_flow: bool) -> str | None:
        text: str = event.value
        key = None if in_flow else next((p for p in path[-1:] if isinstance(p, str)), None)
        if event.anchor:
            self._anchor(path, event, key)
        if event.tag == "!":
            return f"YAML drops the ! before the text; {quote_it(f'! {text}', key)}"
        if cut := cut_text(text, self._line(event.end_mark), event.end_mark.column):
            whole = quote_it("x" * 99 if in_flow else f"{text} {cut}", key)
            shown = cut if len(cut) <= MAX_SHOWN else f"{cut[: MAX_SHOWN - 1]}…"
            start = (
                f"YAML ends the text before {shown}" if text else f"YAML reads no text in {shown}"
            )
            mend = f"{whole} (before a comment, write two blanks; behind its #, one)"
            return f"{start}, which it takes for a comment; {mend}"
        if path[:1] != ("meta",) and (quotes := typographic(text)):
            start = f"the quotes {quotes} are a word processor's and would stay in the text"
            return f"{start}; {quote_it(text[1:-1], key, 'it')}, as the keyboard types them"
        return None

    def _anchor(self, path: tuple[str | int, ...], event: Any, key: str | None) -> None:
        if event.anchor in self._unused:
            self.slips.append(self._unused[event.anchor])
        start = f"YAML takes &{event.anchor} for an anchor, and not for a part of the text"
        advice = quote_it(f"&{event.anchor} {event.value}", key)
        self._unused[event.anchor] = Slip(path, f"{start}; {advice}", event.start_mark.line + 1)

    def _path(self, path: tuple[str | int, ...], event: Any) -> None:
        start, end = event.start_mark, event.end_mark
        line = self._line(start)
        if _PATH_IN_DOUBLE.match(line, start.column) and event.value:
            written = line[start.column + 1 : end.column - 1] if start.line == end.line else ""
            self.add(path, backslash(written), start.line + 1)

    def _line(self, mark: Any) -> str:
        number: int = mark.line
        return self.lines[number] if number < len(self.lines) else ""


def backslash(written: str) -> str:
    """Problem of a path in double quotes, with the correct form."""
    quoted = f"'{written}'" if 0 < len(written) <= MAX_SHOWN and "'" not in written else ""
    message = "a backslash in double quotes begins an escape, like \\n for the end of a line"
    return f"{message}; put a path in single quotes{': ' if quoted else ''}{quoted}"


class FlowText:
    """Finds text in braces that a comma cuts: `{prompt: a chair, red}` has a key `red`."""

    def __init__(self, finder: SlipFinder) -> None:
        self._finder = finder
        self._run: _Run | None = None

    def scalar(self, path: tuple[str | int, ...], event: Any, key_start: int, key_end: int) -> None:
        """Check a value of the mapping. A key without a colon has an empty value at its end."""
        key = str(path[-1])
        is_bare = not event.style and not event.value and event.start_mark.index == key_end
        if is_bare and self._run is not None:
            self._run.is_tight &= key_start == self._run.end + 1
            self._run.parts.append(key)
            self._run.end = key_end
            return
        self.end()
        if not is_bare:
            line, end = event.start_mark.line + 1, event.end_mark.index
            self._run = _Run(path, key, line, not event.style, end, [event.value])

    def end(self) -> None:
        """Note that another value begins or the mapping ends, and add a slip for a cut text."""
        run, self._run = self._run, None
        if run is not None and len(run.parts) > 1:
            self._finder.add(run.path, _cut_at_comma(run), run.line)


class FlowNumbers:
    """Finds decimal commas in a list: `[7,5, 8,5]` has four numbers, but two were intended.

    Only blanks show this: none within each pair, one between the pairs. `[7, 5]` and `[1,2,3,4]`
    have no decimal commas.
    """

    def __init__(self, finder: SlipFinder) -> None:
        self._finder = finder
        self._texts: list[str] = []
        self._is_tight: list[bool] = []
        self._place: tuple[tuple[str | int, ...], int] = ((), 0)
        self._end = -1
        self._is_over = False

    def scalar(self, path: tuple[str | int, ...], event: Any, *_: int) -> None:
        """Check an item of the list."""
        self._is_over |= bool(event.style) or not re.fullmatch(r"[-+]?[0-9]+", event.value)
        if self._is_over:
            return
        if self._texts:
            self._is_tight.append(event.start_mark.index == self._end + 1)
        else:
            self._place = path[:-1], event.start_mark.line + 1
        self._texts.append(event.value)
        self._end = event.end_mark.index

    def end(self) -> None:
        """Note that another kind of value begins or the list ends; add a slip for cut numbers."""
        pairs = [index % 2 == 0 for index in range(len(self._is_tight))]
        if not self._is_over and len(pairs) % 2 == 1 and len(pairs) > 1 and pairs == self._is_tight:
            first, second = self._texts[:2]
            start = f"a comma ends a number, so that {first},{second} are two"
            mend = f"write {first}.{second}, or a blank after each comma"
            self._finder.add(self._place[0], f"{start}; {mend}", self._place[1])
        self._is_over = True


def _cut_at_comma(run: _Run) -> str:
    is_choice = run.path[:1] == ("matrix",)
    if (
        not is_choice
        and run.is_plain
        and run.is_tight
        and (number := with_point(",".join(run.parts)))
    ):
        return f"a comma ends the number; {number}"
    start = f"YAML ends the text at the comma, and takes {run.parts[1][:MAX_SHOWN]!r} for a key"
    if run.is_plain and (is_choice or run.key in LIST_KEYS):
        listed = in_list(run.parts, of_text=not is_choice)
        return f"{start}; put all of it in brackets" + (f": {run.key}: {listed}" if listed else "")
    text = ", ".join(run.parts)
    return f"{start}; {quote_it(text[1:-1] if typographic(text) else text, run.key, 'all of it')}"


def with_point(text: str) -> str:
    """`write 0.6` for `0,6`; "" for a text that is no number with a comma."""
    if re.fullmatch(r"[-+]?[0-9]{1,3}(,[0-9]{3})+", text) and not re.match(r"[-+]?0", text):
        plain = text.replace(",", "")
        return f"write {plain}" + (f", or {text.replace(',', '.')}" if text.count(",") == 1 else "")
    if re.fullmatch(r"[-+]?[0-9]{1,30},[0-9]{1,30}", text):
        return f"write {text.replace(',', '.')}"
    return ""
