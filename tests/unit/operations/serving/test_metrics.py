"""Metrics without a daemon, read by Prometheus' own parser."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dna_pipeline.config.schema import Config
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.operations.daemon.lock import hold_lock
from dna_pipeline.operations.serving import metrics as module
from dna_pipeline.operations.serving.metrics import LedgerMetrics
from tests.serving import add_events, replace_ledger


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def metrics(config: Config, clock: Clock) -> LedgerMetrics:
    return LedgerMetrics(config, clock)


def values(text: str) -> dict[str, float]:
    """Sums of the samples by their names."""
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = sample.name.removeprefix("dna_pipeline_")
            sums[name] = sums.get(name, 0) + sample.value
    return sums


def test_without_a_ledger_it_says_that_none_runs(metrics: LedgerMetrics):
    assert values(metrics.text()) == {"up": 0}


def test_a_daemon_is_seen_by_its_lock(metrics: LedgerMetrics, config: Config):
    with hold_lock(config.data):
        found = values(metrics.text())
    assert found["up"] == 1
    assert found["start_timestamp_seconds"] > 1e9


def test_what_ends_is_counted_from_the_first_look_on(
    metrics: LedgerMetrics, ledger: Ledger, clock: Clock
):
    add_events(ledger, "a", "b", kind="completed")
    assert "jobs_ended_total" not in values(metrics.text())
    add_events(ledger, "c", kind="completed")
    add_events(ledger, "d", "e", kind="failed")
    clock.now += 100
    assert values(metrics.text())["jobs_ended_total"] == 3
    clock.now += 100
    text = metrics.text()
    assert values(text)["jobs_ended_total"] == 3
    assert "since the server was started" in text
    assert values(text)["queue_length"] == 0


def test_another_ledger_begins_at_nothing(
    metrics: LedgerMetrics, config: Config, ledger: Ledger, clock: Clock
):
    metrics.text()
    add_events(ledger, *"abcdef", kind="completed")
    clock.now += 100
    assert values(metrics.text())["jobs_ended_total"] == 6
    ledger.close()
    replace_ledger(config, "a", "b")
    clock.now += 100
    assert "jobs_ended_total" not in values(metrics.text())


def test_many_who_ask_cost_one_look(
    metrics: LedgerMetrics, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    looks: list[float] = []

    def look(_: object) -> bool:
        looks.append(clock.now)
        clock.now += 2  # a large ledger
        return False

    monkeypatch.setattr(module, "is_held", look)
    for _ in range(100):
        metrics.text()
        clock.now += 1
    assert looks == [100.0, 142.0, 184.0]
