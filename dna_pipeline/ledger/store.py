"""The ledger opened for writing: transactions, settings, and drops from claim to disposal."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar, cast

from sqlalchemy import Table, bindparam, delete, exists, insert, select, text, update
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.orm import Session

from dna_pipeline.base.times import format_time, utcnow
from dna_pipeline.ledger import engine as engines
from dna_pipeline.ledger import health, schema
from dna_pipeline.ledger.tables import Base, Batch, Drop, Event, Job, KnownFile, Setting

T = TypeVar("T")

OPEN_STATUSES = ("queued", "running")

_AT_ONCE = 500
"""So many values a statement names at the most: SQLite allows 32,766."""

_NOT_GONE = text("drops.state <> 'gone'")  # literal, so that the partial index applies

# Part of every claim. Made once, and without the mapper: each costs more than SQLite's own work.
_SETTING = select(Setting.value).where(Setting.name == bindparam("name"))
_ADD_EVENT = insert(Event.metadata.tables["events"])


class Ledger:
    """The writing side. Safe to share between threads: each transaction has its own session."""

    def __init__(
        self,
        path: Path,
        *,
        thorough: bool = False,
        ledger_id: str | None = None,
    ) -> None:
        """Open the ledger, or make one where there never was any.

        Args:
            thorough: look for damage in a large one too.
            ledger_id: the id of one that is made; drawn by default.

        Raises:
            ConfigError: it is damaged, gone, or of a newer version.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        health.check_present(path)
        self.path = path
        self._engine = engines.open_writer(path)
        try:
            health.check(self._engine, path, thorough=thorough)
            schema.ensure(self._engine, path)
            self.id = self.transact(lambda s: _ledger_id(s, ledger_id))
            health.note_id(path, self.id)
        except BaseException:
            self._engine.dispose()
            raise

    def transact(self, action: Callable[[Session], T]) -> T:
        """Run `action` in one immediate transaction; what it returns stays usable afterwards."""

        def attempt() -> T:
            with Session(self._engine, expire_on_commit=False) as session, session.begin():
                return action(session)

        return engines.retry_busy(attempt)

    def close(self) -> None:
        self._engine.dispose()


def new_id() -> str:
    """A random id: 32 hexadecimal digits."""
    return uuid.uuid4().hex


def _ledger_id(session: Session, wanted: str | None) -> str:
    if (value := get_setting(session, "ledger_id")) is None:
        value = wanted or new_id()[:12]
        set_setting(session, "ledger_id", value)
    return value


def get_setting(session: Session, name: str) -> str | None:
    return session.scalar(_SETTING, {"name": name})


def set_setting(session: Session, name: str, value: str | None) -> None:
    """Set, or with None remove, a setting."""
    session.execute(delete(Setting).where(Setting.name == name))
    if value is not None:
        session.execute(insert(Setting).values(name=name, value=value))


def add_event(session: Session, job_id: str, kind: str, data: dict[str, Any] | None = None) -> None:
    values = {"job_id": job_id, "at": utcnow(), "kind": kind, "data": data or {}}
    session.execute(_ADD_EVENT, values)


# --- drops ---


def begin_claims(session: Session, drops: Sequence[dict[str, Any]]) -> None:
    """Record that these drops are about to be taken, before any file is touched."""
    if drops:
        _add(session, Drop, drops)


def claiming_drops(session: Session) -> list[Drop]:
    """Drops whose files were being taken when someone last wrote of them."""
    return list(session.scalars(select(Drop).where(_NOT_GONE, Drop.state == "claiming")))


def forget_drops(session: Session, drop_ids: Sequence[str]) -> int:
    """Remove drops whose claims were lost, put back or given up; how many were still to be."""
    forgotten = 0
    for start in range(0, len(drop_ids), _AT_ONCE):
        some = Drop.id.in_(drop_ids[start : start + _AT_ONCE])
        result: Any = session.execute(delete(Drop).where(some, Drop.state == "claiming"))
        forgotten += int(result.rowcount)
    return forgotten


def finish_claims(
    session: Session, drops: Sequence[dict[str, Any]], jobs: Sequence[dict[str, Any]]
) -> None:
    """The drops are ours: commit what they hold with their jobs and the jobs' first events.

    Args:
        drops: of each its id and what was found out, the same keys in all.
    """
    if drops:
        session.execute(update(Drop), [{**drop, "state": "claimed"} for drop in drops])
    if not jobs:
        return
    _add(session, Job, jobs)
    now = utcnow()
    events = [
        {"job_id": job["id"], "at": now, "kind": kind, "data": data}
        for job in jobs
        for kind, data in _first_events(job)
    ]
    _add(session, Event, events)


def _add(session: Session, table: type[Base], rows: Sequence[dict[str, Any]]) -> None:
    """Rows as they are, the same keys in all: of thousands, mapped ones cost twice as much."""
    session.connection().execute(insert(_table(table)), list(rows))


def _table(model: type[Base]) -> Table:
    return cast(Table, model.__table__)


def _first_events(job: dict[str, Any]) -> Iterable[tuple[str, dict[str, Any]]]:
    yield "queued", {"inbox": job["inbox"], "name": job["name"], "pipeline": job["pipeline"]}
    if job["status"] == "failed":
        yield "failed", failed_data(job["error"])


def failed_data(error: dict[str, Any]) -> dict[str, Any]:
    """What the event of a failure or cancellation tells."""
    return {"code": error["code"], "detail": error["detail"]}


def unneeded_drops(session: Session, drop_id: str | None = None) -> list[Drop]:
    """Drops that no job needs any more: the one of that id if it is such, or all."""
    needed = exists().where(
        Job.drop_id == Drop.id,
        Job.status.in_(OPEN_STATUSES) | Job.publish.in_(("pending", "planned")),
    )
    # A batch's own files are needed until its folder is in the outbox.
    unlaid = exists().where(Batch.id == Drop.batch, Batch.state == "claimed")
    rows = select(Drop).where(_NOT_GONE, Drop.state != "claiming", ~needed, ~unlaid)
    return list(session.scalars(rows if drop_id is None else rows.where(Drop.id == drop_id)))


def set_drop_state(session: Session, drop_id: str, state: str) -> None:
    session.execute(update(Drop).where(Drop.id == drop_id).values(state=state))


# --- files of `keep` inboxes ---


def known_files(session: Session, inbox: str) -> dict[str, Any]:
    """Rows of `known_files` by path; plain ones, since there may be a million."""
    rows = session.execute(select(*KnownFile.__table__.columns).where(KnownFile.inbox == inbox))
    return {row.path: row for row in rows}


def remember_files(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    """Add or replace what is known of files of `keep` inboxes."""
    if rows:
        statement = upsert(_table(KnownFile))
        changed = {name: statement.excluded[name] for name in ("stat", "key", "error", "drop_id")}
        session.connection().execute(
            statement.on_conflict_do_update(index_elements=["inbox", "path"], set_=changed),
            list(rows),
        )


def set_sidecar(session: Session, drop_id: str, name: str, text: str, stat: dict[str, Any]) -> None:
    """The drop has a sidecar after all; `stat` is what was seen of it."""
    values = {"sidecar": name, "sidecar_text": text, "stat": stat}
    session.execute(update(Drop).where(Drop.id == drop_id).values(values))


def recent_drops(
    session: Session, inbox: str, folder: str, stems: Sequence[str], since: datetime
) -> list[tuple[Drop, Job]]:
    """Drops of images with such stems that were taken in since then, with their jobs, the newest
    first. `folder` and `stems` as in the jobs' rows."""
    rows = (
        select(Drop, Job)
        .join(Job, Job.drop_id == Drop.id)
        .where(Job.inbox == inbox, Job.folder == folder, Job.stem.in_(stems))
        .where(Drop.image.is_not(None), Drop.created_at >= since)
    )
    # Sorted here: for an ORDER BY, SQLite would rather read all jobs of the inbox.
    found = [(drop, job) for drop, job in session.execute(rows)]
    return sorted(found, key=lambda pair: -pair[1].seq)


def recent_jobs(session: Session, inbox: str, most: int) -> list[tuple[str, str, str, datetime]]:
    """Folder, name and id of the newest jobs of an inbox, and when they were taken in."""
    rows = select(Job.folder, Job.name, Job.id, Job.created_at).where(Job.inbox == inbox)
    found = session.execute(rows.order_by(Job.seq.desc()).limit(most))
    return [(folder, name, job, at) for folder, name, job, at in found]


def drop_with_jobs(session: Session, drop_id: str) -> tuple[Drop, Sequence[Job]]:
    """A drop that is there, and its jobs."""
    jobs = session.scalars(select(Job).where(Job.drop_id == drop_id)).all()
    return session.get_one(Drop, drop_id), jobs


def insert_rows(session: Session, table: type[Base], rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows as they are, for `repair`. Raises where one is there already."""
    if rows:
        session.execute(insert(table), rows)


def insert_new_rows(session: Session, table: type[Base], rows: Sequence[dict[str, Any]]) -> None:
    """Insert those rows whose key is not there yet: a damaged page may hold a row twice."""
    if rows:
        session.connection().execute(insert(table).prefix_with("OR IGNORE"), rows)


def open_drop_ids(session: Session) -> set[str]:
    """All drops that still own files."""
    return set(session.scalars(select(Drop.id).where(_NOT_GONE)))


def has_drops(session: Session) -> bool:
    """True if the ledger has any drop."""
    return session.scalar(select(Drop.id).limit(1)) is not None


def is_gone(session: Session, drop_id: str) -> bool:
    """Whether that drop was done with long ago, although its files may be back."""
    return session.scalar(select(Drop.state).where(Drop.id == drop_id)) == "gone"


# --- retention ---

PRUNED_AT_ONCE = 1000

_PRUNE = text("""DELETE FROM events WHERE id > :after AND id <= :last AND at < :before
    AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.id = events.job_id
        AND (jobs.status IN ('queued', 'running') OR jobs.publish IN ('pending', 'planned')))""")


def prune_events(session: Session, before: datetime, after: int) -> int | None:
    """Remove the old events of ended jobs among the next few; all of open jobs stay.

    Args:
        after: the number of the event to begin behind; 0 at first.

    Returns:
        Where to go on; None if nothing older than `before` follows.
    """
    rows = select(Event.id, Event.at).where(Event.id > after).order_by(Event.id)
    looked_at = session.execute(rows.limit(PRUNED_AT_ONCE)).all()
    if not looked_at or looked_at[0].at >= before:
        return None
    last = int(looked_at[-1].id)
    values = {"after": after, "last": last, "before": format_time(before)}
    session.execute(_PRUNE, values)
    return last if len(looked_at) == PRUNED_AT_ONCE else None


def drop_state(session: Session, drop_id: str) -> str | None:
    """The state of that drop; None where there is none."""
    return session.scalar(select(Drop.state).where(Drop.id == drop_id))
