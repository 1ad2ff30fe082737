"""When a `run` says that it waits for files."""

from __future__ import annotations

from typing import Any

from dna_pipeline.operations.daemon.run_waits import RunWaits

EMPTY = {"inbox": "in", "file": "cat.png", "reason": "is empty", "seconds": 50.0}
LATER = EMPTY | {"file": "dog.png"}


def test_a_file_is_reported_once_and_not_at_once() -> None:
    reports: list[list[dict[str, Any]]] = []
    waits = RunWaits(reports.append)
    for now in range(100, 140):
        waits.step(now, [EMPTY] if now < 105 else [EMPTY, LATER])
    assert reports == [[EMPTY], [LATER]]


def test_files_that_settle_soon_are_not_reported() -> None:
    reports: list[list[dict[str, Any]]] = []
    waits = RunWaits(reports.append)
    for now in (100.0, 101.0, 102.5):
        waits.step(now, [EMPTY])
    waits.step(104.0, [])
    assert reports == []


def test_a_file_that_comes_back_is_not_reported_at_once() -> None:
    reports: list[list[dict[str, Any]]] = []
    waits = RunWaits(reports.append)
    waits.step(100.0, [EMPTY])
    waits.step(101.0, [])
    waits.step(200.0, [EMPTY])
    assert reports == []
