"""Requests of people for a job: cancel it, try it again, replace its work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from dna_pipeline.base.errors import Cancelled
from dna_pipeline.ledger import states
from dna_pipeline.ledger.drops import failed_data
from dna_pipeline.ledger.queue import (
    IS_QUEUED,
    RELEASED,
    fail,
    finished_stages,
    forget_stages,
)
from dna_pipeline.ledger.store import add_event
from dna_pipeline.ledger.tables import Job


def request_cancel(session: Session, job_id: str) -> str | None:
    """Cancel a queued job now, a running one at its next step.

    Returns:
        The job's status before; None if there is no such job.
    """
    row = session.execute(select(Job.status, Job.publish).where(Job.id == job_id)).one_or_none()
    if row is None:
        return None
    status, publish = row
    if status == "queued":
        fail(session, job_id, Cancelled("cancelled before it started").failure())
    elif status == "running" and publish is None:
        session.execute(update(Job).where(Job.id == job_id).values(cancel_requested=True))
    # A job that is only being published has run to its end, so it counts as completed.
    return status if publish is None or status != "running" else "completed"


def withdraw(session: Session, job_id: str) -> bool:
    """Cancel a job if it is still queued; False if it is not, and stays as it is."""
    is_queued = select(Job.id).where(Job.id == job_id, IS_QUEUED)
    if session.scalar(is_queued) is None:
        return False
    fail(session, job_id, Cancelled("withdrawn before it started").failure())
    return True


def cancel_requests(session: Session) -> list[str]:
    rows = select(Job.id).where(Job.cancel_requested, Job.status == "running")
    return list(session.scalars(rows))


def revive(
    session: Session, job_id: str, changes: dict[str, Any], stages: Sequence[str] = ()
) -> bool:
    """Queue a failed or cancelled job again, under its id, with new values of columns.

    The runs of these stages are kept, all others are forgotten. `publish_name` stays, since it
    names the failure folder, which must be removed.

    Returns:
        False if another process was faster; nothing was changed then.
    """
    fresh: dict[str, Any] = {
        **RELEASED, "stage": None, "error": None, "publish": None, "manifest_sha256": None,
        "cancel_requested": False, "cancelled_while": None, "original_place": None,
        "crashes": 0, "interruptions": 0, "started_at": None, "finished_at": None,
    }  # fmt: skip
    values = fresh | changes
    if revived := states.move(session, "retry", job_id, Job.publish == "done", **values):
        runs = [run.stage_id for run, _ in finished_stages(session, job_id)]
        forget_stages(session, job_id, [stage_id for stage_id in runs if stage_id not in stages])
        add_event(session, job_id, "queued", {"retry": True})
    return revived


def queued_from(session: Session, drop_id: str) -> str | None:
    """Find the queued job of a drop that belongs to no batch; None if there is none."""
    rows = select(Job.id).where(Job.drop_id == drop_id, IS_QUEUED, Job.batch.is_(None))
    return session.scalars(rows).first()


def replace_queued(session: Session, job_id: str, changes: dict[str, Any]) -> bool:
    """Replace the work of a queued job, which keeps its id and place.

    The new work may be a failure already.

    Returns:
        False if the job is no longer queued; nothing was changed then.
    """
    if replaced := states.move(session, "replace", job_id, **changes):
        forget_stages(session, job_id)
        add_event(session, job_id, "queued", {"replaced": True})
        if (error := changes.get("error")) is not None:
            add_event(session, job_id, "failed", failed_data(error))
    return replaced
