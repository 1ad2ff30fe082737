"""Hold and release jobs, chosen by a column of theirs. Each function is a step of a transaction.

The sources of many jobs lie below one folder, which goes and comes as a whole. So one statement
holds all jobs whose claims lie below it, and one releases them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Select, TextClause, select, text
from sqlalchemy.orm import Session

from dna_pipeline.base.times import format_time
from dna_pipeline.ledger import states
from dna_pipeline.ledger.queue import (
    MAX_BACKOFF_S,
    Runnable,
    cancel_if_requested,
    note_attempt_end,
    rows_changed,
    runnable,
)
from dna_pipeline.ledger.tables import Drop, Job

Column = Literal["status", "inbox", "pipeline", "batch", "models", "drop_id", "claim", "id"]
"""Jobs with the same value in this column are held and released together. `status`: all queued
jobs. `claim`: all jobs whose claims lie in that folder, their root. `id`: one job alone."""

_IS_RUNNABLE = "status = 'queued' AND hold IS NULL"
# Both bounds are bytes of the path, so that they fit any name. A job's drop is found by its id: an
# index on the claims would cost each drop more than this search costs each unmount.
_IS_BELOW = """EXISTS (SELECT 1 FROM drops
    WHERE drops.id = jobs.drop_id AND claim > :first AND claim < :last)"""
_RELEASE = "UPDATE jobs INDEXED BY {} SET hold = NULL, hold_detail = NULL WHERE"
_PROMOTE = text(f"""{_RELEASE.format("ix_jobs_due")}
    hold = 'not_before' AND not_before <= :now""")
_PROMOTE_RETRIES = text(f"""{_RELEASE.format("ix_jobs_hold")}
    hold = 'retry_wait' AND (not_before <= :now OR not_before > :latest)""")
_NEXT = text(f"""SELECT drops.id, claim FROM jobs INDEXED BY ix_jobs_runnable
    JOIN drops ON drops.id = drop_id WHERE {_IS_RUNNABLE}
    ORDER BY priority DESC, seq LIMIT :limit""").columns(Drop.id, Drop.claim)
_OWNS = text("SELECT 1 FROM drops WHERE id = :drop AND state <> 'gone'")
_CLAIM = text("""SELECT claim FROM jobs JOIN drops ON drops.id = drop_id
    WHERE jobs.id = :job""").columns(Drop.claim)


@cache
def _change(column: Column, *, is_hold: bool) -> TextClause:
    """The statement that holds the runnable jobs with a value in a column, or releases them."""
    alike = _IS_BELOW if column == "claim" else f"{column} = :value"
    index = "INDEXED BY " + ("ix_jobs_runnable" if is_hold else "ix_jobs_hold")
    index = {"drop_id": "INDEXED BY ix_jobs_drop_id", "id": ""}.get(column, index)
    values = ":code, hold_detail = :detail" if is_hold else "NULL, hold_detail = NULL"
    held = _IS_RUNNABLE if is_hold else "hold = :code"
    if not is_hold and column not in ("claim", "drop_id"):
        held += " AND status = 'queued'"  # others wait to be published, and for something else
    return text(f"UPDATE jobs {index} SET hold = {values} WHERE {alike} AND {held}")


def _parameters(column: Column, values: Iterable[str | Path]) -> list[dict[str, Any]]:
    if column != "claim":
        return [{"value": value} for value in values]
    separator = os.sep.encode()
    after = bytes([separator[0] + 1])
    roots = map(os.fsencode, values)
    return [{"first": root + separator, "last": root + after} for root in roots]


def hold(session: Session, job_id: str, code: str, detail: str) -> None:
    """Hold a running or queued job until its environment allows it. This costs no attempt."""
    status = session.scalar(select(Job.status).where(Job.id == job_id))
    has_run = int(status == "running")
    values: dict[str, Any] = {"hold": code, "hold_detail": detail, "attempt": Job.attempt - has_run}
    if states.move(session, "hold", job_id, **values) and has_run:
        note_attempt_end(session, job_id, detail, code)
    cancel_if_requested(session, job_id)


def hold_where(
    session: Session, column: Column, values: Iterable[str | Path], code: str, detail: str
) -> int:
    """Hold every runnable job with one of these values in this column; return their number."""
    rows = [row | {"code": code, "detail": detail} for row in _parameters(column, values)]
    return rows_changed(session.execute(_change(column, is_hold=True), rows)) if rows else 0


def release(
    session: Session,
    code: str,
    column: Column = "status",
    values: Iterable[str | Path] = ("queued",),
) -> int:
    """Release the jobs with one of these values in this column from a hold; return their number.

    By default, all queued jobs are released. With `claim` and `drop_id`, jobs that wait to be
    published are released as well.
    """
    rows = [row | {"code": code} for row in _parameters(column, values)]
    return rows_changed(session.execute(_change(column, is_hold=False), rows)) if rows else 0


def held_jobs(
    session: Session, code: str, column: Literal["status", "inbox", "models"]
) -> list[Runnable]:
    """Return one of the jobs under a hold for each value that they have in a column."""
    if column == "status":
        held = [{"code": code, "value": "queued"}]
    else:
        values = select(getattr(Job, column)).where(Job.hold == code).distinct()
        held = [{"code": code, "value": value} for value in session.scalars(values)]
    rows = (session.execute(_held(column), row).one_or_none() for row in held)
    return [Runnable.of(row) for row in rows if row is not None]


@cache
def _held(column: str) -> Select[Any]:
    return runnable(f"""SELECT seq FROM jobs INDEXED BY ix_jobs_hold
        WHERE hold = :code AND {column} = :value LIMIT 1""")


def promote_due(session: Session, now: datetime) -> int:
    """Release the jobs whose `not_before` or next try is due; return their number."""
    # If a wait is longer than any that the daemon sets, the clock was put back.
    latest = format_time(now + timedelta(seconds=2 * MAX_BACKOFF_S))
    retried = session.execute(_PROMOTE_RETRIES, {"now": format_time(now), "latest": latest})
    return rows_changed(retried) + rows_changed(
        session.execute(_PROMOTE, {"now": format_time(now)})
    )


# --- claims, whose folders may be out of reach ---


def next_claims(session: Session, limit: int) -> dict[str, Path]:
    """Return the claims with the sources of the next jobs, by drop."""
    return {drop_id: Path(claim) for drop_id, claim in session.execute(_NEXT, {"limit": limit})}


def owns_any(session: Session, names: Sequence[str]) -> bool:
    """True if any of these names is the id of a drop that still owns files."""
    return any(session.scalar(_OWNS, {"drop": name}) is not None for name in names)


def claim_of(session: Session, job_id: str) -> Path | None:
    """Return the claim with a job's source; None if there is no such job."""
    claim = session.scalar(_CLAIM, {"job": job_id})
    return None if claim is None else Path(claim)
