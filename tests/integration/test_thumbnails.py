"""Thumbnails that the daemon has made on request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest
import structlog
from sqlalchemy import update

from dna_pipeline.base.errors import DeviceUnavailable, Failure, WorkerCrashed
from dna_pipeline.execution.dispatcher import Dispatcher
from dna_pipeline.execution.protocol import Task, TaskDone, TaskFailed
from dna_pipeline.ledger import thumbnails
from dna_pipeline.ledger.queries import Queries
from dna_pipeline.ledger.tables import ThumbnailRequest
from dna_pipeline.operations.daemon.thumbnails import PAUSE_S, PORTION, RETRY_S, Thumbnails
from tests.integration.test_dispatch import PlayedExecutor
from tests.integration.test_preload import ready, report


class Daemon:
    """The part of the daemon, with what the worker is given."""

    def __init__(self, site: Any, queries: Queries) -> None:
        self.site = site
        self.executor = PlayedExecutor()
        self.dispatcher = Dispatcher(site.config, site.ledger, self.executor)
        self.part = Thumbnails(site.config, site.ledger, queries, self.dispatcher)
        self.now = 1000.0
        self._number = 0

    def step(self, seconds: float = 0.0) -> list[str]:
        """Let time pass; give the sources of a new task."""
        self.now += seconds
        if not self.part.step(self.now):
            return []
        self.dispatcher.dispatch()
        task = self.executor.orders[-1]
        assert isinstance(task, Task)
        outbox = f"{self.site.config.outbox}/"
        return [order.source.removeprefix(outbox) for order in task.thumbnails]

    def end(self, *failed: str, failure: Failure | None = None) -> None:
        task = self.executor.orders[-1]
        assert isinstance(task, Task)
        facts = {"failed": [str(self.site.config.outbox / name) for name in failed]}
        end = (
            TaskDone(task.id, 0.1, facts)
            if failure is None
            else TaskFailed(task.id, failure.to_dict())
        )
        report(self.dispatcher, self.executor, ready("w1"), end)


@pytest.fixture
def daemon(site: Any) -> Iterator[Daemon]:
    structlog.reset_defaults()
    with closing(Queries(site.config.ledger_path)) as queries:
        yield Daemon(site, queries)


def request(site: Any, *numbers: int) -> None:
    places = {f"{number:064x}": f"in/{number}.png" for number in numbers}
    site.ledger.transact(lambda s: thumbnails.request(s, places))


def attempts(site: Any) -> list[int]:
    return [row.attempts for row in site.rows(ThumbnailRequest)]


def test_portions_follow_one_another_and_leave_nothing(site: Any, daemon: Daemon):
    request(site, *range(PORTION + 3))
    assert len(daemon.step()) == PORTION
    assert daemon.step() == []
    daemon.end()
    assert len(daemon.step()) == 3
    daemon.end()
    assert daemon.step() == []
    assert attempts(site) == []


def test_jobs_that_run_have_the_device_most_of_the_time(site: Any, daemon: Daemon):
    site.put("a.png")
    site.settle()
    daemon.dispatcher.dispatch()
    daemon.executor.capacity = 2
    assert daemon.dispatcher.running
    request(site, *range(PORTION + 1))
    assert len(daemon.step()) == PORTION
    daemon.end()
    assert daemon.step() == []
    assert len(daemon.step(PAUSE_S)) == 1


def test_a_picture_that_cannot_be_made_small_is_not_tried_again(site: Any, daemon: Daemon):
    request(site, 1, 2)
    assert sorted(daemon.step()) == ["in/1.png", "in/2.png"]
    daemon.end("in/2.png")
    request(site, 2)
    daemon.part.ledger_changed()
    assert daemon.step() == []
    assert attempts(site) == [thumbnails.MOST_ATTEMPTS]
    age(site, thumbnails.FAILED_S + 1)
    request(site, 2)
    daemon.part.ledger_changed()
    assert daemon.step() == ["in/2.png"]


def test_pictures_that_ended_the_worker_are_tried_one_by_one_and_once(site: Any, daemon: Daemon):
    request(site, 1, 2, 3)
    assert len(daemon.step()) == 3
    daemon.end(failure=WorkerCrashed("it is gone").failure())
    seen: list[str] = []
    while sources := daemon.step():
        (source,) = sources
        seen.append(source)
        if source == "in/2.png":
            daemon.end(failure=WorkerCrashed("it is gone").failure())
        else:
            daemon.end()
    assert sorted(seen) == ["in/1.png", "in/2.png", "in/3.png"]
    assert attempts(site) == [thumbnails.MOST_ATTEMPTS]


def test_a_device_that_is_not_there_costs_no_attempt(site: Any, daemon: Daemon):
    request(site, 1)
    daemon.step()
    daemon.end(failure=Failure(DeviceUnavailable.code, "It is not there.", "no GPU"))
    assert attempts(site) == [0]
    assert daemon.step() == []
    assert daemon.step(RETRY_S) == ["in/1.png"]


def test_an_outbox_that_is_not_there_costs_no_attempt(site: Any, daemon: Daemon):
    request(site, 1)
    site.config.outbox.rename(site.root / "elsewhere")
    assert daemon.step() == []
    assert attempts(site) == [0]
    (site.root / "elsewhere").rename(site.config.outbox)
    assert daemon.step(RETRY_S) == ["in/1.png"]


def test_nobody_waits_for_an_old_request(site: Any, daemon: Daemon):
    request(site, 1)
    age(site, thumbnails.EXPIRY_S + 1)
    assert daemon.step() == []
    assert attempts(site) == []


def age(site: Any, seconds: float) -> None:
    """Make all requests older."""

    def change(session: Any) -> None:
        for row in session.query(ThumbnailRequest):
            at = row.requested_at - timedelta(seconds=seconds)
            session.execute(update(ThumbnailRequest).values(requested_at=at))

    site.ledger.transact(change)
