"""Claims single candidates: claim, hash, resolve, record, with a commit between these steps.

    commit *claiming* → rename sidecar, then image → fsync → hash and read → commit *claimed* + jobs

At every instant the bytes are in the inbox or in the claim, and the ledger knows which claim.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from dna_pipeline.base import filesystem
from dna_pipeline.base.errors import Failure, ImageUnreadable, JobError, SidecarInvalid
from dna_pipeline.base.failpoints import failpoint
from dna_pipeline.base.files import remove_tree, remove_tree_if_there
from dna_pipeline.base.layout import claim_root
from dna_pipeline.config.job_context import JobContext
from dna_pipeline.config.schema import Config, Inbox
from dna_pipeline.config.sidecar import JobSpec
from dna_pipeline.intake.claiming import claims as claim
from dna_pipeline.intake.claiming.rollback import return_files
from dna_pipeline.intake.discovery.scan import FileStat
from dna_pipeline.intake.planning import job_rows
from dna_pipeline.intake.planning.drops import ClaimedDrop, ReadyDrop
from dna_pipeline.intake.planning.known_files import KnownFiles, Stats, Version, to_json
from dna_pipeline.ledger import batches, drops, requests
from dna_pipeline.ledger.store import Ledger

log = structlog.get_logger()

BULK_SIZE = 16
"""Number of drops from which on one flush and one log line serve them all."""

_UNREADABLE = "cannot be read where it was claimed"

_NO_COLUMNS: dict[str, Any] = dict.fromkeys(("sha256", "bytes", "width", "height", "sidecar_text"))


@dataclass(frozen=True, slots=True)
class _Outcome:
    """Result of a claim. It has no `jobs` if a kept file asks for nothing new.

    Attributes:
        columns: values for the drop's row: hash, bytes, width, height, the sidecar's text.
        version: the known file, in an inbox that keeps its files.
        older: the drop of the version before this one.
        batch: the batch of the jobs if they are several, and its rows.
    """

    claimed: ClaimedDrop
    columns: dict[str, Any]
    jobs: list[dict[str, Any]]
    version: Version | None = None
    older: str | None = None
    batch: tuple[dict[str, Any], list[dict[str, Any]]] | None = None


def split(relative: str) -> tuple[str, str]:
    """`a/b/c.png` → (`a/b`, `c.png`)."""
    folder, _, name = relative.rpartition("/")
    return folder, name


def copy_claim_dir(config: Config, drop_id: str) -> Path:
    """Return the claim for copies of kept or submitted files.

    It lies in the data folder, since an inbox that keeps its files is never written to.
    """
    return config.claims / drop_id


class SingleClaimer:
    """Claims single candidates of one inbox.

    Args:
        on_claimed: called with each path that left the inbox.
        on_failed: called with each path that could not be claimed, and the reason.
    """

    def __init__(
        self,
        config: Config,
        inbox: Inbox,
        ledger: Ledger,
        known_files: KnownFiles,
        on_claimed: Callable[[str], None],
        on_failed: Callable[[str, str], None],
    ) -> None:
        self._config = config
        self._inbox = inbox
        self._resolver = job_rows.Resolver(config, inbox)
        self._ledger = ledger
        self._root = claim_root(inbox.path, ledger.id)
        self._known_files = known_files
        self._on_claimed = on_claimed
        self._on_failed = on_failed

    # --- a group of candidates ---

    def claim(self, ready: Sequence[ReadyDrop]) -> list[ClaimedDrop]:
        """Claim a group of candidates.

        Returns:
            The claims whose files changed on the way; they must settle and be finished later.
        """
        claims = [self._plan(item) for item in ready]
        rows = [item.row for item in claims]
        self._ledger.transact(lambda s: drops.begin_claims(s, rows))
        failpoint("claiming-committed")
        with self._flush(len(claims)) as flush:
            claimed = [item for item in claims if self._fetch(item, durable=flush is None)]
            if len(claimed) < len(claims):
                failed = [item.row["id"] for item in claims if item not in claimed]
                self._ledger.transact(lambda s: drops.forget_drops(s, failed))
            self._sync(claimed, flush)
        moving = [item for item in claimed if not item.is_unchanged]
        return moving + self.finish([item for item in claimed if item.is_unchanged])

    def _plan(self, ready: ReadyDrop) -> ClaimedDrop:
        candidate = ready.candidate
        folder, image = split(candidate.image) if candidate.image else ("", None)
        sidecar_folder, sidecar = split(candidate.sidecar) if candidate.sidecar else ("", None)
        folder = folder if image is not None else sidecar_folder
        error = ready.error.failure() if ready.error else None
        row = job_rows.drop_row(self._inbox, folder, image, sidecar)
        row |= {
            "claim": str(self._claim_folder(row["id"])),
            "stat": to_json(ready.stats),
            "error": error.to_dict() if error else None,
        }
        return ClaimedDrop(row, ready, error, ready.probed)

    def _claim_folder(self, drop_id: str) -> Path:
        if self._inbox.keeps:
            return copy_claim_dir(self._config, drop_id)
        return self._root / drop_id

    def _flush(self, number: int) -> AbstractContextManager[Callable[[], None] | None]:
        """Return one flush for many drops, or nothing for a few.

        For a few drops, the flush might write too much data of other programs.
        """
        place = self._config.data if self._inbox.keeps else self._inbox.path
        return filesystem.shared_flush(place) if number >= BULK_SIZE else nullcontext()

    def _fetch(self, item: ClaimedDrop, *, durable: bool) -> bool:
        """Bring the files into the claim; False if one of them could not be claimed.

        A file that cannot be claimed, for whatever reason, does not stop other drops.

        Args:
            durable: flush each copy to the disk at once.
        """
        assert item.ready is not None
        candidate = item.ready.candidate
        paths = [path for path in (candidate.sidecar, candidate.image) if path is not None]
        try:
            self._make_folder(item)
            for path in paths:
                item.stats |= self._fetch_file(item, path, item.ready, durable=durable)
                failpoint("image-taken" if path == candidate.image else "sidecar-taken")
        except (claim.ClaimError, OSError) as reason:
            log.info("drop.left", inbox=self._inbox.name, file=paths[-1], why=str(reason))
            self._roll_back(item)
            if not isinstance(reason, claim.Lost):
                self._on_failed(paths[-1], f"could not be taken in: {reason}")
            return False
        for path in paths:
            if not (self._inbox.keeps or (path == candidate.sidecar and item.ready.shares_sidecar)):
                self._on_claimed(path)
        return True

    def _make_folder(self, item: ClaimedDrop) -> None:
        if self._inbox.keeps:
            item.folder.mkdir(parents=True)
        else:
            claim.make_claim_dir(self._inbox.path, self._ledger.id, item.row["id"])

    def _fetch_file(
        self, item: ClaimedDrop, path: str, ready: ReadyDrop, *, durable: bool
    ) -> Stats:
        """Move or copy one file; return its status now, or nothing if it changed on the way.

        The sidecar comes first: the image's rename is the claim.
        """
        source = self._inbox.path / path
        is_copied = path == ready.candidate.sidecar and ready.shares_sidecar
        if not (self._inbox.keeps or is_copied):
            claimed = claim.claim_file(source, item.folder, ready.stats[path])
            return {source.name: claimed.stat} if claimed.unchanged else {}
        target = item.folder / source.name
        # Since the file was decoded, its writer may have begun anew and now pause, so that half a
        # file stands still; or a folder of its path became a link to one outside the inbox.
        copied = claim.snapshot(source, target, durable=durable)
        if not copied.stat.same_content(ready.stats[path]):
            raise claim.Changed(str(source))
        return {source.name: FileStat.of(target.lstat())}

    def _roll_back(self, item: ClaimedDrop) -> None:
        if self._inbox.keeps:
            remove_tree(item.folder, ignore_errors=True)
        else:
            return_files(item.folder, self._inbox.path, item.row["folder"], item.row["stat"])

    def _sync(self, claimed: Sequence[ClaimedDrop], flush: Callable[[], None] | None) -> None:
        if flush is not None:
            flush()
        else:
            homes: set[str] = set()
            if not self._inbox.keeps:
                homes = {split(path)[0] for item in claimed for path in item.row["stat"]}
            claim.sync_claims(
                [item.folder for item in claimed], map(self._inbox.path.joinpath, homes)
            )
        failpoint("claim-synced")

    # --- claims whose files stand still ---

    def finish_settled(self, claims: Sequence[ClaimedDrop]) -> list[ClaimedDrop]:
        """Flush and finish claims that were written to after their flush, or were never flushed."""
        if claims:
            self._sync(claims, None)
        return self.finish(claims)

    def finish(self, claims: Sequence[ClaimedDrop]) -> list[ClaimedDrop]:
        """Hash, read and resolve; commit all drops with their jobs in one transaction.

        Returns:
            The claims whose files are still written to.
        """
        outcomes: list[_Outcome] = []
        moving: list[ClaimedDrop] = []
        for item in claims:
            try:
                outcomes.append(self._outcome(item))
            except claim.Changed:
                moving.append(item)
        if outcomes:
            failpoint("hashed")
            for outcome in outcomes:
                if not outcome.jobs:
                    # A kept file still has its original. The folder goes before the commit that
                    # forgets the drop: without a drop it would count as the only copy.
                    with suppress(OSError):
                        remove_tree_if_there(outcome.claimed.folder)
            replaced = self._ledger.transact(lambda s: self._commit(s, outcomes))
            failpoint("claimed-committed")
            self._after_commit(outcomes, replaced)
        return moving

    def _outcome(self, item: ClaimedDrop) -> _Outcome:
        data: bytes | None = None
        columns: dict[str, Any] = {}
        try:
            if item.image is not None:
                hashed = claim.hash_in_place(item.image)
                columns = {"sha256": hashed.sha256, "bytes": hashed.size}
        except claim.Changed:
            raise
        except (claim.ClaimError, OSError) as error:
            item.error = ImageUnreadable(f"{_UNREADABLE}: {error}").failure()
        try:
            data = job_rows.read_sidecar(item.sidecar) if item.sidecar else None
        except OSError as error:
            item.error = item.error or SidecarInvalid(f"{_UNREADABLE}: {error}").failure()
        if item.probed is not None:
            columns |= {"width": item.probed.width, "height": item.probed.height}
        if data is not None:
            columns["sidecar_text"] = job_rows.as_text(data)
        return self._outcome_of(item, _NO_COLUMNS | columns, data)

    def _outcome_of(
        self, item: ClaimedDrop, columns: dict[str, Any], data: bytes | None
    ) -> _Outcome:
        version = older = None
        name, folder = item.row["image"] or item.row["sidecar"], item.row["folder"]
        context = job_rows.context_of(self._inbox, folder, name, columns["sha256"])
        if self._inbox.keeps and item.ready is not None:
            code = item.error.code if item.error else None
            key = self._resolver.version_key(context, data, code)
            before = self._known_files.version(item.ready.key_path)
            older = before.drop_id if before else None
            error = item.ready.candidate.error
            version = Version(item.ready.stats, key, error.code if error else None, item.row["id"])
            if before is not None and before.key == key:
                version = Version(version.stats, key, version.error, older)
                return _Outcome(item, columns, [], version)
        jobs, batch = self._jobs(item, data, context)
        return _Outcome(item, columns, jobs, version, older, batch)

    def _jobs(
        self, item: ClaimedDrop, data: bytes | None, context: JobContext
    ) -> tuple[list[dict[str, Any]], tuple[dict[str, Any], list[dict[str, Any]]] | None]:
        """Make the jobs of a drop, and their batch if the sidecar's `matrix` asks for several."""
        folder, drop_id = item.row["folder"], item.row["id"]
        name: str = item.row["image"] or item.row["sidecar"]

        def job(outcome: JobSpec | Failure) -> dict[str, Any]:
            return job_rows.job_row(self._inbox, folder, name, drop_id, outcome)

        if item.error is not None:
            return [job(item.error)], None
        try:
            specs = self._resolver.resolve(data, context)
        except JobError as error:
            return [job(error.failure())], None
        jobs = [job(spec) for _, spec in specs]
        if len(jobs) == 1:
            return jobs, None
        documents = [document for document, _ in specs]
        return jobs, job_rows.matrix_batch(self._inbox, folder, name, data or b"", jobs, documents)

    def resolve(self, data: bytes | None, context: JobContext) -> JobSpec | Failure:
        """Resolve a sidecar's bytes (None: no sidecar); a Failure if they make no job."""
        try:
            return job_rows.resolve_text(self._config, self._inbox, data, context)
        except JobError as error:
            return error.failure()

    def _commit(self, session: Any, outcomes: Sequence[_Outcome]) -> list[str]:
        """Commit drops, jobs, batches and known files.

        Returns:
            The drops whose place in the queue a newer version of the file got.
        """
        replaced: list[str] = []
        columns = [{"id": o.claimed.row["id"], **o.columns} for o in outcomes if o.jobs]
        drops.finish_claims(session, columns, [])
        jobs: list[dict[str, Any]] = []
        for outcome in outcomes:
            if outcome.older is not None and self._replace_older(session, outcome.older, outcome):
                replaced.append(outcome.older)
            else:
                jobs += outcome.jobs
        drops.finish_claims(session, [], jobs)
        for batch, rows in (outcome.batch for outcome in outcomes if outcome.batch):
            batches.add(session, batch, rows)
        drops.forget_drops(session, [o.claimed.row["id"] for o in outcomes if not o.jobs])
        drops.remember_files(session, self._known_files.rows(_versions(outcomes)))
        return replaced

    def _replace_older(self, session: Any, older: str, outcome: _Outcome) -> bool:
        """Give the new work to the older version's job; False if that is not queued any more."""
        if self._inbox.on_change != "latest" or not outcome.jobs:
            return False
        job = outcome.jobs[0]
        if job["status"] != "queued":
            return False
        queued = requests.queued_from(session, older) if outcome.batch is None else None
        changes = {k: v for k, v in job.items() if k not in ("id", "created_at", "batch")}
        if queued is None or not requests.replace_queued(session, queued, changes):
            batches.withdraw(session, [older, *batches.drops_of(session, older)])
            return False
        drops.set_drop_state(session, older, "disposing")
        return True

    def _after_commit(self, outcomes: Sequence[_Outcome], replaced: Iterable[str]) -> None:
        self._known_files.note(_versions(outcomes))
        self._log([job for outcome in outcomes for job in outcome.jobs])
        for drop_id in replaced:
            remove_tree(copy_claim_dir(self._config, drop_id), ignore_errors=True)
            self._ledger.transact(lambda s, i=drop_id: drops.set_drop_state(s, i, "gone"))

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


def _versions(outcomes: Iterable[_Outcome]) -> dict[str, Version]:
    return {
        outcome.claimed.ready.key_path: outcome.version
        for outcome in outcomes
        if outcome.version is not None and outcome.claimed.ready is not None
    }
