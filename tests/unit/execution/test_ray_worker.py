"""A worker of a Ray cluster, from what a played bridge says of it."""

from __future__ import annotations

from typing import Any

import pytest

from dna_pipeline.base.ipc import PipeError
from dna_pipeline.execution.protocol import (
    Event,
    JobDone,
    Order,
    OrderInput,
    StageOrder,
    Task,
    TaskFailed,
    WorkerEnded,
    WorkerReady,
    event_to_message,
)
from dna_pipeline.execution.ray_worker import RayWorker

READY = event_to_message(WorkerReady("cuda:0", "float16", {}, "w1-1"))


def order(job: str) -> Order:
    stage = StageOrder("a", "act", {}, "pic")
    return Order(job, 1, (stage,), (OrderInput("image", "/in.png", "0" * 64),), f"/work/{job}")


class Play:
    """A worker with the messages that it sends, and its events."""

    def __init__(self, device: str = "cuda") -> None:
        self.sent: list[dict[str, Any]] = []
        self.events: list[Event] = []
        self.worker = RayWorker("w1", device, self._send, self.events.append)

    def _send(self, message: dict[str, Any]) -> bool:
        self.sent.append(message)
        return True

    def say(self, epoch: int = 0, **message: Any) -> None:
        self.worker.take({"worker": "w1", "epoch": epoch, **message})

    def arrive(self, epoch: int = 0) -> None:
        self.say(epoch, node="one", process="w1-1")
        self.room(received=0, epoch=epoch)

    def room(self, received: int, *, free: bool = True, epoch: int = 0) -> None:
        self.say(epoch, room={"free": free, "capacity": 1, "received": received})


def test_an_order_is_sent_while_the_first_actor_is_awaited():
    play = Play()
    assert play.worker.state().is_free
    play.worker.submit(order("a"))
    assert not play.worker.state().is_free
    assert [(m["epoch"], m["order"]["job"]) for m in play.sent] == [(0, "a")]
    assert play.events == []


def test_orders_end_once_when_there_is_no_node():
    play = Play()
    play.worker.submit(order("a"))
    play.worker.submit(Task("t", "self_test"))
    play.say(1, absent="no node", reason="unready")
    failed, ended = play.events
    assert isinstance(failed, TaskFailed) and failed.task == "t"
    assert ended == WorkerEnded("w1-1", ("a",), "unready", "no node")
    state = play.worker.state()
    assert (state.state, state.problem, state.is_free) == ("lost", "no node", True)
    assert play.worker.waits_for_device
    play.worker.submit(order("b"))
    assert play.events[2:] == [WorkerEnded("w1-1", ("b",), "unready", "no node")]
    assert len(play.sent) == 2


def test_what_a_lost_actor_still_says_is_not_heard():
    play = Play()
    play.arrive()
    play.worker.submit(order("a"))
    play.say(1, absent="its node is gone", reason="lost")
    play.say(0, event=event_to_message(JobDone("a")))
    assert play.events == [WorkerEnded("w1-1", ("a",), "lost", "its node is gone")]


@pytest.mark.parametrize(("device", "kind"), [("cuda", "self_test"), ("cpu", "make_thumbnails")])
def test_a_worker_that_is_back_is_started_by_a_task_that_nobody_hears_of(device: str, kind: str):
    play = Play(device)
    play.arrive()
    play.say(1, absent="gone", reason="lost")
    play.events.clear()
    play.say(1, node="two", process="w1.2-1")
    (message,) = play.sent
    task = message["task"]["id"]
    assert (message["epoch"], message["task"]["kind"]) == (1, kind)
    assert not play.worker.state().is_free
    play.say(1, event=READY)
    play.room(received=1, epoch=1)
    play.say(1, event={"event": "task_done", "task": task, "seconds": 1.0})
    assert [event.kind for event in play.events] == ["ready"]
    state = play.worker.state()
    assert (state.state, state.node, state.problem, state.is_free) == ("idle", "two", "", True)


def test_a_worker_is_free_once_its_actor_has_room_and_knows_all_orders():
    play = Play()
    play.arrive()
    play.worker.submit(order("a"))
    assert not play.worker.state().is_free  # the actor said so before it had the order
    play.room(received=1, free=False)
    assert not play.worker.state().is_free
    play.room(received=1)
    assert play.worker.state().is_free
    play.say(event=event_to_message(JobDone("a")))
    assert play.events == [JobDone("a")]
    assert play.worker.state().is_free


def test_a_node_that_is_about_to_leave_gets_no_orders_and_may_end_those_it_has():
    play = Play()
    play.arrive()
    play.worker.submit(order("a"))
    play.say(draining=True)
    play.room(received=1)
    assert not play.worker.state().is_free
    play.say(event=event_to_message(JobDone("a")))
    assert play.events == [JobDone("a")]


def test_the_end_of_a_worker_process_names_only_jobs_that_are_there():
    play = Play()
    play.arrive()
    play.worker.submit(order("a"))
    ended = {"event": "worker_ended", "worker": "w1-1", "jobs": ["a", "b"], "reason": "crash",
             "detail": "it crashed"}  # fmt: skip
    play.say(event=ended)
    assert play.events == [WorkerEnded("w1-1", ("a",), "crash", "it crashed")]
    with pytest.raises(PipeError):
        play.say(event={"event": "worker_ended", "worker": "w1-1"})


def test_a_cancel_is_sent_for_an_order_that_is_there():
    play = Play()
    play.arrive()
    play.worker.cancel("a")
    play.worker.submit(order("a"))
    play.worker.cancel("a")
    play.worker.yield_after_stage("a")
    assert [set(message) - {"worker", "epoch"} for message in play.sent] == [
        {"order"}, {"cancel"}, {"rest"},
    ]  # fmt: skip


def test_all_orders_end_when_the_executor_is_closed():
    play = Play()
    play.arrive()
    play.worker.submit(order("a"))
    play.worker.close(0)
    play.worker.submit(order("b"))
    assert [(e.jobs, e.reason) for e in play.events if isinstance(e, WorkerEnded)] == [
        (("a",), "closed"), (("b",), "closed"),
    ]  # fmt: skip
