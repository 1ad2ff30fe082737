"""Jobs of equal priority in the order of their models, against a real ledger."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from dna_pipeline.execution.dispatcher import Dispatcher
from dna_pipeline.execution.protocol import JobDone, Order
from dna_pipeline.ledger import pauses, store
from tests.integration.test_dispatch import PlayedExecutor


class OneModelExecutor(PlayedExecutor):
    """Its worker holds one model at a time, that of the last order."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.names: dict[str, str] = {}
        """Model of each job."""

    def finish(self) -> str:
        """Do the last order; gives its job."""
        order = self.orders[-1]
        assert isinstance(order, Order)
        model = self.names[order.job]
        if self.models.get("a") != {model}:
            self.loads.append(model)
            self.models["a"] = frozenset({model})
        self.reports.put(JobDone(order.job))
        return order.job


@pytest.fixture
def executor() -> OneModelExecutor:
    return OneModelExecutor()


def queue_up(site: Any, executor: OneModelExecutor, number: int, first: int = 0) -> None:
    """Put images of alternating models into the queue."""
    for index in range(first, first + number):
        site.put(f"{index:03}.png", f"image {index}")
    site.settle()
    alternate = "UPDATE jobs SET models = CASE seq % 2 WHEN 1 THEN 'sd' ELSE 'anime' END"
    site.ledger.transact(lambda s: s.execute(text(alternate)))
    executor.names = {job.id: job.models for job in site.jobs()}


def work_off(dispatcher: Dispatcher, executor: OneModelExecutor) -> list[str]:
    """Do all orders; gives the jobs in their order."""
    done: list[str] = []
    dispatcher.dispatch()
    while dispatcher.running:
        done.append(executor.finish())
        dispatcher.listen()
        dispatcher.dispatch()
    return done


def test_fifty_alternating_jobs_load_each_model_once(site: Any, executor: OneModelExecutor):
    queue_up(site, executor, 50)
    dispatcher = Dispatcher(site.config, site.ledger, executor)
    done = work_off(dispatcher, executor)
    assert executor.loads == ["sd", "anime"]
    assert sorted(done) == sorted(job.id for job in site.jobs())
    assert dispatcher.delayed() is None


def test_a_job_of_high_priority_starts_next_all_the_same(site: Any, executor: OneModelExecutor):
    queue_up(site, executor, 20)
    dispatcher = Dispatcher(site.config, site.ledger, executor)
    dispatcher.dispatch()
    executor.finish()
    dispatcher.listen()
    dispatcher.dispatch()
    delayed = dispatcher.delayed()
    assert delayed is not None
    assert (delayed["models"], delayed["first"]) == (["anime"], ["sd"])
    assert delayed["job"] == site.jobs()[1].id
    urgent = site.jobs()[-1]
    assert urgent.models == "anime"
    site.ledger.transact(
        lambda s: s.execute(text("UPDATE jobs SET priority = 9 WHERE id = :id"), {"id": urgent.id})
    )
    executor.finish()
    dispatcher.listen()
    dispatcher.dispatch()
    assert list(dispatcher.running) == [urgent.id]
    work_off(dispatcher, executor)
    assert {job.publish for job in site.jobs()} == {"pending"}


def test_a_window_of_nothing_keeps_the_places(site: Any, executor: OneModelExecutor):
    queue_up(site, executor, 6)
    runtime = site.config.runtime.model_copy(update={"model_window_s": 0})
    object.__setattr__(site.config, "runtime", runtime)
    done = work_off(Dispatcher(site.config, site.ledger, executor), executor)
    assert done == [job.id for job in site.jobs()]
    assert executor.loads == ["sd", "anime"] * 3


def test_a_pause_holds_the_jobs_that_would_come_first(site: Any, executor: OneModelExecutor):
    queue_up(site, executor, 6)
    dispatcher = Dispatcher(site.config, site.ledger, executor)
    dispatcher.dispatch()
    executor.finish()
    dispatcher.listen()
    rows = "UPDATE jobs SET pipeline = 'other' WHERE models = 'sd'"
    site.ledger.transact(lambda s: s.execute(text(rows)))
    site.ledger.transact(lambda s: store.set_setting(s, "paused:other", "by a person"))
    assert site.ledger.transact(lambda s: pauses.of_job(s, "other", None)) is not None
    dispatcher.dispatch()
    (job,) = dispatcher.running
    assert executor.names[job] == "anime"
    held = {job.models for job in site.jobs() if job.hold == "paused"}
    assert held == {"sd"}
