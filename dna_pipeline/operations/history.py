"""What the ledger says of jobs and their events, for commands that only look.

SQLAlchemy is not imported: such a command starts at once.
"""

from __future__ import annotations

from typing import Any

from dna_pipeline.config.schema import Config
from dna_pipeline.operations.lookup import find_batch, find_job, open_queries


def list_jobs(
    config: Config, *, status: str | None, inbox: str | None, batch: str | None, limit: int
) -> list[dict[str, Any]]:
    """Jobs, the newest first; of one status, inbox or batch where these are named.

    Raises:
        ConfigError: there is no ledger yet, or no batch's id begins so.
    """
    views = open_queries(config)
    batch_id = find_batch(views, batch)
    return views.jobs(status=status, inbox=inbox, batch=batch_id, limit=limit)


def read_job(config: Config, prefix: str) -> dict[str, Any]:
    """All about the job whose id begins so. Raises `ConfigError`."""
    views = open_queries(config)
    return views.job(find_job(views, prefix))


class EventLog:
    """The events of all jobs or of one, in order, read bit by bit.

    Raises:
        ConfigError: there is no ledger yet, or no job's id begins so.
    """

    def __init__(self, config: Config, job: str | None = None) -> None:
        self._views = open_queries(config)
        self._job_id = find_job(self._views, job) if job else None
        self._last = 0

    def read(self) -> list[dict[str, Any]]:
        """The next events; none where all that happened so far was read."""
        events = self._views.events(self._job_id, self._last)
        if events:
            self._last = events[-1]["id"]
        return events
