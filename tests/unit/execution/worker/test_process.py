"""The worker's parts that need no process: what it says of itself while it works."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from dna_pipeline.base import ipc
from dna_pipeline.execution.local_executor import WorkerSettings
from dna_pipeline.execution.worker import process
from dna_pipeline.execution.worker.process import BusyClock, Worker


class Enough(SystemExit):
    """Ends the thread that beats."""


class Heard:
    """The pipe to the daemon; it ends the thread once so many messages were sent."""

    def __init__(self, number: int) -> None:
        self.left = number
        self.messages: list[ipc.Message] = []

    def send(self, message: ipc.Message) -> None:
        self.messages.append(message)
        self.left -= 1
        if not self.left:
            raise Enough


@pytest.fixture
def switch_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_what_the_clock_counts(monkeypatch: pytest.MonkeyPatch):
    now = [100.0]
    monkeypatch.setattr(process.time, "monotonic", lambda: now[0])
    clock, seen = BusyClock(), list[float]()

    def passes(seconds: float) -> None:
        now[0] += seconds
        seen.append(clock.seconds())

    passes(5)
    with clock.running():
        passes(2)
        passes(1)
    passes(7)
    with pytest.raises(ValueError, match="the job"), clock.running():
        passes(4)
        raise ValueError("the job")
    passes(9)
    assert seen == [0, 2, 3, 3, 7, 7]


@pytest.mark.usefixtures("switch_often")
def test_the_clock_never_goes_back_whenever_it_is_asked():
    clock, seen, is_over = BusyClock(), list[float](), threading.Event()

    def ask() -> None:
        while not is_over.is_set():
            seen.append(clock.seconds())

    asking = threading.Thread(target=ask)
    asking.start()
    for _ in range(20_000):
        with clock.running():
            pass
    is_over.set()
    asking.join()
    seen.append(clock.seconds())
    assert seen[0] >= 0
    assert seen == sorted(seen)


def test_beats_go_on_after_any_trouble(monkeypatch: pytest.MonkeyPatch):
    troubles: list[Any] = [
        OSError("too many open files"),
        MemoryError(),
        KeyError("x"),
        TypeError(),
    ]

    def resident_bytes() -> int:
        if troubles:
            raise troubles.pop()
        return 1 << 20

    monkeypatch.setattr(process, "BEAT_INTERVAL_S", 0.0)
    monkeypatch.setattr(process, "resident_bytes", resident_bytes)
    heard = Heard(2)
    working = Worker(WorkerSettings("cpu", "auto", "", {}, 60, 0), heard)  # type: ignore[arg-type]
    with pytest.raises(Enough):
        working.beat()
    beat = {"event": "beat", "rss_bytes": 1 << 20, "device_busy_s": 0.0}
    assert heard.messages == [beat, beat]


def test_a_process_knows_its_memory():
    assert process.resident_bytes() > 1 << 20
