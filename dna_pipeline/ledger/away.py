"""Jobs whose sources are out of reach, queued ones and those that are only to be published.

Each function is one step of a transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.orm import Session

from dna_pipeline.errors import InboxUnavailable
from dna_pipeline.ledger.tables import Drop

_RUNNABLE = text("""SELECT drops.id, claim FROM jobs INDEXED BY ix_jobs_runnable
    JOIN drops ON drops.id = drop_id WHERE status = 'queued' AND hold IS NULL""")
_HELD = text("""SELECT claim FROM jobs INDEXED BY ix_jobs_hold
    JOIN drops ON drops.id = drop_id WHERE hold = :code""")
_HOLD = text("""UPDATE jobs INDEXED BY ix_jobs_drop_id SET hold = :code, hold_detail = :why
    WHERE drop_id = :drop AND status = 'queued' AND hold IS NULL""")
_RELEASE = text("""UPDATE jobs INDEXED BY ix_jobs_hold SET hold = NULL, hold_detail = NULL
    WHERE hold = :code""")
_CODE = {"code": InboxUnavailable.code}


def runnable_claims(session: Session) -> dict[str, Path]:
    """The folders with the sources of all runnable jobs, by drop."""
    rows = session.execute(_RUNNABLE.columns(Drop.id, Drop.claim))
    return {drop_id: Path(claim) for drop_id, claim in rows}


def held_claims(session: Session) -> list[Path]:
    """The folders with the sources of the jobs that wait for theirs."""
    rows = session.execute(_HELD.columns(Drop.claim), _CODE)
    return [Path(claim) for (claim,) in rows]


def hold(session: Session, drop_ids: Sequence[str], why: str) -> None:
    """Hold every runnable job of these drops."""
    if drop_ids:
        session.execute(_HOLD, [{"drop": drop_id, "why": why, **_CODE} for drop_id in drop_ids])


def release(session: Session) -> None:
    """Try all those jobs again."""
    session.execute(_RELEASE, _CODE)
