"""Pauses of the queue, a pipeline or a batch, by a person or by repeated failures.

A pause waits for a `resume`. All of it is in the ledger, and so survives a restart. Each function
is one step of a transaction.
"""

from __future__ import annotations

import json
from typing import Any, Literal, NamedTuple

from sqlalchemy import delete, func, select, text, update
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
from dna_pipeline.ledger import holds
from dna_pipeline.ledger.store import add_common_event, get_setting, set_setting
from dna_pipeline.ledger.tables import Batch, Job, Setting

COUNTED = frozenset(
    kind.code
    for kind in (
        BlackImage, NonFiniteOutput, OutOfMemory, StageFailed, StageTimeout, WeightsMismatch,
        WorkerCrashed,
    )
)  # fmt: skip
"""Codes of failures that models or the machine may cause. Other failures come from the input, so
they say nothing about the pipeline."""

QUEUE = "paused"
PIPELINE = "paused:"
_STREAK = "failures:"

_OF_JOB = text("""SELECT 'status', 'queued', value FROM settings WHERE name = 'paused'
    UNION ALL SELECT 'pipeline', :pipeline, value FROM settings WHERE name = 'paused:' || :pipeline
    UNION ALL SELECT 'batch', id, paused FROM batches WHERE id = :batch AND paused IS NOT NULL
    LIMIT 1""")


class Pause(NamedTuple):
    """A pause of the jobs with a value in a column; `status` stands for the whole queue.

    Attributes:
        why: a sentence for people; for the whole queue, the time since when it is paused.
    """

    column: Literal["status", "pipeline", "batch"]
    value: str
    why: str


def of_job(session: Session, pipeline: str, batch: str | None) -> Pause | None:
    """Find the pause that keeps a job of this pipeline and batch from its turn; None if none."""
    row = session.execute(_OF_JOB, {"pipeline": pipeline, "batch": batch}).first()
    return None if row is None else Pause(*row)


def begin(session: Session, pause: Pause) -> None:
    """Begin a pause. The jobs of a pipeline or a batch are held, so that `status` shows why."""
    if (pause.column, pause.value) not in [(each.column, each.value) for each in _all(session)]:
        add_common_event(session, "pause_begun", _event_data(pause))
    if pause.column == "batch":
        session.execute(update(Batch).where(Batch.id == pause.value).values(paused=pause.why))
    else:
        name = QUEUE if pause.column == "status" else PIPELINE + pause.value
        set_setting(session, name, pause.why)
    if pause.column != "status":
        hold(session, pause)


def hold(session: Session, pause: Pause) -> None:
    """Hold all jobs that a pause of their pipeline or batch keeps from their turn."""
    holds.hold_where(session, pause.column, [pause.value], Paused.code, pause.why)


def resume(session: Session, batch_id: str | None = None) -> None:
    """Resume one batch; or the queue, all pipelines and all batches, and count failures anew.

    Other holds of the jobs are checked anew. A batch that was paused for its failures loses its
    limit, or it would pause again at once.
    """
    for pause in _all(session):
        if batch_id is None or (pause.column, pause.value) == ("batch", batch_id):
            add_common_event(session, "pause_ended", _event_data(pause))
    chosen = update(Batch).where(Batch.paused.is_not(None))
    if batch_id is not None:
        chosen = chosen.where(Batch.id == batch_id)
        holds.release(session, Paused.code, "batch", [batch_id])
    else:
        for start in (QUEUE, _STREAK):
            # A range, which the index can find, of all names with that start.
            of_start = Setting.name.between(start, start + "\U0010ffff")
            session.execute(delete(Setting).where(of_start))
        holds.release(session, Paused.code)
    session.execute(chosen.values(paused=None, max_failures=None))


def _all(session: Session) -> list[Pause]:
    """Return all pauses: of the queue, of pipelines and of batches."""
    of_pipelines = Setting.name.between(PIPELINE, PIPELINE + "\U0010ffff")
    settings = session.execute(
        select(Setting.name, Setting.value).where((Setting.name == QUEUE) | of_pipelines)
    )
    pauses = [
        Pause("status", "queued", why)
        if name == QUEUE
        else Pause("pipeline", name.removeprefix(PIPELINE), why)
        for name, why in settings
    ]
    paused = select(Batch.id, Batch.paused).where(Batch.paused.is_not(None))
    return pauses + [Pause("batch", batch, str(why)) for batch, why in session.execute(paused)]


def _event_data(pause: Pause) -> dict[str, Any]:
    """Data of the event of a pause: `scope` is queue, pipeline or batch."""
    if pause.column == "status":
        return {"scope": "queue", "name": "", "why": ""}
    return {"scope": pause.column, "name": pause.value, "why": pause.why}


# --- failures ---


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
    why = (
        f"pipeline {pipeline!r} is paused, since {len(jobs)} jobs in a row failed with "
        f"{failure.code} ({failure.detail[:200]}); mend the cause, then `dna-pipeline resume`"
    )
    set_setting(session, _STREAK + pipeline, None)
    begin(session, Pause("pipeline", pipeline, why))
    return why


def note_success(session: Session, job_id: str) -> None:
    """Forget the failures of a job's pipeline, since the job has run to its end."""
    pipeline = session.scalar(select(Job.pipeline).where(Job.id == job_id))
    session.execute(delete(Setting).where(Setting.name == f"{_STREAK}{pipeline}"))


def check_batch(session: Session, batch_id: str | None) -> str | None:
    """Pause a batch if more rows went wrong than it allows; return the reason if it did."""
    batch = None if batch_id is None else session.get(Batch, batch_id)
    if batch is None or batch.max_failures is None or batch.paused is not None:
        return None
    failed = select(func.count()).where(Job.batch == batch.id, text("+jobs.status = 'failed'"))
    number = batch.wrong + (session.scalar(failed) or 0)
    if number <= batch.max_failures:
        return None
    why = (
        f"batch {batch.stem}-{batch.id[:8]} is paused: {number} rows went wrong, and its "
        f"max_failures is {batch.max_failures}; `dna-pipeline resume --batch {batch.id[:8]}`"
    )
    begin(session, Pause("batch", batch.id, why))
    return why
