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
from collections.abc import Callable, Generator, Hashable, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any, Protocol, TypeVar, cast

A = TypeVar("A")
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
        # A key of its own: nobody shares the turn.
        return self.share(object(), None, lambda _: [work()], rank, check, on_wait)

    def share(
        self,
        key: Hashable,
        item: A,
        work: Callable[[Sequence[A]], Sequence[T]],
        rank: Rank,
        check: Callable[[], None],
        on_wait: Callable[[], None],
    ) -> T:
        """Do some work for all jobs that wait with that key, in one turn; gives what it gives for
        this job's item.

        Args:
            work: gets the items of the jobs, the one whose turn it is first, and gives something
                for each. It must not raise if there are several: see `Lane`.
        """
        ...


class Direct(Turns):
    """Does all work at once, for a single job."""

    def share(
        self,
        key: Hashable,
        item: A,
        work: Callable[[Sequence[A]], Sequence[T]],
        rank: Rank,
        check: Callable[[], None],
        on_wait: Callable[[], None],
    ) -> T:
        return work([item])[0]


class _Turn:
    """Some work, and its result or error.

    Attributes:
        item: what the work is done with; several turns of one key are done with one call.
    """

    def __init__(
        self, work: Callable[[Sequence[Any]], Sequence[object]], key: Hashable, item: object
    ) -> None:
        self.work = work
        self.key = key
        self.item = item
        self.has_begun = False
        self.is_done = threading.Event()
        self.result: object = None
        self.error: BaseException | None = None


class Lane(Turns):
    """A thread that does the work of all jobs, one turn after another.

    Args:
        prepare: called on the thread before its first turn; an error of it is that of every turn.
        most_together: most jobs that may share a turn.
        on_shared_error: called with an error of a turn that several jobs share, of which any may
            be the cause; it must not return.

    Attributes:
        busy_s: seconds of all turns that have ended.
    """

    def __init__(
        self,
        name: str,
        prepare: Callable[[], None] = lambda: None,
        most_together: int = 1,
        on_shared_error: Callable[[BaseException], None] = lambda _: None,
    ) -> None:
        self._prepare = prepare
        self.most_together = most_together
        self._on_shared_error = on_shared_error
        self._change = threading.Condition()
        self._waiting: list[tuple[Rank, int, _Turn]] = []
        self._numbers = count()
        self._is_busy = False
        self._fault: BaseException | None = None
        self.busy_s = 0.0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def share(
        self,
        key: Hashable,
        item: A,
        work: Callable[[Sequence[A]], Sequence[T]],
        rank: Rank,
        check: Callable[[], None],
        on_wait: Callable[[], None],
    ) -> T:
        if threading.current_thread() is self._thread:
            return work([item])[0]  # within the job's own turn
        return cast(T, self._done(_Turn(work, key, item), rank, check, on_wait))

    def _done(
        self, turn: _Turn, rank: Rank, check: Callable[[], None], on_wait: Callable[[], None]
    ) -> object:
        """Wait until the turn is done; gives or raises what came of it."""
        with self._change:
            must_wait = self._is_busy or bool(self._waiting)
            if not must_wait:
                self._queue(turn, rank)
        if must_wait:
            on_wait()  # before the turn can begin, since its work reports other phases
            with self._change:
                self._queue(turn, rank)
        try:
            while not turn.is_done.wait(POLL_S):
                self._give_up_if(check, turn)
            error, turn.error = turn.error, None
            if error is not None:
                raise error
            return turn.result
        finally:
            # Its frames refer to this one: a reference from here would keep the error, and with it
            # the memory that its frames hold, until garbage is collected.
            error = None

    def _queue(self, turn: _Turn, rank: Rank) -> None:
        """Let a turn wait; the caller holds the lock."""
        heapq.heappush(self._waiting, (rank, next(self._numbers), turn))
        self._change.notify()

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
        try:
            self._prepare()
        except BaseException as error:
            self._fault = error
        while True:
            self._do_next()

    def _do_next(self) -> None:
        with self._change:
            self._is_busy = False
            while not self._waiting:
                self._change.wait()
            turns = self._next()
            self._is_busy = True
        began = time.monotonic()
        first = turns[0]
        try:
            if self._fault is not None:
                raise self._fault
            results = first.work([turn.item for turn in turns])
            for turn, result in zip(turns, results, strict=True):
                turn.result = result
        except BaseException as error:
            if len(turns) > 1:
                self._on_shared_error(error)
            first.error = error
        self.busy_s += time.monotonic() - began
        for turn in turns:
            turn.is_done.set()

    def _next(self) -> list[_Turn]:
        """Take the turn that comes next, and those that share it; the caller holds the lock."""
        _, _, first = heapq.heappop(self._waiting)
        others = [turn for _, _, turn in sorted(self._waiting, key=lambda e: e[:2])]
        same = [turn for turn in others if turn.key == first.key]
        turns = [first, *same[: self.most_together - 1]]
        for turn in turns:
            turn.has_begun = True
        self._waiting = [entry for entry in self._waiting if not entry[2].has_begun]
        heapq.heapify(self._waiting)
        return turns


class SameWork:
    """Lets equal stages of several jobs run one after another, so that the later ones take the
    first one's result."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._keys: set[str] = set()

    @contextmanager
    def alone(
        self, key: str | None, check: Callable[[], None], on_wait: Callable[[], None]
    ) -> Generator[bool]:
        """Wait until no other job works at that key, and keep others from it; without a key, do
        nothing. Gives True if it had to wait.

        Args:
            check: raises to give up waiting.
            on_wait: called if another job works at it now.
        """
        if key is None:
            yield False
            return
        with self._change:
            if has_waited := key in self._keys:
                on_wait()
            while key in self._keys:
                check()
                self._change.wait(POLL_S)
            self._keys.add(key)
        try:
            yield has_waited
        finally:
            with self._change:
                self._keys.discard(key)
                self._change.notify_all()
