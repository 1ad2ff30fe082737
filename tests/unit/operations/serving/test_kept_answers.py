"""One answer for all who ask."""

from __future__ import annotations

import threading
import time

import pytest

from dna_pipeline.operations.serving import kept_answers
from dna_pipeline.operations.serving.kept_answers import KeptAnswer


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(kept_answers, "time", clock)
    return clock


def test_an_answer_is_kept_for_a_while(clock: Clock):
    numbers = iter(range(9))
    answer = KeptAnswer(lambda: next(numbers), keep_s=1)
    assert [answer.get(), answer.get()] == [0, 0]
    clock.now += 0.9
    assert answer.get() == 0
    clock.now += 0.2
    assert [answer.get(), answer.get()] == [1, 1]


def test_an_answer_that_took_long_is_kept_longer(clock: Clock):
    asked: list[float] = []

    def ask() -> int:
        asked.append(clock.now)
        clock.now += 3
        return len(asked)

    answer = KeptAnswer(ask, keep_s=1)
    assert answer.get() == 1
    clock.now += 59
    assert answer.get() == 1
    clock.now += 2
    assert answer.get() == 2


def test_it_is_forgotten_on_demand(clock: Clock):
    numbers = iter(range(9))
    answer = KeptAnswer(lambda: next(numbers), keep_s=100)
    answer.get()
    answer.forget()
    assert answer.get() == 1


def test_an_answer_from_before_a_change_is_not_kept(clock: Clock):
    state = ["before"]

    def ask() -> str:
        seen = state[0]
        if seen == "before":  # the change comes while this look is under way
            state[0] = "after"
            answer.forget()
        return seen

    answer = KeptAnswer(ask, keep_s=100)
    assert [answer.get(), answer.get()] == ["before", "after"]


def test_an_error_is_not_kept(clock: Clock):
    outcomes = iter([ValueError("no"), 7])

    def ask() -> int:
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    answer = KeptAnswer(ask, keep_s=100)
    with pytest.raises(ValueError, match="no"):
        answer.get()
    assert answer.get() == 7


def test_the_others_get_the_last_answer_while_one_looks():
    begun, go_on = threading.Event(), threading.Event()
    numbers = iter(range(9))

    def ask() -> int:
        number = next(numbers)
        if number == 1:
            begun.set()
            assert go_on.wait(20)
        return number

    answer = KeptAnswer(ask, keep_s=0)
    assert answer.get() == 0
    time.sleep(0.05)
    looking = threading.Thread(target=answer.get)
    looking.start()
    assert begun.wait(20)
    assert answer.get() == 0
    go_on.set()
    looking.join(20)
    answer._good_until = time.monotonic() + 100
    assert answer.get() == 1


def test_all_wait_for_the_first_answer_which_is_looked_for_once():
    numbers = iter(range(9))
    together = threading.Barrier(4, timeout=20)
    answers: list[int] = []

    def ask() -> int:
        time.sleep(0.02)
        return next(numbers)

    answer = KeptAnswer(ask, keep_s=100)

    def get() -> None:
        together.wait()
        answers.append(answer.get())

    threads = [threading.Thread(target=get) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert answers == [0] * 4
