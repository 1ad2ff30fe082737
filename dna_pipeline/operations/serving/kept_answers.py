"""Answers that many ask for and that take long to find: found by one, and kept for a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

COST_SHARE = 20


class KeptAnswer(Generic[T]):
    """The answer to one question. Threads may share it.

    While one thread looks for a new answer, the others get the last one. An answer is kept for so
    long that looking for it takes at most a twentieth of the time, however long it takes.

    Args:
        keep_s: least time for which an answer is kept.
    """

    def __init__(self, ask: Callable[[], T], keep_s: float) -> None:
        self._ask = ask
        self._keep_s = keep_s
        self._lock = threading.Lock()
        self._answer: tuple[T, int] | None = None
        """The answer, and the number of changes before it was looked for."""
        self._good_until = 0.0
        self._changes = 0

    def get(self) -> T:
        """Give the answer. Raises what the question raises; that is not kept."""
        changes, last = self._changes, self._answer
        kept = last if last is not None and last[1] == changes else None
        if kept is not None and time.monotonic() < self._good_until:
            return kept[0]
        if not self._lock.acquire(blocking=kept is None):
            assert kept is not None
            return kept[0]
        try:
            newest = self._answer
            if newest is not None and newest is not last and newest[1] >= changes:
                return newest[0]  # another thread has looked for it meanwhile
            return self._look()
        finally:
            self._lock.release()

    def forget(self) -> None:
        """Look anew at the next call, since something was changed. A look that is under way may
        have seen what was before, so its answer is not kept either."""
        self._changes += 1

    def _look(self) -> T:
        changes, started = self._changes, time.monotonic()
        answer = self._ask()
        now = time.monotonic()
        self._answer = (answer, changes)
        self._good_until = now + max(self._keep_s, COST_SHARE * (now - started))
        return answer
