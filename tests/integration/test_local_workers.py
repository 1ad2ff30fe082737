"""Several real workers behind one executor."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from dna_pipeline.execution.local_workers import LocalWorkers
from dna_pipeline.execution.protocol import (
    Event,
    JobDone,
    JobFailed,
    ModelsLoaded,
    Phase,
    Task,
    TaskDone,
    WorkerEnded,
    WorkerReady,
)
from dna_pipeline.execution.worker_child import WorkerSettings
from tests.integration.acting import Bench, ends_order, stage

pytestmark = pytest.mark.slow


class Workers:
    """Workers with these devices, and orders for them."""

    def __init__(self, folder: Path, devices: Sequence[str]) -> None:
        self.log = folder / "loads"
        models = {name: {"provider": "toy", "log": str(self.log)} for name in ("one", "two")}
        settings = WorkerSettings("cpu", "auto", str(folder / "bench/data"), models, 60, 0)
        self.executor = LocalWorkers(
            [replace(settings, device=d, number=n) for n, d in enumerate(devices, 1)]
        )
        self._bench = Bench(folder / "bench")
        self.seen: list[Event] = []

    def submit(self, job: str, deed: str = "copy", **params: object) -> None:
        self.executor.submit(self._bench.order(stage(deed, reuse="off", **params), job=job))

    def until_ended(self, *names: str) -> None:
        """Take events until these jobs and tasks have ended."""
        left = set(names)
        deadline = time.monotonic() + 90
        while left:
            assert time.monotonic() < deadline, self.seen
            self.executor.enforce_timeouts()
            try:
                event = self.executor.events().get(timeout=0.2)
            except queue.Empty:
                continue
            self.seen.append(event)
            left -= {name for name in left if ends_order(event, name)}

    def process_of(self, job: str) -> str:
        """Name of the process that did a job."""
        names = {e.worker for e in self.seen if isinstance(e, Phase) and e.job == job}
        (name,) = names
        return name

    def states(self) -> dict[str, str]:
        return {worker.name: worker.state for worker in self.executor.workers()}


@pytest.fixture
def two(tmp_path: Path, plugin: Path) -> Iterator[Workers]:
    workers = Workers(tmp_path, ["cpu", "cpu"])
    yield workers
    workers.executor.close(5)


def test_two_jobs_run_side_by_side_and_each_ends_once(two: Workers):
    assert two.executor.capacity == 2
    assert two.states() == {"w1": "not_started", "w2": "not_started"}
    two.submit("a", seconds=0.3)
    two.submit("b", seconds=0.3)
    assert two.states() == {"w1": "starting", "w2": "starting"}
    assert not any(worker.is_free for worker in two.executor.workers())
    two.until_ended("a", "b")
    assert {two.process_of("a"), two.process_of("b")} == {"w1-1", "w2-1"}
    assert [e for e in two.seen if isinstance(e, JobDone)] in (
        [JobDone("a"), JobDone("b")], [JobDone("b"), JobDone("a")]
    )  # fmt: skip
    assert two.states() == {"w1": "idle", "w2": "idle"}


def test_a_worker_that_dies_takes_only_its_own_job_along(two: Workers):
    two.submit("dies", "segfault")
    two.submit("lives", seconds=0.5)
    two.until_ended("dies", "lives")
    (ended,) = [event for event in two.seen if isinstance(event, WorkerEnded)]
    assert (ended.jobs, ended.reason) == (("dies",), "crash")
    assert JobDone("lives") in two.seen
    two.submit("again")
    two.until_ended("again")
    assert two.executor.workers()[0].process in ("w1-1", "w1-2")


def test_an_order_goes_where_its_model_is(two: Workers):
    for name in ("one", "two"):
        two.submit(name, model=name)
    two.until_ended("one", "two")
    places = {name: two.process_of(name) for name in ("one", "two")}
    assert set(places.values()) == {"w1-1", "w2-1"}
    for number, name in enumerate(("two", "one", "two", "two", "one")):
        two.submit(f"{name} {number}", model=name)
        two.until_ended(f"{name} {number}")
        assert two.process_of(f"{name} {number}") == places[name]
    assert two.log.read_text() == "loaded\n" * 2
    loaded = {
        (model.name, event.worker)
        for event in two.seen
        if isinstance(event, ModelsLoaded)
        for model in event.models
        if model.state == "loaded"
    }
    assert loaded == {("one", places["one"]), ("two", places["two"])}


def test_a_task_is_done_by_the_worker_that_it_names(two: Workers):
    for worker in ("w2", "w1"):
        two.executor.submit(Task(f"for {worker}", "load_model", "one", worker=worker))
    two.until_ended("for w1", "for w2")
    done = {event.task: event.worker for event in two.seen if isinstance(event, TaskDone)}
    assert done == {"for w1": "w1-1", "for w2": "w2-1"}
    assert [worker.model_names for worker in two.executor.workers()] == [{"one"}, {"one"}]


def test_a_worker_without_its_device_rests_while_the_other_goes_on(tmp_path: Path, plugin: Path):
    workers = Workers(tmp_path, ["cpu", "cuda:99"])
    try:
        workers.submit("a", seconds=0.1)
        workers.submit("b")
        workers.until_ended("a", "b")
        (failed,) = [event for event in workers.seen if isinstance(event, JobFailed)]
        assert (failed.job, failed.failure["code"]) == ("b", "device_unavailable")
        assert failed.hold
        first, second = workers.executor.workers()
        assert (first.is_free, second.is_free, second.state) == (True, False, "lost")
        assert "cuda:99" in second.problem
        for job in ("c", "d"):
            workers.submit(job)
            workers.until_ended(job)
            assert workers.process_of(job) == "w1-1"
    finally:
        workers.executor.close(5)


def test_if_no_worker_has_a_device_one_after_the_other_tries(tmp_path: Path, plugin: Path):
    workers = Workers(tmp_path, ["cuda:98", "cuda:99"])
    try:
        workers.submit("a")
        workers.submit("b")
        workers.until_ended("a", "b")
        order: list[str] = []
        for job in ("c", "d", "e"):
            (free,) = [state for state in workers.executor.workers() if state.is_free]
            order.append(free.name)
            workers.submit(job)
            assert not any(state.is_free for state in workers.executor.workers())
            workers.until_ended(job)
        assert order[0] != order[1] and order[0] == order[2]
        assert not any(isinstance(event, WorkerReady) for event in workers.seen)
    finally:
        workers.executor.close(5)


def test_workers_end_together(two: Workers):
    two.submit("a", "freeze")
    two.submit("b", "freeze")
    while len({e.worker for e in two.seen if isinstance(e, Phase)}) < 2:
        two.seen.append(two.executor.events().get(timeout=60))
    two.executor.close(0.5)
    two.until_ended("a", "b")
    ends = [event for event in two.seen if isinstance(event, WorkerEnded)]
    assert {event.jobs for event in ends} == {("a",), ("b",)}
    assert {event.reason for event in ends} == {"closed"}
    for worker in two.executor._workers.values():
        child = worker._child
        assert child is None or not psutil.pid_exists(child._process.pid)
