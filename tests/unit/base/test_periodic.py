"""Work that is repeated, by a clock of the test's own."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from dna_pipeline.base.periodic import PeriodicTask, SignalFlag, Throttle


def test_what_was_never_done_is_due() -> None:
    assert Throttle(60).is_due(-1e9)


def test_it_is_due_after_its_interval_or_after_its_share_of_time() -> None:
    throttle = Throttle(10, cost_share=20)
    assert [throttle.take(now) for now in (0, 9.9, 10, 19, 20)] == [True, False, True, False, True]
    throttle.done(100, cost_s=2)
    assert (throttle.is_due(139), throttle.is_due(140)) == (False, True)


def test_the_longest_wait_bounds_what_it_costs() -> None:
    throttle = Throttle(0, cost_share=200, longest_s=10)
    throttle.done(0, cost_s=1)
    assert throttle.is_due(10)
    throttle.done(0, cost_s=0.01)
    assert throttle.is_due(2)


class Counting:
    def __init__(self, steps: int, error: Exception | None = None) -> None:
        self.done, self.rounds, self._steps, self._error = 0, 0, steps, error

    def round(self) -> Iterator[None]:
        self.rounds += 1
        for _ in range(self._steps):
            self.done += 1
            yield
        if self._error is not None:
            raise self._error


def test_one_step_is_done_at_each_call_and_the_next_round_waits() -> None:
    work = Counting(2)
    task = PeriodicTask(work.round, Throttle(10))
    for now in (0, 0, 0, 5):
        task.step(now)
    assert (work.done, work.rounds) == (2, 1)
    task.step(10)
    assert (work.done, work.rounds) == (3, 2)


def test_a_call_goes_on_for_its_time() -> None:
    work = Counting(50)
    PeriodicTask(work.round, Throttle(0), step_s=60).step(0)
    assert work.done == 50


def test_a_round_that_may_not_begin_may_go_on() -> None:
    work = Counting(2)
    task = PeriodicTask(work.round, Throttle(0))
    task.step(0, may_begin=False)
    assert work.done == 0
    task.step(0)
    task.step(0, may_begin=False)
    assert work.done == 2


def test_an_error_ends_the_round_and_the_next_one_waits() -> None:
    work = Counting(1, OSError("no space"))
    task = PeriodicTask(work.round, Throttle(10))
    task.step(0)
    with pytest.raises(OSError, match="no space"):
        task.step(0)
    task.step(9)
    assert work.rounds == 1
    task.step(10)
    assert work.rounds == 2


def test_the_rest_of_a_round_can_be_taken_over() -> None:
    work = Counting(3)
    task = PeriodicTask(work.round, Throttle(10))
    task.step(0)
    assert len(list(task.rest())) == 2
    assert list(task.rest()) == []


def test_a_flag_ends_the_wait_of_another_thread():
    flag = SignalFlag()
    assert flag.wait(0.0) is False
    seen: list[bool] = []
    thread = threading.Thread(target=lambda: seen.append(flag.wait(20.0)))
    thread.start()
    flag.set()
    thread.join(20.0)
    assert seen == [True]
    assert flag.is_set()
