"""Numbers of rows of a table as people choose them: `7`, `101-200`, `101-`, `-200`, `1-10,15`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.config.sentences import shown

_PART = re.compile(r"(\d{1,9})|(\d{0,9})\s*-\s*(\d{0,9})", re.ASCII)
_FORMS = "write a row (7), a range (101-200, 101- or -200), or several of them (1-10,15)"


@dataclass(frozen=True, slots=True)
class RowNumbers:
    """A choice of rows.

    Attributes:
        text: as written.
        spans: first and last number of each part; the last one may be infinite.
    """

    text: str
    spans: tuple[tuple[int, float], ...]

    def __contains__(self, number: int) -> bool:
        return any(first <= number <= last for first, last in self.spans)

    def __str__(self) -> str:
        return self.text

    def lacking(self, numbers: Sequence[int]) -> str | None:
        """The first part of which a table has no row; None if it has one of each.

        A range may begin before the first row and end behind the last one, since those who cut a
        table into equal parts need not know where it ends.

        Args:
            numbers: those of the table's rows, in their order.
        """
        there = set(numbers)
        for first, last in self.spans:
            has_any = first in there if first == last else any(first <= n <= last for n in numbers)
            if not has_any:
                return _span_text(first, last)
        return None


ALL_ROWS = RowNumbers("-", ((0, inf),))


def parse_row_numbers(text: str) -> RowNumbers:
    """Read a choice of rows. Raises `ConfigError`, which names the part that is wrong."""
    return RowNumbers(text.strip(), tuple(_span(part.strip()) for part in text.split(",")))


def _span(part: str) -> tuple[int, float]:
    match = _PART.fullmatch(part)
    if match is None:
        raise ConfigError(f"--rows: {shown(part)} is no row and no range of rows; {_FORMS}")
    if match[1] is not None:
        return int(match[1]), int(match[1])
    first, last = int(match[2] or 0), int(match[3]) if match[3] else inf
    if first > last:
        raise ConfigError(f"--rows: {shown(part)} ends before it begins; {_FORMS}")
    return first, last


def _span_text(first: int, last: float) -> str:
    if first == last:
        return str(first)
    return f"{first or ''}-{'' if last == inf else int(last)}"
