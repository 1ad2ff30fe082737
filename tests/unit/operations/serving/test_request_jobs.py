"""Jobs of requests: which are open, in which order, and what their progress is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dna_pipeline.base.times import utcnow
from dna_pipeline.config.loader import load_config
from dna_pipeline.config.schema import Config
from dna_pipeline.ledger import drops, queue, store
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.operations.serving import kept_options
from dna_pipeline.operations.serving.readers import Readers
from dna_pipeline.operations.serving.request_jobs import (
    RequestJob,
    cancel,
    current_request,
    open_jobs,
    origin,
)
from dna_pipeline.operations.serving.submissions import Submissions
from tests.ledgers import lay_out

CONFIG = """\
version: 1
models: {matte: {provider: border_key}}
pipelines: {cut: [{remove_background: {}}]}
"""


class Queue:
    """A ledger, and words for its jobs."""

    def __init__(self, config: Config) -> None:
        self.ledger = Ledger(config.ledger_path)
        self.readers = Readers(config)
        self.submissions = Submissions(config)

    def close(self) -> None:
        self.ledger.close()
        self.readers.close()
        self.submissions.close()

    def add(self, meta: Any, **values: Any) -> str:
        drop = {
            "id": store.new_id(), "inbox": "submit", "state": "claiming", "originals": "delete",
            "folder": "", "claim": "/claims/1", "image": "a.png", "sidecar": None, "stat": {},
            "error": None, "created_at": utcnow(),
        }  # fmt: skip
        job: dict[str, Any] = {
            "id": store.new_id(), "drop_id": drop["id"], "batch": None, "inbox": "submit",
            "folder": "", "name": "a.png", "stem": "a", "pipeline": "cut", "priority": 0,
            "status": "queued", "hold": None, "hold_detail": None, "not_before": None,
            "stages": [], "models": "matte", "tags": [], "meta": meta, "error": None,
            "publish": None, "created_at": utcnow(), "finished_at": None, **values,
        }  # fmt: skip

        def commit(session: Any) -> None:
            drops.begin_claims(session, [drop])
            drops.finish_claims(session, [{"id": drop["id"]}], [job])

        self.ledger.transact(commit)
        return job["id"]

    def start(self) -> str:
        job = self.ledger.transact(queue.claim_next)
        assert job is not None
        return job.id

    def open(self) -> list[RequestJob]:
        return open_jobs(self.readers, "api")

    def status(self, job_id: str) -> tuple[str, bool]:
        job = self.ledger.transact(lambda s: queue.find_job(s, job_id))
        return job.status, job.cancel_requested


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Queue]:
    (tmp_path / "pipeline.yaml").write_text(CONFIG)
    config = load_config(tmp_path / "pipeline.yaml", {})
    lay_out(config.ledger_path)
    with closing(Queue(config)) as made:
        yield made


def test_jobs_of_others_are_not_seen(jobs: Queue):
    own = jobs.add(origin("api", "r1", 0, 2))
    jobs.add({})
    jobs.add(origin("other", "r2", 0, 1))
    jobs.add(origin("api", "r3", 0, 1), inbox="in")  # as a sidecar may say
    for odd in ("x", 5, None, {"request": 5}, {}, []):
        jobs.add({"api": odd})
    (only,) = jobs.open()
    assert (only.id, only.request, only.number, only.count) == (own, "r1", 0, 2)
    assert not only.is_running


def test_what_runs_comes_first_then_what_is_next(jobs: Queue):
    first = jobs.add(origin("api", "r1", 0, 2))
    jobs.start()
    late = jobs.add(origin("api", "r1", 1, 2))
    urgent = jobs.add(origin("api", "r2", 0, 1), priority=5)
    assert [job.id for job in jobs.open()] == [first, urgent, late]
    assert [job.id for job in current_request(jobs.open())] == [first, late]
    assert current_request([]) == []


def test_the_newest_progress_counts(jobs: Queue):
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
def test_odd_origins_do_no_harm(jobs: Queue, place: Any, number: int, count: int):
    jobs.add({"api": place})
    (job,) = jobs.open()
    assert (job.number, job.count) == (number, count)


def test_cancelling(jobs: Queue):
    running, waiting, other = (jobs.add(origin("api", "r1", i, 3)) for i in range(3))
    jobs.start()
    assert cancel(jobs.submissions, [running, waiting, "0" * 32]) == [running, waiting]
    assert jobs.status(running) == ("running", True)
    assert jobs.status(waiting)[0] == "cancelled"
    assert jobs.status(other) == ("queued", False)
    assert cancel(jobs.submissions, [waiting]) == []


def test_options_are_kept_until_they_are_removed(jobs: Queue):
    assert kept_options.read(jobs.readers, "api.options") == {}
    kept_options.change(jobs.submissions, "api.options", {"a": 1, "b": "x"})
    kept_options.change(jobs.submissions, "api.options", {"a": None, "c": [2]})
    assert kept_options.read(jobs.readers, "api.options") == {"b": "x", "c": [2]}
    assert kept_options.read(jobs.readers, "other") == {}
    kept_options.change(jobs.submissions, "api.options", {"b": None, "c": None})
    assert jobs.ledger.transact(lambda s: store.get_setting(s, "api.options")) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "5", "null"])
def test_options_that_cannot_be_read_are_none(jobs: Queue, text: str):
    jobs.ledger.transact(lambda s: store.set_setting(s, "api.options", text))
    assert kept_options.read(jobs.readers, "api.options") == {}
    kept_options.change(jobs.submissions, "api.options", {"a": 1})
    assert kept_options.read(jobs.readers, "api.options") == {"a": 1}
