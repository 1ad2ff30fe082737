"""Jobs of one worker take turns with a model."""

import threading
import time
from collections.abc import Callable

import pytest

from dna_pipeline.base.errors import Cancelled
from dna_pipeline.execution.worker.lanes import FIRST, Lane, Rank, SameWork

WITHIN_S = 20.0


def nothing() -> None: ...


class Jobs:
    """Threads that ask a lane for turns, and the order in which they got them."""

    def __init__(self) -> None:
        self.lane = Lane("tested")
        self.done: list[str] = []
        self.waits: list[str] = []
        self.errors: list[BaseException] = []
        self._threads: list[threading.Thread] = []

    def ask(
        self, name: str, rank: Rank, work: Callable[[], object] = nothing, check=nothing
    ) -> None:
        def turn() -> None:
            work()
            self.done.append(name)

        def job() -> None:
            try:
                self.lane.take(turn, rank, check, lambda: self.waits.append(name))
            except Exception as error:
                self.errors.append(error)

        thread = threading.Thread(target=job)
        thread.start()
        self._threads.append(thread)
        until(lambda: not thread.is_alive() or self.lane._waiting or self.lane._is_busy)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(WITHIN_S)
            assert not thread.is_alive()


def until(predicate: Callable[[], object]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not predicate():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def held(jobs: Jobs) -> threading.Event:
    """Give the first job a turn that lasts until the event is set."""
    begun, go_on = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go_on.wait(WITHIN_S)

    jobs.ask("first", (0, 0), work)
    assert begun.wait(WITHIN_S)
    return go_on


def test_a_higher_priority_comes_next_then_the_older_job():
    jobs = Jobs()
    go_on = held(jobs)
    ranks = {"c": (0, 3), "b": (0, 2), "urgent": (-5, 9), "task": FIRST}
    for number, (name, rank) in enumerate(ranks.items(), 1):
        jobs.ask(name, rank)
        until(lambda n=number: len(jobs.lane._waiting) == n)
    go_on.set()
    jobs.join()
    assert jobs.done == ["first", "task", "urgent", "b", "c"]
    assert jobs.waits == ["c", "b", "urgent", "task"]


def test_a_cancelled_job_gives_up_its_turn():
    jobs = Jobs()
    go_on = held(jobs)
    cancelled = threading.Event()

    def check() -> None:
        if cancelled.is_set():
            raise Cancelled("cancelled while it waited")

    jobs.ask("waiting", (0, 1), check=check)
    until(lambda: jobs.waits)
    cancelled.set()
    until(lambda: jobs.errors)
    assert jobs.done == []  # the first job still has its turn
    go_on.set()
    jobs.join()
    assert jobs.done == ["first"]
    assert isinstance(jobs.errors[0], Cancelled)


def test_a_wait_is_reported_before_the_turn_begins():
    jobs = Jobs()
    go_on = held(jobs)
    seen: list[str] = []

    def report() -> None:
        go_on.set()
        time.sleep(0.2)  # meanwhile the device is free
        seen.append("waits")

    jobs.lane.take(lambda: seen.append("works"), (0, 1), nothing, report)
    jobs.join()
    assert seen == ["waits", "works"]


def test_an_error_reaches_the_job_and_the_lane_goes_on():
    lane = Lane("tested")

    def fail() -> None:
        raise ValueError("of the model")

    with pytest.raises(ValueError, match="of the model"):
        lane.take(fail, (0, 0), nothing, nothing)
    assert lane.take(lambda: 7, (0, 1), nothing, nothing) == 7


def test_a_turn_within_a_turn_is_part_of_it():
    lane = Lane("tested")
    inner = lane.take(
        lambda: lane.take(threading.current_thread, (0, 9), nothing, nothing),
        (0, 0), nothing, nothing,
    )  # fmt: skip
    assert inner.name == "tested"


def test_all_turns_are_on_one_thread_that_was_prepared():
    prepared: list[threading.Thread] = []
    lane = Lane("tested", lambda: prepared.append(threading.current_thread()))
    seen = {lane.take(threading.current_thread, (0, n), nothing, nothing) for n in range(3)}
    assert seen == set(prepared)
    assert len(prepared) == 1


def test_the_time_of_turns_is_counted():
    lane = Lane("tested")
    lane.take(lambda: time.sleep(0.05), (0, 0), nothing, nothing)
    lane.take(nothing, (0, 0), nothing, nothing)  # the first turn is counted by now
    assert 0.05 <= lane.busy_s < WITHIN_S


def test_equal_work_runs_one_after_another_and_other_work_beside_it():
    work = SameWork()
    entered: list[str] = []
    waited: list[str] = []

    def go(key: str) -> None:
        with work.alone(key, nothing, lambda: waited.append(key)):
            entered.append(key)

    with work.alone("a", nothing, nothing):
        threads = [threading.Thread(target=go, args=(key,)) for key in ("a", "b")]
        for thread in threads:
            thread.start()
        threads[1].join(WITHIN_S)
        assert entered == ["b"]
    threads[0].join(WITHIN_S)
    assert entered == ["b", "a"]
    assert waited == ["a"]


def test_waiting_for_equal_work_can_be_given_up():
    work = SameWork()

    def check() -> None:
        raise Cancelled("meanwhile")

    with work.alone("a", nothing, nothing):
        with pytest.raises(Cancelled), work.alone("a", check, nothing):
            pass
        with work.alone(None, check, check), work.alone(None, check, check):
            pass


def shared(lane: Lane, results: dict[str, object], key: str, name: str, number: int) -> None:
    def work(items):
        return [(item, len(items)) for item in items]

    results[name] = lane.share(key, name, work, (0, number), nothing, nothing)


def test_jobs_that_wait_with_one_key_share_a_turn():
    jobs = Jobs()
    jobs.lane.most_together = 3
    go_on = held(jobs)
    results: dict[str, object] = {}
    asked = ["a1", "b2", "a3", "a4", "a5"]
    threads = [
        threading.Thread(target=shared, args=(jobs.lane, results, name[0], name, int(name[1])))
        for name in asked
    ]
    for thread in threads:
        thread.start()
    until(lambda: len(jobs.lane._waiting) == len(asked))
    go_on.set()
    for thread in threads:
        thread.join(WITHIN_S)
    assert results == {
        "a1": ("a1", 3), "a3": ("a3", 3), "a4": ("a4", 3), "b2": ("b2", 1), "a5": ("a5", 1),
    }  # fmt: skip
    jobs.join()


def test_an_error_of_a_shared_turn_is_not_the_first_job_s():
    seen: list[BaseException] = []
    jobs = Jobs()
    jobs.lane = Lane("tested", nothing, 2, seen.append)
    go_on = held(jobs)

    def fail(_items):
        raise ValueError("of one of them")

    def ask(number: int) -> None:
        with pytest.raises(ValueError, match="of one of them"):
            jobs.lane.share("k", number, fail, (0, number), nothing, nothing)

    first = threading.Thread(target=ask, args=(1,))
    second = threading.Thread(
        target=lambda: jobs.lane.share("k", 2, fail, (0, 2), nothing, nothing)
    )
    for thread in (first, second):
        thread.start()
    until(lambda: len(jobs.lane._waiting) == 2)
    go_on.set()
    first.join(WITHIN_S)
    second.join(WITHIN_S)
    assert [str(error) for error in seen] == ["of one of them"]


def test_a_lane_that_could_not_be_prepared_fails_each_turn():
    def fail() -> None:
        raise OSError("no such card")

    lane = Lane("tested", fail)
    for number in range(2):
        with pytest.raises(OSError, match="no such card"):
            lane.take(nothing, (0, number), nothing, nothing)
