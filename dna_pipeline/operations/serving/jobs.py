"""Jobs as requests name them."""

from __future__ import annotations

import re
from typing import Any

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.ledger import requests
from dna_pipeline.operations.serving.readers import Readers
from dna_pipeline.operations.serving.submissions import Submissions

_ID = re.compile("[0-9a-f]{8,32}")


def read(readers: Readers, name: str) -> dict[str, Any] | None:
    """Read everything about a job, as `Queries.job` gives it, and its last `progress` while it
    runs.

    Args:
        name: its id, or the first eight or more characters of it.

    Returns:
        None if no job, or more than one, has such an id.

    Raises:
        ConfigError: the ledger cannot be read.
    """
    if not _ID.fullmatch(name) or not readers.has_ledger():
        return None
    with readers.lend() as queries:
        ids = queries.ids_from(name)
        if len(ids) != 1:
            return None
        job = queries.job(ids[0])
        is_running = job["status"] == "running"
        return job | {"progress": queries.progress(ids[0]) if is_running else None}


def events(readers: Readers, job_id: str, after: int) -> list[dict[str, Any]]:
    """Read all events of a job after a number, oldest first. Raises `ConfigError`."""
    result: list[dict[str, Any]] = []
    with readers.lend() as queries:
        while some := queries.events(job_id, after):
            result += some
            after = some[-1]["id"]
    return result


def last_event(readers: Readers) -> int:
    """Read the number of the newest event of all jobs. Raises `ConfigError`."""
    with readers.lend() as queries:
        return queries.last_event()


def cancel(readers: Readers, submissions: Submissions, name: str) -> dict[str, Any] | None:
    """Cancel a job: a queued one at once, a running one at its next step.

    Returns:
        The job afterwards, as `read` gives it; None if there is none.

    Raises:
        ConfigError: the ledger cannot be used.
    """
    if (job := read(readers, name)) is None:
        return None
    submissions.transact(lambda s: requests.request_cancel(s, job["id"]))
    after = read(readers, job["id"])
    if after is None:
        raise ConfigError("the job is not in the ledger any more")
    return after
