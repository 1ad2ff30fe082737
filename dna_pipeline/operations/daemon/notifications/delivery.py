"""Delivery of messages to one receiver, in order, on a thread of its own.

The receiver may be slow, away or broken: nothing but this thread waits for it. The ledger is read
in pages, and a message counts as sent only after the receiver has taken it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import datetime
from math import inf
from typing import Any

import structlog

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.base.times import utcnow
from dna_pipeline.config.receivers import ReceiverConfig
from dna_pipeline.ledger import receivers
from dna_pipeline.ledger.batches import SHEET_DUE
from dna_pipeline.ledger.engine import LedgerError
from dna_pipeline.ledger.report_queries import ReportQueries
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.operations.daemon.notifications.messages import Message, MessageWriter
from dna_pipeline.operations.daemon.notifications.outcome import Outcome
from dna_pipeline.operations.daemon.notifications.retries import next_attempt, remaining_s
from dna_pipeline.operations.daemon.notifications.sending import Send, send

log = structlog.get_logger()

PAGE = 100
"""Number of events that are in memory at a time."""

COMMIT_S = 0.5
"""Time after which messages that were sent are recorded at the latest. A kill in between sends them
again, with the same id."""

PASSED_COMMIT_S = 600.0
"""Time after which events that the receiver does not get are recorded as done with."""

PAUSE_S = 0.5
"""Least time between two looks at the ledger, which may change many times a second."""

FOLDER_WAIT_S = 10.0
"""Time for which the message of a failure waits for its folder."""
SHEET_WAIT_S = 30.0
"""Time for which the message of a batch's end waits for the batch's contact sheet, which is made
when the device is idle."""

ERROR_WAIT_S = 30.0
LONGEST_WAIT_S = 60.0
"""Longest sleep, after which the clock is looked at again: it may have been set."""


class Delivery:
    """Sends the messages of one receiver.

    Args:
        send: takes the settings and a message, and returns how that went.
        now: the time by the machine's clock.
    """

    def __init__(
        self,
        receiver: ReceiverConfig,
        ledger: Ledger,
        writer: MessageWriter,
        send: Send = send,
        now: Callable[[], datetime] = utcnow,
    ) -> None:
        self.receiver = receiver
        self._ledger = ledger
        self._writer = writer
        self._send = send
        self._now = now
        self._cursor = 0
        self._is_sent_unrecorded = False
        self._recorded_at = time.monotonic()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._is_waiting = False
        self.thread = threading.Thread(target=self._run, name="delivery", daemon=True)

    def start(self) -> None:
        self.thread.start()

    def wake(self) -> None:
        """Note that there may be something to send. Returns at once."""
        self._wake.set()

    @property
    def is_done(self) -> bool:
        """True if there is nothing to send now, or the receiver is to be tried again later."""
        return self._is_waiting and not self._wake.is_set()

    def stop(self) -> None:
        """End soon; what is being sent is not recorded any more."""
        self._stop.set()
        self._wake.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with closing(ReportQueries(self._ledger.path)) as queries:
                    self._work(queries)
            except (LedgerError, ConfigError) as error:
                log.warning("receiver.delayed", receiver=self.receiver.name, why=str(error)[:300])
                self._stop.wait(ERROR_WAIT_S)
            except Exception:
                # Nothing about messages may end the daemon.
                log.exception("receiver.failed", receiver=self.receiver.name)
                self._stop.wait(ERROR_WAIT_S)

    def _work(self, queries: ReportQueries) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            wait_s = self.step(queries)
            self._is_waiting = True
            self._wake.wait(min(wait_s, LONGEST_WAIT_S) if wait_s < inf else None)
            self._is_waiting = False
            self._stop.wait(PAUSE_S)

    def step(self, queries: ReportQueries) -> float:
        """Send what there is; return the seconds until there may be more to do by itself."""
        row = queries.receiver(self.receiver.name)
        if row is None or row["state"] == receivers.ENDED:
            return inf
        self._cursor = max(self._cursor, row["cursor"])
        if (wait_s := remaining_s(row["next_at"], self._now())) > 0:
            return wait_s
        try:
            if row["dropped"] and (wait_s := self._report_dropped(row)) > 0:
                return wait_s
            return self._send_pages(queries, row["failures"])
        finally:
            self._record()

    def _report_dropped(self, row: Mapping[str, Any]) -> float:
        name, number = self.receiver.name, row["dropped"]
        message = self._writer.dropped(number, row["cursor"], self._now())
        if (wait_s := self._attempt(message, row["failures"])) == 0:
            self._ledger.transact(lambda s: receivers.note_reported(s, name, number))
        return wait_s

    def _send_pages(self, queries: ReportQueries, failures: int) -> float:
        is_whole = False
        while not is_whole and not self._stop.is_set():
            last = queries.last_event()
            page = queries.events_with_jobs(self.receiver.kinds, self._cursor, PAGE)
            for event in page:
                if self._stop.is_set():
                    return 0.0
                if (wait_s := self._deliver(event, failures)) > 0:
                    return wait_s
                failures = 0
            if is_whole := len(page) < PAGE:
                self._cursor = max(self._cursor, last)
        return inf

    def _deliver(self, event: Mapping[str, Any], failures: int) -> float:
        """Send the message of one event; return the seconds to wait before it is tried again."""
        age_s = (self._now() - event["at"]).total_seconds()
        if 0 <= age_s < _wait_limit_s(event):
            return 1.0
        wait_s = self._attempt(self._writer.write(event), failures)
        if wait_s == 0:
            self._cursor, self._is_sent_unrecorded = event["id"], True
            if failures or time.monotonic() - self._recorded_at >= COMMIT_S:
                self._record()
        return wait_s

    def _attempt(self, message: Message, failures: int) -> float:
        """Send a message; record a failure, and return the seconds until the next attempt."""
        outcome = self._send(self.receiver, message)
        if self._stop.is_set() and outcome.problem:
            return inf  # the settings of this receiver may have changed
        if not outcome.problem:
            return 0.0
        self._record()  # the messages before it, since the next commit is about this one
        return self._note_failure(outcome, failures)

    def _note_failure(self, outcome: Outcome, failures: int) -> float:
        now, name = self._now(), self.receiver.name
        facts = {"receiver": name, "place": self.receiver.place, "why": outcome.problem}
        if outcome.is_gone:
            log.error("receiver.ended", **facts)
            self._ledger.transact(lambda s: receivers.end(s, name, outcome.problem, now))
            return inf
        at = next_attempt(failures + 1, outcome.retry_after_s, now)
        log.warning("receiver.behind", attempts=failures + 1, next_at=str(at), **facts)
        self._ledger.transact(lambda s: receivers.note_failure(s, name, outcome.problem, now, at))
        return max((at - now).total_seconds(), 0.01)

    def _record(self) -> None:
        """Record how far the receiver is: at once after messages, seldom else."""
        age_s = time.monotonic() - self._recorded_at
        if not self._is_sent_unrecorded and age_s < PASSED_COMMIT_S:
            return
        name, cursor, is_sent = self.receiver.name, self._cursor, self._is_sent_unrecorded
        self._ledger.transact(lambda s: receivers.advance(s, name, cursor, is_sent=is_sent))
        self._is_sent_unrecorded = False
        self._recorded_at = time.monotonic()


def _wait_limit_s(event: Mapping[str, Any]) -> float:
    """Seconds from an event for which its message waits for the files that it is about to name."""
    if event["publish"] in ("pending", "planned"):
        return FOLDER_WAIT_S
    return SHEET_WAIT_S if event["sheet"] == SHEET_DUE else 0.0
