"""The benches of the ledger and of idling: what they build is a ledger, what they say is so."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path

import pytest

from dna_pipeline.ledger.queries import Queries
from dna_pipeline.ledger.store import Ledger
from tests.conftest import load_script

bench = load_script("bench")
history = load_script("benches.history")
ledger_bench = load_script("benches.ledger")
idle_bench = load_script("benches.idle")


def facts_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> dict:
    monkeypatch.setattr("sys.argv", ["bench.py", *arguments, "--json"])
    bench.main()
    return json.loads(capsys.readouterr().out)


def schema(path: Path) -> set[tuple[str, str]]:
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    found = set(rows)
    connection.close()
    return found


def test_a_history_is_a_whole_ledger(tmp_path: Path) -> None:
    made, empty = tmp_path / "made.db", tmp_path / "empty.db"
    history.fill(made, history.History(300, queued=20, future=10))
    Ledger(empty).close()
    assert schema(made) == schema(empty)
    connection = sqlite3.connect(made)
    for question, answer in {
        "PRAGMA integrity_check": "ok",
        "SELECT count(*) FROM pragma_foreign_key_check": 0,
        "SELECT count(DISTINCT id) FROM jobs": 300,
        "SELECT count(*) FROM jobs WHERE hold = 'not_before' AND status = 'queued'": 10,
        "SELECT count(*) FROM jobs WHERE hold IS NULL AND status = 'queued'": 20,
        "SELECT count(*) FROM drops WHERE state = 'claimed'": 30,
        "SELECT count(*) FROM events": 270 * 3 + 30,
        "SELECT count(*) FROM stage_runs": 2 * 262,
        "SELECT count(*) FROM artifacts": 3 * 262,
    }.items():
        assert connection.execute(question).fetchone() == (answer,), question
    connection.close()
    views = Queries(made)
    counts: dict[str, int] = {}
    for status, _, number in views.counts():
        counts[status] = counts.get(status, 0) + number
    assert counts == {"completed": 262, "failed": 5, "cancelled": 3, "queued": 30}
    job = views.job(views.recent(1)[0]["id"])
    assert [run["stage_id"] for run in job["stage_runs"]] == ["restyle", "mesh"]
    views.close()


@pytest.mark.slow
def test_the_ledger_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    options = ("--jobs", "200", "--future", "0", "--rounds", "3", "--starts", "1")
    facts = facts_of(monkeypatch, capsys, "ledger", *options, "--folder", str(tmp_path))
    assert "later" not in facts
    many = facts["many"]
    assert (many["jobs"], many["queued"], many["future"]) == (200, 10, 0)
    assert many["daemon_ready_s"] > 0
    assert {"claim", "insert", "snapshot", *ledger_bench.COMMANDS} <= many["ms"].keys()
    assert all(0 <= ms["median"] <= ms["p95"] for ms in many["ms"].values())
    assert many["ms"]["status"]["cpu"] > 10, "the time of children counts"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_idling_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    options = ("--seconds", "1", "--quiet", "0", "--jobs", "50", "--files", "20")
    facts = facts_of(monkeypatch, capsys, "idle", *options, "--folder", str(tmp_path))
    assert (facts["inboxes"], facts["jobs"], facts["files"]) == (10, 50, 20)
    assert facts["seconds"] >= 1
    assert 0 <= facts["percent_of_a_core"] <= 200
    assert list(tmp_path.iterdir()) == []


def test_a_family_s_time_is_added_up(tmp_path: Path) -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    for pid, parent, used in ((5, 1, 1), (6, 5, 10), (7, 6, 100), (8, 1, 1000)):
        (tmp_path / str(pid)).mkdir()
        stat = f"{pid} (a ) (b) S {parent} " + "0 " * 9 + f"{used * ticks} " * 4 + "20 0"
        (tmp_path / str(pid) / "stat").write_text(stat)
    assert idle_bench.cpu_s(5, tmp_path) == 4 * 111


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["ledger", "--jobs", "0"], "something to measure"),
        (["ledger", "--future", "-1"], "something to measure"),
        (["idle", "--seconds", "0"], "takes time"),
    ],
)
def test_wrong_calls_end_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    told: str,
) -> None:
    with pytest.raises(SystemExit) as caught:
        facts_of(monkeypatch, capsys, *arguments)
    assert caught.value.code == 2
    assert told in capsys.readouterr().err
