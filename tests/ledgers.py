"""Ledgers without rows, made at once."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from dna_pipeline.execution.scheduler import Scheduler
from dna_pipeline.ledger.engine import open_writer
from dna_pipeline.ledger.schema import ensure


@cache
def _empty_ledger() -> bytes:
    """The file of a ledger whose tables are made and which has no id yet."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "ledger.db")
        engine = open_writer(path)
        ensure(engine, path)
        engine.dispose()  # takes SQLite's log back into the file
        return path.read_bytes()


def lay_out(path: Path) -> None:
    """Write the tables of a ledger, to which opening it adds the id.

    To have them made by the migrations takes most of the time in which a small test runs.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_empty_ledger())


def make_due(scheduler: Scheduler) -> None:
    """Have the next review ask for every kind of hold whether its cause is gone."""
    for condition in scheduler.conditions:
        condition.retry.next_at = 0.0
