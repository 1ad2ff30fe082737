"""Events of the queue: rest, and holds that begin and end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from dna_pipeline.ledger import store
from dna_pipeline.ledger.report_queries import ReportQueries
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.operations.daemon.queue_events import GONE_S, REST_S, QueueEvents
from tests.ledgers import lay_out


class Stand:
    def __init__(self, path: Path) -> None:
        lay_out(path)
        self.ledger = Ledger(path)
        self.queries = ReportQueries(path)
        self.is_quiet = True
        self.now = 0.0
        self.events = self.restart()

    def restart(self) -> QueueEvents:
        self.events = QueueEvents(self.ledger, self.queries, lambda: self.is_quiet)
        return self.events

    def end(self, *kinds: str) -> None:
        for kind in kinds:
            self.ledger.transact(lambda s, k=kind: store.add_event(s, "job", k))
        self.events.ledger_changed()

    def hold(self, code: str | None, status: str = "queued") -> None:
        """Have one job, with that hold."""
        sql = """INSERT OR REPLACE INTO jobs (seq, id, drop_id, inbox, folder, name, stem, pipeline,
            priority, status, hold, hold_detail, stages, models, tags, meta, attempt, crashes,
            interruptions, cancel_requested, created_at) VALUES (1, 'j', 'd', 'in', '', 'a.png',
            'a', 'cut', 0, :status, :hold, 'why', '[]', '', '[]', '{}', 0, 0, 0, 0,
            '2026-11-29T21:00:00.000000Z')"""
        drop = """INSERT OR IGNORE INTO drops (id, inbox, state, originals, folder, claim, stat,
            created_at) VALUES ('d', 'in', 'claimed', 'archive', '', '/c', '{}', '')"""

        def action(session: Any) -> None:
            session.execute(text(drop))
            session.execute(text(sql), {"hold": code, "status": status})

        self.ledger.transact(action)
        self.events.ledger_changed()

    def wait(self, seconds: float) -> list[str]:
        """Let time pass in steps of two seconds; give the new events."""
        before = self.queries.last_event()
        until = self.now + seconds
        while self.now < until:
            self.now += 2
            self.events.step(self.now)
        return [event["kind"] for event in self.queries.events(None, before)]

    def last(self) -> dict[str, Any]:
        return self.queries.events(None)[-1]["data"]


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    stand = Stand(tmp_path / "ledger.db")
    with closing(stand.queries), closing(stand.ledger):
        yield stand


def test_the_queue_comes_to_rest_once(stand: Stand):
    stand.end("completed", "failed", "completed")
    assert stand.wait(2) == []
    assert stand.wait(REST_S + 2) == ["queue_ended"]
    assert stand.last() == {"completed": 2, "failed": 1, "cancelled": 0, "waiting": 0}
    stand.events.ledger_changed()
    assert stand.wait(30) == []


def test_a_queue_that_has_done_nothing_does_not_end(stand: Stand):
    stand.events.ledger_changed()
    assert stand.wait(30) == []


def test_intake_that_works_delays_the_rest(stand: Stand):
    stand.is_quiet = False
    stand.end("completed")
    assert stand.wait(30) == []
    stand.is_quiet = True
    stand.end("completed")
    assert stand.wait(10) == ["queue_ended"]
    assert stand.last()["completed"] == 2


def test_intake_that_gives_up_without_a_commit_lets_the_queue_end(stand: Stand):
    stand.is_quiet = False
    stand.end("completed")
    assert stand.wait(30) == []
    stand.is_quiet = True
    assert stand.wait(10) == ["queue_ended"]
    assert stand.wait(30) == []


def test_a_runnable_job_is_no_rest_and_a_held_one_is(stand: Stand):
    stand.hold(None)
    stand.end("completed")
    assert stand.wait(30) == []
    stand.hold("not_before")
    assert stand.wait(10) == ["queue_ended"]
    assert stand.last()["waiting"] == 1


def test_a_restart_reports_what_the_last_daemon_did_not(stand: Stand):
    stand.end("completed")
    stand.restart()
    assert stand.wait(10) == ["queue_ended"]
    stand.restart()
    assert stand.wait(30) == []


def test_a_hold_begins_and_ends(stand: Stand):
    stand.hold("disk_full")
    assert stand.wait(4) == ["hold_begun"]
    assert stand.last() == {"code": "disk_full", "detail": "why", "jobs": 1}
    stand.events.ledger_changed()
    assert stand.wait(10) == []
    stand.hold(None)
    assert stand.wait(GONE_S - 4) == []
    assert stand.wait(8) == ["hold_ended"]
    assert stand.last()["code"] == "disk_full"


def test_a_hold_that_lasts_a_moment_is_not_reported(stand: Stand):
    stand.hold("disk_full")
    stand.wait(2)
    stand.hold(None)
    assert stand.wait(100) == []


def test_a_hold_that_comes_back_while_it_is_tried_has_not_ended(stand: Stand):
    stand.hold("device_unavailable")
    stand.wait(4)
    for _ in range(3):
        stand.hold(None)
        assert stand.wait(GONE_S / 2) == []
        stand.hold("device_unavailable")
        assert stand.wait(4) == []


@pytest.mark.parametrize("code", ["not_before", "hours", "retry_wait", "paused"])
def test_holds_that_are_meant_so_are_not_reported(stand: Stand, code: str):
    stand.hold(code)
    assert stand.wait(20) == []


def test_a_hold_is_not_reported_again_after_a_restart(stand: Stand):
    stand.hold("weights_missing")
    stand.wait(4)
    stand.restart()
    assert stand.wait(20) == []


def test_a_run_reports_all_at_its_end(stand: Stand):
    stand.end("failed")
    stand.hold("weights_missing")
    stand.events.finish()
    assert [e["kind"] for e in stand.queries.events(None)] == [
        "failed", "hold_begun", "queue_ended",
    ]  # fmt: skip


def test_a_run_that_ends_soon_after_a_look_reports_that_the_queue_is_at_rest(stand: Stand):
    stand.end("completed")
    assert stand.wait(2) == []
    stand.events.finish()
    assert [e["kind"] for e in stand.queries.events(None)] == ["completed", "queue_ended"]
