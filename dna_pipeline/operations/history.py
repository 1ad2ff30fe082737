"""Jobs and their events as the ledger records them, for commands that only read.

SQLAlchemy is not imported, so that such a command starts at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.config.schema import Config
from dna_pipeline.operations.lookup import find_batch, find_job, open_queries

STATUSES = ("queued", "running", "completed", "failed", "cancelled")


def list_jobs(
    config: Config, *, status: str | None, inbox: str | None, batch: str | None, limit: int
) -> list[dict[str, Any]]:
    """List jobs, the newest first, of one status, inbox or batch if these are given.

    Each has, beside the columns of the ledger, the number of its `warnings`; 0 until it is
    completed.

    Raises:
        ConfigError: there is no ledger yet, `batch` does not name exactly one batch, or no job can
            have that status.
    """
    if status is not None and status not in STATUSES:
        close = get_close_matches(status.lower(), STATUSES, 1)
        guess = f"; did you mean {close[0]}?" if close else ""
        raise ConfigError(
            f"no job has the status {status!r}{guess} (one of: {', '.join(STATUSES)})"
        )
    queries = open_queries(config)
    batch_id = find_batch(queries, batch)
    jobs = queries.jobs(status=status, inbox=inbox, batch=batch_id, limit=limit)
    # Asked for the listed jobs alone, so that the whole ledger need not be read.
    warnings = queries.warning_counts([j["id"] for j in jobs if j["status"] == "completed"])
    return [job | {"warnings": warnings.get(job["id"], 0)} for job in jobs]


def read_job(config: Config, prefix: str) -> dict[str, Any]:
    """Read everything about the job whose id begins with `prefix`. Raises `ConfigError`."""
    queries = open_queries(config)
    return queries.job(find_job(queries, prefix))


def read_events(config: Config, job: str | None = None) -> Iterator[list[dict[str, Any]]]:
    """Read the events of all jobs or of one, in order, in portions without end.

    A portion is empty if all events so far were read.

    Raises:
        ConfigError: there is no ledger yet, or no job's id begins with `job`.
    """
    queries = open_queries(config)
    job_id = find_job(queries, job) if job else None
    last = 0
    while True:
        events = queries.events(job_id, last)
        last = events[-1]["id"] if events else last
        yield events
