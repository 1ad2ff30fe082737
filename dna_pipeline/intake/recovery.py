"""Recover claims that a crash, an error or an unmount left half done."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from math import inf
from pathlib import Path
from typing import Protocol

import structlog

from dna_pipeline.base.errors import Failure
from dna_pipeline.base.layout import claim_dir, entries, is_id, is_real_folder
from dna_pipeline.base.naming import name_of
from dna_pipeline.base.reachability import Look
from dna_pipeline.base.times import utcnow
from dna_pipeline.config.schema import Config, Inbox
from dna_pipeline.intake.claiming import claims
from dna_pipeline.intake.claiming.claim import claim_of
from dna_pipeline.intake.claiming.companions import describe
from dna_pipeline.intake.claiming.late_sidecars import finish_attaching
from dna_pipeline.intake.claiming.rollback import names_of_copies, return_files, roll_back
from dna_pipeline.intake.claiming.settling import Settling
from dna_pipeline.intake.discovery.mask_names import is_mask_name
from dna_pipeline.intake.discovery.scan import FileStat, is_image_name, is_sidecar_name
from dna_pipeline.intake.planning import job_rows
from dna_pipeline.intake.planning.references import read_references
from dna_pipeline.ledger import batches, drops
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.ledger.tables import Drop

log = structlog.get_logger()

ABANDONED_AFTER = timedelta(hours=1)
"""Age from which an unfinished copy without a configured inbox is removed. A `submit` that is still
running may be making a younger one."""


RETRY_S = 10.0
"""Pause before claims are tried again that could not be recovered, in seconds."""

_COLUMNS = ("id", "inbox", "folder", "claim", "stat", "companions", "image", "sidecar")


@dataclass(frozen=True, slots=True)
class UnreturnedFile:
    """A file that lies in a claim of which no job is made, and cannot be given back yet.

    Attributes:
        path: its path in the inbox.
        claim: the folder in which it lies.
        why: the reason, for people.
    """

    path: str
    claim: Path
    why: str


class ClaimCleanup(Protocol):
    """Disposes of claims that were cut off or came back after their drop ended."""

    def is_copy(self, folder: Path) -> bool:
        """True if the claim is a copy in the data folder, and not one of moved originals."""
        ...

    def is_claim(self, folder: Path) -> bool:
        """True if the claim holds originals that this ledger moved out of an inbox."""
        ...

    def give_up_copy(
        self, folder: Path, originals: Mapping[Path, FileStat], copies: Container[str] = ()
    ) -> None:
        """Dispose of a copy that was cut off before its job was recorded."""
        ...

    def settle_returned_claim(self, drop_id: str, folder: Path) -> None:
        """Dispose of a claim that was out of reach when its drop ended, and is back now."""
        ...


@dataclass(eq=False)
class ClaimRecovery:
    """Recovers the claims of one inbox, once for each folder that is mounted there.

    Claims that cannot be recovered are tried again every `RETRY_S`.
    """

    _config: Config
    _inbox: Inbox
    _ledger: Ledger
    _cleanup: ClaimCleanup
    _settling: Settling
    _look_at: Look
    _recovered_folder: tuple[int, int] | None = None
    """Device and inode of the folder whose claims were all recovered."""
    _seen_folder: tuple[int, int] | None = None
    """That of the folder at the last `run`."""
    _retry_at: float | None = None
    """Monotonic time at which claims are tried again; None if none waits for that."""
    _reasons: dict[str, str] = field(default_factory=dict[str, str])
    """By drop, why its claim could not be recovered at the last attempt."""
    unreturned: list[UnreturnedFile] = field(default_factory=list[UnreturnedFile])
    """The files that the last `run` could not give back."""

    @property
    def next_at(self) -> float:
        """Monotonic time of the next `run` that is due; infinity if none is."""
        return inf if self._retry_at is None else self._retry_at

    def request(self) -> None:
        """Have the next `run` look at all claims again, as after an error."""
        self._recovered_folder = None
        self._retry_at = None

    def run(self, now: float) -> None:
        """Resume or undo claims that were cut off, unless that was done for this folder.

        If the inbox's folder is missing, do nothing, since it may come back.
        """
        folder = _identity(self._inbox.path)
        if folder != self._seen_folder:  # a disk that is back is looked at before it is scanned
            self._seen_folder, self._retry_at = folder, None
        if folder is None or folder == self._recovered_folder or self._is_too_early(now):
            return
        before, self._reasons = self._reasons, {}
        left = [drop for drop in self._cut_off() if not self._resumes(drop, now, before)]
        self.unreturned = [file for drop in left for file in self._unreturned(drop)]
        self._ledger.transact(batches.forget_unclaimed)
        self._attempt("", lambda: finish_attaching(self._ledger, self._inbox), before)
        is_whole = self._inbox.keeps or self._adopt_claims(now, before)
        self._retry_at = now + RETRY_S if self._reasons else None
        self._recovered_folder = folder if is_whole and not self._reasons else None

    def _is_too_early(self, now: float) -> bool:
        return self._retry_at is not None and now < self._retry_at

    def _cut_off(self) -> list[Drop]:
        """The drops of the inbox whose claim was cut off."""
        claiming = self._ledger.transact(drops.claiming_drops)
        settling = self._settling.drops
        return [d for d in claiming if d.inbox == self._inbox.name and d.id not in settling]

    def _resumes(self, drop: Drop, now: float, before: Mapping[str, str]) -> bool:
        return self._attempt(drop.id, lambda: self._resume(drop, now), before)

    def _attempt(self, drop_id: str, action: Callable[[], None], before: Mapping[str, str]) -> bool:
        """Run an action on a claim; False if it failed, so that it must be tried again.

        The rest of the inbox goes on. A failure is logged unless its reason is that of `before`.
        """
        try:
            action()
        except OSError as error:
            self._reasons[drop_id] = why = str(error)
            if before.get(drop_id) != why:
                log.warning("claim.left", inbox=self._inbox.name, drop=drop_id or None, why=why)
            return False
        return True

    def _unreturned(self, drop: Drop) -> Iterator[UnreturnedFile]:
        """Files of a drop that still lie in its claim in the inbox, though no job is made of it."""
        claim = Path(drop.claim)
        if self._cleanup.is_copy(claim):
            return  # the originals were not moved
        for path in drop.stat:
            if not Path(path).is_absolute() and os.path.lexists(claim / name_of(path)):
                yield UnreturnedFile(path, claim, self._reasons[drop.id])

    def _resume(self, drop: Drop, now: float) -> None:
        folder = Path(drop.claim)
        if drop.batch is not None:
            self._roll_back(drop)
            return
        if self._cleanup.is_copy(folder):
            self._give_up_copy(drop)  # the next look finds the original
            self._forget(drop.id)
            return
        complete = (folder / drop.image).is_file() if drop.image else any(entries(folder))
        if not complete:
            self._roll_back(drop)
            return
        row = {name: getattr(drop, name) for name in _COLUMNS}
        if drop.sidecar is not None and not (folder / drop.sidecar).is_file():
            row["sidecar"] = None
        # A copy that was cut off is made again; one that was finished may be the last there is.
        row["companions"] = [
            file
            for file in drop.companions or ()
            if not file.get("reference") or file["sha256"] is not None
        ]
        claim = claim_of(row)
        claim.error = Failure.from_dict(drop.error) if drop.error else None
        self._settling.add(claim, now)

    def _roll_back(self, drop: Drop) -> None:
        """Give back the files of a drop and forget it. Raises OSError if its disk is away."""
        row = {name: getattr(drop, name) for name in ("claim", "folder", "stat", "companions")}
        roll_back(self._config, self._inbox, row, lambda _: self._give_up_copy(drop))
        self._forget(drop.id)

    def _give_up_copy(self, drop: Drop) -> None:
        # The path of a file in a source root is absolute, and stays so when joined to the inbox's.
        originals = {self._inbox.path / path: FileStat(**stat) for path, stat in drop.stat.items()}
        copies = names_of_copies(drop.companions)
        self._cleanup.give_up_copy(Path(drop.claim), originals, copies)

    def _adopt_claims(self, now: float, before: Mapping[str, str]) -> bool:
        """Adopt claims that the ledger does not know, and dispose of those of ended drops.

        False if the claims cannot be listed; the next look at the inbox says why.
        """
        if self._look_at(self._config.outbox).is_silent:
            return False  # only the outbox shows which claims are archived
        try:
            drop_ids = claims.list_claims(self._inbox.path, self._ledger.id)
        except OSError:
            return False
        open_ids = self._ledger.transact(drops.open_drop_ids)
        for drop_id in drop_ids:
            if drop_id not in open_ids and is_id(drop_id):
                self._attempt(drop_id, lambda i=drop_id: self._adopt(i, now), before)
        return True

    def _adopt(self, drop_id: str, now: float) -> None:
        """Make a drop of a claim that the ledger does not know; dispose of one whose drop ended."""
        folder = claim_dir(self._inbox.path, self._ledger.id, drop_id)
        if self._ledger.transact(lambda s: drops.drop_state(s, drop_id)) == "gone":
            self._cleanup.settle_returned_claim(drop_id, folder)
            return
        names = sorted(path.name for path in folder.iterdir())
        images = [name for name in names if is_image_name(name)]
        image, *others = [name for name in images if not is_mask_name(name)] or images or [None]
        sidecar = next((name for name in names if is_sidecar_name(name)), None)
        # Of several pictures, it is unknown which is a companion of which.
        if image is None or others:
            return_files(folder, self._inbox.path, "")
            return
        row = job_rows.drop_row(self._inbox, "", image, sidecar)
        references = () if sidecar is None else read_references(folder / sidecar)
        companions = describe(names, image, references)
        row |= {"id": drop_id, "claim": str(folder), "companions": companions}
        self._ledger.transact(lambda s: drops.begin_claims(s, [row]))
        self._settling.add(claim_of(row), now)

    def _forget(self, drop_id: str) -> None:
        self._ledger.transact(lambda s: drops.forget_drops(s, [drop_id]))


def give_back_orphan(ledger: Ledger, cleanup: ClaimCleanup, look: Look, drop: Drop) -> None:
    """Give back or remove a claim whose inbox is no longer configured."""
    folder = Path(drop.claim)
    try:
        if cleanup.is_copy(folder):
            # An old copy was cut off; a young one may be that of a `submit` that still runs.
            if utcnow() - drop.created_at < ABANDONED_AFTER:
                return
            cleanup.give_up_copy(folder, {})
        elif cleanup.is_claim(folder) and look(folder.parent).is_there and is_real_folder(folder):
            copies = names_of_copies(drop.companions)
            return_files(folder, folder.parents[2], drop.folder, drop.stat, copies)
        else:
            return  # its inbox may only be away for now
    except OSError as error:
        log.warning("claim.left", inbox=drop.inbox, drop=drop.id, why=str(error))
        return
    ledger.transact(lambda s: drops.forget_drops(s, [drop.id]))


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
