"""Refusal of a daemon whose ledger is a copy of that of another daemon at work.

A data folder may have been copied, to another machine say, or been restored from a backup beside
the original. Both ledgers have the same id then, and so the same folder for claims in an inbox:
each daemon would give up, finish or set aside what the other has claimed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from dna_pipeline.base.errors import DnaError, Locked
from dna_pipeline.base.layout import claim_root
from dna_pipeline.base.reachability import Look
from dna_pipeline.intake.claiming import owner
from dna_pipeline.ledger.health import known_id
from dna_pipeline.operations.daemon.lock import daemon_words, is_held

WATCH_S = 2.5 * owner.BEAT_S
"""Time, in seconds, in which a daemon at work shows at least two heartbeats."""

POLL_S = 0.25


def refuse_copy(
    inboxes: Iterable[tuple[str, Path]],
    ledger: Path,
    look: Look,
    wait: Callable[[float], object] = time.sleep,
) -> None:
    """Raise `Locked` if a daemon on another data folder owns claims of this ledger in an inbox.

    A daemon that cannot be seen from here, on another machine say, may have died within the last
    minute: then its next heartbeat is waited for, up to `WATCH_S`.

    Args:
        inboxes: names and folders of those that do not keep their files.
        ledger: the database. Nothing is asked where none was ever made.
        look: tests whether a folder can be reached. One that cannot be is not asked.
        wait: waits so many seconds.
    """
    if (ledger_id := known_id(ledger)) is None:
        return
    for name, inbox in inboxes:
        if not look(inbox).is_there:
            continue
        record = owner.read(root := claim_root(inbox, ledger_id))
        if record is None or owner.is_of(record, ledger):
            continue
        try:
            is_at_work = _is_at_work(inbox, root, record, wait)
        except (OSError, DnaError):
            continue  # such an inbox holds no claims that we could take
        if is_at_work:
            raise Locked(
                f"{ledger} is a copy: another daemon ({daemon_words(record)}) works with a ledger "
                f"of the same id, in the data folder {record.get('data')}, and "
                f"takes files from inbox {name} ({inbox}) too. Each would take the other's files "
                "for its own: stop it, or give this one a new, empty data folder"
            )


def _is_at_work(
    inbox: Path, root: Path, record: Mapping[str, Any], wait: Callable[[float], object]
) -> bool:
    if (holds := owner.holds_lock(record, is_held)) is not None:
        return holds
    if owner.silence_s(root, owner.server_time(inbox, root.name)) > owner.DEAD_AFTER_S:
        return False
    beaten_at = _beaten_at(root)
    for _ in range(int(WATCH_S / POLL_S)):
        wait(POLL_S)
        if _beaten_at(root) != beaten_at:
            return True
    return False


def _beaten_at(root: Path) -> int:
    return (root / owner.NAME).stat().st_mtime_ns
