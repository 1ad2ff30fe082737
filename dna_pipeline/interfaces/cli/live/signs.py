"""Signs and letters that a terminal can show: Unicode, or ASCII in its place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dna_pipeline.base.naming import visible


@dataclass(frozen=True, slots=True)
class Signs:
    """Signs of the live view, each one column wide but `cut`, and the encoding that shows them."""

    encoding: str
    completed: str = "✓"
    failed: str = "✗"
    cancelled: str = "–"
    bar_done: str = "━"
    bar_left: str = "─"
    dot: str = "·"
    cut: str = "…"

    def show(self, text: Any) -> str:
        """Text of strangers as the terminal can show it: control characters and letters that the
        encoding lacks are shown by their numbers."""
        return visible(str(text)).encode(self.encoding, "backslashreplace").decode(self.encoding)


def signs_for(encoding: str | None) -> Signs:
    """Give the signs for a terminal's encoding; those of Unicode if it is unknown."""
    signs = Signs(encoding or "utf-8")
    texts = (getattr(signs, name) for name in Signs.__slots__ if name != "encoding")
    own = "".join(texts)
    if signs.show(own) == own:
        return signs
    return Signs(signs.encoding, "+", "x", "-", "#", "-", "-", "..")
