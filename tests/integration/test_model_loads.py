"""Models that a request in the ledger has loaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import structlog

from dna_pipeline.base.errors import UnknownModel
from dna_pipeline.execution.dispatcher import Dispatcher
from dna_pipeline.execution.protocol import TaskDone, TaskFailed
from dna_pipeline.ledger import model_loads
from dna_pipeline.ledger.queries import Queries
from dna_pipeline.operations.daemon.model_loads import ModelLoads
from tests.integration.test_dispatch import PlayedExecutor
from tests.integration.test_preload import models, ready, report


@pytest.fixture
def executor() -> PlayedExecutor:
    return PlayedExecutor()


@pytest.fixture
def dispatcher(site: Any, executor: PlayedExecutor) -> Dispatcher:
    site.put("a.png")
    site.settle()
    structlog.reset_defaults()
    return Dispatcher(site.config, site.ledger, executor)


@pytest.fixture
def queries(site: Any) -> Iterator[Queries]:
    with closing(Queries(site.config.ledger_path)) as queries:
        yield queries


@pytest.fixture
def loads(site: Any, queries: Queries, dispatcher: Dispatcher) -> ModelLoads:
    return ModelLoads(site.ledger, queries, dispatcher)


def request(site: Any, model: str) -> int:
    return site.ledger.transact(lambda s: model_loads.request(s, model))


def test_a_model_is_loaded_before_the_next_job(
    site: Any, queries: Queries, dispatcher: Dispatcher, executor: PlayedExecutor,
    loads: ModelLoads,
):  # fmt: skip
    number = request(site, "sd")
    loads.step()
    loads.step()
    dispatcher.dispatch()
    assert models(executor) == ["sd"]
    report(dispatcher, executor, ready("w1"), TaskDone(f"load {number}", 2.0, worker="w1"))
    assert models(executor) == ["sd", "job"]
    row = queries.model_load(number)
    assert row is not None
    assert (row["state"], row["device"], row["seconds"]) == ("done", "cpu", 2.0)


def test_a_model_that_cannot_be_loaded(
    site: Any, queries: Queries, dispatcher: Dispatcher, executor: PlayedExecutor,
    loads: ModelLoads,
):  # fmt: skip
    number = request(site, "other")
    loads.step()
    dispatcher.dispatch()
    failure = UnknownModel("no model is called 'other'").failure().to_dict()
    report(dispatcher, executor, ready("w1"), TaskFailed(f"load {number}", failure))
    row = queries.model_load(number)
    assert row is not None
    assert (row["state"], row["error"]["code"]) == ("failed", "unknown_model")
    assert models(executor) == ["other", "job"]


def test_a_request_that_a_dead_daemon_left_is_not_carried_out_again(
    site: Any, queries: Queries, dispatcher: Dispatcher, executor: PlayedExecutor,
    loads: ModelLoads,
):  # fmt: skip
    number = request(site, "sd")
    loads.step()
    later = ModelLoads(site.ledger, queries, Dispatcher(site.config, site.ledger, executor))
    later.recover()
    later.step()
    row = queries.model_load(number)
    assert row is not None
    assert row["state"] == "failed"
    assert executor.orders == []


def test_a_daemon_that_ends_fails_what_it_was_asked(
    site: Any, queries: Queries, dispatcher: Dispatcher, executor: PlayedExecutor,
    loads: ModelLoads,
):  # fmt: skip
    number = request(site, "sd")
    loads.step()
    dispatcher.drain()
    row = queries.model_load(number)
    assert row is not None
    assert row["state"] == "failed"
