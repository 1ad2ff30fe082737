import re
from datetime import UTC, datetime, timedelta

import pytest

from dna_pipeline.base.errors import EmptyMesh, WorkerCrashed
from dna_pipeline.base.times import format_time, utcnow
from dna_pipeline.ledger import drops, holds, pauses, queue, requests, store
from dna_pipeline.ledger.tables import Drop

FAILURE = EmptyMesh("nothing").failure()
CRASH = WorkerCrashed("segfault").failure()
RUN = {
    "stage_id": "cut", "type": "cut", "provider": None, "model": None, "params": {"a": 1},
    "device": "cpu", "dtype": "float32", "batch_size": 1, "attempt": 1, "seconds": 0.5,
    "warnings": [], "environment": {},
}  # fmt: skip
FILE = {
    "path": "cat.png", "role": "matte", "media_type": "image/png", "bytes": 3, "sha256": "0" * 64,
    "facts": {},
}  # fmt: skip


def test_by_priority_then_by_arrival(book) -> None:
    ids = [book.add(priority=p) for p in (0, 5, 0, 5, -1)]
    assert [book.claim() for _ in range(6)] == [ids[1], ids[3], ids[0], ids[2], ids[4], None]
    job = book.job(ids[1])
    assert (job.status, job.attempt) == ("running", 1)
    assert job.started_at is not None
    assert book.kinds(ids[1]) == ["queued", "started"]


def test_next_runnable_touches_nothing(book) -> None:
    job_id = book.add()
    assert book.do(queue.next_runnable).id == job_id
    assert book.job(job_id).status == "queued"
    assert book.claim() == job_id
    assert book.do(queue.next_runnable) is None


# --- holds ---


def test_a_hold_gives_the_attempt_back(book) -> None:
    job_id = book.add()
    book.claim()
    book.do(holds.hold, job_id, "disk_full", "no space left")
    job = book.job(job_id)
    assert (job.status, job.hold, job.hold_detail, job.attempt) == (
        "queued", "disk_full", "no space left", 0,
    )  # fmt: skip
    assert book.claim() is None
    assert book.do(holds.release, "weights_missing") == 0
    assert book.do(holds.release, "disk_full") == 1
    assert book.claim() == job_id


def test_jobs_of_the_same_models_are_held_alike(book) -> None:
    a, b, other = book.add(models="sd15"), book.add(models="sd15"), book.add(models="key")
    book.do(holds.hold_where, "models", ["sd15"], "weights_missing", "not there")
    assert [book.job(i).hold for i in (a, b, other)] == ["weights_missing"] * 2 + [None]
    assert [j.models for j in book.do(holds.held_jobs, "weights_missing", "models")] == ["sd15"]
    assert book.do(holds.release, "weights_missing", "models", ["key"]) == 0
    assert book.do(holds.release, "weights_missing", "models", ["sd15"]) == 2


def test_what_is_due_is_promoted(book) -> None:
    now = datetime(2026, 5, 1, tzinfo=UTC)
    ids = [
        book.add(hold="not_before", not_before=now + timedelta(hours=hours)) for hours in (-1, 0, 1)
    ]
    assert book.do(holds.promote_due, now) == 2
    assert [book.job(i).hold for i in ids] == [None, None, "not_before"]


def test_a_hold_of_publishing_stays_with_the_ended_job(book) -> None:
    job_id = book.add()
    book.claim()
    book.do(queue.finish_computing, job_id)
    book.do(queue.hold_publish, job_id, "disk_full", "no space")
    assert book.do(holds.release, "disk_full") == 0
    book.do(queue.finish_publishing, job_id)
    assert (book.job(job_id).status, book.job(job_id).hold) == ("completed", None)


# --- ends ---


def test_a_job_to_its_end(book) -> None:
    job_id = book.add()
    book.claim()
    book.do(queue.add_progress, job_id, {"fraction": 0.5})
    book.do(queue.finish_stage, job_id, RUN, [FILE])
    book.do(queue.finish_computing, job_id)
    assert [job.id for job in book.do(queue.to_publish)] == [job_id]
    book.do(queue.plan_publish, job_id, "in/cat", "a" * 64)
    assert [job.id for job in book.do(queue.to_publish)] == [job_id]
    book.do(queue.finish_publishing, job_id)
    book.do(queue.finish_publishing, job_id)
    job = book.job(job_id)
    assert (job.status, job.publish, job.publish_name) == ("completed", "done", "in/cat")
    assert book.do(queue.to_publish) == []
    assert book.kinds(job_id) == ["queued", "started", "completed"]


def test_a_failure_ends_once_and_loses_its_progress(book) -> None:
    job_id = book.add()
    book.claim()
    book.do(queue.add_progress, job_id, {"fraction": 0.5})
    book.do(queue.fail, job_id, FAILURE, "mesh")
    book.do(queue.fail, job_id, CRASH, "other")
    job = book.job(job_id)
    assert (job.status, job.error["code"], job.stage) == ("failed", "empty_mesh", "mesh")
    assert book.kinds(job_id) == ["queued", "started", "failed"]


def test_a_finished_stage_is_kept_and_can_be_done_anew(book) -> None:
    job_id = book.add()
    book.claim()
    book.set(job_id, interruptions=7)
    book.do(queue.finish_stage, job_id, RUN, [FILE])
    book.do(queue.finish_stage, job_id, RUN | {"seconds": 2.0}, [FILE, FILE | {"path": "b"}])
    ((run, files),) = book.do(queue.finished_stages, job_id)
    assert (run.seconds, [file.path for file in files]) == (2.0, ["cat.png", "b"])
    assert book.job(job_id).interruptions == 0


def test_worker_deaths_are_counted(book) -> None:
    job_id = book.add()
    for number in range(3):
        book.do(holds.promote_due, utcnow() + timedelta(seconds=301))
        assert book.claim() == job_id
        book.do(queue.worker_died, job_id, 3, CRASH, "mesh")
        assert book.job(job_id).crashes == number + 1
    job = book.job(job_id)
    assert (job.status, job.attempt, job.error["code"]) == ("failed", 3, "worker_crashed")


def test_what_killed_its_worker_waits_longer_each_time_and_lets_others_go(book) -> None:
    poisonous, other = book.add(priority=5), book.add()
    waits: list[float] = []
    for _ in range(9):
        assert book.claim() == poisonous
        before = utcnow()
        book.do(queue.worker_died, poisonous, 100, CRASH, "mesh")
        job = book.job(poisonous)
        assert (job.status, job.hold) == ("queued", "retry_wait")
        assert "its worker ended" in job.hold_detail
        waits.append(round((job.not_before - before).total_seconds()))
        assert book.do(holds.promote_due, job.not_before - timedelta(seconds=1)) == 0
        assert book.do(queue.next_runnable).id == other
        assert book.do(holds.promote_due, job.not_before) == 1
    assert waits == [2, 4, 8, 16, 32, 64, 128, 256, 300]


def test_a_clock_put_back_keeps_nobody_waiting(book) -> None:
    job_id = book.add()
    book.claim()
    book.do(queue.worker_died, job_id, 3, CRASH, "mesh")
    assert book.do(holds.promote_due, utcnow() - timedelta(days=1)) == 1


def test_an_interrupted_job_goes_on(book) -> None:
    job_id = book.add()
    book.claim()
    assert book.do(queue.recover) == [job_id]
    job = book.job(job_id)
    assert (job.status, job.crashes, job.interruptions) == ("queued", 0, 1)
    assert book.do(queue.recover) == []


def test_interruptions_have_an_end(book) -> None:
    job_id = book.add()
    for _ in range(queue.MAX_INTERRUPTIONS):
        assert book.claim() == job_id
        book.do(queue.recover)
    assert book.claim() is None
    assert book.job(job_id).error["code"] == "worker_crashed"


def test_what_is_being_published_is_not_run_again(book) -> None:
    job_id = book.add()
    book.claim()
    book.do(queue.finish_computing, job_id)
    assert book.do(queue.recover) == []
    assert book.job(job_id).status == "running"


def test_a_stop_costs_nothing(book) -> None:
    job_id = book.add()
    book.claim()
    book.do(queue.requeue_interrupted, job_id)
    assert (book.job(job_id).status, book.job(job_id).attempt) == ("queued", 0)


# --- cancel, retry, replace ---


def test_cancel(book) -> None:
    queued, running, done = book.add(priority=-1), book.add(), book.add(priority=1)
    book.claim()
    book.do(queue.finish_computing, done)
    assert book.claim() == running
    assert book.do(requests.request_cancel, "nobody") is None
    assert book.do(requests.request_cancel, queued) == "queued"
    assert book.job(queued).status == "cancelled"
    assert book.kinds(queued) == ["queued", "cancelled"]
    assert book.do(requests.request_cancel, running) == "running"
    assert book.do(requests.cancel_requests) == [running]
    assert book.do(requests.request_cancel, done) == "completed", "it has run to its end"
    assert book.do(requests.request_cancel, queued) == "cancelled"


@pytest.mark.parametrize(
    "end", ["hold", "requeue", "requeue_interrupted", "recover", "worker_died"]
)
def test_the_wish_to_cancel_outlives_the_run(book, end: str) -> None:
    job_id = book.add()
    book.claim()
    book.do(requests.request_cancel, job_id)
    args = {
        "hold": (job_id, "disk_full", "no space"), "recover": (),
        "requeue": (job_id, "its files are gone"),
        "worker_died": (job_id, 3, CRASH, None),
    }.get(end, (job_id,))  # fmt: skip
    book.do(getattr(holds if end == "hold" else queue, end), *args)
    job = book.job(job_id)
    assert (job.status, job.hold, job.publish) == ("cancelled", None, "pending")


@pytest.mark.parametrize(
    ("end", "args", "cause"),
    [
        ("hold", ("disk_full", "no space"), ("disk_full", "no space")),
        ("requeue", ("its files are gone",), (None, "its files are gone")),
        ("requeue_interrupted", (), (None, "the daemon was stopped")),
        ("recover", None, (None, "the daemon or the machine ended")),
        ("worker_died", (3, CRASH, None), (CRASH.code, CRASH.detail)),
    ],
)
def test_the_events_say_why_an_attempt_ended(book, end: str, args, cause) -> None:
    job_id = book.add()
    book.claim()
    book.do(
        getattr(holds if end == "hold" else queue, end), *(() if args is None else (job_id, *args))
    )
    assert book.kinds(job_id) == ["queued", "started", "queued"]
    (last,) = book.data(job_id, "queued")[1:]
    assert (last["code"], last["ended"]) == cause


def test_a_job_that_was_held_before_it_ran_has_no_attempt_that_ended(book) -> None:
    job_id = book.add()
    book.do(holds.hold, job_id, "disk_full", "no space")
    assert book.kinds(job_id) == ["queued"]


def test_revive(book) -> None:
    job_id = book.add()
    book.claim()
    book.do(queue.finish_stage, job_id, RUN, [FILE])
    book.do(queue.fail, job_id, FAILURE)
    assert not book.do(requests.revive, job_id, {}), "its folder is not published yet"
    assert len(book.do(queue.finished_stages, job_id)) == 1
    book.do(queue.plan_publish, job_id, "in/failed/cat", "a" * 64)
    book.do(queue.finish_publishing, job_id)
    assert book.do(requests.revive, job_id, {"priority": 4})
    job = book.job(job_id)
    assert (job.status, job.priority, job.error, job.publish) == ("queued", 4, None, None)
    assert (job.publish_name, job.manifest_sha256) == ("in/failed/cat", None)
    assert book.do(queue.finished_stages, job_id) == []
    assert not book.do(requests.revive, job_id, {"priority": 9})
    assert book.job(job_id).priority == 4


def test_only_a_queued_job_is_replaced(book) -> None:
    first, second = book.add(), book.add()
    book.claim()
    book.do(queue.finish_stage, first, RUN, [FILE])
    assert not book.do(requests.replace_queued, first, {"priority": 9})
    assert len(book.do(queue.finished_stages, first)) == 1
    assert book.do(requests.replace_queued, second, {"priority": 9})
    assert (book.job(first).priority, book.job(second).priority) == (0, 9)
    assert book.kinds(second) == ["queued", "queued"]


def test_pause(book) -> None:
    assert not book.do(pauses.of_job, "mesh", None)
    book.do(store.set_setting, "paused", "2026")
    book.do(store.set_setting, "paused", "2027")
    assert book.do(pauses.of_job, "mesh", None)
    book.do(store.set_setting, "paused", None)
    assert not book.do(pauses.of_job, "mesh", None)


# --- drops ---


def test_a_drop_is_needed_until_all_its_jobs_are_published(book) -> None:
    job_id = book.add()
    drop_id = book.job(job_id).drop_id
    assert book.do(drops.unneeded_drops) == []
    book.claim()
    book.do(queue.fail, job_id, FAILURE)
    assert book.do(drops.unneeded_drops, drop_id) == []
    book.do(queue.finish_publishing, job_id)
    assert [drop.id for drop in book.do(drops.unneeded_drops)] == [drop_id]
    book.do(drops.set_drop_state, drop_id, "gone")
    assert book.do(drops.unneeded_drops) == []
    assert book.do(drops.drop_state, drop_id) == "gone"
    assert book.do(drops.drop_state, "nobody") is None


def test_only_what_is_being_claimed_is_forgotten(book) -> None:
    drop_id = book.job(book.add()).drop_id
    book.do(drops.forget_drops, [drop_id])
    assert book.do(drops.drop_state, drop_id) == "claimed"
    book.do(drops.set_drop_state, drop_id, "claiming")
    assert [drop.id for drop in book.do(drops.claiming_drops)] == [drop_id]


# --- what SQL sees ---


def test_null_is_null_and_paths_are_bytes(book) -> None:
    drop_id = book.job(book.add()).drop_id
    name = "caf\udce9.png"
    book.ledger.transact(lambda s: setattr(s.get(Drop, drop_id), "image", name))
    assert book.ledger.transact(lambda s: s.get(Drop, drop_id).image) == name
    assert book.sql("SELECT error IS NULL, sidecar IS NULL FROM drops") == [(1, 1)]
    assert book.sql("SELECT error IS NULL FROM jobs") == [(1,)]
    assert book.sql("SELECT image FROM drops") == [(b"caf\xe9.png",)]


def test_every_time_is_written_alike(book) -> None:
    done, failed = book.add(not_before=utcnow()), book.add(priority=-1)
    book.claim()
    book.do(queue.finish_computing, done)
    book.do(queue.finish_publishing, done)
    book.claim()
    book.do(queue.fail, failed, FAILURE)
    times = book.sql("SELECT created_at, started_at, finished_at FROM jobs")
    times += book.sql("SELECT at FROM events") + book.sql("SELECT created_at FROM drops")
    times += book.sql("SELECT not_before FROM jobs WHERE not_before IS NOT NULL")
    for text in (text for row in times for text in row):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", text), text


def test_times_are_text_whose_order_is_time() -> None:
    zone = datetime(2026, 12, 1, 22, tzinfo=UTC).astimezone()
    assert format_time(zone) == "2026-12-01T22:00:00.000000Z"
    times = [datetime(year, 1, 1, tzinfo=UTC) for year in (1, 999, 2026, 9999)]
    assert sorted(map(format_time, times)) == list(map(format_time, times))
    assert all(datetime.fromisoformat(format_time(time)) == time for time in (*times, utcnow()))
