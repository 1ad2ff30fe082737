"""Events for many who follow them: in order, each once, and none left out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import pairwise

import pytest
from structlog.testing import capture_logs

from dna_pipeline.config.schema import Config
from dna_pipeline.ledger.health import file_id
from dna_pipeline.ledger.queries import Queries
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.operations.serving import feed as feeds
from dna_pipeline.operations.serving.feed import EventFeed, Follower
from dna_pipeline.operations.serving.readers import Readers
from tests.serving import add_events, replace_ledger

LIMIT_S = 20.0


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "LOOK_S", 0.002)


@pytest.fixture
def feed(config: Config) -> Iterator[EventFeed]:
    readers = Readers(config)
    feed = EventFeed(config, readers)
    yield feed
    feed.close()
    readers.close()


class Reader:
    """Follows events, and takes them whenever it is woken."""

    def __init__(self, feed: EventFeed, job: str | None = None, after: int = 0) -> None:
        self.woken = threading.Event()
        self.events: list[tuple[int, str]] = []
        self.follower: Follower = feed.follow(self.woken.set, job=job, after=after)

    def take(self) -> None:
        """Take all that there is, as a stream does."""
        self.woken.clear()
        while events := self.follower.take():
            self.events += [(event["id"], event["job_id"]) for event in events]

    def until(self, number: int) -> list[tuple[int, str]]:
        """All events, once there are so many."""
        end = time.monotonic() + LIMIT_S
        self.take()
        while len(self.events) < number:
            assert self.woken.wait(max(end - time.monotonic(), 0)), f"{len(self.events)} came"
            self.take()
        return self.events

    @property
    def numbers(self) -> list[int]:
        return [number for number, _ in self.events]


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def is_looking(feed: EventFeed) -> bool:
    return feed._floor is not None


def test_events_come_from_the_beginning_and_then_as_they_happen(feed: EventFeed, ledger: Ledger):
    add_events(ledger, "a", "b")
    reader = Reader(feed)
    assert reader.until(2) == [(1, "a"), (2, "b")]
    add_events(ledger, "a", "c")
    assert reader.until(4)[2:] == [(3, "a"), (4, "c")]


def test_one_job_has_only_its_own(feed: EventFeed, ledger: Ledger):
    add_events(ledger, "a", "b", "a")
    reader = Reader(feed, job="a")
    assert reader.until(2) == [(1, "a"), (3, "a")]
    add_events(ledger, "b", "b", "a")
    assert reader.until(3) == [(1, "a"), (3, "a"), (6, "a")]


def test_they_begin_after_a_number(feed: EventFeed, ledger: Ledger):
    add_events(ledger, *"abcde")
    assert Reader(feed, after=3).until(2) == [(4, "d"), (5, "e")]


def test_a_commit_just_before_the_first_look_is_not_missed(
    feed: EventFeed, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
):
    # Between its two first questions, where a change could slip through.
    real = Queries.last_event

    def last_event(self: Queries) -> int:
        number = real(self)
        if threading.current_thread().name == "feed" and not number:
            add_events(ledger, "a", kind="completed")
        return number

    monkeypatch.setattr(Queries, "last_event", last_event)
    assert Reader(feed).until(1) == [(1, "a")]


def test_a_job_is_not_hidden_behind_the_events_of_others(
    feed: EventFeed, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(feeds, "PORTION", 5)
    reader = Reader(feed, job="mine")
    reader.take()
    wait_for(lambda: is_looking(feed))
    add_events(ledger, *["other"] * 23, "mine")
    assert reader.until(1) == [(24, "mine")]


def test_who_is_far_behind_reads_the_ledger(
    feed: EventFeed, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
):
    feed._recent = type(feed._recent)(maxlen=10)
    monkeypatch.setattr(feeds, "KEPT", 10)
    monkeypatch.setattr(feeds, "PORTION", 4)
    slow, quick = Reader(feed), Reader(feed, job="a")
    quick.take()
    wait_for(lambda: is_looking(feed))
    for _ in range(5):
        add_events(ledger, *"aab" * 3)
    assert [number for number, _ in slow.until(45)] == list(range(1, 46))
    assert len(quick.until(30)) == 30
    assert len(feed._recent) <= 10


@pytest.mark.slow
def test_none_is_doubled_or_left_out_while_others_write(feed: EventFeed, ledger: Ledger):
    def write(job: str) -> None:
        for _ in range(40):
            add_events(ledger, job, job)

    writers = [threading.Thread(target=write, args=(job,)) for job in "abc"]
    readers = [Reader(feed), Reader(feed, job="b")]
    for thread in writers:
        thread.start()
    late = Reader(feed)
    readers[0].until(240)
    readers[1].until(80)
    late.until(240)
    for thread in writers:
        thread.join()
    assert readers[0].numbers == list(range(1, 241))
    assert late.numbers == readers[0].numbers
    assert {job for _, job in readers[1].events} == {"b"}
    assert all(first < second for first, second in pairwise(readers[1].numbers))


@pytest.mark.slow
def test_one_look_is_for_all(feed: EventFeed, ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    readers = [Reader(feed, job=f"job{number % 50}") for number in range(500)]
    for reader in readers:
        reader.take()
    wait_for(lambda: is_looking(feed))
    for reader in readers:
        reader.take()
    asked: list[str] = []
    real = Queries.events

    def events(self: Queries, *arguments: object) -> object:
        asked.append(threading.current_thread().name)
        return real(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Queries, "events", events)
    add_events(ledger, *(f"job{number}" for number in range(50)))
    for reader in readers:
        assert len(reader.until(1)) == 1
    assert set(asked) == {"feed"}
    assert len(asked) == 2  # the new ones, and then none


def test_nobody_is_woken_for_others(feed: EventFeed, ledger: Ledger):
    mine, other = Reader(feed, job="mine"), Reader(feed, job="other")
    mine.take()
    wait_for(lambda: is_looking(feed))
    mine.take()
    other.take()
    other.woken.clear()
    mine.woken.clear()
    add_events(ledger, "other")
    assert other.until(1)
    assert not mine.woken.is_set()


# --- the ledger comes, goes and is another ---


def test_a_ledger_may_come_later(feed: EventFeed, config: Config):
    reader = Reader(feed)
    reader.take()
    assert reader.events == []
    replace_ledger(config, "a")
    assert reader.until(1) == [(1, "a")]


def test_all_events_go_on_with_those_of_a_new_ledger(
    feed: EventFeed, config: Config, ledger: Ledger
):
    add_events(ledger, *"abcde")
    reader = Reader(feed)
    reader.until(5)
    ledger.close()
    replace_ledger(config, "x", "y")
    wait_for(lambda: feed._file == file_id(config.ledger_path))
    with closing(Ledger(config.ledger_path)) as other:
        add_events(other, "z")
        assert reader.until(6)[5:] == [(3, "z")]


def test_one_job_begins_anew_in_a_new_ledger(feed: EventFeed, config: Config, ledger: Ledger):
    add_events(ledger, *"aaaaa")
    reader = Reader(feed, job="a")
    reader.until(5)
    ledger.close()
    replace_ledger(config, "a", "b", "a")
    assert reader.until(7)[5:] == [(1, "a"), (3, "a")]


@pytest.mark.parametrize(("job", "first"), [(None, (3, "a")), ("a", (1, "a"))])
def test_a_number_of_another_ledger_does_not_keep_events_back(
    feed: EventFeed, ledger: Ledger, job: str | None, first: tuple[int, str]
):
    add_events(ledger, "a", "b")
    reader = Reader(feed, job=job, after=1000)
    reader.take()
    add_events(ledger, "a")
    assert reader.until(1)[0] == first


@pytest.mark.slow
def test_a_failed_look_is_followed_by_another(
    feed: EventFeed, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
):
    real, failures = Queries.data_version, [RuntimeError("once")]

    def data_version(self: Queries) -> int:
        if failures:
            raise failures.pop()
        return real(self)

    monkeypatch.setattr(Queries, "data_version", data_version)
    with capture_logs() as said:  # to render the traceback takes long on a busy machine
        reader = Reader(feed)
        reader.take()
        wait_for(lambda: is_looking(feed))
        add_events(ledger, "a")
        assert reader.until(1)
    assert [entry["event"] for entry in said] == ["feed.failed"]


# --- its thread ---


def test_nothing_is_looked_at_while_nobody_follows(feed: EventFeed, ledger: Ledger):
    reader = Reader(feed)
    wait_for(lambda: is_looking(feed))
    reader.follower.close()
    wait_for(lambda: feed._thread is None)
    assert feed.number == 0
    again = Reader(feed)
    add_events(ledger, "a")
    assert again.until(1)


def test_the_end_wakes_all(feed: EventFeed, ledger: Ledger):
    reader = Reader(feed)
    wait_for(lambda: is_looking(feed))
    reader.take()
    feed.close()
    assert reader.woken.is_set()
    assert feed._thread is None
