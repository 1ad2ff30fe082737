"""No question that is asked again and again reads a whole table of a million jobs."""

import re
from pathlib import Path

import pytest
from sqlalchemy import event, text

from dna_pipeline.base.times import utcnow
from dna_pipeline.ledger import drops, holds, pauses, queue, requests, store
from dna_pipeline.ledger.gallery_queries import Choice, GalleryQueries
from dna_pipeline.ledger.queries import Queries
from dna_pipeline.ledger.tables import Job

NOW = utcnow()
JOB = Job(id="a" * 32, inbox="in", folder="", stem="cat", seq=1)
ROW = Job(id="a" * 32, batch="b" * 32, publish_name="in/b/cancelled")

MODULES = (queue, drops, holds, pauses, requests, store)
WRITER = {
    "next_runnable": ((), "ix_jobs_runnable"),
    "claim_next": ((), "ix_jobs_runnable"),
    "runnable_at": ((1,), "jobs USING INTEGER PRIMARY KEY"),
    "next_models": ((0, 500), "ix_jobs_runnable (priority=?)"),
    "claim_at": ((1,), "jobs USING INTEGER PRIMARY KEY"),
    "to_publish": ((), "ix_jobs_publish"),
    "promote_due": ((NOW,), "ix_jobs_due"),
    "held_jobs": (("weights_missing", "models"), "ix_jobs_hold"),
    "of_job": (("mesh", "b"), "sqlite_autoindex_settings"),
    "release": (("disk_full",), "ix_jobs_hold"),
    "hold_where": (("pipeline", ["mesh"], "paused", "it failed"), "ix_jobs_runnable"),
    "cancel_requests": ((), "ix_jobs_status"),
    "recover": ((), "ix_jobs_status"),
    "is_original_needed": ((ROW, "source/a.png"), "ix_jobs_batch"),
    "queued_from": (("d",), "ix_jobs_drop_id"),
    "is_open": (("a",), "jobs USING INDEX sqlite_autoindex"),
    "finished_stages": (("a",), "ix_stage_runs_job_id"),
    "claiming_drops": ((), "ix_drops_open"),
    "open_drop_ids": ((), "ix_drops_open"),
    "unneeded_drops": ((), "ix_jobs_drop_id"),
    "recent_drops": (("in", "", ["cat"], NOW), "ix_jobs_name"),
    "request_cancel": (("a",), "jobs USING INDEX sqlite_autoindex"),
}

AWAY = "inbox_unavailable"
HOLDS = {
    "hold_where all": (("status", ["queued"], AWAY, "it is away"), "ix_jobs_runnable"),
    "hold_where below": (("claim", [Path("/in/.dna/a")], AWAY, "it is away"), "ix_jobs_runnable"),
    "hold_where drop": (("drop_id", ["d"], AWAY, "it is away"), "ix_jobs_drop_id"),
    "hold_where job": (("id", ["a"], AWAY, "it is away"), "sqlite_autoindex_jobs"),
    "held_jobs inbox": (("hours", "inbox"), "ix_jobs_hold"),
    "held_jobs all": (("disk_full", "status"), "ix_jobs_hold"),
    "release inbox": (("hours", "inbox", ["in"]), "ix_jobs_hold"),
    "release models": (("weights_missing", "models", ["sd15"]), "ix_jobs_hold"),
    "release below": ((AWAY, "claim", [Path("/in/.dna/a")]), "ix_jobs_hold"),
    "release drop": ((AWAY, "drop_id", ["d"]), "ix_jobs_drop_id"),
    "next_claims": ((500,), "ix_jobs_runnable"),
    "owns_any": ((["d"],), "sqlite_autoindex_drops"),
    "claim_of": (("a",), "sqlite_autoindex_jobs"),
}

VIEWS = {
    "find": (("abc",), {}, "sqlite_autoindex_jobs"),
    "jobs": ((), {"status": "completed"}, "ix_jobs_status "),
    "jobs of an inbox": ((), {"inbox": "in"}, "ix_jobs_inbox"),
    "jobs of both": ((), {"inbox": "in", "status": "failed"}, "ix_jobs_status_inbox"),
    "jobs of a batch": ((), {"batch": "b"}, "ix_jobs_batch"),
    "results": ((Choice(inbox="in"), 60, (NOW, 7)), {}, "ix_jobs_finished"),
    "results of a batch": ((Choice(batch="b"), 60), {}, "ix_jobs_batch"),
    "place_of": (("a",), {}, "sqlite_autoindex_jobs"),
    "inboxes_of_results": ((), {}, "COVERING INDEX ix_jobs_inbox"),
    "events": (("a",), {}, "ix_events_job"),
    "events of all": ((None, 5), {}, "events USING INTEGER PRIMARY KEY"),
    "ended_since": ((5,), {}, "events USING INTEGER PRIMARY KEY"),
    "counts": ((), {}, "COVERING INDEX ix_jobs_status_inbox"),
    "holds": ((), {}, "ix_jobs_hold"),
    "recent": ((), {}, "ix_jobs_finished"),
    "finished_within": ((1,), {}, "ix_jobs_finished"),
    "has_open_jobs": ((), {}, "ix_jobs_publish"),
    "held_roots": (("inbox_unavailable",), {}, "ix_jobs_hold"),
    "stage_runs": ((5, 9), {}, "r USING INTEGER PRIMARY KEY"),
    "runnable": ((), {}, "ix_jobs_runnable"),
    "runnable_sample": ((3,), {}, "ix_jobs_runnable"),
    "work_of": (("a",), {}, "sqlite_autoindex_jobs"),
    "front_of_queue": ((5,), {}, "ix_jobs_runnable"),
    "front_of_queue of the running": ((5,), {}, "ix_jobs_status "),
}

# A whole index is read where all of it is wanted, or only its first entries.
ALLOWED = re.compile(
    r"SCAN \w+ USING (COVERING )?INDEX (ix_jobs_runnable|ix_jobs_publish|ix_drops_open"
    r"|ix_jobs_status_inbox)|SCAN (found|CONSTANT ROW|\(subquery-\d+\))"
)


def plans_of(engine, ask) -> list[str]:
    """SQLite's plans for all that `ask` has it do."""
    seen: list[tuple[str, object]] = []

    def note(_connection, _cursor, statement, parameters, *_rest) -> None:
        seen.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    ask()
    event.remove(engine, "before_cursor_execute", note)
    lines: list[str] = []
    with engine.connect() as connection:
        for statement, parameters in seen:
            if statement.startswith(("SELECT", "UPDATE", "DELETE")):
                rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
                lines += [row[3] for row in rows]
    return lines


def plans_of_view(views: Queries, ask) -> list[str]:
    """The same for what only looks."""
    seen: list[str] = []
    connection = views._connection
    connection.set_trace_callback(seen.append)
    ask()
    connection.set_trace_callback(None)
    plans = [connection.execute(f"EXPLAIN QUERY PLAN {statement}") for statement in seen]
    return [row[3] for plan in plans for row in plan]


def check(lines: list[str], wanted: str) -> None:
    assert any(wanted in f"{line} " for line in lines), lines
    scans = [line for line in lines if line.startswith("SCAN") and not ALLOWED.fullmatch(line)]
    assert scans == []
    assert not any("TEMP B-TREE" in line and "GROUP" not in line for line in lines[:1])


@pytest.mark.parametrize("name", WRITER)
def test_the_daemons_questions(book, name: str) -> None:
    args, wanted = WRITER[name]
    function = next(filter(None, (getattr(m, name, None) for m in MODULES)))
    check(plans_of(book.ledger._engine, lambda: book.do(function, *args)), wanted)


@pytest.mark.parametrize("name", HOLDS)
def test_what_holds_and_releases(book, name: str) -> None:
    args, wanted = HOLDS[name]
    function = getattr(holds, name.split(" ")[0])
    check(plans_of(book.ledger._engine, lambda: book.do(function, *args)), wanted)


@pytest.mark.parametrize("name", VIEWS)
def test_peoples_questions(book, name: str) -> None:
    args, options, wanted = VIEWS[name]
    views = GalleryQueries(book.path)
    ask = getattr(views, name.split(" of ")[0])
    check(plans_of_view(views, lambda: ask(*args, **options)), wanted)
    views.close()


def test_the_newest_of_a_choice_need_no_sorting(book) -> None:
    views = Queries(book.path)
    for options in ({"status": "a"}, {"inbox": "a"}, {"status": "a", "inbox": "b"}, {"batch": "c"}):
        lines = plans_of_view(views, lambda options=options: views.jobs(**options))
        assert not any("TEMP B-TREE" in line for line in lines), (options, lines)
    views.close()


def test_an_index_that_is_gone_is_an_error_and_no_slow_daemon(book) -> None:
    from sqlalchemy.exc import OperationalError

    book.ledger.transact(lambda s: s.execute(text("DROP INDEX ix_jobs_runnable")))
    with pytest.raises(OperationalError, match="no such index"):
        book.claim()
