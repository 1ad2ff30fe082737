"""Requests to load a model before a job needs it. Each function is one step of a transaction."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.orm import Session

from dna_pipeline.base.errors import Failure, WorkerCrashed
from dna_pipeline.base.times import utcnow
from dna_pipeline.ledger.tables import ModelLoad

KEPT = 100
"""Number of the newest requests that are kept."""
EXPIRY_S = 600
"""Age of a request from which nobody waits for it any more."""


def request(session: Session, model: str) -> int:
    """Ask the daemon to have a model loaded; give the request's number."""
    values = {"model": model, "state": "requested", "requested_at": utcnow()}
    number = session.scalars(insert(ModelLoad).values(**values).returning(ModelLoad.id)).one()
    session.execute(delete(ModelLoad).where(ModelLoad.id <= number - KEPT))
    return number


def take(session: Session) -> list[tuple[int, str]]:
    """Return number and model of each new request, and mark it as taken: should the model bring the
    daemon down, the next daemon does not load it again. Requests that are too old fail."""
    rows = session.execute(
        select(ModelLoad.id, ModelLoad.model, ModelLoad.requested_at)
        .where(ModelLoad.state == "requested")
        .order_by(ModelLoad.id)
    ).all()
    oldest = utcnow() - timedelta(seconds=EXPIRY_S)
    for row in rows:
        if row.requested_at < oldest:
            fail(session, row.id, WorkerCrashed("no daemon ran when it was requested").failure())
        else:
            _set(session, row.id, state="taken")
    return [(row.id, row.model) for row in rows if row.requested_at >= oldest]


def finish(session: Session, number: int, device: str | None, seconds: float) -> None:
    """Record that the model is loaded, in how many seconds and on which device."""
    _set(session, number, state="done", device=device, seconds=seconds, ended_at=utcnow())


def fail(session: Session, number: int, failure: Failure) -> None:
    """Record that the model could not be loaded."""
    _set(session, number, state="failed", error=failure.to_dict(), ended_at=utcnow())


def withdraw(session: Session, number: int) -> None:
    """Remove a request that no daemon has taken."""
    is_new = (ModelLoad.id == number) & (ModelLoad.state == "requested")
    session.execute(delete(ModelLoad).where(is_new))


def recover(session: Session) -> None:
    """Fail the requests that were taken by a daemon that has ended."""
    failure = WorkerCrashed("the daemon ended while it loaded the model").failure()
    for number in session.scalars(select(ModelLoad.id).where(ModelLoad.state == "taken")).all():
        fail(session, number, failure)


def _set(session: Session, number: int, **values: Any) -> None:
    session.execute(update(ModelLoad).where(ModelLoad.id == number).values(**values))
