"""The thread that takes files in: its end, and how it goes on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, cast

import pytest

from dna_pipeline.base.reachability import look_directly
from dna_pipeline.operations.daemon.intake_thread import IntakeThread


class Intake:
    """An intake whose steps a test lets through."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()

    def step(self) -> bool:
        self.begun.release()
        assert self.gate.wait(10)
        return False

    def seconds_to_next(self) -> float:
        return 0.001

    def has_stepped(self) -> bool:
        """True if a step begins within a moment."""
        while self.begun.acquire(blocking=False):
            pass
        return self.begun.acquire(timeout=0.5)


@pytest.fixture
def intake() -> Intake:
    return Intake()


@pytest.fixture
def thread(intake: Intake) -> Iterator[IntakeThread]:
    thread = IntakeThread(cast("Any", intake), [], look_directly, lambda: None)
    thread.start()
    yield thread
    thread.stop()
    assert thread.join(10)
    thread.close()


def test_it_goes_on_after_its_end(intake: Intake, thread: IntakeThread) -> None:
    thread.stop()
    assert thread.join(10)
    assert not intake.has_stepped()
    thread.resume()
    assert intake.has_stepped()


def test_it_goes_on_if_it_had_not_ended_yet(intake: Intake, thread: IntakeThread) -> None:
    intake.gate.clear()
    assert intake.begun.acquire(timeout=10)
    thread.stop()
    assert not thread.join(0.0)
    thread.resume()
    intake.gate.set()
    assert intake.has_stepped()


def test_resuming_what_was_not_stopped_begins_no_second_thread(
    intake: Intake, thread: IntakeThread
) -> None:
    before = threading.active_count()
    thread.resume()
    assert threading.active_count() == before
    assert intake.has_stepped()
