"""Jobs from queued to their end. Each function is one step of a transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar

from sqlalchemy import bindparam, case, delete, literal, select, text, update
from sqlalchemy.orm import Session

from dna_pipeline.base.clock import to_second
from dna_pipeline.base.errors import Cancelled, Failure, RetryWait, WorkerCrashed
from dna_pipeline.base.times import format_time, utcnow
from dna_pipeline.ledger import states
from dna_pipeline.ledger.drops import failed_data
from dna_pipeline.ledger.queries import HAS_PUBLISHED, TO_PUBLISH
from dna_pipeline.ledger.store import add_event, add_rows
from dna_pipeline.ledger.tables import ArtifactRow, Drop, Event, Job, StageRun

MAX_BACKOFF_S = 300
"""Longest pause before the next try of a job whose worker died. Pauses are 2, 4, 8, … seconds."""

MAX_INTERRUPTIONS = 20
"""Ends of the daemon or the machine that one job is allowed between two finished stages."""

# SQLite cannot prove that a bound parameter satisfies a partial index's WHERE, and without
# statistics it guesses wrong. So the indexes are named, and their conditions are literal text: an
# index that is gone is an error here, not a daemon that has become slow. A plus keeps SQLite from
# the index of a column with few different values.
_ALL = ", ".join(column.name for column in Job.__table__.columns)
_FIRST = """SELECT seq FROM jobs INDEXED BY ix_jobs_runnable
    WHERE status = 'queued' AND hold IS NULL ORDER BY priority DESC, seq LIMIT 1"""


def _jobs(sql: str) -> Any:
    """Make a query for jobs from SQL, once, since making it takes longer than running it."""
    return select(Job).from_statement(text(sql).columns(*Job.__table__.columns))


def runnable(first: str) -> Any:
    """Make a query for the values of a `Runnable` from SQL that chooses its `seq`."""
    return text(
        f"""SELECT jobs.id, drop_id, jobs.batch, pipeline, jobs.inbox, models, stages, claim,
        seq, priority, drops.bytes, width, height
        FROM jobs JOIN drops ON drops.id = drop_id WHERE seq = ({first})"""
    ).columns(stages=Job.__table__.c.stages.type, claim=Drop.__table__.c.claim.type)


def _claim(condition: str) -> Any:
    """Make the statement that marks a job as running and counts the attempt."""
    return _jobs(
        f"""UPDATE jobs SET status = 'running', attempt = attempt + 1, stage = NULL,
        started_at = :now WHERE {condition} RETURNING {_ALL}"""
    ).execution_options(populate_existing=True)


_PEEK = runnable(_FIRST)
_PEEK_AT = runnable("SELECT seq FROM jobs WHERE seq = :seq AND status = 'queued' AND hold IS NULL")
_CLAIM = _claim(f"seq = ({_FIRST})")
_CLAIM_AT = _claim("seq = :seq AND +status = 'queued' AND hold IS NULL")
_NEXT_MODELS = text("""SELECT seq, models FROM jobs INDEXED BY ix_jobs_runnable
    WHERE status = 'queued' AND hold IS NULL AND priority = :priority
    ORDER BY seq LIMIT :limit""")
_TO_PUBLISH = _jobs(f"SELECT {_ALL} {TO_PUBLISH} ORDER BY hold IS NOT NULL, seq LIMIT :limit")
_STAGES = select(Job.stages).where(Job.id == bindparam("id"))
IS_QUEUED = text("+jobs.status = 'queued'")
RELEASED: dict[str, Any] = {"hold": None, "hold_detail": None}
"""Values of the columns of a job that has no hold."""


@dataclass(frozen=True, slots=True)
class Runnable:
    """Data of a queued job. Sizes are those of its original; 0 if unknown."""

    status: ClassVar[str] = "queued"

    id: str
    drop_id: str
    batch: str | None
    pipeline: str
    inbox: str
    models: str
    stages: list[dict[str, Any]]
    claim: str
    seq: int
    priority: int
    source_bytes: int
    width: int
    height: int

    @classmethod
    def of(cls, row: Any) -> Runnable:
        return cls(*row[:10], *(size or 0 for size in row[10:]))


def next_runnable(session: Session) -> Runnable | None:
    """Return the job that `claim_next` would choose, and leave it unchanged."""
    row = session.execute(_PEEK).one_or_none()
    return None if row is None else Runnable.of(row)


def runnable_at(session: Session, seq: int) -> Runnable | None:
    """Return the job with that number; None if it is not runnable."""
    row = session.execute(_PEEK_AT, {"seq": seq}).one_or_none()
    return None if row is None else Runnable.of(row)


def next_models(session: Session, priority: int, limit: int) -> list[tuple[int, str]]:
    """Return numbers and model sets of the next runnable jobs of a priority, in their order."""
    rows = session.execute(_NEXT_MODELS, {"priority": priority, "limit": limit})
    return [(seq, models) for seq, models in rows]


def claim_next(session: Session) -> Job | None:
    """Choose the next job, mark it as running and count the attempt, in one statement."""
    return _started(session, _CLAIM)


def claim_at(session: Session, seq: int) -> Job | None:
    """Mark the job with that number as running and count the attempt; None if it is not
    runnable."""
    return _started(session, _CLAIM_AT, seq=seq)


def _started(session: Session, claim: Any, **values: int) -> Job | None:
    job = session.scalars(claim, {"now": format_time(utcnow()), **values}).one_or_none()
    if job is not None:
        add_event(session, job.id, "started", {"attempt": job.attempt})
    return job


def find_job(session: Session, job_id: str) -> Job | None:
    return session.scalar(select(Job).where(Job.id == job_id))


def is_open(session: Session, job_id: str) -> bool:
    """True if the job exists and is not yet published."""
    return session.scalar(select(Job.id).where(Job.id == job_id, states.IS_OPEN)) is not None


def finished_stages(session: Session, job_id: str) -> list[tuple[StageRun, list[ArtifactRow]]]:
    """Return a job's finished stages, which need not run again, in the order they ran."""
    runs = session.scalars(
        select(StageRun).where(StageRun.job_id == job_id).order_by(StageRun.id)
    ).all()
    files = session.scalars(
        select(ArtifactRow).where(ArtifactRow.job_id == job_id).order_by(ArtifactRow.id)
    ).all()
    return [(run, [f for f in files if f.stage_id == run.stage_id]) for run in runs]


def finish_stage(
    session: Session, job_id: str, run: dict[str, Any], files: Sequence[dict[str, Any]]
) -> None:
    """Record a finished stage, and forget later stages, made from an older result of this one.

    The count of interruptions begins anew, since the job makes progress.
    """
    stage_id = run["stage_id"]
    ids = [stage["id"] for stage in session.scalar(_STAGES, {"id": job_id}) or ()]
    later = ids[ids.index(stage_id) + 1 :] if stage_id in ids else []
    forget_stages(session, job_id, [stage_id, *later])
    add_rows(session, StageRun, [{"job_id": job_id, "finished_at": utcnow(), **run}])
    rows = [{"job_id": job_id, "stage_id": stage_id, **file} for file in files]
    add_rows(session, ArtifactRow, rows)
    _set(session, job_id, interruptions=0)


def forget_stages(session: Session, job_id: str, stage_ids: Sequence[str] | None = None) -> None:
    """Forget finished stages, all of them by default, so that they run again."""
    for table in (ArtifactRow, StageRun):
        statement = delete(table).where(table.job_id == job_id)
        if stage_ids is not None:
            statement = statement.where(table.stage_id.in_(stage_ids))
        session.execute(statement)


def add_progress(session: Session, job_id: str, data: dict[str, Any]) -> None:
    add_event(session, job_id, "progress", data)


def finish_computing(session: Session, job_id: str) -> None:
    """Record that all stages of a job are done and only its publication is left."""
    session.execute(
        update(Job)
        .where(Job.id == job_id, Job.status == "running")
        .values(publish="pending", finished_at=utcnow())
    )


def fail(
    session: Session,
    job_id: str,
    failure: Failure,
    stage: str | None = None,
    *,
    has_run: bool = False,
) -> None:
    """Record that a job failed or was cancelled; its folder must still be published.

    Args:
        has_run: count a queued job as a running one, since it was requeued a moment ago.
    """
    is_cancel = failure.code == Cancelled.code
    waited = literal(not has_run) & (Job.status == "queued")
    doing = case((waited, states.WAITING), else_=states.RUNNING) if is_cancel else None
    values: dict[str, Any] = {
        "error": failure.to_dict(), "stage": stage, "cancelled_while": doing, **RELEASED,
        "publish": "pending", "finished_at": utcnow(),
    }  # fmt: skip
    if states.move(session, "cancel" if is_cancel else "fail", job_id, **values):
        kind = "cancelled" if is_cancel else "failed"
        add_event(session, job_id, kind, failed_data(failure.to_dict()))
        _prune_progress(session, job_id)


def _set(session: Session, job_id: str, **values: Any) -> None:
    session.execute(update(Job).where(Job.id == job_id).values(**values))


def rows_changed(result: Any) -> int:
    return int(result.rowcount)


def _prune_progress(session: Session, job_id: str) -> None:
    session.execute(delete(Event).where(Event.job_id == job_id, Event.kind == "progress"))


# --- ends of processes ---


def note_attempt_end(session: Session, job_id: str, why: str, code: str | None = None) -> None:
    """Record in the events why a job that ran is queued again."""
    add_event(session, job_id, "queued", {"ended": why, "code": code})


def requeue(session: Session, job_id: str, why: str, code: str | None = None) -> None:
    """Put a running job back into its place in the queue, for another attempt.

    Args:
        why, code: the cause that its events record.
    """
    values: dict[str, Any] = {"publish": None, "finished_at": None, **RELEASED}
    if states.move(session, "requeue", job_id, **values):
        note_attempt_end(session, job_id, why, code)
    cancel_if_requested(session, job_id)


def cancel_if_requested(session: Session, job_id: str) -> None:
    """Cancel a queued job if that was requested while it ran."""
    requested = select(Job.id).where(Job.id == job_id, Job.status == "queued", Job.cancel_requested)
    if session.scalar(requested) is not None:
        fail(session, job_id, Cancelled("cancelled while it ran").failure(), has_run=True)


def requeue_interrupted(
    session: Session, job_id: str, why: str = "the daemon was stopped", code: str | None = None
) -> None:
    """Put a running job back at no cost of an attempt, since nothing is wrong with it.

    Args:
        why, code: the cause that its events record.
    """
    if states.move(session, "requeue", job_id, attempt=Job.attempt - 1):
        note_attempt_end(session, job_id, why, code)
    cancel_if_requested(session, job_id)


def worker_died(
    session: Session, job_id: str, max_attempts: int, failure: Failure, stage: str | None
) -> None:
    """Count an end of the worker that this job caused; fail the job at the last one allowed."""
    statement = update(Job).where(Job.id == job_id).values(crashes=Job.crashes + 1)
    crashes = session.scalar(statement.returning(Job.crashes))
    if crashes is not None and crashes < max_attempts:
        requeue(session, job_id, failure.detail, failure.code)
        _back_off(session, job_id, crashes)
    else:
        fail(session, job_id, failure, stage)


def _back_off(session: Session, job_id: str, crashes: int) -> None:
    """Hold a job for a while: what killed one worker may well kill the next, so others go first."""
    due = utcnow() + timedelta(seconds=min(2**crashes, MAX_BACKOFF_S))
    detail = f"its worker ended {crashes} times; the next try is at {to_second(due)[11:]}"
    states.move(
        session, "hold", job_id, Job.status == "queued",
        hold=RetryWait.code, hold_detail=detail, not_before=due,
    )  # fmt: skip


def recover(session: Session) -> list[str]:
    """Requeue the jobs that were running when the last daemon ended; return their ids."""
    running = select(Job.id).where(Job.status == "running", Job.publish.is_(None))
    ids = list(session.scalars(running))
    for job_id in ids:
        requeue(session, job_id, "the daemon or the machine ended")
        _count_interruption(session, job_id)
    return ids


def requeue_lost(session: Session, job_id: str, why: str) -> None:
    """Put a job back whose worker was lost with its machine: at no cost of an attempt, but not
    without end, since the job may be what the machine dies of.

    Args:
        why: the cause that its events record.
    """
    requeue_interrupted(session, job_id, why)
    _count_interruption(session, job_id)


def _count_interruption(session: Session, job_id: str) -> None:
    """Count that a job was interrupted; fail it at the last time allowed."""
    counted = update(Job).where(Job.id == job_id).values(interruptions=Job.interruptions + 1)
    if (session.scalar(counted.returning(Job.interruptions)) or 0) >= MAX_INTERRUPTIONS:
        detail = f"interrupted {MAX_INTERRUPTIONS} times without finishing a stage"
        fail(session, job_id, WorkerCrashed(detail).failure())


# --- publishing ---


def to_publish(session: Session, limit: int = 20) -> list[Job]:
    """Return jobs whose folder is not in the outbox yet, oldest first, held ones last."""
    return list(session.scalars(_TO_PUBLISH, {"limit": limit}))


def has_published(session: Session) -> bool:
    """True if the folder of any job is in the outbox, or was."""
    return session.scalar(text(HAS_PUBLISHED)) is not None


def plan_publish(
    session: Session,
    job_id: str,
    name: str,
    manifest_sha256: str,
    original_place: str | None = None,
) -> None:
    """Record the place of a job's folder, before the rename that puts it there."""
    values = {"publish_name": name, "manifest_sha256": manifest_sha256}
    _set(session, job_id, publish="planned", original_place=original_place, **values)


def hold_publish(session: Session, job_id: str, code: str, detail: str) -> None:
    """Record the reason why a finished job's folder cannot be published yet."""
    _set(session, job_id, hold=code, hold_detail=detail)


def replan_publish(session: Session, job_id: str) -> None:
    """Have a folder put together anew, since its name is in use or its staging folder was lost."""
    _set(session, job_id, publish="pending", publish_name=None, manifest_sha256=None)


def finish_publishing(session: Session, job_id: str) -> None:
    """Record the end of a job, whose folder is in the outbox."""
    _set(session, job_id, publish="done", **RELEASED)
    if states.move(session, "complete", job_id):
        add_event(session, job_id, "completed")
        _prune_progress(session, job_id)


def is_original_needed(session: Session, job: Job, place: str) -> bool:
    """True if another cancelled row of the job's batch has its original at that place.

    Such a row counts as soon as that place is planned.
    """
    rows = select(Job.seq).where(
        Job.batch == job.batch,
        Job.original_place == place,
        Job.publish_name == job.publish_name,
        Job.publish.in_(("planned", "done")),
        text("+jobs.status = 'cancelled'"),
        Job.id != job.id,
    )
    return session.scalar(rows.limit(1)) is not None
