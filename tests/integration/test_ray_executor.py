"""The executor for Ray with a played bridge, and the actor without Ray."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from dna_pipeline.execution import ray_executor
from dna_pipeline.execution.cluster.relay import Relay
from dna_pipeline.execution.protocol import Event, Task, TaskDone, ThumbnailOrder, WorkerEnded
from dna_pipeline.execution.ray_executor import RayExecutor, RaySettings
from dna_pipeline.execution.worker_child import WorkerSettings
from tests.integration.acting import Bench, stage

pytestmark = pytest.mark.slow

BRIDGE = """
import json, os, sys, threading, time

def say(**message):
    print(json.dumps({"worker": "local", "epoch": 0, **message}), flush=True)

settings = json.loads(sys.stdin.readline())
assert settings["address"] == "here:1" and list(settings["workers"]) == ["local"]
"""
PLAYS = {
    "ends": """
say(node="one", process="local-1")
sys.stdin.readline()
os._exit(3)
""",
    "fails": """
print("nobody is at home", file=sys.stderr, flush=True)
os._exit(1)
""",
    "is_silent": """
say(node="one", process="local-1")
time.sleep(600)
""",
    "talks_nonsense": """
say(node="one", process="local-1")
sys.stdin.readline()
print("[]", flush=True)
time.sleep(600)
""",
}

Start = Callable[[str], RayExecutor]


@pytest.fixture
def bench(tmp_path: Path, plugin: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "bench")
    yield bench
    bench.executor.close(5)


@pytest.fixture
def start(tmp_path: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    made: list[RayExecutor] = []
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[2]}")
    monkeypatch.setattr(ray_executor, "FIRST_REST_S", 0.3)

    def start(name: str) -> RayExecutor:
        (tmp_path / "played_bridge.py").write_text(BRIDGE + PLAYS[name])
        settings = WorkerSettings("cpu", "auto", str(bench.folder / "data"), {}, 60, 0)
        made.append(RayExecutor([settings], RaySettings("here:1"), bridge="played_bridge"))
        return made[-1]

    yield start
    for executor in made:
        executor.close(1)


def wait(is_true: Callable[[], object], executor: RayExecutor) -> None:
    deadline = time.monotonic() + 30
    while not is_true():
        assert time.monotonic() < deadline
        executor.enforce_timeouts()
        time.sleep(0.02)


def node(executor: RayExecutor) -> str:
    return executor.workers()[0].node


def next_end(executor: RayExecutor) -> WorkerEnded:
    while not isinstance(event := executor.events().get(timeout=30), WorkerEnded):
        pass
    return event


def test_jobs_are_interrupted_when_the_bridge_ends_and_another_one_begins(
    start: Start, bench: Bench
):
    executor = start("ends")
    wait(lambda: node(executor), executor)
    executor.submit(bench.order(stage("copy"), job="a"))
    ended = next_end(executor)
    assert (ended.jobs, ended.reason) == (("a",), "lost")
    assert "ended with exit status 3" in ended.detail
    (state,) = executor.workers()
    assert (state.state, state.node) == ("lost", "")
    wait(lambda: node(executor) == "one", executor)


def test_what_a_bridge_says_at_its_end_is_the_problem_of_all_workers(start: Start, bench: Bench):
    executor = start("fails")
    wait(lambda: executor.workers()[0].problem, executor)
    assert "nobody is at home" in executor.workers()[0].problem
    executor.submit(bench.order(stage("copy"), job="a"))
    assert next_end(executor).reason == "unready"


def test_a_silent_bridge_is_ended(start: Start, bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ray_executor, "SILENCE_S", 0.5)
    executor = start("is_silent")
    wait(lambda: node(executor), executor)
    executor.submit(bench.order(stage("copy"), job="a"))
    wait(lambda: executor.workers()[0].problem, executor)
    assert next_end(executor).reason == "lost"


def test_a_bridge_that_sends_nonsense_is_ended(start: Start, bench: Bench):
    executor = start("talks_nonsense")
    wait(lambda: node(executor), executor)
    executor.submit(bench.order(stage("copy"), job="a"))
    assert "no JSON object" in next_end(executor).detail


def test_pictures_are_drawn_on_this_machine(start: Start, tmp_path: Path):
    from PIL import Image

    Image.new("RGB", (600, 400)).save(tmp_path / "big.png")
    executor = start("is_silent")
    for number in range(2):
        order = ThumbnailOrder(str(tmp_path / "big.png"), str(tmp_path / f"{number}.webp"))
        executor.submit(Task(f"t{number}", "make_thumbnails", thumbnails=(order,)))
    seen: list[Event] = []
    while len(seen) < 2:
        seen.append(executor.events().get(timeout=60))
    assert [event.task for event in seen if isinstance(event, TaskDone)] == ["t0", "t1"]
    assert all((tmp_path / f"{number}.webp").exists() for number in range(2))


# --- the actor ---


def events_of(relay: Relay, ends: str) -> list[str]:
    """Take events until one of that kind."""
    kinds: list[str] = []
    last, deadline = 0, time.monotonic() + 60
    while ends not in kinds:
        assert time.monotonic() < deadline, kinds
        answer = relay.poll(last, 0.5)
        for number, message in answer["events"]:
            assert number == last + 1
            last = number
            kinds.append(message["event"])
    return kinds


def test_an_actor_runs_orders_in_folders_of_their_attempts(bench: Bench):
    data = bench.folder / "data"
    witness = data / "seen"
    witness.touch()
    settings = asdict(WorkerSettings("cpu", "auto", str(data), {}, 60, 0))
    module = "dna_pipeline.execution.worker.process"
    relay = Relay(settings, "w1", module, str(witness))
    try:
        relay.run_order("one", asdict(bench.order(stage("copy"), job="a")))
        assert relay.poll(0, 0)["room"] == {"free": False, "capacity": 1, "received": 1}
        kinds = events_of(relay, "job_done")
        assert kinds[0] == "ready" and kinds[-2:] == ["stage_done", "job_done"]
        assert relay.read("one", "act", "pic.act.png", 2) == b"xelscopy"
        assert not (bench.folder / "work").exists()
        assert relay.poll(99, 0)["room"]["free"]
        relay.forget("one")
        assert list((data / "attempts").iterdir()) == []
        relay.skip_order("two")
        assert relay.poll(99, 0)["room"]["received"] == 2
    finally:
        relay.close(5)


def test_an_actor_that_does_not_see_the_data_folder_says_so(tmp_path: Path):
    settings = asdict(WorkerSettings("cpu", "auto", str(tmp_path), {}, 60, 0))
    with pytest.raises(FileNotFoundError, match="work_dir: transfer"):
        Relay(settings, "w1", "none", str(tmp_path / "attempts/none.seen"))
