"""Receivers of notifications: how far each is, and what it lost. Each function is a step of a
transaction.

A message counts as sent once the receiver's cursor has passed its event, so that a kill in between
sends it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, insert, literal, select, update
from sqlalchemy.orm import Session

from dna_pipeline.base.times import utcnow
from dna_pipeline.ledger.tables import Event, Receiver, UtcTime

ACTIVE, ENDED = "active", "ended"
"""States of a receiver. One that has ended gets nothing until its settings change."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a receiver that the ledger remembers.

    Attributes:
        fingerprint: hash of the settings that say where and how messages are sent.
        kinds: kinds of the events that it gets.
    """

    fingerprint: str
    kinds: tuple[str, ...]


def configure(session: Session, receivers: Mapping[str, Settings]) -> None:
    """Take over the receivers of pipeline.yaml, by name.

    A new one begins with what happens from now on, and so does one that had ended and whose
    settings have changed. Another one whose settings have changed is tried at once. If one gets
    other kinds of events, those before its next message are done with, so that none of the new
    kinds comes from before the edit. One that is not there any more is forgotten.
    """
    rows = {row.name: row for row in session.scalars(select(Receiver))}
    session.execute(delete(Receiver).where(Receiver.name.not_in(list(receivers))))
    for name, settings in receivers.items():
        row = rows.get(name)
        kinds = list(settings.kinds)
        if row is not None and row.kinds != kinds:
            # The cursor is recorded seldom where no message is sent, and so may be far behind.
            advance(session, name, _before_next(session, row), is_sent=False)
        if row is None or (row.state == ENDED and row.fingerprint != settings.fingerprint):
            session.execute(delete(Receiver).where(Receiver.name == name))
            fresh = _fresh() | {"cursor": _last_event(session), "dropped": 0}
            values = {"name": name, "fingerprint": settings.fingerprint, "kinds": kinds}
            session.execute(insert(Receiver).values(**values, **fresh))
        elif row.fingerprint != settings.fingerprint:
            _set(session, name, fingerprint=settings.fingerprint, kinds=kinds, **_fresh())
        elif row.kinds != kinds:
            _set(session, name, kinds=kinds)


def _fresh() -> dict[str, Any]:
    """Values of the columns of a receiver that has no problem."""
    return {
        "state": ACTIVE, "failures": 0, "problem": None, "behind_since": None, "next_at": None,
    }  # fmt: skip


def _before_next(session: Session, receiver: Receiver) -> int:
    """Return the number of the event before the receiver's next message; that of the last event if
    no message waits."""
    waiting = (Event.id > receiver.cursor, Event.kind.in_(receiver.kinds))
    first = session.scalar(select(func.min(Event.id)).where(*waiting))
    return _last_event(session) if first is None else first - 1


def _last_event(session: Session) -> int:
    return session.scalar(select(func.max(Event.id))) or 0


def _set(session: Session, name: str, **values: Any) -> None:
    session.execute(update(Receiver).where(Receiver.name == name).values(**values))


def advance(session: Session, name: str, cursor: int, *, is_sent: bool) -> None:
    """Record that the events up to that number are done with. The cursor never goes back, since
    old messages may have been dropped meanwhile.

    Args:
        is_sent: the receiver has taken a message, so that it has no problem any more.
    """
    passed = (Receiver.name == name, Receiver.cursor < cursor)
    session.execute(update(Receiver).where(*passed).values(cursor=cursor))
    if is_sent:
        _set(session, name, **_fresh())


def note_failure(
    session: Session, name: str, problem: str, now: datetime, next_at: datetime
) -> None:
    """Record a failed attempt at the next message, and the time of the next attempt."""
    since = func.coalesce(Receiver.behind_since, literal(now, UtcTime))
    values = {"problem": problem, "behind_since": since, "next_at": next_at}
    _set(session, name, failures=Receiver.failures + 1, **values)


def end(session: Session, name: str, problem: str, now: datetime) -> None:
    """Record that a receiver wants no more messages."""
    _set(session, name, state=ENDED, problem=problem, behind_since=now, next_at=None)


def note_reported(session: Session, name: str, dropped: int) -> None:
    """Record that the receiver was told of so many dropped messages."""
    left = func.max(Receiver.dropped - dropped, 0)
    _set(session, name, dropped=left, **_fresh())


def drop_old(session: Session, before: datetime) -> dict[str, int]:
    """Drop the messages of events before that time; return their numbers by receiver.

    Those that no receiver wants count as done with and are not counted. Messages of recent events
    stay, and with them all later ones: an event that looks old behind a recent one has its time
    from a clock that was wrong.
    """
    recent_times = Event.at.between(before, utcnow())  # no event from the future is recent
    dropped: dict[str, int] = {}
    active = select(Receiver).where(Receiver.state == ACTIVE)
    for receiver in session.scalars(active).all():
        waiting = Event.id > receiver.cursor
        recent = session.scalar(select(func.min(Event.id)).where(waiting, recent_times))
        old = [waiting, Event.at < before]
        if recent is not None:
            old.append(Event.id < recent)
        last = session.scalar(select(func.max(Event.id)).where(*old))
        if last is None:
            continue
        lost = (Event.id > receiver.cursor, Event.id <= last, Event.kind.in_(receiver.kinds))
        number = session.scalar(select(func.count()).select_from(Event).where(*lost)) or 0
        _set(session, receiver.name, cursor=last, dropped=Receiver.dropped + number)
        if number:
            dropped[receiver.name] = number
    return dropped


def needed_after(session: Session) -> int | None:
    """Return the number after which an active receiver still waits for events; None if none is
    there."""
    return session.scalar(select(func.min(Receiver.cursor)).where(Receiver.state == ACTIVE))
