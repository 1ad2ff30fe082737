"""Threads on which the jobs of a worker take turns.

A worker has several jobs at once: while one uses the device, the next one's picture is read and the
last one's files are written. Models are used on one thread, since neither the memory of a device
nor every library bears two at a time.
"""

from __future__ import annotations

import heapq
import math
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from itertools import count
from typing import Protocol, TypeVar

T = TypeVar("T")

POLL_S = 0.1
"""Time between two looks of a job that waits for its turn at whether it was cancelled."""

Rank = tuple[float, int]
"""Sorts the jobs that wait for a turn; the lowest comes first."""

FIRST: Rank = (-math.inf, 0)
"""Comes before any job."""


class Turns(Protocol):
    """Lets jobs take turns."""

    def take(
        self,
        work: Callable[[], T],
        rank: Rank,
        check: Callable[[], None],
        on_wait: Callable[[], None],
    ) -> T:
        """Do some work once it is the job's turn; gives or raises what it does.

        Args:
            check: raises to give up a turn that has not begun.
            on_wait: called if another job has its turn now.
        """
        ...


class Direct(Turns):
    """Does all work at once, for a single job."""

    def take(
        self,
        work: Callable[[], T],
        rank: Rank,
        check: Callable[[], None],
        on_wait: Callable[[], None],
    ) -> T:
        return work()


class _Turn:
    """Some work, and what came of it."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.work = work
        self.has_begun = False
        self.is_done = threading.Event()
        self.result: object = None
        self.error: BaseException | None = None


class Lane(Turns):
    """A thread that does the work of all jobs, one turn after another.

    Args:
        prepare: called on the thread before its first turn.

    Attributes:
        busy_s: seconds of all turns that have ended.
    """

    def __init__(self, name: str, prepare: Callable[[], None] = lambda: None) -> None:
        self._prepare = prepare
        self._change = threading.Condition()
        self._waiting: list[tuple[Rank, int, _Turn]] = []
        self._numbers = count()
        self._is_busy = False
        self.busy_s = 0.0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def take(
        self,
        work: Callable[[], T],
        rank: Rank,
        check: Callable[[], None],
        on_wait: Callable[[], None],
    ) -> T:
        if threading.current_thread() is self._thread:
            return work()  # within the job's own turn
        result: list[T] = []
        turn = _Turn(lambda: result.append(work()))
        with self._change:
            must_wait = self._is_busy or bool(self._waiting)
            heapq.heappush(self._waiting, (rank, next(self._numbers), turn))
            self._change.notify()
        if must_wait:
            on_wait()
        try:
            while not turn.is_done.wait(POLL_S):
                self._give_up_if(check, turn)
            if turn.error is not None:
                raise turn.error
        finally:
            # The error's frames refer to this one, which would keep the error, and with it the
            # memory that its frames hold, until garbage is collected.
            del turn
        return result[0]

    def _give_up_if(self, check: Callable[[], None], turn: _Turn) -> None:
        """Call `check` for a turn that has not begun, and give the turn up if that raises."""
        with self._change:
            if turn.has_begun:
                return
            try:
                check()
            except BaseException:
                self._waiting = [entry for entry in self._waiting if entry[2] is not turn]
                heapq.heapify(self._waiting)
                raise

    def _run(self) -> None:
        self._prepare()
        while True:
            self._do_next()

    def _do_next(self) -> None:
        with self._change:
            self._is_busy = False
            while not self._waiting:
                self._change.wait()
            _, _, turn = heapq.heappop(self._waiting)
            self._is_busy = turn.has_begun = True
        began = time.monotonic()
        try:
            turn.work()
        except BaseException as error:
            turn.error = error
        self.busy_s += time.monotonic() - began
        turn.is_done.set()


class SameWork:
    """Lets equal stages of several jobs run one after another, so that the later ones take the
    first one's result."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._keys: set[str] = set()

    @contextmanager
    def alone(self, key: str | None, check: Callable[[], None]) -> Generator[None]:
        """Wait until no other job works at that key, and keep others from it; without a key, do
        nothing.

        Args:
            check: raises to give up waiting.
        """
        if key is None:
            yield
            return
        with self._change:
            while key in self._keys:
                check()
                self._change.wait(POLL_S)
            self._keys.add(key)
        try:
            yield
        finally:
            with self._change:
                self._keys.discard(key)
                self._change.notify_all()
