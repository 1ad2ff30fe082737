"""Jobs of one program's requests, which it may watch and cancel without touching any others.

A request makes one job or several, which wait in the queue like all others. Their origin, an entry
in their `meta`, says which request they belong to, so that the ledger alone knows how far it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dna_pipeline.config.schema import SUBMIT_INBOX
from dna_pipeline.config.yaml12 import is_mapping
from dna_pipeline.ledger import requests
from dna_pipeline.operations.serving.readers import Readers
from dna_pipeline.operations.serving.submissions import Submissions

FRONT = 200
"""Number of jobs at the front of the queue among which those of requests are looked for. They have
a higher priority than the bulk."""


@dataclass(frozen=True, slots=True)
class RequestJob:
    """A job of a request that has not ended.

    Attributes:
        request: the request's id.
        number: place among the request's jobs, counted from 0.
        count: how many jobs the request made.
        is_running: it was given to a worker, and is not published yet.
        is_computed: its result is computed, and waits for the outbox. It cannot be cancelled.
        fraction: how far it is, from 0 to 1.
        step, steps: of the stage that runs; 0 before its first step.
    """

    id: str
    request: str
    number: int
    count: int
    is_running: bool
    is_computed: bool
    created_at: datetime
    started_at: datetime | None
    fraction: float = 0.0
    step: int = 0
    steps: int = 0


def origin(key: str, request: str, number: int, count: int) -> dict[str, Any]:
    """Make the `meta` of a job of a request."""
    return {key: {"request": request, "number": number, "count": count}}


def open_jobs(readers: Readers, key: str) -> list[RequestJob]:
    """List the jobs of that origin that have not ended: those that run, then those that are
    computed, then those that run next. Raises `ConfigError` if there is no ledger yet."""
    with readers.lend() as queries:
        rows = queries.front_of_queue(FRONT)
    jobs = [_of_row(row, key) for row in rows]
    return [job for job in jobs if job is not None]


def current_request(jobs: Iterable[RequestJob]) -> list[RequestJob]:
    """The open jobs of the request that runs, or else of the one that is next, or else of one
    whose results wait for the outbox; jobs that are computed come last."""
    listed = sorted(jobs, key=lambda job: job.is_computed)
    return [job for job in listed if job.request == listed[0].request]


def cancel(submissions: Submissions, jobs: Iterable[str]) -> list[str]:
    """Cancel jobs: those that wait at once, one that runs at its next step. Gives those that had
    not ended."""
    return [
        job
        for job in jobs
        if submissions.transact(lambda s, job=job: requests.request_cancel(s, job))
        in ("queued", "running")
    ]


def _of_row(row: dict[str, Any], key: str) -> RequestJob | None:
    place = row["meta"].get(key)
    if row["inbox"] != SUBMIT_INBOX or not is_mapping(place):
        return None  # a sidecar may say the same of a job of its own
    if not isinstance(request := place.get("request"), str):
        return None
    number, count = (_number(place.get(name)) for name in ("number", "count"))
    progress: dict[str, Any] = row["data"] or {}
    is_computed = row["publish"] is not None
    return RequestJob(
        row["id"], request, number, max(count, number + 1), row["status"] == "running",
        is_computed, row["created_at"], row["started_at"],
        1.0 if is_computed else float(progress.get("fraction") or 0),
        _number(progress.get("step")), _number(progress.get("steps")),
    )  # fmt: skip


def _number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
