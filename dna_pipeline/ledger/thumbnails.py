"""Requests for thumbnails of results. Each function is one step of a transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.orm import Session

from dna_pipeline.base.times import utcnow
from dna_pipeline.ledger.queries import MOST_ATTEMPTS
from dna_pipeline.ledger.tables import ThumbnailRequest

EXPIRY_S = 600
"""Age of a request from which nobody waits for it any more."""
FAILED_S = 86_400
"""Time for which a picture that cannot be made small is not tried again."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A picture whose thumbnail is to be made: its hash, and its path below the outbox."""

    sha256: str
    place: str


def request(session: Session, places: Mapping[str, str]) -> None:
    """Ask the daemon for the thumbnails of these pictures, unless they failed lately.

    Args:
        places: paths below the outbox by SHA-256.
    """
    now = utcnow()
    session.execute(
        delete(ThumbnailRequest).where(
            ThumbnailRequest.requested_at < now - timedelta(seconds=FAILED_S)
        )
    )
    for sha256, place in places.items():
        row = insert(ThumbnailRequest).values(
            sha256=sha256, place=place, attempts=0, requested_at=now
        )
        is_open = ThumbnailRequest.attempts < MOST_ATTEMPTS
        session.execute(
            row.on_conflict_do_update(
                [ThumbnailRequest.sha256], set_={"place": place, "requested_at": now}, where=is_open
            )
        )


def take(session: Session, most: int) -> list[Wanted]:
    """Return the next pictures to make small, the last requested first, and count the attempt.

    One that was tried before without an answer comes alone, since it may have ended the worker.
    Requests that are too old are removed.
    """
    oldest = utcnow() - timedelta(seconds=EXPIRY_S)
    is_open = ThumbnailRequest.attempts < MOST_ATTEMPTS
    session.execute(delete(ThumbnailRequest).where(is_open, ThumbnailRequest.requested_at < oldest))
    rows = session.execute(
        select(ThumbnailRequest.sha256, ThumbnailRequest.place, ThumbnailRequest.attempts)
        .where(is_open)
        .order_by(ThumbnailRequest.attempts, ThumbnailRequest.requested_at.desc())
        .limit(most)
    ).all()
    fresh = [row for row in rows if row.attempts == 0] or rows[:1]
    _set_attempts(session, [row.sha256 for row in fresh], ThumbnailRequest.attempts + 1)
    return [Wanted(row.sha256, row.place) for row in fresh]


def finish(session: Session, made: Iterable[str], failed: Iterable[str] = ()) -> None:
    """Record which thumbnails are there, and which cannot be made."""
    session.execute(delete(ThumbnailRequest).where(ThumbnailRequest.sha256.in_(list(made))))
    _set_attempts(session, failed, MOST_ATTEMPTS)


def put_back(session: Session, hashes: Iterable[str]) -> None:
    """Take back an attempt that did not begin."""
    _set_attempts(session, hashes, 0)


def _set_attempts(session: Session, hashes: Iterable[str], value: object) -> None:
    is_one = ThumbnailRequest.sha256.in_(list(hashes))
    session.execute(update(ThumbnailRequest).where(is_one).values(attempts=value))
