"""`dna-pipeline repair --claims`: takes over claims of dead daemons with other data folders.

One rename moves a claim from the folder of their ledger to that of ours, so that it is never split
or done twice; the next daemon adopts it. Claims of a daemon that lives stay where they are.
"""

from __future__ import annotations

import os
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from dna_pipeline.base.files import fsync_dir
from dna_pipeline.base.layout import claim_dir, claim_roots, is_id
from dna_pipeline.config.schema import Config, Inbox
from dna_pipeline.intake.claiming import claims, owner
from dna_pipeline.ledger import health
from dna_pipeline.operations.daemon.lock import hold_lock, is_held
from dna_pipeline.operations.lookup import open_ledger

log = structlog.get_logger()


@dataclass(slots=True)
class ForeignClaims:
    """The claims of one other daemon in one inbox.

    Attributes:
        owner: the daemon's own entry: host, pid, since, data.
        silent_s: seconds since the daemon's last heartbeat; None if there never was one.
        alive: True if the daemon lives, so that its claims stay.
        drops: number of its claims.
        taken: number of claims that were taken over.
        left: claims that could not be taken over, and why.

    `--json` prints them, so the attributes are public keys.
    """

    inbox: str
    ledger: str
    owner: dict[str, Any] | None
    silent_s: float | None
    alive: bool
    drops: int
    taken: int = 0
    left: list[str] = field(default_factory=list[str])


def take_over(config: Config) -> list[ForeignClaims]:
    """Take over the claims of dead daemons in all inboxes. Raises `Locked` if a daemon is at work.

    Returns:
        An entry for each daemon and inbox.
    """
    with hold_lock(config.data):
        health.discard_building(config.ledger_path)
        with closing(open_ledger(config)) as ledger:
            return [
                _take_root(inbox, root, ledger.id, now)
                for inbox in config.inboxes
                if not inbox.keeps and inbox.path.is_dir()
                for now in (owner.server_time(inbox.path, ledger.id),)
                for root in claim_roots(inbox.path)
                if root.name != ledger.id
            ]


def _take_root(inbox: Inbox, root: Path, ledger_id: str, now: float) -> ForeignClaims:
    drops = [name for name in claims.list_claims(inbox.path, root.name) if is_id(name)]
    silent = owner.silence_s(root, now)
    foreign = ForeignClaims(
        inbox.name, root.name, owner.read(root), None if silent == float("inf") else silent,
        owner.is_alive(root, now, is_held), len(drops),
    )  # fmt: skip
    if foreign.alive:
        return foreign
    for drop in drops:
        _take_one(inbox, root, ledger_id, drop, foreign)
    owner.resign(inbox.path, root.name)
    with suppress(OSError):
        root.rmdir()
    return foreign


def _take_one(inbox: Inbox, root: Path, ledger_id: str, drop: str, foreign: ForeignClaims) -> None:
    source, target = root / drop, claim_dir(inbox.path, ledger_id, drop)
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
        foreign.left.append(f"{source}: {error}")
        return
    foreign.taken += 1
    log.info("claim.taken_over", inbox=inbox.name, drop=drop, ledger=root.name)
