"""The dispatcher with an executor whose words are put into its mouth."""

from __future__ import annotations

import queue

import pytest

from dna_pipeline.dispatch import Dispatcher
from dna_pipeline.errors import StageFailed
from dna_pipeline.executor import Event, JobFailed, Order, WorkerEnded


class Dictated:
    """An executor that only takes orders."""

    capacity = 1

    def __init__(self) -> None:
        self.orders: list[str] = []
        self.said: queue.SimpleQueue[Event] = queue.SimpleQueue()

    def submit(self, order: Order) -> None:
        self.orders.append(order.job)

    def events(self) -> queue.SimpleQueue[Event]:
        return self.said

    def cancel(self, job: str) -> None: ...
    def tend(self) -> None: ...
    def close(self, grace_s: float) -> None: ...


@pytest.fixture
def two(site):
    site.put("a.png", b"a")
    site.put("b.png", b"b")
    site.settle()
    return site


def test_the_end_of_a_poisoned_worker_is_not_the_next_job_s(two) -> None:
    first, second = (job.id for job in two.jobs())
    executor = Dictated()
    dispatcher = Dispatcher(two.config, two.ledger, executor)
    dispatcher.dispatch()
    failure = StageFailed("CUDA error").failure().to_dict()
    executor.said.put(JobFailed(first, failure, poisoned=True))
    dispatcher.listen()
    dispatcher.dispatch()
    assert executor.orders == [first, second]
    # The old process is gone only now; the second job is at a new one.
    executor.said.put(WorkerEnded(None, "poisoned", "the worker ended by SIGKILL"))
    dispatcher.listen()
    dispatcher.dispatch()
    assert executor.orders == [first, second], "one job at two places"
    job = two.jobs()[1]
    assert (job.status, job.crashes, job.attempt) == ("running", 0, 1)


def test_the_end_of_its_own_worker_puts_a_job_back(two) -> None:
    first, _ = (job.id for job in two.jobs())
    executor = Dictated()
    dispatcher = Dispatcher(two.config, two.ledger, executor)
    dispatcher.dispatch()
    executor.said.put(WorkerEnded(first, "crash", "the worker ended by SIGSEGV"))
    dispatcher.listen()
    assert dispatcher.running is None
    job = two.jobs()[0]
    assert (job.status, job.crashes) == ("queued", 1)
