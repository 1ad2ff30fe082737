"""Orders and their events against a real ledger; the executor is played."""

import json
import queue
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from sqlalchemy.exc import OperationalError

from dna_pipeline.base.errors import StageFailed
from dna_pipeline.execution.dispatcher import Dispatcher
from dna_pipeline.execution.protocol import (
    Event,
    JobDone,
    JobFailed,
    MemoryUse,
    Order,
    Phase,
    Progress,
    Task,
    TaskDone,
    TaskEnd,
    TaskFailed,
    WorkerEnded,
    WorkerReady,
)
from dna_pipeline.execution.worker_state import WorkerState
from dna_pipeline.ledger.queries import Queries
from dna_pipeline.ledger.queue import MAX_INTERRUPTIONS
from dna_pipeline.ledger.store import Ledger
from tests.played_workers import SINCE, free_worker

SCHEMAS = Path(__file__).parents[2] / "schemas"


def ids(orders: list[Order | Task]) -> list[str]:
    return [order.job if isinstance(order, Order) else order.id for order in orders]


class PlayedExecutor:
    """Takes orders and reports what the test makes it report."""

    def __init__(self, capacity: int = 1) -> None:
        self.capacity = capacity
        self.orders: list[Order | Task] = []
        self.reports: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.models: dict[str, frozenset[str]] = {}
        self.problems: dict[str, str] = {}
        self.processes: dict[str, str] = {}
        """Names of processes that differ from those of their workers."""

    def submit(self, order: Order | Task, among: Collection[str] | None = None) -> None:
        self.orders.append(order)

    def workers(self) -> tuple[WorkerState, ...]:
        """All are free: the dispatcher itself counts what they have."""
        names = [chr(ord("a") + number) for number in range(self.capacity)]
        return tuple(
            free_worker(
                name, self.processes.get(name, name), self.models.get(name, frozenset()),
                self.problems.get(name, ""),
            )
            for name in names
        )  # fmt: skip

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
    assert ids(executor.orders) == [site.job().id]
    return dispatcher


def full_disk_once(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    real = ledger.transact

    def fail(action: Callable[..., Any]) -> Any:
        monkeypatch.setattr(ledger, "transact", real)
        raise OperationalError("COMMIT", {}, Exception("database or disk is full"))

    monkeypatch.setattr(ledger, "transact", fail)


def test_a_job_of_a_lost_machine_is_not_charged_until_that_happens_too_often(
    site: Any, dispatcher: Dispatcher, executor: PlayedExecutor
):
    for number in range(1, MAX_INTERRUPTIONS + 1):
        job = site.job()
        assert (job.status, job.attempt, job.crashes) == ("running", 1, 0)
        executor.reports.put(WorkerEnded("local-1", (job.id,), "lost", "its node is gone"))
        dispatcher.listen()
        if number < MAX_INTERRUPTIONS:
            assert (site.job().status, site.job().attempt) == ("queued", 0)
            dispatcher.dispatch()
    assert (site.job().status, site.job().crashes) == ("failed", 0)


FAILURE = {"code": "empty_mesh", "message": "m", "detail": "d", "hint": "", "retryable": False}


@pytest.mark.parametrize(
    ("report", "status", "publish"),
    [
        (lambda job: JobDone(job), "running", "pending"),
        (lambda job: JobFailed(job, FAILURE), "failed", "pending"),
        (lambda job: WorkerEnded("local-1", (job,), "crash", "the worker ended"), "queued", None),
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
    assert dispatcher.running
    assert site.job().status == "running"
    assert site.job().publish is None
    dispatcher.listen()

    assert not dispatcher.running
    assert (site.job().status, site.job().publish) == (status, publish)


def test_a_job_that_was_claimed_as_the_ledger_failed_is_handed_over_later(
    site: Any, executor: PlayedExecutor, monkeypatch: pytest.MonkeyPatch
):
    site.put("a.png")
    site.settle()
    dispatcher = Dispatcher(site.config, site.ledger, executor)
    real = dispatcher.scheduler.claim

    def claim(loaded: Any) -> Any:
        job = real(loaded)
        full_disk_once(site.ledger, monkeypatch)
        return job

    monkeypatch.setattr(dispatcher.scheduler, "claim", claim)
    with pytest.raises(OperationalError):
        dispatcher.dispatch()
    assert executor.orders == []
    dispatcher.dispatch()

    assert ids(executor.orders) == [site.job().id]
    assert site.job().attempt == 1


def test_events_of_a_job_that_is_not_running_change_nothing(
    site: Any, dispatcher: Dispatcher, executor: PlayedExecutor
):
    executor.reports.put(JobDone("another"))
    dispatcher.listen()
    assert site.job().status == "running"
    assert dispatcher.running


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
    assert ids(executor.orders) == [first, second]
    executor.reports.put(WorkerReady("cuda:0", "float16", {"gpu": "H200"}, "local-2"))
    # The old process is gone only now; the second job is at a new one.
    executor.reports.put(WorkerEnded("local-1", (), "poisoned", "the worker ended by SIGKILL"))
    dispatcher.listen()
    dispatcher.dispatch()
    assert ids(executor.orders) == [first, second], "one job at two places"
    assert dispatcher.workers == {
        "local-2": {"device": "cuda:0", "dtype": "float16", "gpu": "H200"}
    }
    job = two.jobs()[1]
    assert (job.status, job.crashes, job.attempt) == ("running", 0, 1)


def test_models_are_listed_with_their_worker(site: Any) -> None:
    executor = PlayedExecutor(capacity=2)
    executor.models["b"] = frozenset({"sd"})
    first, second = Dispatcher(site.config, site.ledger, executor).describe_workers([])
    assert first["models"] == []
    assert second["models"] == [
        {"name": "sd", "state": "loaded", "device": "cuda:0", "since": SINCE, "bytes": None}
    ]
    schema = json.loads((SCHEMAS / "status.schema.json").read_bytes())
    workers = schema["properties"]["workers"]["items"]["properties"]
    jsonschema.validate(second["models"], workers["models"])


def test_the_end_of_its_own_worker_puts_a_job_back(two) -> None:
    first, _ = (job.id for job in two.jobs())
    executor = PlayedExecutor()
    dispatcher = Dispatcher(two.config, two.ledger, executor)
    dispatcher.dispatch()
    executor.reports.put(WorkerEnded("local-1", (first,), "crash", "the worker ended by SIGSEGV"))
    dispatcher.listen()
    assert not dispatcher.running
    job = two.jobs()[0]
    assert (job.status, job.crashes) == ("queued", 1)


def test_as_many_jobs_run_as_the_executor_has_room_for(site: Any):
    for name in ("a.png", "b.png", "c.png"):
        site.put(name)
    site.settle()
    executor = PlayedExecutor(capacity=2)
    dispatcher = Dispatcher(site.config, site.ledger, executor)
    dispatcher.dispatch()
    first, second = ids(executor.orders)
    assert list(dispatcher.running) == [first, second]
    executor.reports.put(JobDone(second))
    dispatcher.listen()
    dispatcher.dispatch()
    assert ids(executor.orders[:2]) == [first, second]
    third = ids(executor.orders)[2]
    assert list(dispatcher.running) == [first, third]
    executor.reports.put(WorkerReady("cuda:0", "float16", {}, "a"))
    executor.reports.put(WorkerReady("cuda:1", "float16", {}, "b"))
    executor.reports.put(Phase(third, "cut", "running", 60.0, "b"))
    executor.reports.put(WorkerEnded("a", (first,), "crash", "the worker ended"))
    dispatcher.listen()
    assert list(dispatcher.workers) == ["b"]
    assert [(job.job, job.worker) for job in dispatcher.running.values()] == [(third, "b")]
    assert {job.id: job.crashes for job in site.jobs()} == {first: 1, second: 0, third: 0}
    dispatcher.drain()
    assert not dispatcher.running
    assert {job.status for job in site.jobs() if job.id != second} == {"queued"}


def test_the_memory_of_a_device_is_that_of_the_last_event(site: Any):
    site.put("a.png")
    site.settle()
    executor = PlayedExecutor()
    dispatcher = Dispatcher(site.config, site.ledger, executor)
    dispatcher.dispatch()
    (job,) = ids(executor.orders)
    executor.reports.put(WorkerReady("cuda:0", "float16", {"gpu": "H"}, "w"))
    executor.reports.put(Phase(job, "cut", "running", 60.0, "w", MemoryUse(5, 90)))
    executor.reports.put(Progress(job, "cut", 1, 2, 0.5, MemoryUse(7, 90)))
    executor.reports.put(Progress(job, "cut", 2, 2, 1.0))
    dispatcher.listen()
    assert dispatcher.workers == {
        "w": {"device": "cuda:0", "dtype": "float16", "gpu": "H",
              "memory_bytes": 7, "memory_total_bytes": 90},
    }  # fmt: skip
    executor.reports.put(WorkerEnded("w", (job,), "crash", "the worker ended"))
    dispatcher.listen()
    assert dispatcher.workers == {}


def test_a_task_goes_before_the_next_job_and_takes_its_room(site: Any):
    site.put("a.png")
    site.settle()
    executor = PlayedExecutor()
    dispatcher = Dispatcher(site.config, site.ledger, executor)
    ends: list[TaskEnd] = []
    failed = TaskFailed("two", FAILURE)
    for name in ("one", "two"):
        dispatcher.request(Task(name, "self_test"), ends.append)
    dispatcher.dispatch()
    assert ids(executor.orders) == ["one"]
    assert not dispatcher.running
    for end in (TaskDone("one", 0.5), failed):
        executor.reports.put(end)
        dispatcher.listen()
        dispatcher.dispatch()
    assert ids(executor.orders) == ["one", "two", site.job().id]
    assert ends == [TaskDone("one", 0.5), failed]
    executor.reports.put(TaskDone("unknown", 0.5))
    dispatcher.listen()
    assert list(dispatcher.running) == [site.job().id]


LOST = {"code": "device_unavailable", "message": "m", "detail": "gone", "hint": "",
        "retryable": True}  # fmt: skip


def test_a_lost_device_holds_all_jobs_only_if_no_other_worker_has_one(site: Any):
    for name in ("a.png", "b.png", "c.png", "d.png"):
        site.put(name)
    site.settle()
    executor = PlayedExecutor(capacity=2)
    dispatcher = Dispatcher(site.config, site.ledger, executor)
    for worker in ("a", "b"):
        executor.reports.put(WorkerReady("cuda:0", "float16", {}, worker))
    dispatcher.listen()
    dispatcher.dispatch()
    first, second = ids(executor.orders)
    executor.problems["a"] = "gone"
    executor.reports.put(JobFailed(first, LOST, hold=True, poisoned=True, worker="a"))
    executor.reports.put(WorkerEnded("a", (), "poisoned", "the device is lost"))
    dispatcher.listen()
    assert {job.hold for job in site.jobs()} == {None}
    assert [(job.status, job.attempt) for job in site.jobs() if job.id == first] == [("queued", 0)]
    dispatcher.dispatch()
    assert ids(executor.orders)[2] == first, "the other worker does it"
    assert list(dispatcher.running) == [second, first]
    executor.problems["b"] = "gone"
    executor.reports.put(JobFailed(second, LOST, hold=True, poisoned=True, worker="b"))
    dispatcher.listen()
    holds = {job.id: job.hold for job in site.jobs()}
    assert holds.pop(first) is None
    assert set(holds.values()) == {"device_unavailable"}


def test_a_device_that_is_back_releases_the_jobs_that_wait_for_it(site: Any):
    for name in ("a.png", "b.png"):
        site.put(name)
    site.settle()
    executor = PlayedExecutor()
    dispatcher = Dispatcher(site.config, site.ledger, executor)
    dispatcher.dispatch()
    (job,) = ids(executor.orders)
    executor.reports.put(JobFailed(job, LOST, hold=True, worker="a"))
    dispatcher.listen()
    dispatcher.scheduler.review(keep_trying=True)
    assert {job.hold for job in site.jobs()} == {"device_unavailable"}
    executor.reports.put(WorkerReady("cuda:0", "float16", {}, "b"))
    dispatcher.listen()
    dispatcher.scheduler.review(keep_trying=True)
    assert {job.hold for job in site.jobs()} == {None}


def test_a_task_for_one_worker_waits_for_that_worker_alone(site: Any):
    site.put("a.png")
    site.settle()
    executor = PlayedExecutor(capacity=2)
    free = executor.workers
    busy = {"b"}
    executor.workers = lambda: tuple(replace(w, is_free=w.name not in busy) for w in free())
    dispatcher = Dispatcher(site.config, site.ledger, executor)
    ends: list[TaskEnd] = []
    dispatcher.request(Task("for b", "load_model", "sd", worker="b"), ends.append)
    dispatcher.dispatch()
    assert ids(executor.orders) == [site.job().id], "the others go on meanwhile"
    busy.clear()
    dispatcher.dispatch()
    assert ids(executor.orders)[1:] == ["for b"]


def test_tasks_of_a_worker_that_has_no_device_fail_at_once(site: Any):
    executor = PlayedExecutor(capacity=2)
    states = executor.workers()
    lost = replace(states[1], state="lost", problem="it is gone", is_free=False)
    executor.workers = lambda: (states[0], lost)
    dispatcher = Dispatcher(site.config, site.ledger, executor)
    ends: list[TaskEnd] = []
    dispatcher.request(Task("for b", "load_model", "sd", worker="b"), ends.append)
    dispatcher.dispatch()
    (end,) = ends
    assert isinstance(end, TaskFailed)
    assert (end.failure["code"], end.failure["detail"]) == ("device_unavailable", "it is gone")
    assert dispatcher.is_idle
    assert executor.orders == []


def test_a_task_that_the_end_of_the_daemon_overtakes_has_failed(site: Any):
    executor = PlayedExecutor()
    dispatcher = Dispatcher(site.config, site.ledger, executor)
    ends: list[TaskEnd] = []
    for name in ("one", "two"):
        dispatcher.request(Task(name, "self_test"), ends.append)
    dispatcher.dispatch()
    dispatcher.drain()
    dispatcher.drain()
    assert [(type(end), end.task) for end in ends] == [(TaskFailed, "one"), (TaskFailed, "two")]


def test_the_end_of_a_task_lets_the_next_job_begin(site: Any):
    executor = PlayedExecutor()
    dispatcher = Dispatcher(site.config, site.ledger, executor)
    dispatcher.request(Task("load", "self_test"), lambda _: None)
    dispatcher.dispatch()
    assert not dispatcher.listen()
    executor.reports.put(TaskDone("load", 0.5))
    assert dispatcher.listen()


def test_tasks_that_wait_run_while_jobs_are_held_back(site: Any):
    site.put("a.png")
    site.settle()
    executor = PlayedExecutor()
    dispatcher = Dispatcher(site.config, site.ledger, executor)
    for name in ("one", "two"):
        dispatcher.request(Task(name, "self_test"), lambda _: None)
    dispatcher.request_when_idle(Task("sheet", "self_test"), lambda _: None)
    for name in ("one", "two"):
        dispatcher.dispatch(holds_back=True)
        executor.reports.put(TaskDone(name, 0.5))
        dispatcher.listen()
    dispatcher.dispatch(holds_back=True)
    assert ids(executor.orders) == ["one", "two"]
    assert dispatcher.is_idle
    dispatcher.dispatch()
    assert ids(executor.orders) == ["one", "two", site.job().id]


def test_a_task_that_waits_for_idle_time_is_no_work_yet(site: Any):
    executor = PlayedExecutor()
    dispatcher = Dispatcher(site.config, site.ledger, executor)
    dispatcher.request_when_idle(Task("sheet", "self_test"), lambda _: None)
    assert dispatcher.is_idle
    dispatcher.dispatch()
    assert not dispatcher.is_idle
    executor.reports.put(TaskDone("sheet", 0.5))
    dispatcher.listen()
    assert dispatcher.is_idle


@pytest.mark.parametrize(
    ("orders", "taken_by"), [([1, 0], {"b"}), ([1, 1], None), ([0, 0], {"a", "b"})]
)
def test_a_task_for_idle_time_goes_to_a_worker_that_has_nothing_else(
    site: Any, orders: list[int], taken_by: set[str] | None
) -> None:
    class Loaded(PlayedExecutor):
        taken_by: Collection[str] | None = None

        def submit(self, order: Order | Task, among: Collection[str] | None = None) -> None:
            self.taken_by = among

        def workers(self) -> tuple[WorkerState, ...]:
            states = super().workers()
            return tuple(replace(s, orders=n) for s, n in zip(states, orders, strict=True))

    executor = Loaded(capacity=2)
    dispatcher = Dispatcher(site.config, site.ledger, executor)
    dispatcher.request_when_idle(Task("sheet", "self_test"), lambda _: None)
    dispatcher.dispatch()
    assert executor.taken_by == taken_by


def test_progress_is_recorded_before_the_end_of_the_job_and_the_newest_alone(site: Any):
    for name in ("a.png", "b.png"):
        site.put(name)
    site.settle()
    executor = PlayedExecutor(capacity=2)
    dispatcher = Dispatcher(site.config, site.ledger, executor)
    dispatcher.dispatch()
    first, second = ids(executor.orders)
    for step in (1, 2):
        for job in (first, second):
            executor.reports.put(Progress(job, "s", step, 4, step / 4))
    executor.reports.put(JobDone(first))
    executor.reports.put(Progress(second, "s", 3, 4, 0.75))
    dispatcher.listen()
    queries = Queries(site.config.ledger_path)
    events = {job: queries.events(job) for job in (first, second)}
    queries.close()
    steps = {
        job: [row["data"]["step"] for row in rows if row["kind"] == "progress"]
        for job, rows in events.items()
    }
    assert steps[second] == [2, 3]
    assert steps[first] in ([], [2]), "that of a job that has ended may be gone already"
