"""Texts and tables that fit a width, counted in columns of a terminal."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence

from dna_pipeline.base.terminal_text import shown, width

GAP = 2
"""Columns between two columns of a table."""


def terminal_width() -> int | None:
    """Number of columns of the terminal that standard output is; None if it is none. Programs that
    read the output get every line whole."""
    if sys.stdout is None or not sys.stdout.isatty():  # type: ignore[reportUnnecessaryComparison]
        return None
    return max(shutil.get_terminal_size().columns, 20)


def cut_sign() -> str:
    """Sign for what is left out, as standard output can show it."""
    return "…" if shown("…") == "…" else ".."


def cut_end(text: str, columns: int, sign: str) -> str:
    """Cut a text at its end."""
    if width(text) <= columns:
        return text
    return head(text, columns - len(sign)) + sign if columns > len(sign) else ""


def cut_middle(text: str, columns: int, sign: str) -> str:
    """Cut a name or path in its middle: its end says more, as that of `photos/chair-0d3a987e`."""
    if width(text) <= columns:
        return text
    room = columns - len(sign)
    if room < 2:
        return cut_end(text, columns, sign)
    tail = head(text[::-1], room * 3 // 5)[::-1]
    return f"{head(text, room - width(tail))}{sign}{tail}"


def head(text: str, columns: int) -> str:
    """Give the first letters of a text that fit."""
    used = 0
    for number, letter in enumerate(text):
        used += width(letter)
        if used > columns:
            return text[:number]
    return text


def wrapped(text: str, columns: int) -> list[str]:
    """Break a text into lines at blanks, and words that are longer than a line anywhere."""
    lines: list[str] = []
    while width(text) > columns:
        first = head(text, columns) or text[0]
        at = first.rfind(" ") if text[len(first) : len(first) + 1] != " " else len(first)
        first = text[:at] if at > 0 else first
        lines.append(first.rstrip())
        text = text[len(first) :].lstrip()
    return [*lines, text] if text or not lines else lines


def print_titled(lines: Iterable[tuple[str, str]], title_columns: int) -> None:
    """Print texts behind their titles. On a terminal, long ones are broken behind the title."""
    room = terminal_width()
    for title, text in lines:
        begin = f"{title:{title_columns}} "
        columns = None if room is None else max(room - len(begin), 20)
        parts = [text] if columns is None else wrapped(shown(text), columns)
        for number, part in enumerate(parts):
            print(f"{' ' * len(begin) if number else begin}{part}".rstrip())


def fit_columns(
    widths: Mapping[str, int], room: int, least: Mapping[str, int], spare: Sequence[str]
) -> dict[str, int]:
    """Choose the widths of a table's columns so that it fits.

    Args:
        widths: of each column, where there is room.
        least: widths down to which columns may be cut; the others stay whole.
        spare: columns that may be left out, the first one first.
    """
    chosen = dict(widths)
    lowest = {name: min(wide, least.get(name, wide)) for name, wide in widths.items()}
    for name in spare:
        if _whole(lowest[column] for column in chosen) <= room:
            break
        del chosen[name]
    while _whole(chosen.values()) > room:
        name = max(chosen, key=lambda column: chosen[column] - lowest[column])
        if chosen[name] <= lowest[name]:
            break
        chosen[name] -= 1
    return chosen


def _whole(widths: Iterable[int]) -> int:
    columns = list(widths)
    return sum(columns) + GAP * (len(columns) - 1)
