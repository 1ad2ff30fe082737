"""Events that receivers are told of: ends of batches, pauses; and the receivers' rows."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert, text

from dna_pipeline.base.times import utcnow
from dna_pipeline.ledger import batches, pauses, queue, receivers
from dna_pipeline.ledger.pauses import Pause
from dna_pipeline.ledger.queries import Queries
from dna_pipeline.ledger.receivers import Settings
from dna_pipeline.ledger.report_queries import ReportQueries
from dna_pipeline.ledger.tables import Batch, BatchRow, Event

ID = "ab" * 16


def events(book: Any, *kinds: str) -> list[dict[str, Any]]:
    queries = Queries(book.path)
    try:
        return [event for event in queries.events(None) if event["kind"] in kinds]
    finally:
        queries.close()


def add_batch(book: Any, *rows: dict[str, Any]) -> None:
    batch = {
        "id": ID, "inbox": "night", "folder": "a/b", "name": "shots.csv", "stem": "shots",
        "kind": "table", "state": "open", "originals": "archive", "max_failures": None,
        "paused": None, "rows": len(rows), "wrong": 1, "created_at": utcnow(),
    }  # fmt: skip

    def commit(session: Any) -> None:
        session.execute(insert(Batch).values(batch))
        empty = dict.fromkeys(("job_id", "status", "code", "field", "detail"))
        values = [{**empty, "batch_id": ID, "image": "a.png", **row} for row in rows]
        session.execute(insert(BatchRow), values)

    book.ledger.transact(commit)


def test_the_end_of_a_batch_is_an_event_with_its_numbers(book: Any):
    job = book.add(batch=ID)
    add_batch(book, {"number": 1, "job_id": job}, {"number": 2, "status": "wrong"},
              {"number": 3, "status": "skipped", "job_id": job})  # fmt: skip
    assert not book.do(batches.close, ID)
    book.claim()
    book.do(queue.finish_computing, job)
    book.do(queue.finish_publishing, job)
    assert book.do(batches.close, ID)
    (event,) = events(book, "batch_ended")
    data = event["data"]
    assert data.pop("seconds") >= 0
    assert event["job_id"] == ""
    assert data == {
        "batch": ID, "inbox": "night", "name": "shots.csv", "folder": "night/a/b/shots-abababab",
        "rows": 3, "wrong": 1, "skipped": 1, "completed": 1, "failed": 0, "cancelled": 0,
    }  # fmt: skip
    with closing(ReportQueries(book.ledger.path)) as queries:
        (row,) = queries.events_with_jobs(["batch_ended"], 0, 9)
    assert row["sheet"] == batches.SHEET_DUE


def test_a_pause_begins_and_ends_once(book: Any):
    pause = Pause("status", "queued", "2026-11-29T21:00:00Z")
    for step in (pauses.begin, pauses.begin):
        book.do(step, pause)
    for _ in range(2):
        book.do(pauses.resume)
    kinds = [event["kind"] for event in events(book, "pause_begun", "pause_ended")]
    assert kinds == ["pause_begun", "pause_ended"]


def test_a_resume_ends_all_pauses_or_that_of_one_batch(book: Any):
    add_batch(book, {"number": 1, "status": "wrong"})
    book.do(pauses.begin, Pause("pipeline", "cut", "why one"))
    book.do(pauses.begin, Pause("batch", ID, "why two"))
    book.do(pauses.resume, ID)
    assert [event["data"] for event in events(book, "pause_ended")] == [
        {"scope": "batch", "name": ID, "why": "why two"}
    ]
    book.do(pauses.resume)
    assert [event["data"]["name"] for event in events(book, "pause_ended")] == [ID, "cut"]


def test_a_receiver_that_is_not_configured_any_more_is_forgotten(book: Any):
    one = {"a": Settings("1", ("failed",)), "b": Settings("2", ("failed",))}
    book.do(receivers.configure, one)
    book.do(receivers.configure, {"b": one["b"]})
    queries = Queries(book.path)
    assert [row["name"] for row in queries.receivers()] == ["b"]
    queries.close()


def test_another_choice_of_events_keeps_what_waits(book: Any):
    book.do(receivers.configure, {"a": Settings("1", ("queued",))})
    book.add()
    book.do(receivers.configure, {"a": Settings("1", ("failed", "queued"))})
    queries = Queries(book.path)
    (row,) = queries.receivers()
    queries.close()
    assert (row["cursor"], row["behind"]) == (0, 1)


def test_a_ledger_of_an_older_version_has_no_receivers(book: Any):
    book.ledger.transact(lambda s: s.connection().exec_driver_sql("DROP TABLE receivers"))
    queries = Queries(book.path)
    assert queries.receivers() == []
    queries.close()


def test_a_ledger_of_before_has_no_contact_sheets_that_failed(book: Any):
    add_batch(book, {"number": 1, "status": "wrong"})
    assert book.do(batches.close, ID)
    book.do(batches.end_sheet, ID, "the disk is full")
    with closing(Queries(book.ledger.path)) as queries:
        assert [row["sheet"] for row in queries.failed_sheets()] == ["failed: the disk is full"]

    def go_back(session: Any) -> None:
        session.execute(text("DROP INDEX ix_batches_sheet"))
        session.execute(text("ALTER TABLE batches DROP COLUMN sheet"))

    book.ledger.transact(go_back)
    with closing(Queries(book.ledger.path)) as queries:
        assert queries.failed_sheets() == []


DAY = timedelta(days=1)
OLD, RECENT, FUTURE = -20_000, -1, 400
"""Ages of events, in days from now."""


@pytest.mark.parametrize(
    ("days", "cursor"),
    [
        ((RECENT, OLD, RECENT), 0),
        ((OLD, OLD, RECENT, OLD), 2),
        ((FUTURE, OLD, RECENT), 2),
        ((FUTURE, RECENT), 0),
        ((OLD, OLD), 2),
    ],
)
def test_a_wrong_clock_drops_no_recent_message(book: Any, days: tuple[int, ...], cursor: int):
    book.do(receivers.configure, {"phone": Settings("a", ("queue_ended",))})
    now = utcnow()
    rows = [{"job_id": "", "at": now + d * DAY, "kind": "queue_ended", "data": {}} for d in days]
    book.ledger.transact(lambda s: s.execute(insert(Event), rows))
    dropped = book.do(receivers.drop_old, now - 7 * DAY)
    assert dropped == ({"phone": cursor} if cursor else {})
    assert book.sql("SELECT cursor FROM receivers") == [(cursor,)]
