"""Times of jobs that the real daemon does, from its ledger."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path

from benches.daemons import ROOT
from dna_pipeline.ledger import store
from dna_pipeline.ledger.queries import Queries
from dna_pipeline.ledger.store import Ledger

POLL_S = 0.1
LIMIT_S = 900.0

_TIMES = """SELECT min(started_at), max(finished_at), count(*) FROM jobs
    WHERE name LIKE ? AND status = 'completed'"""


def small_models(folder: Path) -> Path:
    """Make small models in the real formats in a folder, and give it."""
    script = ROOT / "scripts" / "make_tiny_models.py"
    command = [sys.executable, str(script), "--out", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder


def wait(is_done: Callable[[], bool], what: str) -> None:
    """Wait until something is so. Raises `ValueError` after `LIMIT_S`."""
    deadline = time.monotonic() + LIMIT_S
    while not is_done():
        if time.monotonic() > deadline:
            raise ValueError(f"in {LIMIT_S:g} s it did not come about that {what}")
        time.sleep(POLL_S)


def daemon_s(root: Path, drop: Callable[[], int], name: str) -> float:
    """Seconds from the start of the first of some jobs to the end of the last.

    Args:
        root: folder of the daemon's pipeline.yaml, data and outbox.
        drop: puts files into an inbox, whose names begin with `name`, and gives their number.

    Raises:
        ValueError: a job did not complete.
    """
    pause(root, "for the bench")
    jobs = drop()
    path = root / "data" / "ledger.db"
    with closing(Queries(path)) as queries:
        wait(lambda: counts(queries).get("queued", 0) == jobs, "the jobs are queued")
        pause(root, None)
        wait(lambda: not queries.has_open_jobs(), "the jobs are done")
    with closing(sqlite3.connect(path)) as connection:
        begun, ended, completed = connection.execute(_TIMES, (f"{name}-%",)).fetchone()
    if completed < jobs:
        raise ValueError(f"{jobs - completed} jobs did not complete")
    return (datetime.fromisoformat(ended) - datetime.fromisoformat(begun)).total_seconds()


def counts(queries: Queries) -> dict[str, int]:
    """Numbers of jobs by their status."""
    numbers: dict[str, int] = {}
    for status, _, number in queries.counts():
        numbers[status] = numbers.get(status, 0) + number
    return numbers


def pause(root: Path, why: str | None) -> None:
    """Pause the queue of the daemon with that folder; None to let it go on."""
    ledger = Ledger(root / "data" / "ledger.db")
    ledger.transact(lambda s: store.set_setting(s, "paused", why))
    ledger.close()
