"""The connection to one worker, with a played cluster and played actors."""

from __future__ import annotations

import errno
import hashlib
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from dna_pipeline import __version__
from dna_pipeline.execution.cluster import files, link
from dna_pipeline.execution.cluster.api import Lost
from dna_pipeline.execution.cluster.carrier import Carrier
from dna_pipeline.execution.cluster.link import Link
from dna_pipeline.execution.cluster.relay import _message_of
from dna_pipeline.execution.protocol import (
    FileRecord,
    JobDone,
    Order,
    OrderInput,
    StageDone,
    StageOrder,
    WorkerEnded,
    event_to_message,
)

ROOM = {"free": True, "capacity": 1, "received": 0}


class PlayedActor:
    """An actor that stores files, and says what a test wants."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.stored: dict[str, bytes] = {}
        self.made: dict[str, bytes] = {}
        self.answers: queue.SimpleQueue[list[Any]] = queue.SimpleQueue()
        self.is_dead = threading.Event()
        self.damages = 0
        """How many reads give wrong bytes."""

    def say(self, *messages: dict[str, Any]) -> None:
        self.answers.put(list(enumerate(messages, 1)))

    def start(self, method: str, *arguments: Any, group: str | None = None) -> Any:
        self.calls.append((method, *arguments))
        return method

    def call(self, method: str, *arguments: Any, timeout_s: float, group: str | None = None) -> Any:
        if self.is_dead.is_set():
            raise Lost("it was killed")
        if method == "poll":
            return self._poll()
        self.calls.append((method, *arguments))
        return getattr(self, f"_{method}", lambda *_: None)(*arguments)

    def _poll(self) -> dict[str, Any]:
        while not self.is_dead.is_set():
            try:
                return {"events": self.answers.get(timeout=0.02), "room": ROOM}
            except queue.Empty:
                continue
        raise Lost("it was killed")

    def _store(self, attempt: str, target: str, piece: bytes, is_first: bool) -> None:
        self.stored[target] = piece if is_first else self.stored[target] + piece

    def _check(self, attempt: str, target: str, sha256: str) -> bool:
        return hashlib.sha256(self.stored[target]).hexdigest() == sha256

    def _read(self, attempt: str, stage: str, name: str, offset: int) -> bytes:
        if self.damages > 0:
            self.damages -= 1
            return b"?" * len(self.made[name])
        return self.made[name][offset:]

    def kill(self) -> None:
        self.is_dead.set()

    def did(self, method: str) -> list[tuple[Any, ...]]:
        return [call[1:] for call in self.calls if call[0] == method]


class Play:
    """A link with a cluster that has one node."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.actors: queue.SimpleQueue[PlayedActor] = queue.SimpleQueue()
        self.has_room = True
        self.version = __version__
        self.draining: set[str] = set()
        self.made: list[PlayedActor] = []
        self.link = Link("w1", self, Carrier(None), self.said.put)

    def make_actor(self, worker: str, process: str) -> PlayedActor:
        actor = PlayedActor()
        self.made.append(actor)
        self.actors.put(actor)
        return actor

    def result(self, reference: Any, timeout_s: float) -> Any:
        if not self.has_room:
            threading.Event().wait(0.05)
            raise TimeoutError
        return {"node": "n1", "version": self.version}

    def node_name(self, node: str) -> str:
        return "one"

    def is_draining(self, node: str) -> bool:
        return node in self.draining

    def next(self, key: str) -> dict[str, Any]:
        """The next message with that key."""
        while key not in (message := self.said.get(timeout=10)):
            pass
        return message

    def connected(self) -> PlayedActor:
        self.link.start()
        actor = self.actors.get(timeout=10)
        assert self.next("node")["node"] == "one"
        return actor

    def order(self, job: str = "j", epoch: int = 0) -> None:
        source = self.folder / "cat.png"
        source.write_bytes(b"a cat")
        stage = StageOrder("a", "act", {}, "cat.a")
        image = OrderInput("image", str(source), hashlib.sha256(b"a cat").hexdigest())
        order = Order(job, 1, (stage,), (image,), str(self.folder / "work" / job))
        self.link.put({"worker": "w1", "epoch": epoch, "order": asdict(order)})

    def stage_done(self, data: bytes, job: str = "j") -> dict[str, Any]:
        file = FileRecord(
            "cat.a.png", "image", "image/png", len(data), hashlib.sha256(data).hexdigest()
        )
        return event_to_message(
            StageDone(job, "a", "act", None, None, {}, "cpu", "float32", 1, 1.0, [], {}, [file],
                      "0" * 64)
        )  # fmt: skip


def wait(is_true: Callable[[], object]) -> None:
    for _ in range(1000):
        if is_true():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not come about")


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Play]:
    monkeypatch.setattr(link, "RETRY_S", 0.05)
    play = Play(tmp_path)
    yield play
    # The threads of the link end with the tests; they must not go round without rest until then.
    play.has_room = False
    for actor in play.made:
        actor.kill()


def test_inputs_go_first_and_files_of_a_stage_come_before_its_end(play: Play):
    actor = play.connected()
    play.order()
    wait(lambda: actor.did("run_order"))
    assert actor.stored == {"inputs/0/cat.png": b"a cat"}
    assert [call[0] for call in actor.calls][-3:] == ["store", "check", "run_order"]
    actor.made["cat.a.png"] = b"made"
    actor.say(play.stage_done(b"made"))
    assert play.next("event")["event"]["event"] == "stage_done"
    assert (play.folder / "work/j/a/cat.a.png").read_bytes() == b"made"
    actor.say(event_to_message(JobDone("j")))
    assert play.next("event")["event"]["event"] == "job_done"
    wait(lambda: actor.did("forget"))
    assert actor.did("forget")[0][0] == actor.did("run_order")[0][0]


def test_a_file_that_arrives_damaged_is_fetched_again(play: Play):
    actor = play.connected()
    play.order()
    wait(lambda: actor.did("run_order"))
    actor.made["cat.a.png"], actor.damages = b"made", 1
    actor.say(play.stage_done(b"made"))
    play.next("event")
    assert (play.folder / "work/j/a/cat.a.png").read_bytes() == b"made"


def test_an_actor_whose_files_arrive_damaged_is_given_up(play: Play):
    actor = play.connected()
    play.order()
    wait(lambda: actor.did("run_order"))
    actor.made["cat.a.png"], actor.damages = b"made", 99
    actor.say(play.stage_done(b"made"))
    absent = play.next("absent")
    assert (absent["reason"], absent["epoch"]) == ("lost", 1)
    assert actor.is_dead.is_set()
    second = play.actors.get(timeout=10)
    wait(lambda: second.did("forget"))  # the folder of the lost attempt, if it is the same node


def test_an_order_for_a_lost_actor_is_dropped(play: Play):
    first = play.connected()
    first.kill()
    assert play.next("absent")["epoch"] == 1
    second = play.actors.get(timeout=10)
    play.next("node")
    play.order("late", epoch=0)
    play.order("new", epoch=1)
    wait(lambda: second.did("run_order"))
    assert [call[1]["job"] for call in second.did("run_order")] == ["new"]


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_disk_that_is_full_here_holds_the_job_once_its_actor_has_ended_it(
    play: Play, monkeypatch: pytest.MonkeyPatch, is_killed: bool
):
    actor = play.connected()
    play.order()
    wait(lambda: actor.did("run_order"))

    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/data")

    monkeypatch.setattr(files, "receive", fail)
    actor.say(play.stage_done(b"made"))
    wait(lambda: actor.did("cancel"))
    assert actor.did("cancel") == [("j",)]
    # Until the actor has ended it, the daemon must not give it anew.
    actor.say()
    assert [list(play.said.get(timeout=10)) for _ in range(2)] == [["worker", "epoch", "room"]] * 2
    assert not actor.did("forget")
    end = WorkerEnded("w1-1", ("j",), "cancel", "killed") if is_killed else JobDone("j")
    actor.say(_message_of(end))
    event = play.next("event")["event"]
    assert (event["event"], event["hold"], event["failure"]["code"]) == (
        "job_failed", True, "disk_full",
    )  # fmt: skip
    if is_killed:
        assert play.next("event")["event"]["event"] == "worker_ended"
    wait(lambda: actor.did("forget"))
    assert len(actor.did("forget")) == 1
    actor.say({"event": "models_loaded", "models": [], "worker": "w1-1"})
    assert play.next("event")["event"]["event"] == "models_loaded"  # and not the job's second end


def test_an_image_that_is_gone_fails_its_job(play: Play):
    actor = play.connected()
    play.order()
    wait(lambda: actor.did("run_order"))
    message = asdict(
        Order("k", 1, (), (OrderInput("image", str(play.folder / "none.png"), "0" * 64),), "")
    )
    play.link.put({"worker": "w1", "epoch": 0, "order": message})
    event = play.next("event")["event"]
    assert (event["job"], event["failure"]["code"]) == ("k", "source_missing")
    assert not actor.is_dead.is_set()
    wait(lambda: actor.did("skip_order"))


def test_a_worker_without_room_says_so_once_and_takes_orders_later(play: Play, monkeypatch: Any):
    play.has_room = False
    play.link.start()
    assert play.next("absent")["reason"] == "unready"
    threading.Event().wait(0.2)
    play.has_room = True
    node = play.next("node")
    assert node["epoch"] == 1
    actor = play.actors.get(timeout=10)
    play.order(epoch=1)
    wait(lambda: actor.did("run_order"))


def test_another_version_on_a_node_is_refused(play: Play):
    play.version = "0.0.0"
    play.link.start()
    assert "install the same on both" in play.next("absent")["absent"]


def test_a_draining_node_is_left_once_its_orders_have_ended(play: Play):
    actor = play.connected()
    play.order()
    wait(lambda: actor.did("run_order"))
    play.draining.add("n1")
    actor.say()
    play.next("draining")
    actor.say()
    threading.Event().wait(0.1)
    assert not actor.is_dead.is_set()
    actor.say(event_to_message(JobDone("j")))
    play.draining.clear()
    assert "about to leave" in play.next("absent")["absent"]
