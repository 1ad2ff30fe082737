"""The claimer: the way in which all new drops get their files.

    begin: commit *claiming* → fetch: sidecar, companions, image → sync → hash
          → commit *claimed* + jobs

At every instant the bytes are at their old place or in the claim, and the ledger knows which claim.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dna_pipeline.base import filesystem
from dna_pipeline.base.errors import ConfigError, Failure, JobError, SidecarInvalid
from dna_pipeline.base.failpoints import failpoint
from dna_pipeline.base.files import copy_file, remove_tree_if_there, write_atomic
from dna_pipeline.base.layout import claim_root
from dna_pipeline.base.naming import name_of
from dna_pipeline.config.schema import SUBMIT_INBOX, Config, Inbox
from dna_pipeline.config.tables import is_table_name
from dna_pipeline.intake.claiming import claims
from dna_pipeline.intake.claiming.claim import QUOTED_ROLES, Claim, InputFile, described
from dna_pipeline.intake.claiming.rollback import roll_back
from dna_pipeline.intake.discovery.scan import FileStat
from dna_pipeline.intake.planning import job_rows
from dna_pipeline.intake.planning.known_files import Stats, to_json
from dna_pipeline.intake.planning.ready_drops import ReadyDrop
from dna_pipeline.ledger import batches, drops
from dna_pipeline.ledger.store import Ledger

BULK_SIZE = 16
"""Number of claims from which on one flush serves them all. For fewer claims, the flush might write
too much data of other programs."""


@dataclass(frozen=True, slots=True)
class Flush:
    """Flushes of a group: one for all its claims in the inbox and one for all in the data folder,
    or None where each claim is flushed by itself."""

    moved: Callable[[], None] | None = None
    copied: Callable[[], None] | None = None


NO_FLUSH = Flush()


class Claimer:
    """Claims the drops of one inbox.

    Args:
        inbox: for a command, that of its drops, which need not be in the configuration.
    """

    def __init__(self, config: Config, inbox: Inbox, ledger: Ledger) -> None:
        self._config = config
        self._inbox = inbox
        self._ledger = ledger
        self._root = claim_root(inbox.path, ledger.id)

    def input_file(
        self, role: str, path: str, stats: Stats, *, is_shared: bool = False
    ) -> InputFile:
        """Describe a file at a path of the inbox; it is copied if it stays there.

        Args:
            is_shared: True if other drops need the file too.
        """
        is_moved = not (self._inbox.keeps or is_shared)
        return InputFile(role, name_of(path), self._inbox.path / path, path, stats[path], is_moved)

    def plan(
        self,
        folder: str,
        files: Sequence[InputFile],
        *,
        ready: ReadyDrop | None = None,
        error: JobError | None = None,
        **columns: Any,
    ) -> Claim:
        """Plan the claim of files, as a drop with that folder in the inbox.

        A claim lies in the inbox if any of its files are moved out of there. Copies lie in the data
        folder, since an inbox that keeps its files is never written to.

        Args:
            columns: further columns of the drop's row.
        """
        names = {file.role: file.name for file in files}
        row = job_rows.drop_row(self._inbox, folder, names.get("image"), names.get("sidecar"))
        is_copy = not any(file.is_moved for file in files)
        root = self._config.claims if is_copy else self._root
        failure = None if error is None else _failure(error, names)
        row |= {
            "stat": to_json(_stats_of(files)),
            "error": None if failure is None else failure.to_dict(),
            "companions": described(files, {}),
        } | columns
        place = root / row["id"]
        row["claim"] = str(place)
        claim = Claim(row, place, self._inbox.name, tuple(files), ready, failure, is_copy=is_copy)
        if ready is not None:
            named = {str(self._inbox.path / p): ready.stats[p] for p in ready.candidate.named}
            claim.companion_stats = {**named, **ready.companion_stats}
        return claim

    def begin(self, group: Sequence[Claim], batch: dict[str, Any] | None = None) -> None:
        """Commit the drops, and their batch, as *claiming*, before any file is touched."""

        def commit(session: Any) -> None:
            if batch is not None:
                batches.begin(session, batch)
            drops.begin_claims(session, [claim.row for claim in group])

        self._ledger.transact(commit)
        failpoint("claiming-committed")

    @contextmanager
    def claiming(self, claim: Claim) -> Generator[None]:
        """Begin the claim of a command, and give it up if the block raises an error.

        Until the claim is recorded, it belongs to `SUBMIT_INBOX`: a daemon that starts meanwhile
        finishes or rolls back the unfinished claims of its inboxes, and must not touch this one.

        Raises:
            ConfigError: a file of the claim cannot be read.
        """
        claim.row["inbox"] = SUBMIT_INBOX
        self.begin([claim])
        try:
            yield
        except BaseException as error:
            with suppress(OSError):
                self.roll_back([claim])
            if isinstance(error, claims.ClaimError):
                raise ConfigError(f"{claim.row['image']}: {error}") from error
            raise

    @contextmanager
    def flushing(self, group: Sequence[Claim]) -> Generator[Flush]:
        """Yield the flushes for a group, to be made before its files are fetched."""
        moved = sum(not claim.is_copy for claim in group)
        with ExitStack() as stack:
            flushes = [
                stack.enter_context(filesystem.shared_flush(place)) if number >= BULK_SIZE else None
                for place, number in (
                    (self._inbox.path, moved),
                    (self._config.data, len(group) - moved),
                )
            ]
            yield Flush(*flushes)

    def fetch(self, claim: Claim, flush: Flush = NO_FLUSH) -> None:
        """Copy files into the claim, then move others there, each in their order.

        The original of a copy may be one of those that are moved.
        A file that changed while it was moved stays in the claim; `Claim.is_as_expected` is
        then False.

        Raises:
            ClaimError, OSError: a file cannot be fetched; the files before it are in the claim.
        """
        if claim.is_copy:
            claim.folder.mkdir(parents=True)
        else:
            claims.make_claim_dir(self._inbox.path, self._ledger.id, claim.row["id"])
        is_durable = (flush.copied if claim.is_copy else flush.moved) is None
        for file in sorted(claim.files, key=lambda file: file.is_moved):
            if file.is_moved:
                _move(claim, file)
            else:
                _copy(claim, file, is_durable=is_durable)
            failpoint(_FAILPOINTS.get(file.role, "companion-taken"))

    def sync(self, group: Sequence[Claim], flush: Flush = NO_FLUSH) -> None:
        """Make the claims and all their files durable."""
        moved = [claim for claim in group if not claim.is_copy]
        copied = [claim for claim in group if claim.is_copy]
        for part, flush_all in ((moved, flush.moved), (copied, flush.copied)):
            if flush_all is not None:
                flush_all()
            elif part:
                places = {p for claim in part if not claim.is_copy for p in claim.row["stat"]}
                inside = (place for place in places if not Path(place).is_absolute())
                homes = {(self._inbox.path / place).parent for place in inside}
                claims.sync_claims([claim.folder for claim in part], homes)
        failpoint("claim-synced")

    def roll_back(self, group: Sequence[Claim]) -> None:
        """Give back the files of claims, unless they are recorded, and forget their drops.

        Raises:
            OSError: files cannot be given back now; their drops stay *claiming*, for
                `ClaimRecovery`.
        """
        returned: list[str] = []
        problem: OSError | None = None
        unrecorded = {drop.id for drop in self._ledger.transact(drops.claiming_drops)}
        for claim in (claim for claim in group if claim.row["id"] in unrecorded):
            try:
                roll_back(self._config, self._inbox, claim.row, remove_tree_if_there)
                returned.append(claim.row["id"])
            except OSError as error:
                problem = problem or error

        def forget(session: Any) -> None:
            drops.forget_drops(session, returned)
            batches.forget_unclaimed(session)

        self._ledger.transact(forget)
        if problem is not None:
            raise problem


_FAILPOINTS = {"image": "image-taken"} | dict.fromkeys(QUOTED_ROLES, "sidecar-taken")


def _stats_of(files: Iterable[InputFile]) -> Stats:
    """Return the status of files by their paths, for a rollback.

    A companion with a `reference` is left out: its original stays where it lies.
    """
    there = (file for file in files if not file.reference)
    return {file.place: file.stat for file in there if file.stat is not None}


def _move(claim: Claim, file: InputFile) -> None:
    assert isinstance(file.source, Path)
    assert file.stat is not None
    if (stat := claims.claim_file(file.source, claim.place(file), file.stat)) is not None:
        claim.stats[file.name] = stat


def _copy(claim: Claim, file: InputFile, *, is_durable: bool) -> None:
    target = claim.place(file)
    assert file.source is not None
    if not isinstance(stream := file.source, Path):
        write_atomic(target, lambda writer: shutil.copyfileobj(stream, writer))
    elif file.stat is None:
        copy_file(file.source, target)
    else:
        copied = claims.snapshot(file.source, target, durable=is_durable)
        # Since the file was decoded, its writer may have begun anew and now pause, so that half a
        # file stands still; or a folder of its path became a link to one outside the inbox.
        if not copied.stat.same_content(file.stat):
            raise claims.Changed(str(file.source))
        claim.hashes[file.name] = copied
    claim.stats[file.name] = FileStat.of(target.lstat())


def read_sidecar(claim: Claim) -> bytes | None:
    """Read the sidecar in a claim; None if there is none. Raises OSError."""
    if (path := claim.path("sidecar")) is None:
        return None
    data = job_rows.read_sidecar(path)
    claim.text = job_rows.as_text(data)
    return data


def hash_files(claim: Claim) -> None:
    """Hash the files that were not hashed while they were copied.

    Raises:
        Changed: a file was written to meanwhile. Lost, Busy, Refused: it cannot be read.
    """
    try:
        for file in claim.files:
            if file.role not in QUOTED_ROLES and file.name not in claim.hashes:
                claim.hashes[file.name] = claims.hash_in_place(claim.place(file))
    except claims.Changed:
        claim.hashes.clear()  # the others may change too before the claim has settled
        raise


def _failure(error: JobError, names: Mapping[str, str]) -> Failure:
    """The failure of a claim, whose files have these names by role. That of a table or a YAML alone
    says so, and not that it tells of an image beside it."""
    failure = error.failure()
    image = names.get("image")
    if failure.code == SidecarInvalid.code and (image is None or is_table_name(image)):
        what = "YAML" if image is None else "table"
        text = f"The {what} cannot be used as it is; correct it and drop it again."
        return replace(failure, message=text)
    return failure
