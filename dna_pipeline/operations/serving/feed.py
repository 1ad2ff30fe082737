"""The ledger's events for many who follow them, with one look at the ledger for all."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from typing import Any

import structlog

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.config.schema import Config
from dna_pipeline.ledger.health import FileId, file_id
from dna_pipeline.operations.serving.readers import Readers

log = structlog.get_logger()

LOOK_S = 0.2
"""Time between two looks at the ledger while anyone follows."""
KEPT = 2000
"""Number of the newest events that are kept in memory. Who is further behind reads the ledger."""
PORTION = 500
"""Most events that a follower gets at once."""

Record = dict[str, Any]


class Follower:
    """A place in the events of all jobs, or of one.

    Attributes:
        last: number of the last event that was looked at for it.
        file: the ledger that the number belongs to; None before the first look.
    """

    def __init__(
        self, feed: EventFeed, job: str | None, after: int, wake: Callable[[], object]
    ) -> None:
        self._feed = feed
        self.job = job
        self.last = after
        self.file: FileId | None = None
        self.wake = wake

    def take_kept(self) -> list[Record] | None:
        """As `take`, from memory and at once; None if the ledger has to be read for it."""
        return self._feed.take_kept(self)

    def take(self) -> list[Record]:
        """Give the next events in order, at most `PORTION` of them; none if there are none yet.

        After another ledger took the place of the one before, the events of all jobs go on with its
        new ones; those of one job begin anew, since its end may be among the old ones.

        May read the ledger, so not to be called where nothing may wait. Raises `ConfigError` if it
        cannot be read.
        """
        kept = self.take_kept()
        return self._feed.take_from_ledger(self) if kept is None else kept

    def close(self) -> None:
        self._feed.drop(self)


class EventFeed:
    """Looks for new events while anyone follows, and wakes those whom they concern.

    Nothing is kept for one follower but the number of its last event, so that a slow one costs
    nothing and misses nothing.
    """

    def __init__(self, config: Config, readers: Readers) -> None:
        self._config = config
        self._readers = readers
        self._lock = threading.Lock()
        self._followers: set[Follower] = set()
        self._recent: deque[Record] = deque(maxlen=KEPT)
        self._floor: int | None = None
        """All events after this number are in `_recent`; None while nobody looks."""
        self._file: FileId | None = None
        """The ledger that they are from."""
        self._first_floor = 0
        """Number of its newest event when it was found."""
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def follow(
        self, wake: Callable[[], object], *, job: str | None = None, after: int = 0
    ) -> Follower:
        """Begin to follow the events after a number.

        Args:
            wake: called from another thread whenever there may be more to take.
        """
        follower = Follower(self, job, after, wake)
        with self._lock:
            self._followers.add(follower)
            if self._thread is None and not self._stop.is_set():
                self._thread = threading.Thread(target=self._look, name="feed", daemon=True)
                self._thread.start()
        return follower

    def drop(self, follower: Follower) -> None:
        with self._lock:
            self._followers.discard(follower)

    def close(self) -> None:
        """Wake all, and look no more."""
        self._stop.set()
        with self._lock:
            thread, followers = self._thread, list(self._followers)
        for follower in followers:
            follower.wake()
        if thread is not None:
            thread.join(5)

    @property
    def number(self) -> int:
        """Number of those who follow."""
        return len(self._followers)

    def take_kept(self, follower: Follower) -> list[Record] | None:
        """Give a follower's next events from memory; None if some of them may not be there."""
        with self._lock:
            if self._floor is None or follower.file != self._file or follower.last < self._floor:
                return None
            first = bisect_right(self._recent, follower.last, key=lambda event: event["id"])
            events: list[Record] = []
            for event in islice(self._recent, first, None):
                if follower.job in (None, event["job_id"]):
                    if len(events) == PORTION:
                        break
                    events.append(event)
                follower.last = event["id"]
            return events

    def take_from_ledger(self, follower: Follower) -> list[Record]:
        """Give a follower's next events from the ledger; none if there is no ledger yet."""
        file = file_id(self._config.ledger_path)
        if file is None:
            return []
        with self._lock:
            is_replaced = follower.file not in (None, file)
            if is_replaced and file != self._file:
                return []  # the next look wakes all
            first_floor = self._first_floor
        with self._readers.lend() as queries:
            newest = queries.last_event()
            if is_replaced or follower.last > newest:
                all_begin = min(first_floor, newest) if is_replaced else newest
                follower.last = all_begin if follower.job is None else 0
            follower.file = file
            events = queries.events(follower.job, follower.last, PORTION)
        looked_at = events[-1]["id"] if events else follower.last
        follower.last = looked_at if len(events) == PORTION else max(looked_at, newest)
        return events

    # --- the thread ---

    def _look(self) -> None:
        trouble = ""
        while self._goes_on():
            try:
                self._follow_one_ledger()
                trouble = ""
            except ConfigError as error:  # there is none yet, or it cannot be read now
                if str(error) != trouble:
                    trouble = str(error)
                    log.warning("feed.ledger_unavailable", why=trouble)
            except Exception:  # whatever it was, those who follow need the next look
                log.exception("feed.failed")
            with self._lock:
                self._floor = None
                self._recent.clear()
            self._stop.wait(LOOK_S)

    def _goes_on(self) -> bool:
        """True while anyone follows; else the thread is forgotten, and has to end."""
        with self._lock:
            if not self._followers or self._stop.is_set():
                self._thread = None
                return False
            return True

    def _follow_one_ledger(self) -> None:
        """Look at the ledger until nobody follows, or another file takes its place."""
        file = file_id(self._config.ledger_path)
        with self._readers.lend() as queries:
            # Before the number, or a commit between the two would be noticed only with the next.
            before = queries.data_version()
            last = queries.last_event()
            with self._lock:
                self._floor, self._file, self._first_floor = last, file, last
            self._wake(None)  # they may lack events from before
            while not self._stop.wait(LOOK_S) and self._followers:
                if file_id(self._config.ledger_path) != file:
                    return
                if (version := queries.data_version()) == before:
                    continue
                before = version
                while events := queries.events(None, last, PORTION):
                    last = events[-1]["id"]
                    self._add(events)

    def _add(self, events: list[Record]) -> None:
        with self._lock:
            overflow = len(self._recent) + len(events) - KEPT
            if overflow > 0:
                self._floor = self._recent[min(overflow, len(self._recent)) - 1]["id"]
            self._recent.extend(events)
        self._wake({event["job_id"] for event in events})

    def _wake(self, jobs: set[str] | None) -> None:
        """Wake those who follow all jobs or one of these; None: everyone."""
        with self._lock:
            concerned = [
                f for f in self._followers if jobs is None or f.job is None or f.job in jobs
            ]
        for follower in concerned:
            with suppress(RuntimeError):  # its event loop has ended
                follower.wake()
