"""Claims single candidates, many at once, and records their jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from dna_pipeline.base.errors import Failure, ImageUnreadable, JobError, SidecarInvalid
from dna_pipeline.base.failpoints import failpoint
from dna_pipeline.base.files import remove_tree, remove_tree_if_there
from dna_pipeline.config.job_context import JobContext
from dna_pipeline.config.schema import Config, Inbox
from dna_pipeline.config.sidecar import JobSpec
from dna_pipeline.intake.claiming import claims
from dna_pipeline.intake.claiming.claimer import (
    BULK_SIZE,
    Claim,
    Claimer,
    Flush,
    InputFile,
    hash_files,
)
from dna_pipeline.intake.planning import job_rows
from dna_pipeline.intake.planning.drops import ReadyDrop
from dna_pipeline.intake.planning.known_files import KnownFiles, Version
from dna_pipeline.ledger import batches, drops, requests
from dna_pipeline.ledger.store import Ledger

log = structlog.get_logger()

_UNREADABLE = "cannot be read where it was claimed"


@dataclass(frozen=True, slots=True)
class _Outcome:
    """Result of a claim. It has no `jobs` if a kept file asks for nothing new.

    Attributes:
        columns: values for the drop's row: hash, bytes, width, height, the sidecar's text.
        version: the known file, in an inbox that keeps its files.
        older: the drop of the version before this one.
        batch: the batch of the jobs if they are several, and its rows.
    """

    claimed: Claim
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
        claimer: Claimer,
        known_files: KnownFiles,
        on_claimed: Callable[[str], None],
        on_failed: Callable[[str, str], None],
    ) -> None:
        self._config = config
        self._inbox = inbox
        self._resolver = job_rows.Resolver(config, inbox)
        self._ledger = ledger
        self._claimer = claimer
        self._known_files = known_files
        self._on_claimed = on_claimed
        self._on_failed = on_failed

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
            if len(claimed) < len(group):
                self._claimer.roll_back([claim for claim in group if claim not in claimed])
            self._claimer.sync(claimed, flush)
        moving = [claim for claim in claimed if not claim.is_unchanged]
        return moving + self.finish([claim for claim in claimed if claim.is_unchanged])

    def _plan(self, ready: ReadyDrop) -> Claim:
        candidate = ready.candidate
        files: list[InputFile] = []
        for role, path in (("sidecar", candidate.sidecar), ("image", candidate.image)):
            if path is not None:
                is_copied = self._inbox.keeps or (role == "sidecar" and ready.shares_sidecar)
                files.append(self._input_file(role, path, ready, is_moved=not is_copied))
        folder = split(candidate.image or candidate.sidecar or "")[0]
        claim = self._claimer.plan(folder, files, ready=ready, error=ready.error)
        claim.probed = ready.probed
        return claim

    def _input_file(self, role: str, path: str, ready: ReadyDrop, *, is_moved: bool) -> InputFile:
        source = self._inbox.path / path
        return InputFile(role, split(path)[1], source, path, ready.stats[path], is_moved)

    def _fetch(self, claim: Claim, flush: Flush) -> bool:
        """Bring the files into the claim; False if one of them could not be claimed."""
        try:
            self._claimer.fetch(claim, flush)
        except (claims.ClaimError, OSError) as reason:
            path = claim.files[-1].place
            log.info("drop.left", inbox=self._inbox.name, file=path, why=str(reason))
            if not isinstance(reason, claims.Lost):
                self._on_failed(path, f"could not be taken in: {reason}")
            return False
        for file in claim.files:
            if file.is_moved:
                self._on_claimed(file.place)
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
        outcomes: list[_Outcome] = []
        moving: list[Claim] = []
        for claim in group:
            try:
                outcomes.append(self._outcome(claim))
            except claims.Changed:
                moving.append(claim)
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

    def _outcome(self, claim: Claim) -> _Outcome:
        data: bytes | None = None
        try:
            hash_files(claim)
        except claims.Changed:
            raise
        except (claims.ClaimError, OSError) as error:
            claim.error = ImageUnreadable(f"{_UNREADABLE}: {error}").failure()
        try:
            if (sidecar := claim.path("sidecar")) is not None:
                data = job_rows.read_sidecar(sidecar)
        except OSError as error:
            claim.error = claim.error or SidecarInvalid(f"{_UNREADABLE}: {error}").failure()
        text = None if data is None else job_rows.as_text(data)
        return self._outcome_of(claim, claim.columns | {"sidecar_text": text}, data)

    def _outcome_of(self, item: Claim, columns: dict[str, Any], data: bytes | None) -> _Outcome:
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
        self, item: Claim, data: bytes | None, context: JobContext
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
        columns = [o.columns for o in outcomes if o.jobs]
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
