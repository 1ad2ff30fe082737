"""Values, sizes and times in words for people; programs get them as JSON."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from dna_pipeline.base.clock import briefly, to_second
from dna_pipeline.base.quantities import about


def plain(value: Any) -> str:
    """Write a value on one line, much like YAML, without brackets and quotes.

    A list becomes words with commas between them; None and empty lists become `-`.
    """
    match value:
        case None:
            return "-"
        case bool():
            return "true" if value else "false"
        case float():
            is_whole = math.isfinite(value) and value.is_integer() and abs(value) < 1e15
            return str(int(value)) if is_whole else str(value)
        case datetime():
            return to_second(value)
        case str():
            return value or '""'
        case bytes():
            return os.fsdecode(value)
        case Mapping():
            pairs = cast("Mapping[Any, Any]", value).items()
            return "; ".join(f"{key}: {plain(inner)}" for key, inner in pairs) or "-"
        case Sequence() | set() | frozenset():
            return ", ".join(map(plain, cast("Iterable[Any]", value))) or "-"
        case _:
            return str(value)


def short(identifier: str) -> str:
    """Give the beginning of an id, as it is in folder names and as commands accept it."""
    return identifier[:8]


def hold_reason(code: str, detail: str) -> str:
    """Write why jobs wait: `hours: outside its hours`. The code is left out if the detail begins
    with it, as in `paused since noon`."""
    return detail if detail.startswith(code) else f"{code}: {detail}"


def failure_text(message: str, detail: str, hint: str) -> str:
    """Write what was wrong and what helps, in sentences.

    Args:
        message: the general sentence of the failure's code; left out where the others say all.
        detail: what exactly was wrong, or "".
        hint: what helps in this case, or "".
    """
    wrong, mend = (detail, hint or message) if detail else (message, hint)
    parts = (part.strip().rstrip(".;") for part in (wrong, mend) if part.strip())
    return " ".join(
        f"{part[:1].upper()}{part[1:]}{'' if part[-1:] in '?!' else '.'}" for part in parts
    )


def end_in(seconds: float, now: datetime | None = None) -> str:
    """Write the time of day that is `seconds` from now: `14:35`; with the date if not today."""
    begin = now or datetime.now(UTC)
    try:
        return briefly(begin + timedelta(seconds=seconds), begin)
    except OverflowError:
        return "after the end of the calendar"


def time_left(seconds: float) -> str:
    """Write the time left: `about 12 min left, until 14:35`."""
    return f"{about(seconds)} left, until {end_in(seconds)}"


def short_path(path: str | Path) -> str:
    """Write a path from the current folder, if it lies in it, else from the home folder."""
    whole = Path(path)
    for base, sign in ((Path.cwd(), ""), (Path.home(), "~")):
        if whole.is_relative_to(base):
            return str(Path(sign, whole.relative_to(base)))
    return str(whole)


def event_words(kind: str, data: Mapping[str, Any]) -> str:
    """Describe an event of the ledger in words."""
    if kind == "progress" and "fraction" in data:
        return f"{data['stage']} step {data['step']} of {data['steps']}, {data['fraction']:.0%}"
    if kind == "queued" and "name" in data:
        return f"{data['inbox']}/{data['name']}, pipeline {data['pipeline']}"
    if kind == "queued" and "ended" in data:
        return f"again: {_cause(data['code'], data['ended'])}"
    if kind in ("failed", "cancelled") and "code" in data:
        return _cause(data["code"], data["detail"])
    if kind == "started":
        return f"attempt {data.get('attempt', 1)}"
    if data.get("retry"):
        return "once more, by retry"
    if data.get("replaced"):
        return "anew, with a sidecar that came later"
    return "" if not data else plain(data)


def _cause(code: str | None, detail: str) -> str:
    """Write why an attempt ended, on one line: `worker_crashed: signal 9`."""
    lines = "; ".join(detail.splitlines())
    return lines if code is None else hold_reason(code, lines)
