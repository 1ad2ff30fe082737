"""A real worker that has several jobs at once."""

import queue
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from dna_pipeline.execution import worker_child
from dna_pipeline.execution.protocol import (
    Event,
    JobDone,
    JobFailed,
    Phase,
    StageDone,
    Task,
    WorkerEnded,
    WorkerReady,
)
from tests.integration.acting import Bench, ends_order, stage

pytestmark = pytest.mark.slow

WITHIN_S = 60.0


@pytest.fixture
def several(bench_of: Callable[..., Bench]) -> Bench:
    """A bench whose worker has its device and takes three orders at once."""
    bench = bench_of(most_orders=3, keeps_results=False)
    bench.run("copy", job="warm")
    return bench


def submit(bench: Bench, deed: str, job: str, priority: int = 0, **params: object) -> None:
    order = bench.order(stage(deed, **params), job=job)
    bench.executor.submit(replace(order, priority=priority))


def gather(bench: Bench, *jobs: str) -> list[Event]:
    """All events until each of these jobs has ended."""
    seen: list[Event] = []
    deadline = time.monotonic() + WITHIN_S
    while not all(any(ends_order(event, job) for event in seen) for job in jobs):
        assert time.monotonic() < deadline, seen
        bench.executor.enforce_timeouts()
        try:
            seen.append(bench.executor.events().get(timeout=0.2))
        except queue.Empty:
            continue
    return seen


def until(bench: Bench, is_it: Callable[[Event], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not is_it(bench.executor.events().get(timeout=WITHIN_S)):
        assert time.monotonic() < deadline


def is_running(job: str) -> Callable[[Event], bool]:
    return lambda e: isinstance(e, Phase) and (e.job, e.phase) == (job, "running")


def test_a_new_worker_gets_one_order_until_it_has_its_device(bench_of: Callable[..., Bench]):
    bench = bench_of(most_orders=3, keeps_results=False)
    assert bench.executor.capacity == 3
    submit(bench, "copy", "a")
    assert not bench.executor.state().is_free
    until(bench, lambda event: isinstance(event, WorkerReady))
    gather(bench, "a")
    assert bench.executor.state().is_free


def test_jobs_take_turns_and_the_one_of_higher_priority_is_next(several: Bench):
    submit(several, "copy", "a", seconds=0.3)
    until(several, is_running("a"))
    submit(several, "copy", "b")
    submit(several, "copy", "c", priority=5)
    assert (several.executor.state().orders, several.executor.state().is_free) == (3, False)
    events = gather(several, "a", "b", "c")
    running = [e.job for e in events if isinstance(e, Phase) and e.phase == "running"]
    assert running == ["c", "b"]
    waiting = {e.job: e.limit_s for e in events if isinstance(e, Phase) and e.phase == "waiting"}
    assert waiting == {"b": None, "c": None}
    seconds = {e.job: e.seconds for e in events if isinstance(e, StageDone)}
    assert seconds["a"] >= 0.9
    assert seconds["b"] < 0.5  # the wait is no part of it


def test_a_job_that_waits_is_cancelled_at_once(several: Bench):
    submit(several, "copy", "a", seconds=0.5)
    until(several, is_running("a"))
    submit(several, "copy", "b")
    until(several, lambda e: isinstance(e, Phase) and (e.job, e.phase) == ("b", "waiting"))
    several.executor.cancel("b")
    events = gather(several, "b")
    assert events[-1].failure["code"] == "cancelled"  # type: ignore[union-attr]
    assert not any(ends_order(event, "a") for event in events)
    assert isinstance(gather(several, "a")[-1], JobDone)


def test_all_jobs_end_with_their_worker_and_none_is_named_as_the_cause(several: Bench):
    submit(several, "copy", "a", seconds=0.3)
    until(several, is_running("a"))
    submit(several, "segfault", "b")
    submit(several, "copy", "c")
    (end,) = [e for e in gather(several, "a", "b", "c") if isinstance(e, WorkerEnded)]
    assert {"b", "c"} <= set(end.jobs)
    assert (end.reason, end.cause) == ("crash", None)
    assert f"while it had {len(end.jobs)} orders" in end.detail
    submit(several, "copy", "again")
    assert isinstance(gather(several, "again")[-1], JobDone)


def test_a_task_beside_a_job_may_be_what_ended_the_worker(several: Bench):
    submit(several, "freeze", "a")
    until(several, is_running("a"))
    several.executor.submit(Task("t", "self_test"))
    assert several.executor._child is not None
    several.executor._child._process.kill()
    (end,) = [e for e in gather(several, "a", "t") if isinstance(e, WorkerEnded)]
    assert (end.jobs, end.reason, end.cause, end.shared) == (("a",), "crash", None, True)
    submit(several, "segfault", "b")
    (end,) = [e for e in gather(several, "b") if isinstance(e, WorkerEnded)]
    assert (end.jobs, end.shared) == (("b",), False)


def test_a_job_over_its_limit_is_named_as_the_cause(bench_of: Callable[..., Bench]):
    bench = bench_of(most_orders=3, keeps_results=False, stage_timeout_s=2.0)
    bench.run("copy", job="warm")
    submit(bench, "freeze", "a")
    until(bench, is_running("a"))
    submit(bench, "copy", "b")
    (end,) = [e for e in gather(bench, "a", "b") if isinstance(e, WorkerEnded)]
    assert (set(end.jobs), end.reason, end.cause) == ({"a", "b"}, "timeout", "a")
    assert "while running in stage act" in end.detail


def test_a_fault_of_the_device_ends_the_others_with_their_worker(several: Bench):
    submit(several, "copy", "a", seconds=0.3)
    until(several, is_running("a"))
    submit(several, "burn", "b")
    submit(several, "copy", "c", steps=1, seconds=0.3)
    events = gather(several, "a", "b", "c")
    (failed,) = [e for e in events if isinstance(e, JobFailed)]
    assert (failed.job, failed.poisoned) == ("b", True)
    (end,) = [e for e in events if isinstance(e, WorkerEnded)]
    assert (end.reason, end.cause) == ("poisoned", "b")
    assert set(end.jobs) <= {"c"}


def test_an_order_alone_keeps_others_out(several: Bench):
    order = several.order(stage("copy", seconds=0.2), job="a")
    several.executor.submit(replace(order, alone=True))
    assert not several.executor.state().is_free
    gather(several, "a")
    assert several.executor.state().is_free


def test_a_forced_cancel_names_its_job(several: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(worker_child, "CANCEL_GRACE_S", 0.3)
    submit(several, "freeze", "a")
    until(several, is_running("a"))
    submit(several, "copy", "b")
    several.executor.cancel("a")
    (end,) = [e for e in gather(several, "a", "b") if isinstance(e, WorkerEnded)]
    assert (set(end.jobs), end.reason, end.cause) == ({"a", "b"}, "cancel", "a")


def test_a_task_comes_before_jobs_that_wait(several: Bench):
    submit(several, "copy", "a", seconds=0.3)
    until(several, is_running("a"))
    submit(several, "copy", "b")
    several.executor.submit(Task("t", "self_test"))
    events = gather(several, "a", "b", "t")
    order = [e.kind for e in events if ends_order(e, "t") or is_running("b")(e)]
    assert order == ["task_done", "phase"]


def test_the_last_order_s_models_are_those_that_the_worker_will_have(several: Bench):
    submit(several, "copy", "a", seconds=0.3)
    model_order = several.order(stage("copy"), job="b")
    needing = replace(
        model_order,
        stages=tuple(replace(s, params=s.params | {"model": "m"}) for s in model_order.stages),
    )
    several.executor.submit(needing)
    assert several.executor.state().model_names == {"m"}
    gather(several, "a", "b")
    assert several.executor.state().model_names == frozenset()
