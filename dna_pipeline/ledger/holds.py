"""Hold and release queued jobs, chosen by a column of theirs."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import case, select, text, update
from sqlalchemy.orm import Session

from dna_pipeline.base.times import format_time
from dna_pipeline.ledger.queue import MAX_BACKOFF_S, cancel_if_requested, rows_changed
from dna_pipeline.ledger.tables import Job

_HOLD = """UPDATE jobs INDEXED BY ix_jobs_runnable SET hold = :code, hold_detail = :detail
    WHERE status = 'queued' AND hold IS NULL"""


_RELEASE = """UPDATE jobs INDEXED BY ix_jobs_hold SET hold = NULL, hold_detail = NULL
    WHERE hold = :code AND status = 'queued'"""


_STAGES_HELD = text("""SELECT stages FROM jobs INDEXED BY ix_jobs_hold
    WHERE hold = :code AND models = :models LIMIT 1""").columns(stages=Job.__table__.c.stages.type)


_PROMOTE = text("""UPDATE jobs INDEXED BY ix_jobs_due SET hold = NULL, hold_detail = NULL
    WHERE hold = 'not_before' AND not_before <= :now""")


_PROMOTE_RETRIES = text("""UPDATE jobs INDEXED BY ix_jobs_hold SET hold = NULL, hold_detail = NULL
    WHERE hold = 'retry_wait' AND (not_before <= :now OR not_before > :latest)""")


def hold(session: Session, job_id: str, code: str, detail: str) -> None:
    """Hold a running or queued job until its environment allows it. This costs no attempt."""
    started = case((Job.status == "running", 1), else_=0)
    session.execute(
        update(Job)
        .where(Job.id == job_id, Job.status.in_(("queued", "running")))
        .values(status="queued", hold=code, hold_detail=detail, attempt=Job.attempt - started)
    )
    cancel_if_requested(session, job_id)


def hold_where(
    session: Session,
    column: Literal["models", "pipeline", "inbox", "status", "batch"],
    value: str,
    code: str,
    detail: str,
) -> None:
    """Hold every runnable job with this value in this column."""
    values = {"value": value, "code": code, "detail": detail}
    session.execute(text(f"{_HOLD} AND {column} = :value"), values)


def held_groups(session: Session, code: str) -> list[str]:
    """Return the distinct model sets of jobs under a hold."""
    rows = session.scalars(select(Job.models).where(Job.hold == code).distinct())
    return list(rows)


def stages_held(session: Session, code: str, models: str) -> list[dict[str, Any]]:
    """Return the stages of one job of a model set under a hold; an empty list if none waits."""
    values = {"code": code, "models": models}
    return session.execute(_STAGES_HELD, values).scalar_one_or_none() or []


def release(session: Session, code: str, models: str | None = None) -> int:
    """Release jobs from a hold, all or those of a model set; return their number."""
    if models is None:
        return rows_changed(session.execute(text(_RELEASE), {"code": code}))
    alike = text(f"{_RELEASE} AND models = :models")
    return rows_changed(session.execute(alike, {"code": code, "models": models}))


def held_inboxes(session: Session, code: str) -> list[str]:
    """Return the inboxes that have jobs under a hold."""
    return list(session.scalars(select(Job.inbox).where(Job.hold == code).distinct()))


def release_inbox(session: Session, code: str, inbox: str) -> int:
    """Release an inbox's jobs from a hold; return their number."""
    alike = text(f"{_RELEASE} AND inbox = :inbox")
    return rows_changed(session.execute(alike, {"code": code, "inbox": inbox}))


def promote_due(session: Session, now: datetime) -> int:
    """Release the jobs whose `not_before` or next try is due; return their number."""
    # If a wait is longer than any that the daemon sets, the clock was put back.
    latest = format_time(now + timedelta(seconds=2 * MAX_BACKOFF_S))
    retried = session.execute(_PROMOTE_RETRIES, {"now": format_time(now), "latest": latest})
    return rows_changed(retried) + rows_changed(
        session.execute(_PROMOTE, {"now": format_time(now)})
    )
