"""Parts of lines: texts that are cut to a width, bars, and lines with a right end."""

from __future__ import annotations

from collections.abc import Iterable

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from dna_pipeline.interfaces.cli.live.signs import Signs


def cut_end(text: str, width: int, signs: Signs) -> str:
    """Cut a text at its end to a number of columns."""
    if cell_len(text) <= width:
        return text
    return _head(text, width - len(signs.cut)) + signs.cut if width > len(signs.cut) else ""


def cut_middle(text: str, width: int, signs: Signs) -> str:
    """Cut a name or path in its middle to a number of columns; its end says more than its middle,
    as that of `photos/chair-0d3a987e` does."""
    if cell_len(text) <= width:
        return text
    room = width - len(signs.cut)
    if room < 2:
        return cut_end(text, width, signs)
    tail = _head(text[::-1], room * 3 // 5)[::-1]
    return f"{_head(text, room - cell_len(tail))}{signs.cut}{tail}"


def _head(text: str, width: int) -> str:
    """The first letters of a text that fit into so many columns."""
    return set_cell_size(text, max(width, 0)).rstrip() if cell_len(text) > width else text


def pad(text: str, width: int) -> str:
    """Fill a text up to a number of columns."""
    return text + " " * max(width - cell_len(text), 0)


def bar(fraction: float, width: int, signs: Signs) -> Text:
    """Draw a bar. Both parts have a sign of their own, so that it needs no colour."""
    done = round(min(max(fraction, 0.0), 1.0) * width)
    line = Text(signs.bar_done * done, style="green")
    return line.append(signs.bar_left * (width - done), style="bright_black")


def percent(fraction: float) -> str:
    """Write a share in five columns, as `100 %`; 100 only if all is done."""
    return f"{min(int(fraction * 100), 100):3} %"


def apart(left: Text, right: Text, width: int, signs: Signs) -> Text:
    """Put one text at the left end of a line and one at its right; the left one is cut."""
    room = width - right.cell_len - 2
    if room < 8:
        return shorten(left, width, signs)
    line = shorten(left, room, signs)
    line.append(" " * (width - line.cell_len - right.cell_len))
    return line.append_text(right)


def shorten(line: Text, width: int, signs: Signs) -> Text:
    """Cut a line with styles at its end."""
    if line.cell_len <= width:
        return line.copy()
    kept = cell_len(line.plain) and len(_head(line.plain, width - len(signs.cut)))
    return line[:kept].append(signs.cut)


def folded(text: str, width: int, most: int, signs: Signs) -> list[str]:
    """Break a text into lines of a width, at most so many; the last one is cut."""
    wrapped = Text(text).wrap(_MEASURE, max(width, 10))
    lines = [line.plain.rstrip() for line in wrapped]
    if len(lines) <= most:
        return lines
    last = cut_end(" ".join(lines[most - 1 :]), width, signs)
    return [*lines[: most - 1], last]


def joined(parts: Iterable[str], signs: Signs) -> str:
    """Join what is not empty by dots."""
    return f" {signs.dot} ".join(part for part in parts if part)


_MEASURE = Console(file=None, width=80, color_system=None)
"""A console that `Text.wrap` asks for no more than options that are not set."""
