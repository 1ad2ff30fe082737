"""Jobs of requests: which are open, in which order, and what their progress is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dna_pipeline.config.loader import load_config
from dna_pipeline.ledger import queue, store
from dna_pipeline.operations.serving import kept_options, request_jobs
from dna_pipeline.operations.serving.request_jobs import (
    cancel,
    current_request,
    origin,
)
from tests.ledgers import lay_out
from tests.request_queue import RequestQueue

CONFIG = """\
version: 1
models: {matte: {provider: border_key}}
pipelines: {cut: [{remove_background: {}}]}
"""


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[RequestQueue]:
    (tmp_path / "pipeline.yaml").write_text(CONFIG)
    config = load_config(tmp_path / "pipeline.yaml", {})
    lay_out(config.ledger_path)
    with closing(RequestQueue(config, "api")) as made:
        yield made


def test_jobs_of_others_are_not_seen(jobs: RequestQueue):
    own = jobs.add(origin("api", "r1", 0, 2))
    jobs.add({})
    jobs.add(origin("other", "r2", 0, 1))
    jobs.add(origin("api", "r3", 0, 1), inbox="in")  # as a sidecar may say
    for odd in ("x", 5, None, {"request": 5}, {}, []):
        jobs.add({"api": odd})
    (only,) = jobs.open()
    assert (only.id, only.request, only.number, only.count) == (own, "r1", 0, 2)
    assert not only.is_running


def test_what_runs_comes_first_then_what_is_next(jobs: RequestQueue):
    first = jobs.add(origin("api", "r1", 0, 2))
    jobs.start()
    late = jobs.add(origin("api", "r1", 1, 2))
    urgent = jobs.add(origin("api", "r2", 0, 1), priority=5)
    assert [job.id for job in jobs.open()] == [first, urgent, late]
    assert [job.id for job in current_request(jobs.open())] == [first, late]
    assert current_request([]) == []


def test_what_waits_for_the_outbox_comes_after_what_runs(jobs: RequestQueue):
    computed, running, waiting = (jobs.add(origin("api", name, 0, 1)) for name in ("a", "b", "c"))
    for _ in range(2):
        jobs.start()
    jobs.ledger.transact(lambda s: queue.finish_computing(s, computed))
    listed = jobs.open()
    assert [job.id for job in listed] == [running, computed, waiting]
    assert [job.is_computed for job in listed] == [False, True, False]
    assert [job.fraction for job in listed] == [0.0, 1.0, 0.0]
    assert [job.id for job in current_request(listed)] == [running]
    assert [job.id for job in current_request(listed[1:])] == [waiting]
    assert [job.id for job in current_request(listed[1:2])] == [computed]


def test_many_that_wait_for_the_outbox_hide_none_that_runs(
    jobs: RequestQueue, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(request_jobs, "FRONT", 2)
    for _ in range(3):
        done = jobs.add(origin("api", "a", 0, 1))
        assert jobs.start() == done
        jobs.ledger.transact(lambda s, job=done: queue.finish_computing(s, job))
    running = jobs.add(origin("api", "b", 0, 1))
    jobs.start()
    assert [job.id for job in current_request(jobs.open())] == [running]


def test_the_newest_progress_counts(jobs: RequestQueue):
    job = jobs.add(origin("api", "r1", 0, 1))
    jobs.start()
    (open_job,) = jobs.open()
    assert (open_job.fraction, open_job.step, open_job.steps) == (0.0, 0, 0)
    for step in (1, 2):
        data = {"stage": "img2img", "step": step, "steps": 4, "fraction": step / 4}
        jobs.ledger.transact(lambda s, data=data: queue.add_progress(s, job, data))
    (open_job,) = jobs.open()
    assert (open_job.fraction, open_job.step, open_job.steps) == (0.5, 2, 4)
    assert open_job.is_running and open_job.started_at is not None


@pytest.mark.parametrize(
    ("place", "number", "count"),
    [
        ({"request": "r"}, 0, 1),
        ({"request": "r", "number": 5, "count": 2}, 5, 6),
        ({"request": "r", "number": -1, "count": "x"}, 0, 1),
        ({"request": "r", "number": True, "count": 3}, 0, 3),
    ],
)
def test_odd_origins_do_no_harm(jobs: RequestQueue, place: Any, number: int, count: int):
    jobs.add({"api": place})
    (job,) = jobs.open()
    assert (job.number, job.count) == (number, count)


def test_cancelling(jobs: RequestQueue):
    running, waiting, other = (jobs.add(origin("api", "r1", i, 3)) for i in range(3))
    jobs.start()
    assert cancel(jobs.submissions, [running, waiting, "0" * 32]) == [running, waiting]
    assert jobs.status(running) == ("running", True)
    assert jobs.status(waiting)[0] == "cancelled"
    assert jobs.status(other) == ("queued", False)
    assert cancel(jobs.submissions, [waiting]) == []


def test_options_are_kept_until_they_are_removed(jobs: RequestQueue):
    assert kept_options.read(jobs.readers, "api.options") == {}
    kept_options.change(jobs.submissions, "api.options", {"a": 1, "b": "x"})
    kept_options.change(jobs.submissions, "api.options", {"a": None, "c": [2]})
    assert kept_options.read(jobs.readers, "api.options") == {"b": "x", "c": [2]}
    assert kept_options.read(jobs.readers, "other") == {}
    kept_options.change(jobs.submissions, "api.options", {"b": None, "c": None})
    assert jobs.ledger.transact(lambda s: store.get_setting(s, "api.options")) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "5", "null"])
def test_options_that_cannot_be_read_are_none(jobs: RequestQueue, text: str):
    jobs.ledger.transact(lambda s: store.set_setting(s, "api.options", text))
    assert kept_options.read(jobs.readers, "api.options") == {}
    kept_options.change(jobs.submissions, "api.options", {"a": 1})
    assert kept_options.read(jobs.readers, "api.options") == {"a": 1}
