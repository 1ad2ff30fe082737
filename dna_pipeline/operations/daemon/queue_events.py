"""Events of the queue as a whole: it has come to rest; a hold has begun or ended.

They are recorded in the ledger with what was reported last, in one transaction, so that a restart
reports nothing twice and leaves nothing out.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any

from dna_pipeline.base.errors import (
    DeviceUnavailable,
    DiskFull,
    InboxUnavailable,
    OutboxUnavailable,
    SigningUnavailable,
    WeightsMissing,
)
from dna_pipeline.base.periodic import Throttle
from dna_pipeline.base.times import format_time, utcnow
from dna_pipeline.ledger import store
from dna_pipeline.ledger.engine import Transaction
from dna_pipeline.ledger.report_queries import ReportQueries
from dna_pipeline.ledger.states import ENDS
from dna_pipeline.ledger.store import Ledger

REPORTED_HOLDS = tuple(
    kind.code
    for kind in (
        WeightsMissing, DiskFull, SigningUnavailable, OutboxUnavailable, InboxUnavailable,
        DeviceUnavailable,
    )
)  # fmt: skip
"""Holds by a fault of the environment. The others were asked for or last a moment."""

LOOK_S = 2.0
COST_SHARE = 50
REST_S = 5.0
"""Time without work after which the queue counts as at rest: files may come one after another."""

GONE_S = 60.0
"""Time after which a hold counts as ended. Its jobs are released to try, and may be held again."""

_HOLDS = "reported:holds"
_QUEUE = "reported:queue"
"""Settings: the reported holds with their begin, and the last event that was counted."""


class QueueEvents:
    """Looks at the ledger after its changes, and records these events.

    Args:
        is_quiet: says whether intake has nothing that will become a job soon.
    """

    def __init__(
        self, ledger: Ledger, queries: ReportQueries, is_quiet: Callable[[], bool]
    ) -> None:
        self._ledger = ledger
        self._queries = queries
        self._is_quiet = is_quiet
        self._throttle = Throttle(LOOK_S, COST_SHARE)
        self._is_stale = True
        self._rest_since: float | None = None
        self._present: set[str] = set()
        """Codes of the holds that there were at the last look."""
        self._gone_since: dict[str, float] = {}
        holds, counted = ledger.transact(self._read)
        self._reported: dict[str, str] = json.loads(holds or "{}")
        self._counted = int(counted)

    def _read(self, session: Transaction) -> tuple[str | None, str]:
        counted = store.get_setting(session, _QUEUE)
        if counted is None:
            counted = str(self._queries.last_event())
            store.set_setting(session, _QUEUE, counted)
        return store.get_setting(session, _HOLDS), counted

    def ledger_changed(self) -> None:
        self._is_stale = True

    def step(self, now: float) -> None:
        """Look if it is time, and if there may be something new. `now` is monotonic."""
        if not self._is_stale or not self._throttle.is_due(now):
            return
        started = time.monotonic()
        self._is_stale = self._look_at_holds(now, GONE_S) | self._look_at_queue(now, REST_S)
        self._throttle.done(now, time.monotonic() - started)

    def finish(self) -> None:
        """Record at once what else would wait for a while, as a `run` ends."""
        self._look_at_holds(0.0, float("inf"), is_last=True)
        self._rest_since = None  # an earlier look may have begun to wait
        self._look_at_queue(0.0, 0.0)

    def _look_at_holds(self, now: float, gone_s: float, *, is_last: bool = False) -> bool:
        """Record holds that have begun or ended; True if one has to be looked at again."""
        present = {row["code"]: row for row in self._queries.held_by_code(REPORTED_HOLDS)}
        new = present.keys() - self._reported.keys()
        for code in new if is_last else new & self._present:
            self._begin(present[code])
        self._present = set(present)
        absent = self._reported.keys() - present.keys()
        self._gone_since = {code: self._gone_since.get(code, now) for code in absent}
        for code in [code for code, since in self._gone_since.items() if now - since >= gone_s]:
            self._end(code)
        return bool(self._gone_since or present.keys() - self._reported.keys())

    def _begin(self, row: dict[str, Any]) -> None:
        data = {"code": row["code"], "detail": row["detail"] or "", "jobs": row["jobs"]}
        reported = self._reported | {row["code"]: format_time(utcnow())}
        self._record_hold("hold_begun", data, reported)

    def _end(self, code: str) -> None:
        seconds = 0.0
        with suppress(ValueError):
            begun = datetime.fromisoformat(self._reported[code])
            seconds = max((utcnow() - begun).total_seconds(), 0.0)
        reported = {key: since for key, since in self._reported.items() if key != code}
        self._record_hold("hold_ended", {"code": code, "seconds": round(seconds, 1)}, reported)
        del self._gone_since[code]

    def _record_hold(self, kind: str, data: dict[str, Any], reported: dict[str, str]) -> None:
        def action(session: Transaction) -> None:
            store.add_common_event(session, kind, data)
            store.set_setting(session, _HOLDS, json.dumps(reported) if reported else None)

        self._ledger.transact(action)
        self._reported = reported

    def _look_at_queue(self, now: float, rest_s: float) -> bool:
        """Record that the queue is at rest; True if that may be so soon without a commit.

        Jobs end with a commit, after which there is another look. Intake may come to rest without
        one: an upload that is broken off is removed.
        """
        is_quiet = self._is_quiet()
        if not is_quiet or self._queries.has_open_jobs():
            self._rest_since = None
            return not is_quiet
        if self._rest_since is None:
            self._rest_since = now
        if now - self._rest_since < rest_s:
            return True
        last = self._queries.last_event()
        counts = self._queries.event_counts(ENDS, self._counted)
        if counts:
            data = {status: counts.get(status, 0) for status in ENDS}
            self._record_rest(data | {"waiting": self._queries.queued()}, last)
        return False

    def _record_rest(self, data: dict[str, int], last: int) -> None:
        def action(session: Transaction) -> None:
            store.add_common_event(session, "queue_ended", data)
            store.set_setting(session, _QUEUE, str(last))

        self._ledger.transact(action)
        self._counted = last
