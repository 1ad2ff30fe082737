"""Text in hand-written YAML that the parser would cut or change without a word.

YAML has a meaning for `#`, `&`, `!`, commas in braces and backslashes that few people think of
while they write a prompt. The result is a valid document that says something else, and so a
wrong picture. Each check here finds one such place, and says how to write what was meant.

A `#` in or instead of plain text counts as text, and is refused, where no blank follows it
(`#1`, `#hero`), where one blank parts it from several words (`a red chair # best`) or a number
follows (`chair # 3`), and where a bracket is still open before it. Any other `#` begins a comment,
as YAML has it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from dna_pipeline.config.yaml_errors import YamlError
from dna_pipeline.config.yaml_scalars import scalar

LIST_KEYS = frozenset({"tags", "images", "formats"})
"""Keys whose value is a list: text in braces that a comma cut was one, and not a sentence."""

MOST_SLIPS = 100
MAX_SHOWN = 60
"""Longest text that is repeated in a message, with its quotes."""

_LINE_END = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_COMMENT = re.compile(r"([ \t]+)#(.*)")
_NUMBER_SIGN = re.compile(r"[^\s#]")
_PAIRS = {"“": "”", "„": "“”", "‘": "’", "«": "»", "”": "”", "‚": "‘"}
_PATH_IN_DOUBLE = re.compile(r"\"(?:[A-Za-z]:|\.{1,2})\\[^\\/\"]")
ODD_BLANKS = "\u00a0\u2002\u2003\u2007\u2009\u200b\u202f\u3000\ufeff"
"""Blanks that look like the ordinary one and, to YAML, are letters."""


@dataclass(frozen=True, slots=True)
class Slip:
    """A fault of a document that can still be read: at which key, what, and in which line."""

    path: tuple[str | int, ...]
    text: str
    line: int


def lines_of(data: bytes) -> list[str]:
    """The lines as libyaml counts them. Bytes that no text has become U+FFFD."""
    is_utf16 = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    return _LINE_END.split(data.decode("utf-16" if is_utf16 else "utf-8-sig", "replace"))


def in_quotes(text: str) -> str:
    """The text as a YAML scalar in quotes; "" for one that is too long to be repeated."""
    if len(text) > MAX_SHOWN or not text.isprintable():
        return ""
    if '"' in text or "\\" in text:
        return "'" + text.replace("'", "''") + "'"
    return f'"{text}"'


def quote_it(text: str, key: str | None = None, what: str = "the text") -> str:
    """The advice to put a text in quotes, with the text in them where it is short."""
    quoted = in_quotes(text.strip())
    start = f"{key}: " if key else ""
    return f"put {what} in quotes: {start}{quoted}" if quoted else f"put {what} in quotes"


def in_list(texts: Iterable[str], *, of_text: bool) -> str:
    """A list in brackets of these items; "" for one that is too long to be repeated.

    Args:
        of_text: its items are text, so that what else would be a number or a switch is quoted.
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
    """What a comment takes from a plain text.

    Args:
        text: the plain scalar before it; "" where there is none.
        line: the line in which that ends.
        column: where it ends.

    Returns:
        The `#` and all after it, or None where there is no comment or a comment was meant.
    """
    found = _COMMENT.match(line, column)
    if found is None:
        return None
    blanks, comment = found[1], found[2]
    is_number_sign = _NUMBER_SIGN.match(comment) is not None
    is_in_words = len(blanks) == 1 and re.search(r"\s", text) is not None
    is_numbered = bool(text) and len(blanks) == 1 and re.match(r"[ \t][0-9]", comment) is not None
    is_open = any(text.count(a) > text.count(b) for a, b in ("()", "[]", "{}"))
    return (
        f"#{comment}".rstrip() if is_number_sign or is_in_words or is_numbered or is_open else None
    )


def typographic(text: str) -> str | None:
    """The two quotes of a word processor that stand around a text; None if none do."""
    ends = _PAIRS.get(text[:1], "")
    if len(text) > 1 and text[-1] in ends and not any(q in text[1:-1] for q in (text[0], *ends)):
        return f"{text[0]} {text[-1]}"
    return None


@dataclass
class _Run:
    """A value in braces and the words after it that have no value of their own."""

    path: tuple[str | int, ...]
    key: str
    line: int
    is_plain: bool
    end: int
    parts: list[str] = field(default_factory=list[str])
    is_tight: bool = True


class SlipFinder:
    """Looks at each scalar of a document; `slips` gathers what is wrong."""

    def __init__(self, data: bytes) -> None:
        self.slips: list[Slip] = []
        self.lines = lines_of(data)
        self._unused: dict[str, Slip] = {}

    def finish(self) -> None:
        """Add what only the whole document tells."""
        self.slips += self._unused.values()

    def add(self, path: Iterable[str | int], text: str, line: int) -> None:
        self.slips.append(Slip(tuple(path), text, line))

    @property
    def has_enough(self) -> bool:
        """True where nobody would read of more, and a hostile file could hold thousands."""
        return len(self.slips) > MOST_SLIPS

    def key(self, path: tuple[str | int, ...], event: Any) -> None:
        """Check a key."""
        text: str = event.value
        if not event.style and (odd := set(text[:1] + text[-1:]) & set(ODD_BLANKS)):
            code = f"U+{ord(min(odd)):04X}"
            told = f"the line holds a blank that is none to YAML ({code}, as web pages have it)"
            self.add(path[:-1], f"{told}; type ordinary spaces there", event.start_mark.line + 1)

    def value(self, path: tuple[str | int, ...], event: Any, value: Any, *, in_flow: bool) -> None:
        """Check a scalar that is a value.

        Args:
            value: what it was read as.
            in_flow: it stands in braces or brackets, where its line may say more.
        """
        if self.has_enough:
            return
        if event.style == '"':
            self._path(path, event)
        elif not event.style and (not event.value or isinstance(value, str)):
            text = self._plain(path, event, in_flow=in_flow)
            if text is not None:
                self.add(path, text, event.start_mark.line + 1)

    def used(self, anchor: str) -> None:
        """An alias names that anchor."""
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
            told = (
                f"YAML ends the text before {shown}" if text else f"YAML reads no text in {shown}"
            )
            mend = f"{whole} (before a comment, write two blanks; behind its #, one)"
            return f"{told}, which it takes for a comment; {mend}"
        if path[:1] != ("meta",) and (quotes := typographic(text)):
            told = f"the quotes {quotes} are a word processor's and would stay in the text"
            return f"{told}; {quote_it(text[1:-1], key, 'it')}, as the keyboard types them"
        return None

    def _anchor(self, path: tuple[str | int, ...], event: Any, key: str | None) -> None:
        if event.anchor in self._unused:
            self.slips.append(self._unused[event.anchor])
        told = f"YAML takes &{event.anchor} for an anchor, and not for a part of the text"
        advice = quote_it(f"&{event.anchor} {event.value}", key)
        self._unused[event.anchor] = Slip(path, f"{told}; {advice}", event.start_mark.line + 1)

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
    """What is wrong with a path in double quotes, and how to write it."""
    quoted = f"'{written}'" if 0 < len(written) <= MAX_SHOWN and "'" not in written else ""
    told = "a backslash in double quotes begins an escape, like \\n for the end of a line"
    return f"{told}; put a path in single quotes{': ' if quoted else ''}{quoted}"


class FlowText:
    """Finds text in braces that a comma has cut: `{prompt: a chair, red}` has a key `red`."""

    def __init__(self, finder: SlipFinder) -> None:
        self._finder = finder
        self._run: _Run | None = None

    def scalar(self, path: tuple[str | int, ...], event: Any, key_start: int, key_end: int) -> None:
        """A value of the mapping was read; a key without a colon has an empty one at its end."""
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
        """Another value begins, or the mapping ends."""
        run, self._run = self._run, None
        if run is not None and len(run.parts) > 1:
            self._finder.add(run.path, _cut_at_comma(run), run.line)


class FlowNumbers:
    """Finds decimal commas in a list: `[7,5, 8,5]` has four numbers, and two were meant.

    Only the blanks tell: none within each pair, one between them. `[7, 5]` and `[1,2,3,4]` are
    what they seem.
    """

    def __init__(self, finder: SlipFinder) -> None:
        self._finder = finder
        self._texts: list[str] = []
        self._is_tight: list[bool] = []
        self._place: tuple[tuple[str | int, ...], int] = ((), 0)
        self._end = -1
        self._is_over = False

    def scalar(self, path: tuple[str | int, ...], event: Any, *_: int) -> None:
        """An item of the list was read."""
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
        """Another kind of value begins, or the list ends."""
        pairs = [index % 2 == 0 for index in range(len(self._is_tight))]
        if not self._is_over and len(pairs) % 2 == 1 and len(pairs) > 1 and pairs == self._is_tight:
            first, second = self._texts[:2]
            told = f"a comma ends a number, so that {first},{second} are two"
            mend = f"write {first}.{second}, or a blank after each comma"
            self._finder.add(self._place[0], f"{told}; {mend}", self._place[1])
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
    told = f"YAML ends the text at the comma, and takes {run.parts[1][:MAX_SHOWN]!r} for a key"
    if run.is_plain and (is_choice or run.key in LIST_KEYS):
        listed = in_list(run.parts, of_text=not is_choice)
        return f"{told}; put all of it in brackets" + (f": {run.key}: {listed}" if listed else "")
    text = ", ".join(run.parts)
    return f"{told}; {quote_it(text[1:-1] if typographic(text) else text, run.key, 'all of it')}"


def with_point(text: str) -> str:
    """`write 0.6` for `0,6`; "" for what is no number with a comma."""
    if re.fullmatch(r"[-+]?[0-9]{1,3}(,[0-9]{3})+", text) and not re.match(r"[-+]?0", text):
        plain = text.replace(",", "")
        return f"write {plain}" + (f", or {text.replace(',', '.')}" if text.count(",") == 1 else "")
    if re.fullmatch(r"[-+]?[0-9]{1,30},[0-9]{1,30}", text):
        return f"write {text.replace(',', '.')}"
    return ""
