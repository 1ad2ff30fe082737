"""Batches: the jobs of one drop that makes several, and the rows that made none.

Each function is one step of a transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import delete, exists, func, insert, select, text, update
from sqlalchemy.orm import Session

from dna_pipeline.base.errors import Paused
from dna_pipeline.base.times import utcnow
from dna_pipeline.ledger import holds, queue, requests, store
from dna_pipeline.ledger.tables import Batch, BatchRow, Drop, Event, Job

REPORTED_AT_ONCE = 500
DIALECT = "dialect:"
"""Begins the name of the setting that holds the form of a batch's table."""

_AT_ONCE = 500

_ROWS = """SELECT r.number, r.image, coalesce(j.id, r.job_id) AS job, r.status AS told,
    r.code AS told_code, r.field, r.detail, j.status, j.hold, j.error, j.stages, j.publish,
    j.publish_name, j.started_at, j.finished_at, j.batch, j.pipeline, j.priority, j.not_before,
    j.tags, j.meta, j.request
    FROM batch_rows r LEFT JOIN jobs j ON j.id = r.job_id
    WHERE r.batch_id = :batch AND r.number > :after ORDER BY r.number LIMIT :limit"""


class Existing(NamedTuple):
    """A job that does, or did, what another asks for."""

    job: str
    status: str
    folder: str | None


def begin(session: Session, batch: dict[str, Any]) -> None:
    """Record that a batch is about to be taken, before any file is touched."""
    session.execute(insert(Batch), [batch | {"state": "claiming"}])


def forget_unclaimed(session: Session) -> None:
    """Forget the batches whose taking in was undone."""
    owned = exists().where(Drop.batch == Batch.id)
    session.execute(delete(Batch).where(Batch.state == "claiming", ~owned))


def finish(
    session: Session, batch_id: str, rows: Sequence[dict[str, Any]], dialect: str | None = None
) -> None:
    """A batch is taken: its jobs are in the queue, these are its rows.

    Args:
        dialect: form of its table as JSON, which its account has too; None for a plain comma table.
    """
    if dialect is not None:
        store.set_setting(session, f"{DIALECT}{batch_id}", dialect)
    for start in range(0, len(rows), _AT_ONCE):
        session.execute(insert(BatchRow), list(rows[start : start + _AT_ONCE]))
    wrong = sum(row["status"] == "wrong" for row in rows)
    values: dict[str, Any] = {"state": "claimed", "rows": len(rows), "wrong": wrong}
    session.execute(update(Batch).where(Batch.id == batch_id).values(values))
    check_failures(session, batch_id)


def add(session: Session, batch: dict[str, Any], rows: Sequence[dict[str, Any]]) -> None:
    """A batch and its rows in one step."""
    begin(session, batch)
    finish(session, batch["id"], rows)


def existing(session: Session, keys: Iterable[str]) -> dict[str, Existing]:
    """The newest job for each key that is still to be done, or was done well."""
    wanted = list(dict.fromkeys(keys))
    found: dict[str, Existing] = {}
    for start in range(0, len(wanted), _AT_ONCE):
        rows = (
            select(Job.key, Job.id, Job.status, Job.publish_name)
            .where(Job.key.in_(wanted[start : start + _AT_ONCE]))
            .where(Job.status.in_(("queued", "running", "completed")))
            .order_by(Job.seq)
        )
        found |= {
            str(key): Existing(job, status, folder)
            for key, job, status, folder in session.execute(rows)
        }
    return found


def last_sha256(session: Session, inbox: str, folder: str, stem: str, name: str) -> str | None:
    """What was taken in last under that name."""
    rows = (
        select(Drop.sha256)
        .join(Job, Job.drop_id == Drop.id)
        .where(Job.inbox == inbox, Job.folder == folder, Job.stem == stem, Job.name == name)
        .order_by(Job.seq.desc())
    )
    return session.scalars(rows.limit(1)).first()


def withdraw(session: Session, drop_ids: Sequence[str]) -> None:
    """Take the jobs of these drops that are still queued out of the queue, leaving no trace but
    in their batches: something newer takes their place. Those that stand for another batch's rows
    stay."""
    shared = exists().where(BatchRow.job_id == Job.id, BatchRow.batch_id != Job.batch)
    waiting = select(Job.id).where(
        text("+jobs.status = 'queued'"), Job.publish_name.is_(None), ~shared
    )
    ids: list[str] = []
    for some in _some(drop_ids):
        ids += session.scalars(waiting.where(Job.drop_id.in_(some)))
    for job_id in ids:
        queue.forget_stages(session, job_id)
    replaced = update(BatchRow).values(job_id=None, status="replaced")
    for some in _some(ids):
        session.execute(replaced.where(BatchRow.job_id.in_(some)))
        session.execute(delete(Event).where(Event.job_id.in_(some)))
        session.execute(delete(Job).where(Job.id.in_(some)))


def _some(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """So many at once as a statement may name."""
    return (ids[start : start + _AT_ONCE] for start in range(0, len(ids), _AT_ONCE))


def drops_of(session: Session, batch_id: str) -> list[str]:
    return list(session.scalars(select(Drop.id).where(Drop.batch == batch_id)))


def newest(session: Session, inbox: str, folder: str, name: str, since: datetime) -> Drop | None:
    """What told the newest batch of a file called so."""
    where = (Batch.inbox == inbox, Batch.folder == folder, Batch.name == name)
    rows = select(Drop).join(Batch, Batch.id == Drop.id).where(*where, Batch.created_at >= since)
    return session.scalars(rows.order_by(Batch.created_at.desc()).limit(1)).first()


def get(session: Session, batch_id: str) -> Batch:
    return session.get_one(Batch, batch_id)


def find(session: Session, batch_id: str | None) -> Batch | None:
    """None where there is none, or a ledger that was rebuilt does not know it."""
    return None if batch_id is None else session.get(Batch, batch_id)


def place_of(session: Session, job: Job) -> tuple[str, int | None]:
    """The name of a job's batch, as templates have it, and its row there; as far as is known."""
    own = select(BatchRow.number).where(BatchRow.batch_id == job.batch, BatchRow.job_id == job.id)
    return name_of(session, job.batch), session.scalar(own)


def name_of(session: Session, batch_id: str | None) -> str:
    """The name of a batch, as templates have it; "" where it is not known."""
    batch = find(session, batch_id)
    return "" if batch is None else batch.name.rpartition(".")[0]


def unfinished(session: Session) -> list[str]:
    """The batches whose account may change yet, the oldest first."""
    rows = select(Batch.id).where(Batch.state.in_(("claimed", "open"))).order_by(Batch.created_at)
    return list(session.scalars(rows))


def jobless_drops(session: Session, batch_id: str) -> list[Drop]:
    """Its drops that no job was made of: what tells it, and what was there already."""
    used = exists().where(Job.drop_id == Drop.id)
    return list(session.scalars(select(Drop).where(Drop.batch == batch_id, ~used)))


def matrix_sidecar(session: Session, batch_id: str) -> tuple[str | None, str | None]:
    """Name and text of the YAML that a matrix was written in."""
    rows = select(Drop.sidecar, Drop.sidecar_text).join(Job, Job.drop_id == Drop.id)
    found = session.execute(rows.where(Job.batch == batch_id).limit(1)).first()
    return (None, None) if found is None else (found[0], found[1])


def report(session: Session, batch_id: str, after: int) -> list[dict[str, Any]]:
    """Its next rows, at most `REPORTED_AT_ONCE`, with what became of them; JSON columns as text.

    Args:
        after: the number of the row to begin behind; 0 at first.
    """
    values = {"batch": batch_id, "after": after, "limit": REPORTED_AT_ONCE}
    return [dict(row) for row in session.execute(text(_ROWS), values).mappings()]


def dialect_of(session: Session, batch_id: str) -> str | None:
    """The form of the batch's table; None for that of a plain comma table."""
    return store.get_setting(session, f"{DIALECT}{batch_id}")


def open_(session: Session, batch_id: str) -> None:
    """Its folder is in the outbox."""
    session.execute(update(Batch).where(Batch.id == batch_id).values(state="open"))


def close(session: Session, batch_id: str) -> bool:
    """All jobs that its rows count on have ended; False where one was begun again meanwhile."""
    goes_on = Job.status.in_(("queued", "running")) | Job.publish.in_(("pending", "planned"))
    own = exists().where(Job.batch == batch_id, goes_on)
    row = (BatchRow.batch_id == batch_id, BatchRow.status == "skipped")
    others = exists().where(*row, BatchRow.job_id == Job.id, goes_on)
    done = update(Batch).where(Batch.id == batch_id, ~own, ~others)
    closed: Any = session.execute(done.values(state="done", finished_at=utcnow()))
    return int(closed.rowcount) > 0


def reopen(session: Session, job_id: str) -> None:
    """A job is to run again: the batches with rows that count on it have not ended."""
    counting = select(BatchRow.batch_id).where(BatchRow.job_id == job_id)
    again = update(Batch).where(Batch.id.in_(counting), Batch.state == "done")
    session.execute(again.values(state="open", finished_at=None))


# --- control ---


def check_failures(session: Session, batch_id: str) -> str | None:
    """Pause the batch if more went wrong than it allows; why, where it is paused now."""
    batch = find(session, batch_id)
    if batch is None or batch.max_failures is None or batch.paused is not None:
        return None
    failed = select(func.count()).where(Job.batch == batch_id, text("+jobs.status = 'failed'"))
    number = batch.wrong + (session.scalar(failed) or 0)
    if number <= batch.max_failures:
        return None
    why = (
        f"batch {batch.stem}-{batch_id[:8]} is paused: {number} rows went wrong, and its "
        f"max_failures is {batch.max_failures}; `dna-pipeline resume --batch {batch_id[:8]}`"
    )
    pause(session, batch_id, why)
    return why


def pause(session: Session, batch_id: str, why: str) -> None:
    """Hold its queued jobs until someone resumes it."""
    session.execute(update(Batch).where(Batch.id == batch_id).values(paused=why))
    holds.hold_where(session, "batch", batch_id, Paused.code, why)


def paused(session: Session, batch_id: str | None) -> str | None:
    """Why that batch is paused; None if it is not."""
    if batch_id is None:
        return None
    return session.scalar(select(Batch.paused).where(Batch.id == batch_id))


def resume(session: Session, batch_id: str | None = None) -> None:
    """Free a batch, or all; what else holds their jobs is found out anew. A batch that was paused
    for its failures is not paused for them again."""
    chosen = update(Batch).where(Batch.paused.is_not(None))
    if batch_id is not None:
        chosen = chosen.where(Batch.id == batch_id)
        alike = update(Job).where(Job.batch == batch_id, Job.hold == Paused.code)
        session.execute(alike.values(hold=None, hold_detail=None))
    session.execute(chosen.values(paused=None, max_failures=None))


def cancel(session: Session, batch_id: str) -> dict[str, str | None]:
    """Cancel all of its jobs that have not ended; what each was, by its id."""
    rows = select(Job.id).where(Job.batch == batch_id, Job.status.in_(("queued", "running")))
    return {
        job_id: requests.request_cancel(session, job_id) for job_id in session.scalars(rows).all()
    }
