"""Signs of the live view, in Unicode, or in ASCII for terminals that lack it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Signs:
    """Signs that stand for themselves, each one column wide but the last two."""

    completed: str
    failed: str
    cancelled: str
    bar_done: str
    bar_left: str
    dot: str
    dash: str
    cut: str


UNICODE = Signs("✓", "✗", "–", "━", "─", "·", "–", "…")
ASCII = Signs("+", "x", "-", "#", "-", "-", "-", "..")


def signs_for(encoding: str | None) -> Signs:
    """Give the signs that the encoding can write; all of Unicode if there is none."""
    try:
        "".join(getattr(UNICODE, name) for name in Signs.__slots__).encode(encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return UNICODE
