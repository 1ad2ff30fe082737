r"""Weights of words, as AUTOMATIC1111's web UI reads them.

(word)        times 1.1; ((word)) times 1.21
[word]        divided by 1.1
(word:1.3)    times 1.3
\( \) \[ \]   a bracket; \\ is a backslash
BREAK         the text behind it begins a new block of tokens

Brackets may be nested, and their weights are multiplied. A bracket that is not closed reaches to
the end of the text, and one that was not opened is plain text. The rules are those under
"Attention/emphasis" in that program's documentation.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from dna_pipeline.base.errors import ParameterInvalid
from dna_pipeline.providers.stable_diffusion.prompt_syntax import shortened

ROUND = 1.1
"""Weight of the words in round brackets without a number; square brackets divide by it."""

_TOKEN = re.compile(
    r"""
    (?P<escape> \\. | \\$ )
  | (?P<open> [(\[] )
  | (?P<weight> :\s*(?P<number>[+-]?[.\d]+)\s*\) )
  | (?P<close> [)\]] )
  | (?P<text> : | [^\\()\[\]:]+ )
    """,
    re.VERBOSE | re.DOTALL,
)
_BREAK = re.compile(r"\bBREAK\b")
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)\s*")
_AND = re.compile(r"\bAND\b")


class PromptError(ValueError):
    """A prompt in AUTOMATIC1111's syntax that cannot be obeyed; the message is a sentence."""


def refused(name: str, error: PromptError) -> ParameterInvalid:
    """The failure of a job for a prompt that cannot be obeyed; `name`: of the parameter."""
    return ParameterInvalid(
        f"{name}: {error}", hint="Mend it, or set prompt_syntax: plain, where all is text."
    )


@dataclass(frozen=True, slots=True)
class Words:
    """A piece of a prompt, with the weight of its tokens."""

    text: str
    weight: float = 1.0


def parse(prompt: str) -> list[list[Words]]:
    """Split a prompt into sections, one more than it has BREAKs, and each into pieces of one
    weight.

    Neighbouring pieces of one weight are joined, since text is cut into tokens piece by piece. A
    section may be empty.

    Raises:
        PromptError: the prompt changes from step to step (`[cat:dog:0.5]`, `[a|b]`), is made of
            several (`AND`), or has a weight that is no number.
    """
    _refuse_unsupported(prompt)
    reader = _Reader()
    for match in _TOKEN.finditer(prompt):
        reader.read(match)
    reader.close_all()
    return [_joined(section) for section in reader.sections]


@dataclass(slots=True)
class _Piece:
    text: str
    weight: float = 1.0


@dataclass(slots=True)
class _Open:
    """A bracket that is open: its kind, and the number of pieces before it."""

    kind: str
    start: int


@dataclass(slots=True)
class _Reader:
    """Reads the tokens of a prompt from left to right."""

    pieces: list[_Piece | None] = field(default_factory=list["_Piece | None"])
    """The pieces so far; None for a BREAK."""
    brackets: list[_Open] = field(default_factory=list[_Open])

    def read(self, token: re.Match[str]) -> None:
        text = token[0]
        match token.lastgroup:
            case "escape":
                self._add(text[1:])
            case "open":
                self.brackets.append(_Open(text, len(self.pieces)))
            case "weight" if (start := self._closed("(")) is not None:
                self._multiply(start, _weight(token["number"], text))
            case "close" if (start := self._closed("(" if text == ")" else "[")) is not None:
                self._multiply(start, ROUND if text == ")" else 1 / ROUND)
            case _:
                self._add_text(text)

    def close_all(self) -> None:
        """Give the words behind each bracket that was not closed its weight."""
        for bracket in self.brackets:
            self._multiply(bracket.start, ROUND if bracket.kind == "(" else 1 / ROUND)

    @property
    def sections(self) -> Iterator[list[_Piece]]:
        section: list[_Piece] = []
        for piece in self.pieces:
            if piece is None:
                yield section
                section = []
            else:
                section.append(piece)
        yield section

    def _add(self, text: str) -> None:
        self.pieces.append(_Piece(text))

    def _add_text(self, text: str) -> None:
        """Add text, with a break and no blanks around it in place of each word BREAK."""
        first, *others = _BREAK.split(text)
        self._add(first.rstrip() if others else first)
        for index, part in enumerate(others, 1):
            self.pieces.append(None)
            self._add(part.lstrip() if index == len(others) else part.strip())

    def _closed(self, kind: str) -> int | None:
        """Close the innermost bracket of that kind and give its start; None if there is none.

        As in the original, the two kinds are counted apart: in `(a [b) c]` each bracket closes its
        own.
        """
        for index in reversed(range(len(self.brackets))):
            if self.brackets[index].kind == kind:
                return self.brackets.pop(index).start
        return None

    def _multiply(self, start: int, weight: float) -> None:
        for piece in self.pieces[start:]:
            if piece is not None:
                piece.weight *= weight


def _weight(number: str, text: str) -> float:
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise PromptError(f'the weight in "{text.strip()}" is no number')
    return value


def _joined(section: list[_Piece]) -> list[Words]:
    result: list[Words] = []
    for piece in section:
        if result and result[-1].weight == piece.weight:
            result[-1] = Words(result[-1].text + piece.text, piece.weight)
        elif piece.text:
            result.append(Words(piece.text, piece.weight))
    return result


def _refuse_unsupported(prompt: str) -> None:
    """Raise `PromptError` for syntax that makes a prompt change while it is used."""
    for content, start, end in _square(prompt):
        shown = shortened(prompt[start:end])
        if "|" in content:
            raise PromptError(
                f'"{shown}" alternates between words from step to step, which is not supported; '
                r"write one of the words, or \[ for a bracket"
            )
        if ":" in content and _NUMBER.fullmatch(content.rpartition(":")[2]):
            raise PromptError(
                f'"{shown}" changes the prompt at a step, which is not supported; '
                r"write (word:1.2) for a weight, or \[ for a bracket"
            )
    if _AND.search(prompt):
        raise PromptError(
            "AND joins several prompts into one picture, which is not supported; write a comma, or "
            '"and" in small letters'
        )


def _square(prompt: str) -> Iterator[tuple[str, int, int]]:
    """Give, for each pair of square brackets, the text directly inside of it, without that of inner
    brackets, and the place of the pair."""
    stack: list[tuple[str, int, list[str]]] = []
    position = 0
    while position < len(prompt):
        char = prompt[position]
        step = 2 if char == "\\" else 1
        if char in "([":
            stack.append((char, position, []))
        elif char in ")]" and stack and stack[-1][0] == ("(" if char == ")" else "["):
            kind, start, content = stack.pop()
            if kind == "[":
                yield "".join(content), start, position + 1
        elif stack:
            stack[-1][2].append("  " if step == 2 else char)
        position += step
