"""The ledger opened for writing: transactions, settings, events, rows and retention."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar, cast

from sqlalchemy import Table, bindparam, delete, insert, select, text
from sqlalchemy.orm import Session

from dna_pipeline.base.times import format_time, utcnow
from dna_pipeline.ledger import engine as engines
from dna_pipeline.ledger import health, schema
from dna_pipeline.ledger.tables import Base, Event, Setting

T = TypeVar("T")


# Every claim runs these. Making a statement or using the mapper costs more than SQLite's own work,
# so they are made once and use no mapper.
_SETTING = select(Setting.value).where(Setting.name == bindparam("name"))
_ADD_EVENT = insert(Event.metadata.tables["events"])


class Ledger:
    """The ledger for writers. Threads may share it, since each transaction has its own session."""

    def __init__(
        self,
        path: Path,
        *,
        thorough: bool = False,
        ledger_id: str | None = None,
        unlocked: bool = False,
    ) -> None:
        """Open the ledger, or make one if there never was any.

        Args:
            thorough: look for damage in a large ledger too.
            ledger_id: the id of a ledger that is made; drawn by default.
            unlocked: this process does not hold the lock of the data folder, so that a repair may
                replace the ledger: each transaction makes sure that none does.

        Raises:
            ConfigError: the ledger is damaged, gone, or of a newer version.
            LedgerReplaced: a repair replaces it.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        if unlocked:
            health.check_in_place(path, None)
        health.check_present(path)
        self.path = path
        self._file: health.FileId | None = None
        self._engine = engines.open_writer(path)
        try:
            health.check(self._engine, path, thorough=thorough)
            schema.ensure(self._engine, path)
            self.id = self.transact(lambda s: _ledger_id(s, ledger_id))
            health.note_id(path, self.id)
            if unlocked:
                self._file = health.file_id(path)
        except BaseException:
            self._engine.dispose()
            raise

    def transact(self, action: Callable[[Session], T]) -> T:
        """Run `action` in one immediate transaction; what it returns stays usable afterwards.

        Raises:
            LedgerReplaced: a repair replaces the ledger; nothing was written.
        """

        def attempt() -> T:
            with Session(self._engine, expire_on_commit=False) as session, session.begin():
                if self._file is not None:
                    # Within the transaction: a repair waits for those that have begun, and none
                    # begins after it.
                    session.connection()
                    health.check_in_place(self.path, self._file)
                return action(session)

        return engines.retry_busy(attempt)

    def close(self) -> None:
        self._engine.dispose()


def new_id() -> str:
    """Draw a random id: 32 hexadecimal digits."""
    return secrets.token_hex(16)


def _ledger_id(session: Session, requested: str | None) -> str:
    if (value := get_setting(session, "ledger_id")) is None:
        value = requested or new_id()[:12]
        set_setting(session, "ledger_id", value)
    return value


def get_setting(session: Session, name: str) -> str | None:
    return session.scalar(_SETTING, {"name": name})


def set_setting(session: Session, name: str, value: str | None) -> None:
    """Set a setting, or remove it with None."""
    session.execute(delete(Setting).where(Setting.name == name))
    if value is not None:
        session.execute(insert(Setting).values(name=name, value=value))


def add_event(session: Session, job_id: str, kind: str, data: dict[str, Any] | None = None) -> None:
    values = {"job_id": job_id, "at": utcnow(), "kind": kind, "data": data or {}}
    session.execute(_ADD_EVENT, values)


def add_common_event(session: Session, kind: str, data: dict[str, Any]) -> None:
    """Record an event that belongs to no single job."""
    add_event(session, "", kind, data)


def add_rows(session: Session, table: type[Base], rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows, if there are any, without the mapper, which would double the cost of thousands.

    All rows have the same keys. Raises `LedgerError` if one exists already.
    """
    if rows:
        session.connection().execute(insert(table_of(table)), list(rows))


def table_of(model: type[Base]) -> Table:
    return cast(Table, model.__table__)


def add_new_rows(session: Session, table: type[Base], rows: Sequence[dict[str, Any]]) -> None:
    """As `add_rows`, without the rows that exist: a damaged page may hold a row twice."""
    if rows:
        session.connection().execute(insert(table).prefix_with("OR IGNORE"), rows)


# --- retention ---

PRUNED_AT_ONCE = 1000

_PRUNE = text("""DELETE FROM events WHERE id > :after AND id <= :last AND at < :before
    AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.id = events.job_id
        AND (jobs.status IN ('queued', 'running') OR jobs.publish IN ('pending', 'planned')))""")


def prune_events(
    session: Session, before: datetime, after: int, needed_after: int | None = None
) -> int | None:
    """Remove the old events of ended jobs among the next `PRUNED_AT_ONCE`; open jobs keep theirs.

    A clock that was wrong for a while leaves events from the future or the far past among the
    others. So one event alone does not say where the recent ones begin, and events from the future
    are passed over.

    Args:
        after: the number that the call before returned; 0 at first.
        needed_after: events with a higher number stay, since a receiver still waits for them; None
            if no receiver waits.

    Returns:
        The number of the last event of this call; None if the recent events have begun.
    """
    rows = select(Event.id, Event.at).where(Event.id > after).order_by(Event.id)
    batch = session.execute(rows.limit(PRUNED_AT_ONCE)).all()
    now = utcnow()
    has_old = any(row.at < before for row in batch)
    if not batch or (not has_old and any(row.at <= now for row in batch)):
        return None
    end = int(batch[-1].id)
    last = end if needed_after is None else min(end, needed_after)
    values = {"after": after, "last": last, "before": format_time(before)}
    session.execute(_PRUNE, values)
    return last if len(batch) == PRUNED_AT_ONCE and last == end else None
