"""One inbox, step by step: from a look at its files to the jobs in the ledger."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any, Protocol

import structlog

from dna_pipeline.base.errors import Failure, JobError
from dna_pipeline.base.layout import is_id
from dna_pipeline.base.reachability import Look, look_directly
from dna_pipeline.base.times import utcnow
from dna_pipeline.config.schema import Config, Inbox
from dna_pipeline.intake.claiming import claims as claim
from dna_pipeline.intake.claiming.batch import BatchClaimer, NotReady, is_long_wait
from dna_pipeline.intake.claiming.late_sidecars import LateSidecars
from dna_pipeline.intake.claiming.rollback import return_files, roll_back
from dna_pipeline.intake.claiming.settling import Settling
from dna_pipeline.intake.claiming.single import SingleClaimer
from dna_pipeline.intake.discovery.candidates import Candidate, Waiting
from dna_pipeline.intake.discovery.probe import Prober
from dna_pipeline.intake.discovery.scan import FileStat, is_image_name, is_yaml_name
from dna_pipeline.intake.inbox_folders import missing_sentence
from dna_pipeline.intake.planning import job_rows
from dna_pipeline.intake.planning.drops import ClaimedDrop, ReadyDrop
from dna_pipeline.intake.planning.finder import CandidateFinder
from dna_pipeline.intake.planning.known_files import KnownFiles, Version
from dna_pipeline.ledger import batches, drops, store
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.ledger.tables import Drop

log = structlog.get_logger()

GROUP = 500
"""Drops taken in with one pair of commits."""


FIRST_GROUP = 8
"""Small at first, so that work starts at once; each following group is twice as large."""


FAILED_RETRY_S = 5.0


RETRY_S = 1.0


class ClaimCleanup(Protocol):
    """Decides what becomes of claims whose taking in was cut off, and does it."""

    def is_copy(self, folder: Path) -> bool:
        """Whether it is the folder of a copy in the data folder, and not of moved originals."""
        ...

    def is_claim(self, folder: Path) -> bool:
        """Whether it is the folder of originals that this ledger moved out of an inbox."""
        ...

    def give_up_copy(self, folder: Path, originals: Mapping[Path, FileStat]) -> None:
        """Undo a copy that was cut off before its job was recorded."""
        ...

    def settle_returned_claim(self, drop_id: str, folder: Path) -> None:
        """Deal with a claim that was out of reach when its drop ended and is back."""
        ...


class InboxIntake:
    """One inbox from look to ledger."""

    def __init__(
        self,
        config: Config,
        inbox: Inbox,
        ledger: Ledger,
        prober: Prober,
        cleanup: ClaimCleanup,
        look: Look = look_directly,
    ) -> None:
        self.inbox = inbox
        self._config = config
        self._ledger = ledger
        self._cleanup = cleanup
        self._look_at = look
        self._is_silent = False
        self._known_files = KnownFiles(inbox.name, ledger)
        self.finder = CandidateFinder(inbox, prober, self._known_files, look, self._describe)
        self.claimer = SingleClaimer(
            config,
            inbox,
            ledger,
            self._known_files,
            self.finder.mark_claimed,
            self.finder.mark_failed,
        )
        self._batch_claimer = BatchClaimer(
            config, inbox, ledger, self._known_files, prober, self.finder, look
        )
        self._batch: tuple[Candidate, Generator[None]] | None = None
        self.late_sidecars = LateSidecars(ledger, self.finder, self.claimer)
        self.settling = Settling(inbox.settle_s, prober, self.claimer)
        self._late_drops: list[ReadyDrop] = []
        self._group = FIRST_GROUP
        self._idle_until = 0.0
        self._recovered_folder: tuple[int, int] | None = None
        """The folder whose claims are all accounted for."""
        self._is_first_look = self._setting() is None
        self.has_looked = False

    def _describe(self, error: OSError) -> str:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            return f"cannot be looked at: {error.strerror}"
        was_watched = not self._is_first_look
        return missing_sentence(
            self._config, self.inbox, was_watched=was_watched, look=self._look_at
        )

    def _setting(self) -> str | None:
        name = f"watched:{self.inbox.name}"
        return self._ledger.transact(lambda s: store.get_setting(s, name))

    @property
    def next_at(self) -> float:
        """When to `step` again."""
        if self.finder.pending or self._late_drops or self._batch:
            return self._idle_until
        return max(self._idle_until, min(self.finder.next_at, self.settling.next_at))

    def is_busy(self) -> bool:
        """Whether something here will be ready without anyone's doing, and before long."""
        short = any(not waiting.is_long for waiting in self.finder.waiting)
        taking = bool(self.finder.pending or self._late_drops or self._batch)
        return not self._is_silent and (taking or self.settling.is_busy or short)

    def is_reachable(self, now: float) -> bool:
        """Whether the inbox may be touched: its disk answers. If not, `status` says so, and it is
        asked again before long."""
        reach = self._look_at(self.inbox.path)
        self._is_silent = reach.is_silent
        if reach.is_silent:
            self.finder.mark_unavailable(reach.why, now)
            self._idle_until = now + FAILED_RETRY_S
        return not reach.is_silent

    def step(self, now: float) -> int:
        """Do what is due, at most one group; how many drops that were."""
        if self._batch is not None:
            return self._continue_batch(*self._batch, now)
        self.recover(now)
        self.settling.step(now)
        if not self.finder.pending and now >= self.finder.next_at:
            self._look(now)
        return self._take_group(now) or self._begin_batch()

    def _look(self, now: float) -> None:
        self.finder.find(now)
        self.has_looked = True
        if self.finder.problem is not None:
            return
        if self._is_first_look:
            self._first_look()
        self._group = FIRST_GROUP
        self._late_drops = self.late_sidecars.handle(now)
        self.late_sidecars.explain()

    def _take_group(self, now: float) -> int:
        group, self._late_drops = self._late_drops, []
        while self.finder.pending and len(group) < self._group:
            if self.finder.pending[0].is_batch:
                break
            if (ready := self.finder.next_ready(now)) is not None:
                group.append(ready)
        self._group = min(2 * self._group, GROUP)
        if not group:
            return 0
        self.finder.probe_ahead(self._group)
        for item in self.claimer.claim(group):
            self.settling.add(item, now)
        return len(group)

    # --- job files and tables ---

    def _begin_batch(self) -> int:
        if (found := self.finder.next_batch()) is None:
            return 0
        candidate, stats = found
        if len(stats) != len(candidate.paths):
            return 1  # taken in the meantime
        self._batch = candidate, self._batch_claimer.steps(candidate, stats)
        return 1

    def _continue_batch(self, candidate: Candidate, steps: Generator[None], now: float) -> int:
        """One more step of the batch that is being taken in."""
        teller = candidate.table or candidate.sidecar or ""
        try:
            next(steps)
        except StopIteration:
            self._batch = None
        except JobError as error:
            # Nothing at all can be made of it: its file fails, and says why.
            self._batch = None
            failed = Candidate(candidate.table, candidate.sidecar, error)
            self.finder.pending.appendleft(failed)
        except (NotReady, claim.ClaimError, OSError) as reason:
            is_long = is_long_wait(reason)
            self._batch = None
            if not isinstance(reason, NotReady):
                self._recovered_folder = None  # what could not be undone is at the next step
            log.info("batch.left", inbox=self.inbox.name, file=teller, why=str(reason))
            why = f"not taken in yet: {reason}"
            self.finder.waiting.append(Waiting(teller, why, None, is_long, "writing"))
            retry_s = FAILED_RETRY_S if is_long else RETRY_S
            self.finder.next_at = min(self.finder.next_at, now + retry_s)
        return 1

    def _first_look(self) -> None:
        """Remember that this inbox is watched and, if so told, what lay there before."""
        versions: dict[str, Version] = {}
        if self.inbox.existing == "ignore":
            files = self.finder.files
            versions = {path: Version({path: stat}) for path, stat in files.items()}
            self.finder.pending.clear()

        def commit(session: Any) -> None:
            drops.remember_files(session, self._known_files.rows(versions))
            store.set_setting(session, f"watched:{self.inbox.name}", str(utcnow()))

        self._ledger.transact(commit)
        self._known_files.note(versions)
        self._is_first_look = False

    def fail(self, error: Exception, now: float) -> None:
        """After an error anywhere in `step`: begin anew, with what is half taken, before long."""
        problem = f"could not take files in: {error}"
        if problem != self.finder.problem:
            log.error("inbox.failed", inbox=self.inbox.name, exc_info=error)
        self.finder.problem = problem
        self.finder.pending.clear()
        self._batch = None
        self.finder.request_scan(now)
        self._idle_until = now + FAILED_RETRY_S
        self._recovered_folder = None

    # --- what a daemon that ended, an error or an unmount left half done ---

    def recover(self, now: float) -> None:
        """Go on with drops that were being taken in, unless that was done for this folder.

        Nothing is concluded from a folder that is not there: it may come back.
        """
        folder = _identity(self.inbox.path)
        if folder is None or folder == self._recovered_folder:
            return
        for drop in self._ledger.transact(drops.claiming_drops):
            if drop.inbox == self.inbox.name and drop.id not in self.settling.drops:
                self._attempt(drop.id, lambda d=drop: self._resume(d, now))
        self._ledger.transact(batches.forget_unclaimed)
        if self.inbox.keeps or self._adopt_claims(now):
            self._recovered_folder = folder

    def _attempt(self, drop_id: str, action: Callable[[], None]) -> None:
        """One claim that cannot be dealt with, now, does not stop the inbox."""
        try:
            action()
        except OSError as error:
            log.warning("claim.left", inbox=self.inbox.name, drop=drop_id, why=str(error))

    def _resume(self, drop: Drop, now: float) -> None:
        folder = Path(drop.claim)
        if drop.batch is not None:
            row = {"claim": drop.claim, "folder": drop.folder, "stat": drop.stat}
            roll_back(self._config, self.inbox, row, lambda _: self._give_up_copy(drop))
            self._forget(drop.id)
            return
        if self._cleanup.is_copy(folder):
            self._give_up_copy(drop)  # the next look finds the original
            self._forget(drop.id)
            return
        complete = (folder / drop.image).is_file() if drop.image else _holds_files(folder)
        if not complete:
            return_files(folder, self.inbox.path, drop.folder, drop.stat)
            self._forget(drop.id)
            return
        sidecar = drop.sidecar if drop.sidecar and (folder / drop.sidecar).is_file() else None
        row = {
            "id": drop.id, "folder": drop.folder, "claim": drop.claim, "stat": drop.stat,
            "image": drop.image, "sidecar": sidecar,
        }  # fmt: skip
        error = Failure.from_dict(drop.error) if drop.error else None
        self.settling.add(ClaimedDrop(row, error=error), now)

    def _give_up_copy(self, drop: Drop) -> None:
        # A path in the stat is absolute where the file is in a source root.
        seen = {self.inbox.path / path: FileStat(**stat) for path, stat in drop.stat.items()}
        self._cleanup.give_up_copy(Path(drop.claim), seen)

    def _adopt_claims(self, now: float) -> bool:
        """Every claim on disk belongs to a drop, or is given one; what is done with goes.

        False where they cannot be seen; the next look at the inbox says why.
        """
        if self._look_at(self._config.outbox).is_silent:
            return False  # it shows which claims are archived
        try:
            claims = claim.list_claims(self.inbox.path, self._ledger.id)
        except OSError:
            return False
        known = self._ledger.transact(drops.open_drop_ids)
        for drop_id in claims:
            if drop_id not in known and is_id(drop_id):
                self._attempt(drop_id, lambda i=drop_id: self._adopt(i, now))
        return True

    def _adopt(self, drop_id: str, now: float) -> None:
        """Take up a claim that the ledger does not know of, or is done with."""
        folder = claim.claim_dir(self.inbox.path, self._ledger.id, drop_id)
        if self._ledger.transact(lambda s: drops.is_gone(s, drop_id)):
            self._cleanup.settle_returned_claim(drop_id, folder)
            return
        names = sorted(path.name for path in folder.iterdir())
        image = next((name for name in names if is_image_name(name)), None)
        sidecar = next((name for name in names if is_yaml_name(name)), None)
        if image is None:
            return_files(folder, self.inbox.path, "")
            return
        row = job_rows.drop_row(self.inbox, "", image, sidecar)
        row |= {"id": drop_id, "claim": str(folder)}
        self._ledger.transact(lambda s: drops.begin_claims(s, [row]))
        self.settling.add(ClaimedDrop(row), now)

    def _forget(self, drop_id: str) -> None:
        self._ledger.transact(lambda s: drops.forget_drops(s, [drop_id]))


def _holds_files(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
