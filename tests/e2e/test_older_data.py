"""Data folders of earlier versions, with jobs in every state, are opened and worked off."""

from __future__ import annotations

import csv
import json
import os
import sqlite3
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.commands import call_apart

GOLDEN = Path(__file__).parents[1] / "golden" / "data-folders"

ENDED = {
    "published.png": "completed",
    "kept_done.png": "completed",
    "wrong.png": "failed",
    "broken.png": "failed",
    "failed_unpublished.png": "failed",
    "cancelled.png": "cancelled",
    "to_cancel.png": "cancelled",
    "weights.png": "queued",  # its weights are still missing
    "paused.png": "queued",  # nobody resumed it
}
"""How a job ends, by its image; the others are completed."""


@pytest.fixture(params=sorted(path.name for path in GOLDEN.iterdir() if path.is_dir()))
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """An earlier version's folder as it was left, at another place."""
    golden = GOLDEN / request.param
    with zipfile.ZipFile(golden / "files.zip") as files:
        files.extractall(tmp_path)
    sql = (golden / "ledger.sql").read_text(encoding="utf-8")
    sql = sql.replace("@ROOT_HEX@", os.fsencode(tmp_path).hex())
    ledger = sqlite3.connect(tmp_path / "data" / "ledger.db")
    ledger.executescript(sql)
    ledger.close()
    return tmp_path


def call(folder: Path, *arguments: str) -> str:
    done = call_apart(folder, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def jobs(folder: Path) -> list[dict[str, Any]]:
    return json.loads(call(folder, "jobs", "--json", "--limit", "100"))


@pytest.mark.slow
def test_an_older_data_folder_is_worked_off(folder: Path) -> None:
    before = {job["id"] for job in jobs(folder)}

    call(folder, "run")

    after = jobs(folder)
    assert before <= {job["id"] for job in after}
    assert {job["name"] for job in after} - ENDED.keys() >= {"claiming.png", "kept_queued.png"}
    assert {job["name"]: job["status"] for job in after} == {
        job["name"]: ENDED.get(job["name"], "completed") for job in after
    }
    assert sorted(job["name"] for job in after if job["name"] == "kept_done.png") == [
        "kept_done.png"
    ], "a known file is not taken again"
    originals = {path.name for path in (folder / "outbox").rglob("source/*.png")}
    archived = {job["name"] for job in after if job["inbox"] == "in" and job["status"] != "queued"}
    assert originals >= archived
    (report,) = (folder / "outbox").rglob("list-*/batch.csv")
    with report.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["completed", "completed", "wrong"]
    call(folder, "verify")
