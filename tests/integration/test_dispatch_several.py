"""Jobs that are together in a worker, as the dispatcher and the ledger see their ends."""

import queue
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pytest

from dna_pipeline.execution import running_job
from dna_pipeline.execution.dispatcher import Dispatcher
from dna_pipeline.execution.local_workers import Workers
from dna_pipeline.execution.protocol import (
    Event,
    JobDone,
    JobFailed,
    Order,
    Phase,
    Progress,
    Task,
    WorkerEnded,
)
from dna_pipeline.execution.worker_child import models_of
from dna_pipeline.execution.worker_state import WorkerState
from tests.played_workers import PlayedWorker, free_worker

WORKER = "local-1"


class RoomyWorker:
    """Plays one worker that takes three orders at once."""

    capacity = 3

    def __init__(self) -> None:
        self.inside: dict[str, Order] = {}
        self.given: list[Order] = []
        self.is_ending = False
        self.reports: queue.SimpleQueue[Event] = queue.SimpleQueue()

    def submit(self, order: Order | Task, among: Collection[str] | None = None) -> None:
        assert isinstance(order, Order)
        assert not self.is_ending
        assert not any(other.alone for other in self.inside.values())
        assert not (order.alone and self.inside)
        self.inside[order.job] = order
        self.given.append(order)

    def workers(self) -> tuple[WorkerState, ...]:
        last = list(self.inside.values())[-1:]
        return (
            replace(
                free_worker(process=WORKER),
                is_free=self._has_room(),
                orders=len(self.inside),
                last_needs=models_of(last[0]) if last else frozenset(),
            ),
        )

    def _has_room(self) -> bool:
        is_alone = any(order.alone for order in self.inside.values())
        return len(self.inside) < 3 and not is_alone and not self.is_ending

    def report(self, event: Event) -> None:
        if isinstance(event, JobDone | JobFailed):
            del self.inside[event.job]
        self.reports.put(event)

    def end(self, reason: str, cause: str | None = None, tasks: int = 0) -> None:
        """The worker ends with all its jobs, and so many tasks."""
        jobs, self.inside = tuple(self.inside), {}
        shared = tasks + len(jobs) > 1
        self.reports.put(WorkerEnded(WORKER, jobs, reason, "the worker ended", cause, shared))

    def events(self) -> queue.SimpleQueue[Event]:
        return self.reports


class Played:
    """The dispatcher over four jobs of a ledger, with that worker."""

    def __init__(self, site: Any) -> None:
        for name in ("a.png", "b.png", "c.png", "d.png"):
            site.put(name)
        site.settle()
        self.site = site
        self.worker = RoomyWorker()
        self.dispatcher = Dispatcher(site.config, site.ledger, self.worker)  # type: ignore[arg-type]
        self.go()

    def go(self) -> None:
        """Do all that there is to do; each job that begins has soon had the device."""
        self.dispatcher.listen()
        self.dispatcher.scheduler.review(keep_trying=True)
        known = -1
        while len(self.inside) != known:
            known = len(self.inside)
            self.dispatcher.dispatch()
            for job in self.inside[known:]:
                self.worker.report(Phase(job, "s", "writing", 60, WORKER))
            self.dispatcher.listen()

    @property
    def inside(self) -> list[str]:
        return list(self.worker.inside)

    def job(self, job: str) -> Any:
        return next(row for row in self.site.jobs() if row.id == job)


@pytest.fixture
def played(site: Any) -> Played:
    return Played(site)


def test_each_job_is_committed_before_it_is_given_away(played: Played):
    assert len(played.inside) == 3
    statuses = {job.id: (job.status, job.attempt) for job in played.site.jobs()}
    assert {statuses[job] for job in played.inside} == {("running", 1)}
    assert sorted(statuses.values()).count(("queued", 0)) == 1


def test_a_job_whose_worker_ends_while_it_is_claimed_is_given_away_later_and_once(
    played: Played, monkeypatch: pytest.MonkeyPatch
):
    first, second, _ = played.inside
    claim = played.dispatcher.scheduler.claim

    def slow_claim(*args: Any) -> Any:
        job = claim(*args)
        played.worker.is_ending = True
        return job

    monkeypatch.setattr(played.dispatcher.scheduler, "claim", slow_claim)
    played.worker.report(JobDone(second))
    played.go()
    given = [order.job for order in played.worker.given]
    assert len(given) == 3
    assert not played.dispatcher.is_idle
    monkeypatch.undo()
    played.worker.is_ending = False
    played.worker.end("poisoned", cause=first)
    played.go()
    (fourth,) = [job.id for job in played.site.jobs() if job.id not in given]
    assert [order.job for order in played.worker.given].count(fourth) == 1
    assert (played.job(fourth).status, played.job(fourth).attempt) == ("running", 1)


def test_a_job_goes_to_the_worker_that_has_time_for_it(site: Any):
    for name in ("a.png", "b.png", "c.png"):
        site.put(name)
    site.settle()
    reports: queue.SimpleQueue[Event] = queue.SimpleQueue()
    workers = {name: PlayedWorker(free_worker(name)) for name in ("w1", "w2")}
    dispatcher = Dispatcher(site.config, site.ledger, Workers(workers, reports))
    dispatcher.dispatch()
    first, second = dispatcher.running
    reports.put(Phase(first, "s", "running", 600, "w1-1"))
    reports.put(Phase(second, "s", "writing", 60, "w2-1"))
    dispatcher.listen()
    dispatcher.dispatch()
    assert [len(worker.given) for worker in workers.values()] == [1, 2]


def test_no_job_is_charged_when_any_may_be_the_cause_and_each_runs_alone_next(played: Played):
    first, second, third = played.inside
    played.worker.end("crash")
    played.go()
    for job in (first, second, third):
        assert (played.job(job).crashes, played.job(job).hold) == (0, None)
    assert played.inside == [first]
    assert played.worker.given[-1].alone
    played.go()
    assert played.inside == [first], "nothing joins it"
    played.worker.report(JobDone(first))
    played.go()
    assert played.inside == [second]
    assert played.job(second).attempt == 1, "the attempt before was none"


def test_the_job_that_ends_its_worker_alone_is_charged_and_frees_the_others(played: Played):
    first, second, third = played.inside
    played.worker.end("crash")
    played.go()
    assert played.inside == [first]
    played.worker.end("crash")
    played.go()
    assert (played.job(first).crashes, played.job(first).hold) == (1, "retry_wait")
    assert len(played.inside) == 3, "the others are together again"
    assert {second, third} <= set(played.inside)
    assert not any(order.alone for order in played.worker.inside.values())


def test_a_job_beside_a_task_is_not_charged_until_it_ends_its_worker_alone(played: Played):
    first, *others = played.inside
    for job in others:
        played.worker.report(JobDone(job))
    played.dispatcher.listen()
    played.worker.end("crash", tasks=1)
    played.go()
    assert (played.job(first).crashes, played.job(first).hold) == (0, None)
    assert played.inside == [first]
    assert played.worker.given[-1].alone
    played.worker.end("crash")
    played.go()
    assert (played.job(first).crashes, played.job(first).hold) == (1, "retry_wait")


def test_a_suspect_waits_until_the_worker_has_no_other_job(played: Played):
    first, second, third = played.inside
    played.worker.report(JobDone(second))
    played.worker.report(JobDone(third))
    played.go()  # the fourth job joins the first
    fourth = played.inside[-1]
    assert played.inside == [first, fourth]
    played.worker.end("crash")
    played.go()
    assert played.inside == [first]
    played.worker.report(JobDone(first))
    played.go()
    assert played.inside == [fourth]
    assert played.worker.given[-1].alone
    played.worker.report(JobDone(fourth))
    played.dispatcher.listen()
    assert not played.dispatcher.running


@pytest.mark.parametrize("reason", ["timeout", "cancel"])
def test_a_cause_that_is_known_is_charged_alone(played: Played, reason: str):
    first, second, third = played.inside
    played.worker.end(reason, cause=second)
    played.go()
    if reason == "cancel":
        assert played.job(second).status == "cancelled"
    else:
        assert played.job(second).crashes == 1
    for job in (first, third):
        assert played.job(job).crashes == 0
        assert job in played.inside
    assert not any(order.alone for order in played.worker.inside.values())


def test_a_fault_of_the_device_costs_only_the_job_that_met_it(played: Played):
    first, second, third = played.inside
    failure = {
        "code": "stage_failed", "message": "", "detail": "CUDA error", "hint": "",
        "retryable": False,
    }  # fmt: skip
    played.worker.report(JobFailed(second, failure, "s", poisoned=True, worker=WORKER))
    played.worker.end("poisoned", cause=second)
    played.go()
    assert played.job(second).crashes == 1
    assert [played.job(job).crashes for job in (first, third)] == [0, 0]
    assert {first, third} <= set(played.inside)


def test_a_daemon_that_closes_puts_all_back(played: Played):
    jobs = played.inside
    played.worker.end("closed")
    played.dispatcher.drain()
    assert {(played.job(job).status, played.job(job).crashes) for job in jobs} == {("queued", 0)}


def test_the_next_job_is_given_away_shortly_before_the_device_is_free(
    played: Played, monkeypatch: pytest.MonkeyPatch
):
    now = [1000.0]
    monkeypatch.setattr(running_job.time, "monotonic", lambda: now[0])
    first, second, third = played.inside
    played.worker.report(JobDone(second))
    played.worker.report(JobDone(third))
    played.worker.report(Phase(first, "s", "running", 60, WORKER))
    played.dispatcher.listen()

    def given() -> bool:
        played.dispatcher.dispatch()
        return len(played.inside) > 1

    assert not given(), "it is not known for how long the device is needed"
    now[0] += 10.0
    played.worker.report(Progress(first, "s", 10, 20, 0.5))
    played.dispatcher.listen()
    assert not given(), "for ten seconds more"
    now[0] += 9.0
    played.worker.report(Progress(first, "s", 19, 20, 0.95))
    assert played.dispatcher.listen() is False
    assert given(), "for a second"
    fourth = played.inside[-1]
    played.worker.report(Phase(fourth, "s", "waiting", None, WORKER))
    assert played.dispatcher.listen(), "there may be room for another"
    played.site.put("e.png")
    played.site.settle()
    played.dispatcher.dispatch()
    assert played.inside == [first, fourth], "one waits already"


def test_a_job_that_computes_on_the_cpu_leaves_the_device_to_the_next(played: Played):
    first, second, third = played.inside
    played.worker.report(JobDone(second))
    played.worker.report(JobDone(third))
    played.worker.report(Phase(first, "s", "running", 60, WORKER, on_device=False))
    played.dispatcher.listen()
    played.dispatcher.dispatch()
    assert len(played.inside) == 2
    assert "on_device" not in played.dispatcher.running[first].to_dict({})


def test_the_time_that_a_stage_took_before_tells_when_the_device_is_free():
    job = running_job.RunningJob("j", "in", "a.png", 1)
    assert (job.is_before_turn, job.turn_left_s(None)) == (True, 0.0)
    job.enter(Phase("j", "s", "running", 60, WORKER))
    assert job.turn_left_s(None) is None
    left = job.turn_left_s(5.0)
    assert left is not None
    assert 4.0 < left <= 5.0
    assert not job.is_before_turn
    assert "turn_since" not in job.to_dict({})
