"""Parts of lines: texts that are cut to a width, bars, and lines with a right end."""

from __future__ import annotations

from collections.abc import Iterable

from rich.text import Text

from dna_pipeline.base.terminal_text import width
from dna_pipeline.interfaces.cli.fitting import cut_end, head, wrapped
from dna_pipeline.interfaces.cli.live.signs import Signs


def pad(text: str, columns: int) -> str:
    """Fill a text up to a number of columns."""
    return text + " " * max(columns - width(text), 0)


def bar(fraction: float, columns: int, signs: Signs) -> Text:
    """Draw a bar. Both parts have a sign of their own, so that it needs no colour."""
    done = round(min(max(fraction, 0.0), 1.0) * columns)
    line = Text().append(signs.bar_done * done, style="green")
    return line.append(signs.bar_left * (columns - done), style="dim")


def percent(fraction: float) -> str:
    """Write a share in five columns, as `100 %`; 100 only if all is done."""
    return f"{min(int(fraction * 100), 100):3} %"


def apart(left: Text, right: Text, columns: int, signs: Signs) -> Text:
    """Put one text at the left end of a line and one at its right; the left one is cut."""
    room = columns - right.cell_len - 2
    if room < 8:
        return shorten(left, columns, signs)
    line = shorten(left, room, signs)
    line.append(" " * (columns - line.cell_len - right.cell_len))
    return line.append_text(right)


def shorten(line: Text, columns: int, signs: Signs) -> Text:
    """Cut a line with styles at its end."""
    if line.cell_len <= columns:
        return line.copy()
    return line[: len(head(line.plain, columns - len(signs.cut)))].append(signs.cut)


def folded(text: str, columns: int, most: int, signs: Signs) -> list[str]:
    """Break a text into lines of a width, at most so many; the last one is cut."""
    lines = wrapped(text, max(columns, 10))
    if len(lines) <= most:
        return lines
    last = cut_end(" ".join(lines[most - 1 :]), columns, signs.cut)
    return [*lines[: most - 1], last]


def joined(parts: Iterable[str], signs: Signs) -> str:
    """Join what is not empty by dots."""
    return f" {signs.dot} ".join(part for part in parts if part)
