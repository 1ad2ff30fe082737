"""Orders and their events against a real ledger; the executor is played."""

import queue
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from dna_pipeline.base.errors import StageFailed
from dna_pipeline.execution.dispatcher import Dispatcher
from dna_pipeline.execution.protocol import (
    Event,
    JobDone,
    JobFailed,
    Order,
    WorkerEnded,
    WorkerReady,
)
from dna_pipeline.ledger.store import Ledger


class PlayedExecutor:
    """Takes orders and reports what the test makes it report."""

    def __init__(self) -> None:
        self.orders: list[Order] = []
        self.reports: queue.SimpleQueue[Event] = queue.SimpleQueue()

    def submit(self, order: Order) -> None:
        self.orders.append(order)

    def cancel(self, job: str) -> None:
        raise AssertionError(f"nobody cancelled {job}")

    def events(self) -> queue.SimpleQueue[Event]:
        return self.reports

    def enforce_timeouts(self) -> None: ...

    def close(self, grace_s: float) -> None: ...


@pytest.fixture
def executor() -> PlayedExecutor:
    return PlayedExecutor()


@pytest.fixture
def dispatcher(site: Any, executor: PlayedExecutor) -> Dispatcher:
    site.put("a.png")
    site.settle()
    dispatcher = Dispatcher(site.config, site.ledger, executor)
    dispatcher.dispatch()
    assert [order.job for order in executor.orders] == [site.job().id]
    return dispatcher


def full_disk_once(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    real = ledger.transact

    def fail(action: Callable[..., Any]) -> Any:
        monkeypatch.setattr(ledger, "transact", real)
        raise OperationalError("COMMIT", {}, Exception("database or disk is full"))

    monkeypatch.setattr(ledger, "transact", fail)


FAILURE = {"code": "empty_mesh", "message": "m", "detail": "d", "hint": "", "retryable": False}


@pytest.mark.parametrize(
    ("report", "status", "publish"),
    [
        (lambda job: JobDone(job), "running", "pending"),
        (lambda job: JobFailed(job, FAILURE), "failed", "pending"),
        (lambda job: WorkerEnded(job, "crash", "the worker ended"), "queued", None),
    ],
)
def test_what_a_full_disk_kept_from_being_recorded_is_recorded_later(
    site: Any,
    dispatcher: Dispatcher,
    executor: PlayedExecutor,
    monkeypatch: pytest.MonkeyPatch,
    report: Callable[[str], Event],
    status: str,
    publish: str | None,
):
    executor.reports.put(report(site.job().id))
    full_disk_once(site.ledger, monkeypatch)

    with pytest.raises(OperationalError):
        dispatcher.listen()
    assert dispatcher.running is not None
    assert site.job().status == "running"
    assert site.job().publish is None
    dispatcher.listen()

    assert dispatcher.running is None
    assert (site.job().status, site.job().publish) == (status, publish)


def test_a_job_that_was_claimed_as_the_ledger_failed_is_handed_over_later(
    site: Any, executor: PlayedExecutor, monkeypatch: pytest.MonkeyPatch
):
    site.put("a.png")
    site.settle()
    dispatcher = Dispatcher(site.config, site.ledger, executor)
    real = dispatcher.scheduler.claim

    def claim() -> Any:
        job = real()
        full_disk_once(site.ledger, monkeypatch)
        return job

    monkeypatch.setattr(dispatcher.scheduler, "claim", claim)
    with pytest.raises(OperationalError):
        dispatcher.dispatch()
    assert executor.orders == []
    dispatcher.dispatch()

    assert [order.job for order in executor.orders] == [site.job().id]
    assert site.job().attempt == 1


def test_events_of_a_job_that_is_not_running_change_nothing(
    site: Any, dispatcher: Dispatcher, executor: PlayedExecutor
):
    executor.reports.put(JobDone("another"))
    dispatcher.listen()
    assert site.job().status == "running"
    assert dispatcher.running is not None


@pytest.fixture
def two(site):
    site.put("a.png", b"a")
    site.put("b.png", b"b")
    site.settle()
    return site


def test_the_end_of_a_poisoned_worker_is_not_the_next_job_s(two) -> None:
    first, second = (job.id for job in two.jobs())
    executor = PlayedExecutor()
    dispatcher = Dispatcher(two.config, two.ledger, executor)
    dispatcher.dispatch()
    failure = StageFailed("CUDA error").failure().to_dict()
    executor.reports.put(JobFailed(first, failure, poisoned=True))
    dispatcher.listen()
    dispatcher.dispatch()
    assert [order.job for order in executor.orders] == [first, second]
    executor.reports.put(WorkerReady("cuda:0", "float16", {"gpu": "H200"}))
    # The old process is gone only now; the second job is at a new one.
    executor.reports.put(WorkerEnded(None, "poisoned", "the worker ended by SIGKILL"))
    dispatcher.listen()
    dispatcher.dispatch()
    assert [order.job for order in executor.orders] == [first, second], "one job at two places"
    assert dispatcher.device == {"device": "cuda:0", "dtype": "float16", "gpu": "H200"}
    job = two.jobs()[1]
    assert (job.status, job.crashes, job.attempt) == ("running", 0, 1)


def test_the_end_of_its_own_worker_puts_a_job_back(two) -> None:
    first, _ = (job.id for job in two.jobs())
    executor = PlayedExecutor()
    dispatcher = Dispatcher(two.config, two.ledger, executor)
    dispatcher.dispatch()
    executor.reports.put(WorkerEnded(first, "crash", "the worker ended by SIGSEGV"))
    dispatcher.listen()
    assert dispatcher.running is None
    job = two.jobs()[0]
    assert (job.status, job.crashes) == ("queued", 1)
