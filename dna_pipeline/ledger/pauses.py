"""Pauses of pipelines: one whose jobs fail alike several times in a row waits for a `resume`.

Both the count and the pause are settings, and so survive a restart. Each function is one step of
a transaction.
"""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.orm import Session

from dna_pipeline.base.errors import (
    BlackImage,
    Failure,
    NonFiniteOutput,
    OutOfMemory,
    Paused,
    StageFailed,
    StageTimeout,
    WeightsMismatch,
    WorkerCrashed,
)
from dna_pipeline.ledger import batches, holds
from dna_pipeline.ledger.store import get_setting, set_setting
from dna_pipeline.ledger.tables import Job, Setting

COUNTED = frozenset(
    kind.code
    for kind in (
        BlackImage, NonFiniteOutput, OutOfMemory, StageFailed, StageTimeout, WeightsMismatch,
        WorkerCrashed,
    )
)  # fmt: skip
"""Codes of failures that models or the machine may cause. Other failures come from the input, so
they say nothing about the pipeline."""

PAUSED = "paused:"
_STREAK = "failures:"


def note_failure(session: Session, job_id: str, failure: Failure, limit: int) -> str | None:
    """Count a failure, each job once, and pause the pipeline at `limit` in a row (0: never).

    Returns:
        The reason if the pipeline is paused now, else None.
    """
    pipeline = session.scalar(select(Job.pipeline).where(Job.id == job_id))
    if pipeline is None or not limit or failure.code not in COUNTED:
        return None
    streak: dict[str, Any] = json.loads(get_setting(session, _STREAK + pipeline) or "{}")
    before: list[str] = streak["jobs"] if streak.get("code") == failure.code else []
    jobs = [*(job for job in before if job != job_id), job_id]
    if len(jobs) < limit:
        value = json.dumps({"code": failure.code, "jobs": jobs})
        set_setting(session, _STREAK + pipeline, value)
        return None
    return _pause(session, pipeline, failure, len(jobs))


def _pause(session: Session, pipeline: str, failure: Failure, number: int) -> str:
    why = (
        f"pipeline {pipeline!r} is paused, since {number} jobs in a row failed with {failure.code} "
        f"({failure.detail[:200]}); mend the cause, then `dna-pipeline resume`"
    )
    set_setting(session, _STREAK + pipeline, None)
    set_setting(session, PAUSED + pipeline, why)
    holds.hold_where(session, "pipeline", pipeline, Paused.code, why)
    return why


def note_success(session: Session, job_id: str) -> None:
    """Forget the failures of a job's pipeline, since the job has run to its end."""
    pipeline = session.scalar(select(Job.pipeline).where(Job.id == job_id))
    session.execute(delete(Setting).where(Setting.name == f"{_STREAK}{pipeline}"))


def begins(start: str) -> ColumnElement[bool]:
    """Return the condition for settings with a prefix, as a range that the index can find."""
    return Setting.name.between(start, start + "\U0010ffff")


def reason(session: Session, pipeline: str) -> str | None:
    """Return the reason why a pipeline is paused; None if it is not."""
    return get_setting(session, PAUSED + pipeline)


def resume(session: Session) -> None:
    """Resume the queue, all pipelines and all batches, whoever paused them, and count anew."""
    for start in (PAUSED, _STREAK):
        session.execute(delete(Setting).where(begins(start)))
    set_setting(session, "paused", None)
    batches.resume(session)
    holds.release(session, Paused.code)
