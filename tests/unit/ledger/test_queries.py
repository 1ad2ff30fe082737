from datetime import UTC, datetime, timedelta

import pytest

from dna_pipeline.base.errors import ConfigError, EmptyMesh, LedgerUnreadable
from dna_pipeline.base.times import format_time, utcnow
from dna_pipeline.ledger import holds, queue, requests, store
from dna_pipeline.ledger.queries import Queries
from dna_pipeline.ledger.sqlite import sqlite_module


@pytest.fixture
def views(book):
    views = Queries(book.path)
    yield views
    views.close()


def test_a_ledger_whose_tables_are_about_to_be_made(tmp_path) -> None:
    path = tmp_path / "ledger.db"
    path.touch()
    views = Queries(path)
    with pytest.raises(ConfigError, match="still empty; the daemon that makes it needs a moment"):
        views.jobs()
    with pytest.raises(ConfigError, match="still empty"):
        views.counts()
    views.close()


def test_a_job_that_a_rebuilt_ledger_lacks_is_named(views, book) -> None:
    for ask in (views.job, views.standing):
        with pytest.raises(ConfigError, match="job abc is not in the ledger any more"):
            ask("abc")


def publish(book, job_id: str) -> None:
    book.do(queue.plan_publish, job_id, f"in/{job_id}", "a" * 64)
    book.do(queue.finish_publishing, job_id)


def test_what_the_daemon_asks_at_each_change(book, views) -> None:
    job = book.add()
    assert book.claim() == job
    assert not views.has_cancel_requests()
    assert not views.has_unpublished_jobs()
    book.do(requests.request_cancel, job)
    assert views.has_cancel_requests()
    book.do(queue.finish_computing, job)
    assert views.has_unpublished_jobs()
    book.do(queue.hold_publish, job, "inbox_unavailable", "the share is gone")
    assert not views.has_unpublished_jobs()
    book.do(queue.hold_publish, job, "disk_full", "no space")
    assert views.has_unpublished_jobs()
    publish(book, job)
    assert not views.has_unpublished_jobs()


def test_find_by_any_unique_beginning(book, views) -> None:
    book.add(id="abc1" + "0" * 28)
    book.add(id="abd1" + "0" * 28)
    assert views.find("ABC") == "abc1" + "0" * 28
    assert views.find("abd1" + "0" * 28) == "abd1" + "0" * 28
    assert [views.find(prefix) for prefix in ("", "f", "zz", "%", "abcd")] == [None] * 5
    with pytest.raises(ConfigError, match="several jobs begin with 'ab'"):
        views.find("ab")


def test_find_by_the_folder(book, views) -> None:
    whole = "abc12345" + "0" * 24
    book.add(id=whole)
    for folder in ("chair-abc12345", "photos/failed/a-b-ABC12345/"):
        assert views.find(folder) == whole
    for other in ("chair-abc1234", "chair-a", "chair-", "-", "chair-abc12346"):
        assert views.find(other) is None


def test_jobs_newest_first_and_filtered(book, views) -> None:
    a = book.add(inbox="x", batch="b1")
    b = book.add(inbox="y")
    c = book.add(inbox="x")
    book.claim()
    assert [row["id"] for row in views.jobs()] == [c, b, a]
    assert [row["id"] for row in views.jobs(limit=1)] == [c]
    assert [row["id"] for row in views.jobs(inbox="x", status="queued")] == [c]
    assert [row["id"] for row in views.jobs(status="running")] == [a]
    assert [row["id"] for row in views.jobs(batch="b1")] == [a]


def test_counts_holds_and_pause(book, views) -> None:
    first = book.add()
    book.add(inbox="other")
    book.add(hold="not_before", hold_detail="starts at 5")
    book.add(hold="not_before", hold_detail="starts at 5")
    assert sorted(views.counts()) == [("queued", "in", 3), ("queued", "other", 1)]
    book.do(holds.hold, first, "disk_full", "no space")
    assert views.holds() == [
        {"code": "not_before", "detail": "starts at 5", "jobs": 2},
        {"code": "disk_full", "detail": "no space", "jobs": 1},
    ]
    noon = datetime(2026, 5, 4, 12)
    book.do(store.set_setting, "paused", format_time(noon.astimezone()))
    assert views.holds()[0] == {
        "code": "paused", "jobs": None,
        "detail": "paused since 2026-05-04 12:00:00; `dna-pipeline resume` frees it",
    }  # fmt: skip


def test_recent_and_the_rate(book, views) -> None:
    done, failed, pending = book.add(), book.add(), book.add()
    for job_id in (done, failed, pending):
        assert book.claim() == job_id
    book.do(queue.finish_computing, done)
    book.do(queue.fail, failed, EmptyMesh("x").failure())
    book.do(queue.fail, pending, EmptyMesh("x").failure())
    publish(book, done)
    publish(book, failed)
    assert [row["id"] for row in views.recent()] == [failed, done]
    assert views.finished_within(1) == 1
    book.set(failed, finished_at=utcnow() - timedelta(hours=2))
    assert [row["id"] for row in views.recent()] == [done, failed]
    book.set(done, finished_at=utcnow() - timedelta(hours=3))
    assert views.finished_within(1) == 0


def test_has_open_jobs(book, views) -> None:
    assert not views.has_open_jobs()
    job_id = book.add(hold="not_before")
    assert not views.has_open_jobs()
    book.do(holds.release, "not_before")
    assert views.has_open_jobs()
    book.claim()
    assert views.has_open_jobs()
    book.do(queue.fail, job_id, EmptyMesh("x").failure())
    assert views.has_open_jobs(), "its folder is still to be published"
    book.do(queue.hold_publish, job_id, "disk_full", "no space")
    assert not views.has_open_jobs()
    publish(book, job_id)
    assert not views.has_open_jobs()


def test_all_about_one_job(book, views) -> None:
    job_id = book.add()
    facts = views.job(job_id)
    assert (facts["id"], facts["drop"]["image"], facts["stage_runs"]) == (job_id, "cat.png", [])


def test_events_after_a_number(book, views) -> None:
    first, second = book.add(), book.add()
    last = views.last_event()
    book.claim()
    book.do(queue.fail, first, EmptyMesh("x").failure())
    assert [e["kind"] for e in views.events(None)] == ["queued", "queued", "started", "failed"]
    assert [e["kind"] for e in views.events(first, last)] == ["started", "failed"]
    assert views.events(second, last) == []
    assert [row["id"] for row in views.ended_since(last)] == [first]
    assert views.ended_since(views.last_event()) == []
    assert views.events(None)[0]["at"].tzinfo is not None


def test_the_reader_cannot_write(views) -> None:
    with pytest.raises(sqlite_module().OperationalError, match="readonly"):
        views._connection.execute("DELETE FROM jobs")


def test_a_ledger_that_cannot_be_read_is_said_so(tmp_path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"no database at all, " * 100)
    with pytest.raises(ConfigError, match=r"damaged \(file is not a database\)"):
        Queries(tmp_path / "ledger.db").jobs()


def test_a_ledger_that_cannot_be_read_now_is_told_from_a_damaged_one(tmp_path) -> None:
    with pytest.raises(LedgerUnreadable, match="cannot be read: unable to open"):
        Queries(tmp_path / "none.db")


def test_the_data_version_moves_with_every_commit_and_only_then(book, views) -> None:
    before = views.data_version()
    assert views.data_version() == before
    book.add()
    after = views.data_version()
    assert after != before
    assert views.data_version() == after


def test_times_come_back_as_they_went(book, views) -> None:
    when = datetime(2099, 1, 2, 3, 4, 5, 678901, UTC)
    job_id = book.add(not_before=when)
    assert views.job(job_id)["not_before"] == when


def test_the_inboxes_that_were_watched(book, views) -> None:
    for name in ("watched:in", "watched:a: b", "paused:cut", "watcher"):
        book.do(store.set_setting, name, "x")
    assert views.watched_inboxes() == {"in", "a: b"}
