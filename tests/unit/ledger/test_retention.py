"""Pruning of old events, also with events from a time when the clock was wrong."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert, select

from dna_pipeline.base.times import utcnow
from dna_pipeline.ledger import store
from dna_pipeline.ledger.tables import Event

DAY = timedelta(days=1)
OLD, RECENT, FUTURE = -40, -1, 400
"""Ages of events, in days from now."""


def add(book: Any, *days: int) -> None:
    now = utcnow()
    rows = [{"job_id": "", "at": now + d * DAY, "kind": "queue_ended", "data": {}} for d in days]
    book.ledger.transact(lambda s: s.execute(insert(Event), rows))


def prune(book: Any) -> int:
    """Prune as the hourly round does; the number of calls."""
    after: int | None = 0
    calls = 0
    while after is not None:
        after = book.do(store.prune_events, utcnow() - 30 * DAY, after)
        calls += 1
    return calls


def left(book: Any) -> list[int]:
    return book.ledger.transact(lambda s: list(s.scalars(select(Event.id).order_by(Event.id))))


@pytest.mark.parametrize(
    ("days", "kept"),
    [
        ((FUTURE, OLD, OLD, RECENT), [1, 4]),
        ((RECENT, OLD, RECENT), [1, 3]),
        ((FUTURE, FUTURE, FUTURE, OLD, RECENT), [1, 2, 3, 5]),
        ((OLD, FUTURE, FUTURE, FUTURE, OLD), [2, 3, 4]),
    ],
)
def test_a_wrong_clock_does_not_end_the_pruning(
    book: Any, monkeypatch: pytest.MonkeyPatch, days: tuple[int, ...], kept: list[int]
):
    monkeypatch.setattr(store, "PRUNED_AT_ONCE", 3)
    add(book, *days)
    prune(book)
    assert left(book) == kept


def test_pruning_stops_where_the_recent_events_begin(book: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(store, "PRUNED_AT_ONCE", 3)
    add(book, *[OLD] * 4, *[RECENT] * 30)
    assert prune(book) == 3
    assert left(book) == list(range(5, 35))
