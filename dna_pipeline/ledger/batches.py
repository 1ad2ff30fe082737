"""Batches: the jobs of a job file, a table or a matrix, and the rows that have no job.

Each function is one step of a transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import delete, exists, func, insert, select, text, update
from sqlalchemy.orm import Session

from dna_pipeline.base.layout import batch_folder
from dna_pipeline.base.times import utcnow
from dna_pipeline.ledger import pauses, queue, requests, states, store
from dna_pipeline.ledger.sqlite import chunks
from dna_pipeline.ledger.tables import Batch, BatchRow, Drop, Event, Job

REPORTED_AT_ONCE = 500
"""Largest number of rows that one call of `report` returns."""

DIALECT = "dialect:"
"""Prefix of the name of the setting that holds the form of a batch's table."""

SHEET_DUE = "due"
SHEET_MADE = "made"
SHEET_FAILED = "failed: "
"""Values of `Batch.sheet`; the reason stands behind the last one."""

_ROWS = """SELECT r.number, r.image, coalesce(j.id, r.job_id) AS job, r.status AS row_status,
    r.code AS row_code, r.field, r.detail, j.status, j.hold, j.error, j.stages, j.publish,
    j.publish_name, j.started_at, j.finished_at, j.batch, j.pipeline, j.priority, j.not_before,
    j.tags, j.meta, j.request
    FROM batch_rows r LEFT JOIN jobs j ON j.id = r.job_id
    WHERE r.batch_id = :batch AND r.number > :after ORDER BY r.number LIMIT :limit"""


class Existing(NamedTuple):
    """A job that has the dedup key of another.

    Attributes:
        folder: its result folder, below the outbox; None before that is planned.
    """

    job: str
    status: str
    folder: str | None


class LastImage(NamedTuple):
    """An image that a job had.

    Attributes:
        sha256: its hash.
        companions: its companions, as the drop's row has them.
    """

    sha256: str
    companions: Sequence[Mapping[str, Any]]


def begin(session: Session, batch: dict[str, Any]) -> None:
    """Record that a batch is about to be claimed, before any file is touched."""
    session.execute(insert(Batch), [batch | {"state": "claiming"}])


def forget_unclaimed(session: Session) -> None:
    """Forget the batches whose claims were all rolled back."""
    owned = exists().where(Drop.batch == Batch.id)
    session.execute(delete(Batch).where(Batch.state == "claiming", ~owned))


def finish(
    session: Session, batch_id: str, rows: Sequence[dict[str, Any]], dialect: str | None = None
) -> None:
    """Record the rows of a batch that is claimed and has its jobs in the queue.

    Args:
        dialect: form of its table as JSON, also for `batch.csv`; None for a plain comma table.
    """
    if dialect is not None:
        store.set_setting(session, f"{DIALECT}{batch_id}", dialect)
    for some in chunks(rows):
        session.execute(insert(BatchRow), list(some))
    wrong = sum(row["status"] == "wrong" for row in rows)
    values: dict[str, Any] = {"state": "claimed", "rows": len(rows), "wrong": wrong}
    session.execute(update(Batch).where(Batch.id == batch_id).values(values))
    pauses.check_batch(session, batch_id)


def existing(session: Session, keys: Iterable[str]) -> dict[str, Existing]:
    """Find the newest job for each dedup key that is queued, running or completed."""
    distinct = list(dict.fromkeys(keys))
    jobs: dict[str, Existing] = {}
    for some in chunks(distinct):
        rows = (
            select(Job.key, Job.id, Job.status, Job.publish_name)
            .where(Job.key.in_(some))
            .where(Job.status.in_(("queued", "running", "completed")))
            .order_by(Job.seq)
        )
        jobs |= {
            str(key): Existing(job, status, folder)
            for key, job, status, folder in session.execute(rows)
        }
    return jobs


def last_image(session: Session, inbox: str, folder: str, stem: str, name: str) -> LastImage | None:
    """Return the newest image that a job of that name has; None if there is none."""
    rows = (
        select(Drop.sha256, Drop.companions)
        .join(Job, Job.drop_id == Drop.id)
        .where(Job.inbox == inbox, Job.folder == folder, Job.stem == stem, Job.name == name)
        .order_by(Job.seq.desc())
    )
    sha256, companions = session.execute(rows.limit(1)).first() or (None, None)
    return None if sha256 is None else LastImage(sha256, companions or [])


def withdraw(session: Session, drop_ids: Sequence[str]) -> None:
    """Remove the queued jobs of these drops, since a newer version takes their place.

    Nothing of these jobs remains but the rows in their batches. A job on which rows of another
    batch count stays.
    """
    shared = exists().where(BatchRow.job_id == Job.id, BatchRow.batch_id != Job.batch)
    waiting = select(Job.id).where(
        text("+jobs.status = 'queued'"), Job.publish_name.is_(None), ~shared
    )
    ids: list[str] = []
    for some in chunks(drop_ids):
        ids += session.scalars(waiting.where(Job.drop_id.in_(some)))
    for job_id in ids:
        queue.forget_stages(session, job_id)
    replaced = update(BatchRow).values(job_id=None, status="replaced")
    for some in chunks(ids):
        session.execute(replaced.where(BatchRow.job_id.in_(some)))
        session.execute(delete(Event).where(Event.job_id.in_(some)))
        session.execute(delete(Job).where(Job.id.in_(some)))


def drops_of(session: Session, batch_id: str) -> list[str]:
    return list(session.scalars(select(Drop.id).where(Drop.batch == batch_id)))


def newest_drop(
    session: Session, inbox: str, folder: str, name: str, since: datetime
) -> Drop | None:
    """Find the drop with the job file or table of the newest batch of that name; None if none."""
    where = (Batch.inbox == inbox, Batch.folder == folder, Batch.name == name)
    rows = select(Drop).join(Batch, Batch.id == Drop.id).where(*where, Batch.created_at >= since)
    return session.scalars(rows.order_by(Batch.created_at.desc()).limit(1)).first()


def find(session: Session, batch_id: str | None) -> Batch | None:
    """Find a batch; None if there is none, also where a rebuilt ledger does not know it."""
    return None if batch_id is None else session.get(Batch, batch_id)


def place_of(session: Session, job: Job) -> tuple[str, int | None]:
    """Return the name of a job's batch, as in templates, and its row; "" and None if unknown."""
    own = select(BatchRow.number).where(BatchRow.batch_id == job.batch, BatchRow.job_id == job.id)
    return name_of(session, job.batch), session.scalar(own)


def name_of(session: Session, batch_id: str | None) -> str:
    """Return the name of a batch, as in templates; "" if it is unknown."""
    batch = find(session, batch_id)
    return "" if batch is None else batch.name.rpartition(".")[0]


def unfinished(session: Session) -> list[str]:
    """Return the ids of the batches whose `batch.csv` may still change, oldest first."""
    rows = select(Batch.id).where(Batch.state.in_(("claimed", "open"))).order_by(Batch.created_at)
    return list(session.scalars(rows))


def jobs_of_rows(session: Session, batch_id: str) -> list[str]:
    """Return the ids of the jobs on which a batch's rows count, its own and earlier ones."""
    rows = select(BatchRow.job_id).where(BatchRow.batch_id == batch_id)
    return [job for job in session.scalars(rows.order_by(BatchRow.number)) if job is not None]


def jobless_drops(session: Session, batch_id: str) -> list[Drop]:
    """Find a batch's drops without jobs: its own files, and images of skipped rows."""
    used = exists().where(Job.drop_id == Drop.id)
    return list(session.scalars(select(Drop).where(Drop.batch == batch_id, ~used)))


def matrix_sidecar(session: Session, batch_id: str) -> tuple[str | None, str | None]:
    """Return name and text of the YAML with a batch's matrix; None for both if there is none."""
    rows = select(Drop.sidecar, Drop.sidecar_text).join(Job, Job.drop_id == Drop.id)
    row = session.execute(rows.where(Job.batch == batch_id).limit(1)).first()
    return (None, None) if row is None else (row[0], row[1])


def report(session: Session, batch_id: str, after: int) -> list[dict[str, Any]]:
    """Return a batch's next rows with their jobs, at most `REPORTED_AT_ONCE`; JSON columns as text.

    `row_status` and `row_code` are those of a row without a job of its own.

    Args:
        after: the number of the last row of the call before; 0 at first.
    """
    values = {"batch": batch_id, "after": after, "limit": REPORTED_AT_ONCE}
    return [dict(row) for row in session.execute(text(_ROWS), values).mappings()]


def dialect_of(session: Session, batch_id: str) -> str | None:
    """Return the form of a batch's table as JSON; None for a plain comma table."""
    return store.get_setting(session, f"{DIALECT}{batch_id}")


def open_(session: Session, batch_id: str) -> None:
    """Record that a batch's folder is in the outbox."""
    session.execute(update(Batch).where(Batch.id == batch_id).values(state="open"))


def close(session: Session, batch_id: str) -> bool:
    """End a batch if all jobs that its rows count on have ended; False if one still goes on."""
    own = exists().where(Job.batch == batch_id, states.IS_OPEN)
    row = (BatchRow.batch_id == batch_id, BatchRow.status == "skipped")
    others = exists().where(*row, BatchRow.job_id == Job.id, states.IS_OPEN)
    done = update(Batch).where(Batch.id == batch_id, ~own, ~others)
    values = {"state": "done", "finished_at": utcnow(), "sheet": SHEET_DUE}
    closed: Any = session.execute(done.values(**values))
    if is_closed := int(closed.rowcount) > 0:
        store.add_common_event(session, "batch_ended", _end_data(session, batch_id))
    return is_closed


def _end_data(session: Session, batch_id: str) -> dict[str, Any]:
    """Data of the event of a batch's end: its place, and the numbers of its rows by outcome."""
    batch = session.get_one(Batch, batch_id)
    jobs = select(Job.status, func.count()).where(Job.batch == batch_id).group_by(text("+status"))
    rows = select(BatchRow.status, func.count()).where(BatchRow.batch_id == batch_id)
    counts: dict[str, int] = {str(status): number for status, number in session.execute(jobs)}
    others: dict[str | None, int] = {}
    for status, number in session.execute(rows.group_by(BatchRow.status)):
        others[status] = number
    return {
        "batch": batch_id, "inbox": batch.inbox, "name": batch.name,
        "folder": batch_folder(batch.inbox, batch.folder, batch.stem, batch_id),
        "seconds": round((utcnow() - batch.created_at).total_seconds(), 1),
        "rows": batch.rows, "wrong": batch.wrong, "skipped": others.get("skipped", 0),
        **{status: counts.get(status, 0) for status in states.ENDS},
    }  # fmt: skip


def due_sheets(session: Session) -> list[str]:
    """Return the ids of the batches whose contact sheets are to be made, the oldest first."""
    rows = select(Batch.id).where(Batch.sheet == SHEET_DUE).order_by(Batch.finished_at)
    # As the index has it: SQLite does not find out by itself that one follows from the other.
    rows = rows.where(text("sheet <> 'made'"))
    return list(session.scalars(rows))


def end_sheet(session: Session, batch_id: str, failure: str | None = None) -> None:
    """Record that a batch's contact sheet is made, or why it cannot be. A batch that was reopened
    meanwhile gets a new one when it ends."""
    state = SHEET_MADE if failure is None else f"{SHEET_FAILED}{failure}"
    is_meant = Batch.sheet.is_not(None)
    session.execute(update(Batch).where(Batch.id == batch_id, is_meant).values(sheet=state))


def reopen(session: Session, job_id: str) -> None:
    """Reopen the batches with rows that count on a job, since the job is to run again."""
    counting = select(BatchRow.batch_id).where(BatchRow.job_id == job_id)
    again = update(Batch).where(Batch.id.in_(counting), Batch.state == "done")
    session.execute(again.values(state="open", finished_at=None, sheet=None))


def cancel(session: Session, batch_id: str) -> dict[str, str | None]:
    """Cancel all jobs of a batch that have not ended; return their status before, by id."""
    rows = select(Job.id).where(Job.batch == batch_id, Job.status.in_(states.OPEN))
    return {
        job_id: requests.request_cancel(session, job_id) for job_id in session.scalars(rows).all()
    }
