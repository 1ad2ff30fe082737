"""`dna-pipeline repair --claims`: what dead daemons on other data folders had taken in.

A claim changes hands by one rename, from the folder of their ledger to that of ours, and so is
never split or done twice; the next daemon adopts it. Only a daemon that lives is left alone.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import structlog

from dna_pipeline.base.files import fsync_dir
from dna_pipeline.base.layout import is_id
from dna_pipeline.config.schema import Config, Inbox
from dna_pipeline.intake.claiming import claims, owner
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.operations.daemon.lock import is_held

log = structlog.get_logger()


@dataclass(slots=True)
class Foreign:
    """The claims of one other daemon in one inbox.

    Attributes:
        owner: what it said of itself: host, pid, since, data.
        silent_s: how long it has not shown itself; None if it never did.
        left: the claims that could not be taken over, and why.
    """

    inbox: str
    ledger: str
    owner: dict[str, Any] | None
    silent_s: float | None
    alive: bool
    drops: int
    taken: int = 0
    left: list[str] = field(default_factory=list[str])

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def take_over(config: Config, ledger: Ledger) -> list[Foreign]:
    """Take over what can be, in all inboxes; the caller holds the data folder's lock."""
    return [
        _take_root(inbox, root, ledger.id, now)
        for inbox in config.inboxes
        if not inbox.keeps and inbox.path.is_dir()
        for now in (_server_time(inbox.path, ledger.id),)
        for root in claims.claim_roots(inbox.path)
        if root.name != ledger.id
    ]


def _server_time(inbox: Path, ledger_id: str) -> float:
    """What time it is where the inbox lies."""
    probe = claims.claim_root(inbox, ledger_id) / f".{os.getpid()}.tmp"
    claims.make_claim_root(inbox, ledger_id)
    try:
        probe.touch()
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)
        with suppress(OSError):
            probe.parent.rmdir()
            probe.parent.parent.rmdir()


def _take_root(inbox: Inbox, root: Path, ledger_id: str, now: float) -> Foreign:
    drops = [name for name in claims.list_claims(inbox.path, root.name) if is_id(name)]
    silent = owner.silence_s(root, now)
    found = Foreign(
        inbox.name, root.name, owner.read(root), None if silent == float("inf") else silent,
        owner.is_alive(root, now, is_held), len(drops),
    )  # fmt: skip
    if found.alive:
        return found
    for drop in drops:
        _take_one(inbox, root, ledger_id, drop, found)
    owner.resign(inbox.path, root.name)
    with suppress(OSError):
        root.rmdir()
    return found


def _take_one(inbox: Inbox, root: Path, ledger_id: str, drop: str, found: Foreign) -> None:
    source, target = root / drop, claims.claim_dir(inbox.path, ledger_id, drop)
    try:
        claims.make_claim_root(inbox.path, ledger_id)
        if os.path.lexists(target):
            raise FileExistsError(f"{target} is there already")
        source.rename(target)
        fsync_dir(target.parent)
        fsync_dir(root)
    except FileNotFoundError:
        return  # its owner is back, or another repair was faster
    except OSError as error:
        found.left.append(f"{source}: {error}")
        return
    found.taken += 1
    log.info("claim.taken_over", inbox=inbox.name, drop=drop, ledger=root.name)
