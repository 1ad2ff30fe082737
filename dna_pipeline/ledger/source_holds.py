"""Holds of jobs whose sources are out of reach: queued jobs, and jobs that wait to be published.

The sources of many jobs lie below one folder, which goes and comes as a whole. So one statement
holds all jobs below it, and one releases them. Each function is one step of a transaction.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.orm import Session

from dna_pipeline.base.errors import InboxUnavailable
from dna_pipeline.ledger.queue import rows_changed
from dna_pipeline.ledger.tables import Drop

_RUNNABLE = "INDEXED BY ix_jobs_runnable"
_IS_RUNNABLE = "status = 'queued' AND hold IS NULL"
# Both bounds are bytes of the path, so that they fit any name. A job's drop is found by its id: an
# index on the claims would cost each drop more than this search costs each unmount.
_IS_BELOW = """EXISTS (SELECT 1 FROM drops
    WHERE drops.id = jobs.drop_id AND claim > :first AND claim < :last)"""
_SET = "hold = :code, hold_detail = :why"
_FREE = "hold = NULL, hold_detail = NULL"

_HOLD_BELOW = text(f"UPDATE jobs {_RUNNABLE} SET {_SET} WHERE {_IS_RUNNABLE} AND {_IS_BELOW}")
_HOLD = text(
    f"UPDATE jobs INDEXED BY ix_jobs_drop_id SET {_SET} WHERE drop_id = :drop AND {_IS_RUNNABLE}"
)
_RELEASE_BELOW = text(
    f"UPDATE jobs INDEXED BY ix_jobs_hold SET {_FREE} WHERE hold = :code AND {_IS_BELOW}"
)
_RELEASE = text(
    f"UPDATE jobs INDEXED BY ix_jobs_drop_id SET {_FREE} WHERE drop_id = :drop AND hold = :code"
)
_NEXT = text(f"""SELECT drops.id, claim FROM jobs {_RUNNABLE}
    JOIN drops ON drops.id = drop_id WHERE {_IS_RUNNABLE}
    ORDER BY priority DESC, seq LIMIT :limit""").columns(Drop.id, Drop.claim)
_OWNS = text("SELECT 1 FROM drops WHERE id = :drop AND state <> 'gone'")
_CLAIM = text("""SELECT claim FROM jobs JOIN drops ON drops.id = drop_id
    WHERE jobs.id = :job""").columns(Drop.claim)
_CODE = {"code": InboxUnavailable.code}


def _below(root: Path) -> dict[str, bytes]:
    """Return the bounds of all paths in a folder, as parameters of `_IS_BELOW`."""
    home = os.fsencode(root)
    separator = os.sep.encode()
    return {"first": home + separator, "last": home + bytes([separator[0] + 1])}


def hold_below(session: Session, root: Path, why: str) -> int:
    """Hold every runnable job whose source lies in a folder; return their number."""
    values = {"why": why, **_CODE, **_below(root)}
    return rows_changed(session.execute(_HOLD_BELOW, values))


def release_below(session: Session, root: Path) -> int:
    """Release all jobs whose sources lie in a folder, to run or publish; return their number."""
    return rows_changed(session.execute(_RELEASE_BELOW, _CODE | _below(root)))


def hold(session: Session, drop_ids: Iterable[str], why: str) -> None:
    """Hold every runnable job of these drops."""
    if rows := [{"drop": drop_id, "why": why, **_CODE} for drop_id in drop_ids]:
        session.execute(_HOLD, rows)


def release(session: Session, drop_ids: Iterable[str]) -> None:
    """Release the jobs of these drops, to run or publish."""
    if rows := [{"drop": drop_id, **_CODE} for drop_id in drop_ids]:
        session.execute(_RELEASE, rows)


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
