"""`runtime.preload`: requested before the first job, and for a worker that replaces another."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from dna_pipeline.base.errors import UnknownModel
from dna_pipeline.config.schema import Config
from dna_pipeline.execution.dispatcher import Dispatcher
from dna_pipeline.execution.protocol import (
    Event,
    Order,
    Task,
    TaskDone,
    TaskFailed,
    WorkerEnded,
    WorkerReady,
)
from dna_pipeline.operations.daemon.preload import Preload
from dna_pipeline.operations.daemon.takeover import Takeover
from tests.integration.test_dispatch import PlayedExecutor


@pytest.fixture
def executor() -> PlayedExecutor:
    return PlayedExecutor()


@pytest.fixture
def dispatcher(site: Any, executor: PlayedExecutor) -> Dispatcher:
    site.put("a.png")
    site.settle()
    structlog.reset_defaults()
    return Dispatcher(site.config, site.ledger, executor)


def report(dispatcher: Dispatcher, executor: PlayedExecutor, *events: Event) -> None:
    for event in events:
        if isinstance(event, WorkerReady):
            executor.processes["a"] = event.worker
        executor.reports.put(event)
    dispatcher.listen()
    dispatcher.dispatch()


def models(executor: PlayedExecutor) -> list[str]:
    return [order.model if isinstance(order, Task) else "job" for order in executor.orders]


def ready(worker: str) -> WorkerReady:
    return WorkerReady("cpu", "float32", {}, worker)


def test_models_are_loaded_before_the_first_job(dispatcher: Dispatcher, executor: PlayedExecutor):
    preload = Preload(["sd15", "matte", "sd15"], dispatcher)
    preload.begin()
    dispatcher.dispatch()
    assert models(executor) == ["sd15"]
    assert preload.to_dict() == {"model": "sd15", "number": 1, "of": 2}
    with capture_logs() as logs:
        report(dispatcher, executor, ready("w1"), TaskDone("preload sd15 a", 2.04))
        preload.step()
        assert preload.to_dict() == {"model": "matte", "number": 2, "of": 2}
        report(dispatcher, executor, TaskDone("preload matte a", 1.0))
    assert preload.to_dict() is None
    assert models(executor) == ["sd15", "matte", "job"]
    assert {
        "event": "model.preloaded",
        "log_level": "info",
        "model": "sd15",
        "worker": "a",
        "seconds": 2.0,
    } in logs


def test_a_new_worker_loads_them_again(dispatcher: Dispatcher, executor: PlayedExecutor):
    preload = Preload(["sd15"], dispatcher)
    preload.begin()
    dispatcher.dispatch()
    report(dispatcher, executor, ready("w1"), TaskDone("preload sd15 a", 1.0))
    preload.step()
    report(dispatcher, executor, WorkerEnded("w1", (), "crash", "it ended"), ready("w2"))
    preload.step()
    preload.step()
    assert models(executor) == ["sd15", "job"]
    job = executor.orders[-1]
    assert isinstance(job, Order)
    report(dispatcher, executor, WorkerEnded("w1", (job.job,), "crash", "it ended"))
    assert models(executor)[2] == "sd15"


def test_a_model_that_fails_is_a_sentence_in_the_log(
    dispatcher: Dispatcher, executor: PlayedExecutor
):
    preload = Preload(["sd15"], dispatcher)
    preload.begin()
    dispatcher.dispatch()
    failure = UnknownModel("model 'sd15' is not declared").failure().to_dict()
    with capture_logs() as logs:
        report(dispatcher, executor, ready("w1"), TaskFailed("preload sd15 a", failure))
        preload.step()
        report(dispatcher, executor, WorkerEnded("w1", (), "crash", ""), ready("w2"))
        preload.step()
        dispatcher.dispatch()
    (warning,) = [entry for entry in logs if entry["event"] == "model.not_preloaded"]
    assert warning["why"] == "model 'sd15' is not declared"
    assert models(executor) == ["sd15", "job"]


class Parts:
    """The daemon's parts as far as a takeover needs them: it waits for the dispatcher."""

    def __init__(self, config: Config, dispatcher: Dispatcher) -> None:
        self.config = config
        self._dispatcher = dispatcher

    def is_computing(self) -> bool:
        return not self._dispatcher.is_idle

    def has_published(self) -> bool:
        return True

    def end_intake(self) -> bool:
        return True

    def resume_intake(self) -> None:
        pass

    def report_by(self, config: Config) -> None:
        raise AssertionError

    def replace(self, config: Config) -> bool:
        self.config = config
        return True


class Edits:
    """The watch of pipeline.yaml, with one edit."""

    problem = ""

    def __init__(self, config: Config) -> None:
        self.newest: Config | None = config

    def take(self) -> Config | None:
        newest, self.newest = self.newest, None
        return newest


def test_an_edit_during_the_preload_is_pending_at_once_and_taken_over_after_it(
    site: Any, dispatcher: Dispatcher, executor: PlayedExecutor
):
    preload = Preload(["sd15", "matte"], dispatcher)
    preload.begin()
    dispatcher.dispatch()
    runtime = site.config.runtime.model_copy(update={"max_attempts": 9})
    edited = replace(site.config, runtime=runtime)
    parts, events = Parts(site.config, dispatcher), list[str]()
    takeover = Takeover(Edits(edited), parts, lambda kind, _: events.append(kind))
    takeover.step(0.0)
    assert takeover.state.pending == (
        "runtime: taken over when the running job, or the loading of models, has ended"
    )
    assert takeover.holds_back
    executor.reports.put(TaskDone("preload sd15 a", 1.0))
    dispatcher.listen()
    dispatcher.dispatch(holds_back=True)
    takeover.step(100.0)
    assert (models(executor), parts.config) == (["sd15", "matte"], site.config)
    assert takeover.state.pending
    executor.reports.put(TaskDone("preload matte a", 1.0))
    dispatcher.listen()
    dispatcher.dispatch(holds_back=True)
    takeover.step(200.0)
    assert parts.config is edited
    assert (takeover.state.pending, events) == (None, ["config_changed"])
