"""The states of a job, and the only function that moves a job from one to another."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, update
from sqlalchemy.orm import Session

from dna_pipeline.ledger.tables import Job

OPEN = ("queued", "running")
ENDS = ("completed", "failed", "cancelled")
IS_OPEN = Job.status.in_(OPEN) | Job.publish.in_(("pending", "planned"))
"""Condition for jobs that have not ended, or whose folder is not in the outbox yet."""

WAITING, RUNNING = "waiting", "running"
"""Values of `jobs.cancelled_while`."""


class Transition(NamedTuple):
    """Moves between states; jobs in other states stay as they are."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]


TRANSITIONS = {
    "start": Transition(("queued",), ("running",)),
    "requeue": Transition(("running",), ("queued",)),
    "hold": Transition(OPEN, ("queued",)),
    "fail": Transition(OPEN, ("failed",)),
    "cancel": Transition(OPEN, ("cancelled",)),
    "complete": Transition(("running",), ("completed",)),
    "retry": Transition(("failed", "cancelled"), ("queued",)),
    "replace": Transition(("queued",), ("queued", "failed")),
    "overtake": Transition((*OPEN, *ENDS), ENDS),
}
"""All moves, as `docs/architecture.md` draws them. A new job is `queued` or `failed`."""


def move(
    session: Session,
    transition: str,
    job_id: str,
    *conditions: ColumnElement[bool],
    status: str | None = None,
    **values: Any,
) -> bool:
    """Move a job, and set further columns; False if its state or a condition does not allow it.

    Args:
        transition: a key of `TRANSITIONS`.
        status: the new state, where the transition has several.
        values: new values of columns, whatever the old ones.

    Raises:
        ValueError: the transition does not lead to that state.
    """
    sources, targets = TRANSITIONS[transition]
    target = status or targets[0]
    if target not in targets:
        raise ValueError(f"{transition!r} leads to {' or '.join(targets)}, not to {target!r}")
    chosen = update(Job).where(Job.id == job_id, Job.status.in_(sources), *conditions)
    result: Any = session.execute(chosen.values(status=target, **values))
    return int(result.rowcount) > 0
