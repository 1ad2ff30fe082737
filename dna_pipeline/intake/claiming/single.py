"""Claims single candidates, many at once, and records their jobs."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from typing import Any

import structlog

from dna_pipeline.base.errors import (
    Failure,
    ImageUnreadable,
    JobError,
    ParameterInvalid,
    SidecarInvalid,
)
from dna_pipeline.base.filesystem import is_disk_fault
from dna_pipeline.base.naming import folder_of, name_of
from dna_pipeline.config.prompt_file import in_words_of_texts, is_prompt_file
from dna_pipeline.intake.claiming import claims, companions
from dna_pipeline.intake.claiming.claim import Claim
from dna_pipeline.intake.claiming.claimer import (
    BULK_SIZE,
    Claimer,
    Flush,
    hash_files,
    read_sidecar,
)
from dna_pipeline.intake.claiming.recorder import Entry, Recorder, image_entry
from dna_pipeline.intake.planning.finder import CandidateFinder
from dna_pipeline.intake.planning.known_files import KnownFiles, Version
from dna_pipeline.intake.planning.plan import Plan
from dna_pipeline.intake.planning.planner import Planner
from dna_pipeline.intake.planning.ready_drops import ReadyDrop
from dna_pipeline.ledger.engine import LedgerError
from dna_pipeline.ledger.store import Ledger

log = structlog.get_logger()

_UNREADABLE = "cannot be read where it was claimed"


_SEE_LOG = "The log of the daemon says where this happened; change the YAML if it has a part in it."


class SingleClaimer:
    """Claims single candidates of one inbox."""

    def __init__(
        self,
        finder: CandidateFinder,
        planner: Planner,
        claimer: Claimer,
        recorder: Recorder,
        known_files: KnownFiles,
        ledger: Ledger,
    ) -> None:
        self._inbox = finder.inbox
        self._ledger = ledger
        self._finder = finder
        self._planner = planner
        self._claimer = claimer
        self._recorder = recorder
        self._known_files = known_files

    # --- a group of candidates ---

    def claim(self, ready: Sequence[ReadyDrop]) -> list[Claim]:
        """Claim a group of candidates.

        A file that cannot be claimed, for whatever reason, does not stop other drops.

        Returns:
            The claims whose files changed on the way; they must settle and be finished later.
        """
        group = [self._plan(item) for item in ready]
        self._claimer.begin(group)
        with self._claimer.flushing(group) as flush:
            claimed = [claim for claim in group if self._fetch(claim, flush)]
            self._claimer.sync(claimed, flush)
        still: list[Claim] = []
        moving: list[Claim] = []
        for claim in claimed:
            (still if claim.is_as_expected else moving).append(claim)
        moving += self.finish(still)
        # At last, since an error in a rollback must not keep the others from their commit.
        if len(claimed) < len(group):
            self._claimer.roll_back([claim for claim in group if claim not in claimed])
        return moving

    def _plan(self, ready: ReadyDrop) -> Claim:
        candidate = ready.candidate
        roles = (("sidecar", candidate.sidecar), *candidate.companions, ("image", candidate.image))
        files = [
            self._claimer.input_file(
                role, path, ready.stats, is_shared=role == "sidecar" and ready.shares_sidecar
            )
            for role, path in roles
            if path is not None
        ]
        folder = folder_of(candidate.image or candidate.sidecar or "")
        claim = self._claimer.plan(folder, files, ready=ready, error=ready.error)
        claim.probed = ready.probed
        return claim

    def _fetch(self, claim: Claim, flush: Flush) -> bool:
        """Bring the files into the claim; False if one of them could not be claimed."""
        try:
            self._claimer.fetch(claim, flush)
        except (claims.ClaimError, OSError) as reason:
            path = claim.files[-1].place
            log.info("drop.left", inbox=self._inbox.name, file=path, why=str(reason))
            if not isinstance(reason, claims.Lost):
                self._finder.mark_failed(path, f"could not be taken in: {reason}")
            return False
        for file in claim.files:
            if file.is_moved:
                self._finder.mark_claimed(file.place)
        return True

    # --- claims whose files stand still ---

    def finish_settled(self, group: Sequence[Claim]) -> list[Claim]:
        """Flush and finish claims that were written to after their flush, or were never flushed."""
        if group:
            self._claimer.sync(group)
        return self.finish(group)

    def finish(self, group: Sequence[Claim]) -> list[Claim]:
        """Hash, read and resolve; commit all drops with their jobs in one transaction.

        Returns:
            The claims whose files are still written to.
        """
        entries: list[Entry] = []
        moving: list[Claim] = []
        for claim in group:
            try:
                entries.append(self._entry(claim))
            except claims.Changed:
                moving.append(claim)
            except LedgerError:
                raise
            except Exception as error:
                # Its files are in the claim by now, so the error would come again with each step,
                # and nothing more would be taken in.
                if (entry := self._entry_of_error(claim, error)) is None:
                    moving.append(claim)
                else:
                    entries.append(entry)
        if entries:
            self._log(self._recorder.record(entries))
        return moving

    def _entry(self, claim: Claim) -> Entry:
        """Hash and read a claim, and plan its jobs. Raises `Changed`."""
        data: bytes | None = None
        try:
            hash_files(claim)
        except claims.Changed:
            raise
        except (claims.ClaimError, OSError) as error:
            claim.error = _unreadable(claim, error).failure()
        try:
            data = read_sidecar(claim)
        except OSError as error:
            claim.error = claim.error or SidecarInvalid(f"{_UNREADABLE}: {error}").failure()
        return self._entry_of(claim, data)

    def _entry_of(self, claim: Claim, data: bytes | None) -> Entry:
        older: str | None = None
        versions: dict[str, Version] = {}
        where: tuple[str, str] = (claim.row["folder"], claim.row["image"] or claim.row["sidecar"])
        image = claim.image
        plan = self._planner.plan_claimed(*where, data, claim.sha256, claim.error, image)
        if is_prompt_file(claim.row["sidecar"] or ""):
            for item in plan.items:
                if isinstance(item.outcome, Failure):
                    item.outcome = in_words_of_texts(item.outcome)
        files = self._planner.companion_files(_folder_of_sidecar(claim))
        sources = companions.add_to_claim(self._ledger, claim, plan, files)
        if self._inbox.keeps and claim.ready is not None:
            code = claim.error.code if claim.error else None
            key = self._planner.version_key(*where, data, claim.sha256, code, claim.content, image)
            before = self._known_files.version(claim.ready.key_path)
            is_unchanged = before is not None and before.key == key
            older = before.drop_id if before else None
            error = claim.ready.candidate.error
            drop_id = older if is_unchanged else claim.row["id"]
            version = Version(claim.ready.stats, key, error.code if error else None, drop_id)
            versions = {claim.ready.key_path: version}
            if is_unchanged:
                return Entry(Plan("image", *where, "", []), [claim], None, versions, older, True)
        entry = image_entry(self._planner, claim, plan)
        if sources:
            name = claim.row["sidecar"] or "pipeline.yaml"
            named = ((source, name) for source in sources.values())
            versions |= companions.markers(named, self._known_files, [posixpath.join(*where)])
        entry.versions, entry.older = versions, older
        return entry

    def _entry_of_error(self, claim: Claim, error: Exception) -> Entry | None:
        """The entry of a claim of which no job can be made, for a reason that nobody foresaw: its
        job fails. None while it has to wait, since the cause may be the disk."""
        if not claim.is_waiting:
            log.error(
                "claim.failed", inbox=self._inbox.name, drop=claim.row["id"], exc_info=error
            )  # fmt: skip
        if isinstance(error, OSError) and (is_disk_fault(error) or not claim.gives_up):
            claim.is_waiting = True
            claim.hashes.clear()  # its files may change before the next try
            return None
        claim.is_waiting = False
        text = f"no job can be made of it: {type(error).__name__}: {error}"
        claim.error = ParameterInvalid(text, hint=_SEE_LOG).failure()
        where = claim.row["folder"], claim.row["image"] or claim.row["sidecar"]
        plan = self._planner.plan_claimed(*where, None, claim.sha256, claim.error)
        entry = image_entry(self._planner, claim, plan)
        if self._inbox.keeps and claim.ready is not None:
            path, error_before = claim.ready.key_path, claim.ready.candidate.error
            code = error_before.code if error_before else None
            # No other version has this key, so the file is planned anew once it changes.
            version = Version(claim.ready.stats, claim.row["id"], code, claim.row["id"])
            before = self._known_files.version(path)
            entry.versions, entry.older = {path: version}, before.drop_id if before else None
        return entry

    def _log(self, jobs: Sequence[dict[str, Any]]) -> None:
        """Log a line for each job, or one for many: more would take most of the time, and the
        ledger has them all."""
        if len(jobs) >= BULK_SIZE:
            failed = sum(job["status"] == "failed" for job in jobs)
            log.info("drops.claimed", inbox=self._inbox.name, number=len(jobs), failed=failed)
            return
        for job in jobs:
            log.info(
                "drop.claimed", inbox=self._inbox.name, name=job["name"],
                drop=job["drop_id"], status=job["status"],
            )  # fmt: skip


def _unreadable(claim: Claim, error: Exception) -> JobError:
    """The error of a claim of which a file could not be hashed."""
    wrong = ImageUnreadable(f"{_UNREADABLE}: {error}")
    file = next((file for file in claim.pictures if file.name not in claim.hashes), None)
    if file is None or file.role == "image":
        return wrong
    return companions.fault_of(file, wrong)


def _folder_of_sidecar(claim: Claim) -> str:
    """Folder in the inbox of the sidecar of a claim, or else of its image."""
    name = claim.row["sidecar"]
    paths = (path for path in claim.row["stat"] if name is not None and name_of(path) == name)
    return next(map(folder_of, paths), claim.row["folder"])
