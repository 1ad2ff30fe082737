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

from benches.daemons import ROOT, command
from dna_pipeline.ledger import store
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


def daemon_s(root: Path, drop: Callable[[], int], name: str, checkout: Path = ROOT) -> float:
    """Seconds from the start of the first of some jobs to the end of the last.

    Args:
        root: folder of the daemon's pipeline.yaml, data and outbox.
        drop: puts files into an inbox, whose names begin with `name`, and gives their number.
        checkout: folder of the daemon's program. The ledger of another version is only read, by
            columns that all versions have.

    Raises:
        ValueError: a job did not complete.
    """
    _pause(root, checkout, "for the bench")
    jobs = drop()
    with closing(sqlite3.connect(root / "data" / "ledger.db")) as connection:

        def count(*statuses: str) -> int:
            marks = ", ".join("?" * len(statuses))
            sql = f"SELECT count(*) FROM jobs WHERE status IN ({marks})"
            return connection.execute(sql, statuses).fetchone()[0]

        wait(lambda: count("queued") == jobs, "the jobs are queued")
        _pause(root, checkout, None)
        wait(lambda: not count("queued", "running"), "the jobs are done")
        begun, ended, completed = connection.execute(_TIMES, (f"{name}-%",)).fetchone()
    if completed < jobs:
        raise ValueError(f"{jobs - completed} jobs did not complete")
    return (datetime.fromisoformat(ended) - datetime.fromisoformat(begun)).total_seconds()


def _pause(root: Path, checkout: Path, why: str | None) -> None:
    """Pause the queue of the daemon with that folder; None to let it go on."""
    if checkout != ROOT:  # its ledger has another schema
        command(checkout, root / "pipeline.yaml", "resume" if why is None else "pause")
        return
    ledger = Ledger(root / "data" / "ledger.db")
    ledger.transact(lambda s: store.set_setting(s, "paused", why))
    ledger.close()
