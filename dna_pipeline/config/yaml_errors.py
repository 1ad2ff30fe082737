"""Error of the YAML reader, and the form of places and of strangers' text in messages."""

from __future__ import annotations

from collections.abc import Iterable

MAX_PROBLEM_CHARS = 300
MOST_PROBLEMS = 20

KeyPath = tuple[str | int, ...]


class YamlError(ValueError):
    """The text is no usable YAML.

    Attributes:
        problem: the first problem.
        line: its line, from 1; 0 if it has none.
        messages: a line of text for each problem, from the file's top to its end.
    """

    def __init__(self, problem: str, line: int = 0, more: Iterable[tuple[int, str]] = ()) -> None:
        ordered = sorted(dict.fromkeys([(line, problem), *more]), key=lambda each: each[0])
        problems = [(at, one_line(text, MAX_PROBLEM_CHARS)) for at, text in ordered[:MOST_PROBLEMS]]
        self.line, self.problem = problems[0]
        self.messages = [f"line {at}: {text}" if at else text for at, text in problems]
        if len(ordered) > MOST_PROBLEMS:
            self.messages.append("and more of the kind")
        super().__init__("\n".join(self.messages))


def one_line(text: str, most: int) -> str:
    """A text as at most about `most` printable characters; keys and tags too are strangers' text.

    A character that cannot be printed is replaced by its escape, which is longer.
    """
    text = text if len(text) <= most else f"{text[: most - 1]}…"
    return text if text.isprintable() else repr(text)[1:-1]


def dotted(path: Iterable[str | int]) -> str:
    """`("inboxes", 0, "path")` → `inboxes[0].path`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{one_line(part, 58)}"
    return text.removeprefix(".")
