"""Drops from claim to disposal, and the known files of `keep` inboxes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import bindparam, delete, exists, select, text, update
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import StaleDataError

from dna_pipeline.base.times import utcnow
from dna_pipeline.ledger import states
from dna_pipeline.ledger.sqlite import chunks
from dna_pipeline.ledger.store import add_rows, get_setting, set_setting, table_of
from dna_pipeline.ledger.tables import Batch, Drop, Event, Job, KnownFile

_NOT_GONE = text("drops.state <> 'gone'")  # literal text, so that the partial index applies

_LATE_COPY = "late_sidecar:"
"""Before an inbox's name: the setting with the copy of its newest late sidecar."""

# Without the mapper, which would double the cost of thousands.
_FINISH_CLAIM = update(table_of(Drop)).where(table_of(Drop).c.id == bindparam("row"))


def begin_claims(session: Session, drops: Sequence[dict[str, Any]]) -> None:
    """Record that these drops are about to be claimed, before any file is touched."""
    add_rows(session, Drop, drops)


def claiming_drops(session: Session) -> list[Drop]:
    """Find drops whose claim has begun and has not been committed."""
    return list(session.scalars(select(Drop).where(_NOT_GONE, Drop.state == "claiming")))


def forget_drops(session: Session, drop_ids: Sequence[str]) -> None:
    """Remove those of these drops that are still `claiming`.

    For claims that failed or were rolled back.
    """
    for some in chunks(drop_ids):
        session.execute(delete(Drop).where(Drop.id.in_(some), Drop.state == "claiming"))


def finish_claims(
    session: Session, drops: Sequence[dict[str, Any]], jobs: Sequence[dict[str, Any]]
) -> None:
    """Record that drops are claimed, with their jobs and the jobs' first events.

    Args:
        drops: for each its id and the columns that the claim found out, the same keys in all.

    Raises:
        LedgerError: the ledger has no such drop.
    """
    if drops:
        rows = [{**drop, "row": drop["id"], "state": "claimed"} for drop in drops]
        if session.connection().execute(_FINISH_CLAIM, rows).rowcount != len(rows):
            raise StaleDataError("a drop that was claimed is not in the ledger")
    add_rows(session, Job, jobs)
    now = utcnow()
    events = [
        {"job_id": job["id"], "at": now, "kind": kind, "data": data}
        for job in jobs
        for kind, data in _first_events(job)
    ]
    add_rows(session, Event, events)


def _first_events(job: dict[str, Any]) -> Iterable[tuple[str, dict[str, Any]]]:
    yield "queued", {"inbox": job["inbox"], "name": job["name"], "pipeline": job["pipeline"]}
    if job["status"] == "failed":
        yield "failed", failed_data(job["error"])


def failed_data(error: dict[str, Any]) -> dict[str, Any]:
    """Return the data of a job's event for its failure or cancellation."""
    return {"code": error["code"], "detail": error["detail"]}


def unneeded_drops(session: Session, drop_id: str | None = None) -> list[Drop]:
    """Find all drops that no job needs any more, or only that of one id."""
    needed = exists().where(Job.drop_id == Drop.id, states.IS_OPEN)
    # A batch's own files are needed until its folder is in the outbox.
    unpublished = exists().where(Batch.id == Drop.batch, Batch.state == "claimed")
    rows = select(Drop).where(_NOT_GONE, Drop.state != "claiming", ~needed, ~unpublished)
    return list(session.scalars(rows if drop_id is None else rows.where(Drop.id == drop_id)))


def set_drop_state(session: Session, drop_id: str, state: str) -> None:
    session.execute(update(Drop).where(Drop.id == drop_id).values(state=state))


def known_files(session: Session, inbox: str) -> dict[str, Any]:
    """Return the rows of `known_files` by path; plain rows, since there may be a million."""
    rows = session.execute(select(*KnownFile.__table__.columns).where(KnownFile.inbox == inbox))
    return {row.path: row for row in rows}


def remember_files(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    """Add or replace rows of `known_files`."""
    if rows:
        statement = upsert(table_of(KnownFile))
        changed = {name: statement.excluded[name] for name in ("stat", "key", "error", "drop_id")}
        session.connection().execute(
            statement.on_conflict_do_update(index_elements=["inbox", "path"], set_=changed),
            list(rows),
        )


def set_sidecar(session: Session, drop_id: str, name: str, text: str, stat: dict[str, Any]) -> None:
    """Give a drop a sidecar that came late. `stat` is the new value for the drop's files."""
    values = {"sidecar": name, "sidecar_text": text, "stat": stat}
    session.execute(update(Drop).where(Drop.id == drop_id).values(values))


def note_copy(session: Session, inbox: str, copy: Path, place: Path) -> None:
    """Note that the copy of a late sidecar counts, and is to be moved to its place.

    An inbox has one such note, since it attaches one sidecar after another. The note stays when the
    copy was moved: a copy that is not there any more needs nothing.
    """
    set_setting(session, f"{_LATE_COPY}{inbox}", json.dumps([str(copy), str(place)]))


def noted_copy(session: Session, inbox: str) -> tuple[str, str] | None:
    """Return the newest copy that was noted for an inbox, with its place; None if none was."""
    value = get_setting(session, f"{_LATE_COPY}{inbox}")
    if value is None:
        return None
    copy, place = json.loads(value)
    return copy, place


def set_companions(session: Session, drop_id: str, companions: list[dict[str, Any]] | None) -> None:
    """Change the companions of a drop."""
    session.execute(update(Drop).where(Drop.id == drop_id).values(companions=companions))


def recent_drops(
    session: Session, inbox: str, folder: str, stems: Sequence[str], since: datetime
) -> list[tuple[Drop, Job]]:
    """Find drops of images with these stems that were claimed since then, with their jobs.

    The newest comes first. `folder` and `stems` are written as in the jobs' rows.
    """
    rows = (
        select(Drop, Job)
        .join(Job, Job.drop_id == Drop.id)
        .where(Job.inbox == inbox, Job.folder == folder, Job.stem.in_(stems))
        .where(Drop.image.is_not(None), Drop.created_at >= since)
    )
    # With ORDER BY, SQLite would read all jobs of the inbox, so Python sorts.
    pairs = [(drop, job) for drop, job in session.execute(rows)]
    return sorted(pairs, key=lambda pair: -pair[1].seq)


def recent_jobs(
    session: Session, inbox: str, most: int
) -> list[tuple[str, str, str, datetime, str | None]]:
    """Return folder, name, id and time of claim of an inbox's newest jobs, at most `most`, each
    with the name of the table or job file that asked for it; None if none did."""
    of_file = (Batch.id == Job.batch) & Batch.kind.in_(("table", "job_file"))
    rows = select(Job.folder, Job.name, Job.id, Job.created_at, Batch.name)
    rows = rows.outerjoin(Batch, of_file).where(Job.inbox == inbox)
    newest = session.execute(rows.order_by(Job.seq.desc()).limit(most))
    return [(folder, name, job, at, file) for folder, name, job, at, file in newest]


def drop_with_jobs(session: Session, drop_id: str) -> tuple[Drop, Sequence[Job]]:
    """Return a drop, which must exist, and its jobs."""
    jobs = session.scalars(select(Job).where(Job.drop_id == drop_id)).all()
    return session.get_one(Drop, drop_id), jobs


def open_drop_ids(session: Session) -> set[str]:
    """Return the ids of all drops that still own files."""
    return set(session.scalars(select(Drop.id).where(_NOT_GONE)))


def has_drops(session: Session) -> bool:
    """True if the ledger has any drop."""
    return session.scalar(select(Drop.id).limit(1)) is not None


def drop_state(session: Session, drop_id: str) -> str | None:
    """Return the state of a drop; None if there is no such drop."""
    return session.scalar(select(Drop.state).where(Drop.id == drop_id))
