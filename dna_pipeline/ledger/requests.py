"""What people ask of jobs that are in the queue, or were: to stop, to be tried again, to change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from dna_pipeline.base.errors import Cancelled
from dna_pipeline.ledger.drops import failed_data
from dna_pipeline.ledger.queue import (
    IS_QUEUED,
    fail,
    finished_stages,
    forget_stages,
    rows_changed,
)
from dna_pipeline.ledger.store import add_event
from dna_pipeline.ledger.tables import Job


def request_cancel(session: Session, job_id: str) -> str | None:
    """Cancel a queued job now, a running one at its next step; its status before, or None."""
    found = session.execute(select(Job.status, Job.publish).where(Job.id == job_id)).one_or_none()
    if found is None:
        return None
    status, publish = found
    if status == "queued":
        fail(session, job_id, Cancelled("cancelled before it started").failure())
    elif status == "running" and publish is None:
        session.execute(update(Job).where(Job.id == job_id).values(cancel_requested=True))
    # What has run to its end and is only being published is as good as completed.
    return status if publish is None or status != "running" else "completed"


def cancel_requests(session: Session) -> list[str]:
    rows = select(Job.id).where(Job.cancel_requested, Job.status == "running")
    return list(session.scalars(rows))


def revive(
    session: Session, job_id: str, changes: dict[str, Any], stages: Sequence[str] = ()
) -> bool:
    """Queue a failed or cancelled job again, under the same id, with what was read anew.

    The runs of these stages are kept, all others are forgotten.
    `publish_name` stays: it names the failure folder, which is to go. False: someone else was
    faster, and nothing was changed.
    """
    fresh: dict[str, Any] = {
        "status": "queued", "hold": None, "hold_detail": None, "stage": None, "error": None,
        "publish": None, "manifest_sha256": None, "cancel_requested": False,
        "cancelled_while": None, "original_place": None,
        "crashes": 0, "interruptions": 0, "started_at": None, "finished_at": None,
    }  # fmt: skip
    ended = (Job.id == job_id, Job.status.in_(("failed", "cancelled")), Job.publish == "done")
    revived = rows_changed(session.execute(update(Job).where(*ended).values(fresh | changes))) > 0
    if revived:
        runs = [run.stage_id for run, _ in finished_stages(session, job_id)]
        forget_stages(session, job_id, [stage_id for stage_id in runs if stage_id not in stages])
        add_event(session, job_id, "queued", {"retry": True})
    return revived


def queued_from(session: Session, drop_id: str) -> str | None:
    """The job, no batch's, that was made from that drop if it is still queued."""
    rows = select(Job.id).where(Job.drop_id == drop_id, IS_QUEUED, Job.batch.is_(None))
    return session.scalars(rows).first()


def replace_queued(session: Session, job_id: str, changes: dict[str, Any]) -> bool:
    """Give a job that is still queued other work, which may have failed already; its id and place
    stay. False: too late, and nothing was changed."""
    statement = update(Job).where(Job.id == job_id, Job.status == "queued").values(changes)
    replaced = rows_changed(session.execute(statement)) > 0
    if replaced:
        forget_stages(session, job_id)
        add_event(session, job_id, "queued", {"replaced": True})
        if (error := changes.get("error")) is not None:
            add_event(session, job_id, "failed", failed_data(error))
    return replaced
