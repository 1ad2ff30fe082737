"""The file of metrics, read by Prometheus' own parser and checked by promtool's rules."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text as sql

from dna_pipeline.base.reachability import SILENT
from dna_pipeline.ledger import store
from dna_pipeline.ledger.report_queries import ReportQueries
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.operations.daemon.metrics import MetricsFile, Totals
from dna_pipeline.operations.daemon.metrics_text import Metric, to_text
from tests.ledgers import lay_out

HOSTILE = 'a"b\\c\nd\u2028e\x85f\rg{h="i"} 1'
STATUS: dict[str, Any] = {
    "waiting_total": 3,
    "workers": [{"worker": "w1-1", "device": "cuda:0", "memory_bytes": 5 << 30,
                 "memory_total_bytes": 24 << 30, "state": "working"},
                {"worker": "w2-3", "device": "cuda:1", "state": "lost"}],
}  # fmt: skip


def samples(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Values by the names of the samples."""
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((dict(sample.labels), sample.value))
    return found


def faults(text: str) -> list[str]:
    """Breaches of the rules that `promtool check metrics` has."""
    lines = text.splitlines()
    problems = [] if text.endswith("\n") else ["no newline at the end"]
    types = dict(line.split(" ")[2:4] for line in lines if line.startswith("# TYPE"))
    helps = {line.split(" ")[2] for line in lines if line.startswith("# HELP")}
    for line in lines:
        if line.startswith("#"):
            continue
        name = re.match(r"[a-zA-Z_:][a-zA-Z0-9_:]*", line)
        base = re.sub("_(sum|count)$", "", name[0]) if name else ""
        family = base if base in types else (name[0] if name else "")
        if family not in types or family not in helps:
            problems.append(f"no HELP or TYPE: {line}")
        elif (types[family] == "counter") != family.endswith("_total"):
            problems.append(f"counters, and nothing else, end in _total: {line}")
        if not family.startswith("dna_pipeline_"):
            problems.append(f"a name of others: {line}")
        if re.search("milliseconds|_ms|kilobytes|_mb|percent", family):
            problems.append(f"no base unit: {line}")
    series = [line.rpartition(" ")[0] for line in lines if not line.startswith("#")]
    return problems + [f"twice: {name}" for name in set(series) if series.count(name) > 1]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    lay_out(tmp_path / "ledger.db")
    with closing(Ledger(tmp_path / "ledger.db")) as ledger:
        yield ledger


def add_job(ledger: Ledger, status: str, hold: str | None = None) -> None:
    values = {"id": store.new_id(), "inbox": HOSTILE, "status": status, "hold": hold}
    drop = """INSERT INTO drops (id, inbox, state, originals, folder, claim, stat, created_at)
        VALUES (:id, 'in', 'claimed', 'archive', '', '/c', '{}', '')"""
    job = """INSERT INTO jobs (id, drop_id, inbox, folder, name, stem, pipeline, priority, status,
        hold, stages, models, tags, meta, attempt, crashes, interruptions, cancel_requested,
        created_at) VALUES (:id, :id, :inbox, '', 'a.png', 'a', 'cut', 0, :status, :hold, '[]', '',
        '[]', '{}', 0, 0, 0, 0, '2026-01-01T00:00:00.000000Z')"""

    def action(session: Any) -> None:
        session.execute(sql(drop), values)
        session.execute(sql(job), values)
        store.add_event(session, values["id"], status)

    ledger.transact(action)


def written(ledger: Ledger, path: Path, **settings: Any) -> str:
    """The file's text after the thread has written it once."""
    metrics = MetricsFile(path, ledger.path, datetime(2026, 11, 29, tzinfo=UTC), **settings)
    metrics.observe(STATUS)
    with closing(ReportQueries(ledger.path)) as queries:
        totals = Totals(0, 0)
        totals.count(queries)
        metrics._put(to_text(metrics._metrics(queries, totals)))
    return path.read_text()


def test_the_file_keeps_prometheus_rules(ledger: Ledger, tmp_path: Path):
    for status in ("queued", "running", "completed", "failed"):
        add_job(ledger, status)
    add_job(ledger, "queued", "disk_full")
    text = written(ledger, tmp_path / "m.prom")
    assert faults(text) == []
    values = samples(text)
    assert len(values["dna_pipeline_jobs"]) == 4
    assert {v for labels, v in values["dna_pipeline_jobs"] if labels["status"] == "queued"} == {2}
    assert values["dna_pipeline_queue_length"] == [({}, 2.0)]
    assert values["dna_pipeline_held_jobs"] == [({"hold": "disk_full"}, 1.0)]
    assert values["dna_pipeline_queue_oldest_seconds"][0][1] > 86400
    assert {v for _, v in values["dna_pipeline_jobs_ended_total"]} == {1.0}
    assert values["dna_pipeline_waiting_files"] == [({}, 3.0)]
    memory = values["dna_pipeline_device_memory_used_bytes"]
    first, second = {"worker": "w1-1", "device": "cuda:0"}, {"worker": "w2-3", "device": "cuda:1"}
    assert memory == [(first, float(5 << 30))]
    assert values["dna_pipeline_worker_state"] == [
        (first | {"state": "working"}, 1.0), (second | {"state": "lost"}, 1.0)
    ]  # fmt: skip
    ((labels, is_up),) = values["dna_pipeline_up"]
    assert (set(labels), is_up) == ({"version"}, 1.0)


def test_names_of_strangers_are_escaped(ledger: Ledger, tmp_path: Path):
    add_job(ledger, "queued")
    text = written(ledger, tmp_path / "m.prom")
    ((labels, _),) = samples(text)["dna_pipeline_jobs"]
    assert labels["inbox"] == 'a"b\\c\nd e f g{h="i"} 1'
    assert len(text.splitlines()) == text.count("\n")


def test_stages_are_summed_up():
    metric = Metric("dna_pipeline_x_seconds", "summary", "About.\nMore.")
    text = to_text([metric.add(1.5, "_sum", stage="a").add(2, "_count", stage="a")])
    assert text == (
        "# HELP dna_pipeline_x_seconds About.\\nMore.\n# TYPE dna_pipeline_x_seconds summary\n"
        'dna_pipeline_x_seconds_sum{stage="a"} 1.5\ndna_pipeline_x_seconds_count{stage="a"} 2\n'
    )


def test_a_rule_that_is_broken_is_noticed():
    assert faults("dna_pipeline_x 1")
    assert faults("# HELP other_x A.\n# TYPE other_x gauge\nother_x 1\n")
    head = "# HELP dna_pipeline_x A.\n# TYPE dna_pipeline_x counter\n"
    assert faults(f"{head}dna_pipeline_x 1\n")


def test_a_folder_that_is_missing_or_silent_harms_nothing(ledger: Ledger, tmp_path: Path):
    started = datetime.now(UTC)
    MetricsFile(tmp_path / "no" / "m.prom", ledger.path, started)._put("x\n")
    MetricsFile(tmp_path / "m.prom", ledger.path, started, lambda _: SILENT)._put("x\n")
    assert not (tmp_path / "m.prom").exists()


def test_the_thread_writes_and_says_that_it_has_ended(ledger: Ledger, tmp_path: Path):
    path = tmp_path / "m.prom"
    metrics = MetricsFile(path, ledger.path, datetime.now(UTC))
    metrics.start()
    until = time.monotonic() + 20
    while not path.exists() and time.monotonic() < until:
        metrics._thread.join(0.02)
    assert samples(path.read_text())["dna_pipeline_up"][0][1] == 1
    metrics.close()
    assert samples(path.read_text())["dna_pipeline_up"][0][1] == 0
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
