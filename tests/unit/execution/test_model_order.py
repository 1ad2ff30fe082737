"""The order of jobs by their models: few changes of models, and a limit of what each lets pass."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from dna_pipeline.execution.model_order import ModelOrder, Waiting

HOUR_S = 3600.0


@dataclass
class World:
    """Workers that hold one model each, jobs of known duration, and a clock of its own.

    Attributes:
        loads: how often each model was loaded.
        started: numbers of the jobs in the order of their start.
        passed_s: for each job, seconds of work of jobs behind it that started before it.
    """

    models: Sequence[str]
    window_s: float
    seconds: Mapping[str, float]
    workers: int = 1
    now: float = 0.0
    loads: Counter[str] = field(default_factory=Counter[str])
    started: list[int] = field(default_factory=list[int])
    passed_s: dict[int, float] = field(default_factory=dict[int, float])

    def run(self) -> None:
        order = ModelOrder(self.window_s, self.workers, clock=lambda: self.now)
        waiting = {seq: Waiting.of(seq, model) for seq, model in enumerate(self.models)}
        loaded = [frozenset[str]() for _ in range(self.workers)]
        free, at_work = set(range(self.workers)), list[tuple[float, int, int]]()
        while waiting or at_work:
            while waiting and free:
                head = waiting[min(waiting)]
                sets = [loaded[worker] for worker in sorted(free)]
                seq = order.choose(str(head.seq), 0, head, sets, lambda: waiting.values())
                job = waiting.pop(seq)
                fitting = [w for w in free if job.models <= loaded[w]]
                worker = min(fitting or free, key=lambda w: (len(loaded[w]), w))
                if not fitting:
                    self.loads.update(job.models)
                    loaded[worker] = job.models
                free.remove(worker)
                order.note_start(str(seq), seq, 0, head.seq)
                took = self.seconds[self.models[seq]]
                for other in waiting:
                    if other < seq:
                        self.passed_s[other] = self.passed_s.get(other, 0.0) + took
                self.started.append(seq)
                heapq.heappush(at_work, (self.now + took, seq, worker))
            self.now, seq, worker = heapq.heappop(at_work)
            order.note_end(str(seq))
            free.add(worker)


def run(models: Sequence[str], window_s: float, workers: int = 1, **seconds: float) -> World:
    world = World(models, window_s, dict.fromkeys(models, 1.0) | seconds, workers)
    world.run()
    assert sorted(world.started) == list(range(len(models)))
    return world


def test_fifty_alternating_jobs_load_each_model_once():
    world = run(["a", "b"] * 25, window_s=300)
    assert world.loads == {"a": 1, "b": 1}
    assert world.started == [*range(0, 50, 2), *range(1, 50, 2)]


def test_without_a_window_jobs_keep_their_places():
    world = run(["a", "b"] * 5, window_s=0)
    assert world.started == list(range(10))
    assert world.loads == {"a": 5, "b": 5}


def test_two_workers_share_two_models():
    world = run(["a", "b"] * 25, window_s=300, workers=2)
    assert world.loads == {"a": 1, "b": 1}


@pytest.mark.parametrize("kinds", ["ab", "abc", "aabbbc", "abcdefgh"])
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_no_job_lets_more_pass_than_the_window(kinds: str, workers: int):
    dice = random.Random(7)
    seconds = {kind: dice.uniform(1, 9) for kind in kinds}
    models = [dice.choice(kinds) for _ in range(600)]
    world = run(models, 60, workers, **seconds)
    # The last job that passes may have begun just before the limit, on each worker.
    most = 60 * workers + max(seconds.values()) * workers
    assert max(world.passed_s.values()) <= most
    changes = sum(world.loads.values())
    assert changes < sum(run(models, 0, workers, **seconds).loads.values())


def test_three_models_take_turns():
    world = run(["a", "b", "c"] * 100, window_s=60)
    # Strictly in their places it would be 300; 20 jobs fit between two changes or more.
    assert sum(world.loads.values()) <= 300 / 20
    assert max(world.passed_s.values()) <= 61


def test_a_job_whose_model_adds_to_those_that_are_there_waits_for_nothing():
    order = ModelOrder(HOUR_S)
    head = Waiting.of(1, "matte,sd")
    jobs = [head, Waiting.of(2, "matte")]
    assert order.choose("one", 0, head, [frozenset({"matte"})], lambda: jobs) == 1
    assert order.choose("one", 0, head, [frozenset({"other"}), frozenset()], lambda: jobs) == 1


def test_a_job_without_models_is_never_passed():
    order = ModelOrder(HOUR_S)
    head = Waiting.of(1, "")
    assert order.choose("one", 0, head, [frozenset({"sd"})], lambda: pytest.fail("asked")) == 1


def test_the_delay_says_which_job_waits_and_for_how_long():
    clock = [0.0]
    order = ModelOrder(100, clock=lambda: clock[0])
    head, jobs = Waiting.of(1, "b,lora:x"), [Waiting.of(n, "a") for n in range(2, 9)]
    loaded = [frozenset({"a"})]
    assert order.choose("one", 0, head, loaded, lambda: [head, *jobs]) == 2
    order.note_start("two", 2, 0, 1)
    clock[0] = 30.0
    order.note_end("two")
    assert order.choose("one", 0, head, loaded, lambda: [head, *jobs[1:]]) == 3
    assert order.delay is not None
    assert order.delay.to_dict() == {
        "job": "one", "models": ["b"], "passed_s": 30.0, "limit_s": 100.0, "first": ["a"]
    }  # fmt: skip
    order.note_start("three", 3, 0, 1)
    clock[0] = 101.0
    order.note_end("three")
    assert order.choose("one", 0, head, loaded, lambda: [head, *jobs[2:]]) == 1
    assert order.delay is None


def test_each_priority_has_an_order_of_its_own():
    clock = [0.0]
    order = ModelOrder(10, clock=lambda: clock[0])
    low, behind = Waiting.of(1, "b"), Waiting.of(2, "a")
    loaded = [frozenset({"a"})]
    assert order.choose("low", 0, low, loaded, lambda: [low, behind]) == 2
    order.note_start("behind", 2, 0, 1)
    clock[0] = 11.0
    order.note_end("behind")
    high, other = Waiting.of(8, "b"), Waiting.of(9, "a")
    assert order.choose("high", 5, high, loaded, lambda: [high, other]) == 9
    later = Waiting.of(10, "a")
    assert order.choose("low", 0, low, loaded, lambda: [low, later]) == 1, "it waited already"
