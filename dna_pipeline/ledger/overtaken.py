"""Overtaken jobs: open in an older copy of the ledger that was put back, but ended since.

Their sources are gone; their end is known from their result folders. Each function is one step of
a transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from dna_pipeline.base.errors import Failure, InboxUnavailable
from dna_pipeline.ledger import queue, states
from dna_pipeline.ledger.sqlite import chunks
from dna_pipeline.ledger.store import add_event, add_rows
from dna_pipeline.ledger.tables import ArtifactRow, Drop, Job, StageRun

_CLAIMS = text(
    "SELECT id, claim FROM drops INDEXED BY ix_drops_open WHERE state <> 'gone'"
    " AND state IN ('claimed', 'disposing')"
).columns(Drop.id, Drop.claim)


def claims(session: Session) -> list[tuple[str, str]]:
    """Return the ids and the claims of all drops that own files."""
    return [(drop, claim) for drop, claim in session.execute(_CLAIMS)]


def open_jobs(session: Session, drop_ids: Sequence[str], *, only_held: bool) -> list[Job]:
    """Find the jobs of these drops that have not ended, in the order of the queue.

    Args:
        only_held: find only jobs that wait for their sources, on which nobody else works.
    """
    jobs: list[Job] = []
    for some in chunks(drop_ids):
        rows = select(Job).where(Job.drop_id.in_(some), states.IS_OPEN)
        if only_held:
            rows = rows.where(Job.hold == InboxUnavailable.code)
        jobs += session.scalars(rows)
    return sorted(jobs, key=lambda job: job.seq)


def _is_as_it_was(session: Session, job: Job) -> bool:
    """True if nobody has changed the job since it was read."""
    now = queue.find_job(session, job.id)
    return now is not None and (now.status, now.publish, now.hold, now.drop_id) == (
        job.status, job.publish, job.hold, job.drop_id,
    )  # fmt: skip


def end(
    session: Session,
    job: Job,
    changes: dict[str, Any],
    runs: list[dict[str, Any]],
    files: list[dict[str, Any]],
) -> bool:
    """Record a job's end and publication, with stages and files; False if the job has changed."""
    if not _is_as_it_was(session, job):
        return False
    released = queue.RELEASED | {"not_before": None, "cancel_requested": False}
    states.move(session, "overtake", job.id, **released, **changes)
    queue.forget_stages(session, job.id)
    for table, rows in ((StageRun, runs), (ArtifactRow, files)):
        add_rows(session, table, rows)
    error: dict[str, Any] = changes["error"] or {}
    reason = {name: error[name] for name in ("code", "detail") if name in error}
    add_event(session, job.id, changes["status"], {**reason, "found": changes["publish_name"]})
    return True


def end_without_source(session: Session, job: Job, failure: Failure) -> bool:
    """End a job whose source is gone for good; False if the job has changed.

    A job that waits fails. A job that only has to be published is released from its hold.
    """
    if not _is_as_it_was(session, job):
        return False
    if job.publish is None:
        queue.fail(session, job.id, failure)
    elif job.hold == InboxUnavailable.code:
        session.execute(update(Job).where(Job.id == job.id).values(queue.RELEASED))
    return True
