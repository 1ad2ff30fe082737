"""How often Python looks for unreachable objects that refer to one another."""

from __future__ import annotations

import gc

OBJECTS = 200_000
"""Number of new objects after which the youngest are searched; Python's own is 700."""


def collect_seldom() -> None:
    """Search less often than Python does by default.

    Imports make many objects and hardly any garbage. The searches among them take a tenth to a
    sixth of the time in which a command starts and a model's libraries are imported.
    """
    gc.set_threshold(OBJECTS, 20, 20)
