"""Conversion of the YAML parser's errors to words for the person who wrote the file.

libyaml names the missing part of its grammar, and a mark in the text. The line at the mark mostly
shows the mistake, and each function here recognises one kind of mistake. If none does, libyaml's
words stay, with a hint.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import yaml

from dna_pipeline.config.yaml_slips import MAX_SHOWN, backslash, quote_it

# Python compiles these at their first use: most files have no fault.
_ENTRY = r"\s*(?:- +)*([^\s:\"'{\[#][^:\"'{\[#]*?):[ \t]+(\S.*)"
"""Pattern of a key with a value on its line."""
_NO_BLANK = r"\s*(?:- +)*([A-Za-z_][\w.]*):([^ \t:/\\].*)"
_EQUALS = r"\s*(?:- +)*([A-Za-z_][\w.]*)\s*=\s*([^\s=].*)"
_SLASHES = r"(?:^|:)\s*//\s*(.*)"
_WIDE = r"\s*(?:- +)*([^\s:：]+)：(.*)"
_CUT_IN_FLOW = r"(?<=[\s\[{,])#\S.*"
"""Pattern of a comment without a blank after its `#`."""
_MOST_LINES = 2000
"""Number of lines in which to search a cause: no real file has braces that stay open longer."""
_BEGIN = "text cannot begin with"
_WRONG_INDENT = "look for a wrong indentation"
_PLAIN_WORDS = {
    "did not find expected key": f"{_WRONG_INDENT}, or for a missing quote or bracket",
    "did not find expected '-'": f"{_WRONG_INDENT}; an item of a list begins with `- `",
    "did not find expected <document start>": f"{_WRONG_INDENT} of the first lines",
}
"""The most frequent mistake for some of libyaml's messages, used if no function recognises one."""


@dataclass(frozen=True, slots=True)
class _Spot:
    """The mark at which libyaml stopped, and the start of the part that it was reading.

    Lines and columns count from 0. `words` is libyaml's message.
    """

    lines: Sequence[str]
    words: str
    line: int
    column: int
    first_line: int
    first_column: int

    def at(self, line: int) -> str:
        return self.lines[line] if 0 <= line < len(self.lines) else ""

    @property
    def here(self) -> str:
        return self.at(self.line)

    @property
    def before(self) -> str:
        """The text before the mark on its line."""
        return self.here[: self.column]

    @property
    def char(self) -> str:
        return self.here[self.column : self.column + 1]

    @property
    def opening(self) -> str:
        """The first character of the part that libyaml was reading."""
        return self.at(self.first_line)[self.first_column : self.first_column + 1]

    @property
    def is_flow(self) -> bool:
        """True if the mark is within braces or brackets."""
        return "flow" in self.words


Fault = tuple[int, str]
"""A line, from 0, and its problem."""


def explain(error: yaml.MarkedYAMLError, lines: Sequence[str]) -> tuple[str, int]:
    """The problem with its correction, and its line, from 1; 0 if it has no line."""
    words = ", ".join(part for part in (error.context, error.problem) if part)
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return _unexplained(words), 0
    first = error.context_mark or mark
    spot = _Spot(lines, words, mark.line, mark.column, first.line, first.column)
    for recognise in _MISTAKES:
        if (fault := recognise(spot)) is not None:
            return fault[1], fault[0] + 1
    hint = next((hint for sign, hint in _PLAIN_WORDS.items() if sign in words), "")
    text = f"the line does not go on from those above it; {hint}" if hint else _unexplained(words)
    return text, mark.line + 1


def _unexplained(words: str) -> str:
    return f"this is not YAML ({words}); look at this line and the one above, or use quotes"


def without_blank(line: str) -> str | None:
    """Problem of a line like `strength:0.6`, `strength：0.6`, `strength=0.6` or `// a comment`.

    None for other lines.
    """
    if match := re.match(_NO_BLANK, line):
        return f"a blank is missing after the colon; write {_entry(match[1], match[2])}"
    if match := re.match(_WIDE, line):
        shown = _entry(match[1], match[2])
        return f"the colon after {match[1][:MAX_SHOWN]!r} is a full-width one (：); write {shown}"
    if match := re.match(_EQUALS, line):
        return f"a key ends with a colon, not with =; write {_equal(match[1], match[2])}"
    if match := re.match(_SLASHES, line):
        text = match[1].strip()
        is_short = 0 < len(text) <= MAX_SHOWN
        return "a comment begins with #, not with //" + (f"; write `# {text}`" if is_short else "")
    return None


def _equal(key: str, value: str) -> str:
    """`strength=0.6;` as a YAML entry; for `stage.parameter`, with the stage around it."""
    value = re.sub(r"\s*[;,]\s*$", "", value)
    stage, dot, parameter = key.partition(".")
    shown = _entry(parameter if dot else key, value)
    return f"`{stage}: {{{shown.strip('`')}}}`" if dot else shown


def _entry(key: str, value: str) -> str:
    """The correct form of a key and its value; without the value if it is long or not single."""
    value = value.strip()
    is_short = len(value) <= MAX_SHOWN and value[:1] not in ("{", "[")
    is_one = re.search(r"\s\w+(?:[:：]|\s*=)", value) is None
    return (
        f"`{key[:MAX_SHOWN]}: {value}`".replace(": `", ":`")
        if is_short and is_one
        else (f"`{key[:MAX_SHOWN]}: …`")
    )


def _slashes(spot: _Spot) -> Fault | None:
    """A comment in the form of other languages, on the line, the one above or the first one."""
    for line in (spot.line, spot.line - 1, spot.first_line):
        if re.match(_SLASHES, spot.at(line)):
            return line, without_blank(spot.at(line)) or ""
        if line >= 0 and (match := re.match(r"[^\"'#]*?\S:\s+(//.*)", spot.at(line))):
            return line, without_blank(match[1]) or ""
    return None


def _tab(spot: _Spot) -> Fault | None:
    if re.match(r"\s*\t", spot.here):
        return spot.line, "the line begins with a tab; indent with spaces, not with tabs"
    return None


def _cannot_begin(spot: _Spot, line: int, column: int, char: str) -> Fault:
    """Text that begins with a character that has a meaning in YAML."""
    here = spot.at(line)
    entry = re.match(_ENTRY, here)
    if not spot.is_flow and entry is not None and entry.start(2) == column:
        return line, f"{_BEGIN} {char}; {quote_it(entry[2], entry[1], 'such text')}"
    return line, f"{_BEGIN} {char}; put such text in quotes"


def _odd_start(spot: _Spot) -> Fault | None:
    """`@`, a backtick, `%`, `*`, `&`, `- `, `? ` and the like at the start of text."""
    if re.search("cannot start any token|entries are not allowed|keys are not allowed", spot.words):
        return _cannot_begin(spot, spot.line, spot.column, spot.char)
    if re.search("scanning (an alias|an anchor|a tag|a directive)|parsing a tag", spot.words):
        return _cannot_begin(spot, spot.first_line, spot.first_column, spot.opening)
    if "expected node content" in spot.words and spot.char and spot.char in ",-?]}":
        if spot.char == "," and spot.is_flow:
            return spot.line, "nothing stands before this comma; take it out, or put text in quotes"
        return _cannot_begin(spot, spot.line, spot.column, spot.char)
    return None


def _block_text(spot: _Spot) -> Fault | None:
    if "scanning a block scalar" not in spot.words:
        return None
    message = f"{spot.opening} announces a text on the lines below it, indented"
    entry = re.match(_ENTRY, spot.at(spot.first_line))
    advice = quote_it(entry[2], entry[1]) if entry else "put the text in quotes"
    return spot.first_line, f"{message}; move the text there, or {advice}"


def _escape(spot: _Spot) -> Fault | None:
    if "parsing a quoted scalar" not in spot.words:
        return None
    line = spot.at(spot.first_line)
    closing = re.compile(r"\"((?:[^\"\\]|\\.)*)\"").match(line, spot.first_column)
    problem = f" ({spot.words.split(', ', 1)[-1]})" if "Unicode" in spot.words else ""
    return spot.line, backslash(closing[1] if closing else "") + problem


def _open_quote(spot: _Spot) -> Fault | None:
    if "scanning a quoted scalar" not in spot.words:
        return None
    return spot.first_line, f"a closing quote is missing for the {spot.opening} in this line"


def _colon_in_text(spot: _Spot) -> Fault | None:
    """A second `: ` in a line, or a line that is indented below a text."""
    if "mapping values are not allowed" not in spot.words:
        return None
    entry = re.match(_ENTRY, spot.here)
    if entry is not None and entry.start(2) < spot.column:
        return spot.line, quote_it(entry[2], entry[1], "text with a colon")
    for above in range(spot.line - 1, max(spot.line - _MOST_LINES, 0) - 1, -1):
        if (fault := without_blank(spot.at(above))) is not None:
            return above, fault
        if re.match(_ENTRY, spot.at(above)):
            break
    message = "the line is indented as if it belonged to the text above it"
    return spot.line, f"{message}; mend the indentation, or put text with a colon in quotes"


def _no_colon(spot: _Spot) -> Fault | None:
    if "could not find expected ':'" not in spot.words:
        return None
    fault = without_blank(spot.at(spot.first_line))
    message = "the line lacks a colon with a blank after it, as a key has"
    return spot.first_line, fault or f"{message}; if it belongs to the text above, indent it deeper"


def _after_closing(spot: _Spot) -> Fault | None:
    """More text after a closing quote, brace or bracket, or after an alias."""
    if not re.search("expected key|expected ','", spot.words) or not spot.char:
        return None
    before = spot.before.rstrip()
    if not before or spot.char in "}]" or before[-1] not in "\"'}]":
        return None
    if not spot.is_flow and re.fullmatch(r"[,;]\s*(#.*)?", spot.here[spot.column :]):
        shown = f": `{before.strip()}`" if len(before.strip()) <= MAX_SHOWN else ""
        return spot.line, f"leave out the `{spot.char}` at the end of the line{shown}"
    entry = re.match(r"\s*(?:- +)*([^\s:]+):[ \t]+(([\"'{\[]).*)", spot.here)
    key, text = (entry[1], entry[2]) if entry and not spot.is_flow else (None, "")
    if before[-1] in "\"'":
        advice = (
            quote_it(_intended_text(before, spot.char, text), key, "all of it")
            if key
            else _OTHER_QUOTES
        )
        return spot.line, f"text goes on after its closing {before[-1]}; {advice}"
    if entry is None or spot.is_flow:
        return spot.line, f"text goes on after the {before[-1]}; put such text in quotes"
    return spot.line, f"{_BEGIN} {entry[3]}; {quote_it(text, key, 'such text')}"


_OTHER_QUOTES = "put text that has quotes in it into quotes of the other kind"


def _intended_text(before: str, following: str, text: str) -> str:
    """The intended text of a quoted text that ends too early.

    If the quote that ends it stands within a word, as in `'it's'`, or after a blank, as in
    `"a "red" chair"`, it is part of the text, and the outer quotes are not. Otherwise all quotes
    are part of the text.
    """
    is_part = before[-2:-1].isspace() or not following.isspace()
    text = text.rstrip()
    return text[1:-1] if is_part and len(text) > 1 and text[-1] == text[0] else text


def _in_flow(spot: _Spot) -> Fault | None:
    """Text in braces or brackets that needs quotes, or braces or brackets that are not closed."""
    if not spot.is_flow:
        return None
    is_key_below = spot.line > spot.first_line and re.fullmatch(r"\s*[\w.]+", spot.before)
    if spot.char == ":" and not is_key_below:
        word = re.search(r"\S\s+([A-Za-z_][\w.]*)$", spot.before)
        comma = (
            f"; or write a comma before {word[1][:MAX_SHOWN]!r}, if that is a key" if word else ""
        )
        return spot.line, f"put text with a colon in quotes{comma}"
    if spot.char and spot.char in "{[" and spot.before.strip():
        return spot.line, f"text with a {spot.char} in it stands in braces; put such text in quotes"
    return _unclosed(spot)


def _unclosed(spot: _Spot) -> Fault:
    first, opening = spot.first_line, spot.opening
    if opening not in ("{", "["):
        above = range(first, max(first - _MOST_LINES, -1), -1)
        first = next((line for line in above if re.search(r"[\[{]", spot.at(line))), first)
        opening = "{ or ["
    for line in range(first, min(spot.line + 1, first + _MOST_LINES)):
        match = re.search(_CUT_IN_FLOW, spot.at(line))
        if match and match.string[: match.start()].lstrip()[:1] not in ("", "#"):
            cut = match[0][:MAX_SHOWN]
            return line, f"YAML takes {cut} for a comment; put the text in quotes"
    message = f"the {opening} in this line is not closed"
    return first, f"{message}: a closing bracket or a comma is missing"


def _after_comment(spot: _Spot) -> Fault | None:
    """A text that continues below a comment, which ended it."""
    if "expected key" not in spot.words or spot.before.strip() or spot.is_flow:
        return None
    if re.search(r"(^|\s)#", spot.at(spot.line - 1)) and not re.match(_ENTRY, spot.here):
        return spot.line, "the comment in the line above ended the text; put the text in quotes"
    return None


_MISTAKES: tuple[Callable[[_Spot], Fault | None], ...] = (
    _tab,
    _slashes,
    _odd_start,
    _block_text,
    _escape,
    _open_quote,
    _colon_in_text,
    _no_colon,
    _after_closing,
    _in_flow,
    _after_comment,
)


def not_utf8(data: bytes, words: str) -> str:
    """Problem of a file that libyaml cannot read as text, with its probable encoding."""
    start = data[:400]
    if len(start) > 3 and start.count(0) * 3 > len(start):
        return "this is not plain text: it seems to be UTF-16; save the file as UTF-8"
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = data[error.start]
        kind = "it seems to be Latin-1 or Windows-1252"
        shown = f"{bytes([byte]).decode('cp1252', 'replace')!r} is the byte 0x{byte:02X}"
        return f"this is not plain text: {kind} ({shown}); save the file as UTF-8"
    return f"this is not plain text: {words}; save the file as UTF-8"
