"""Takes candidates in: claim, hash, resolve, record, in that order, with a commit between steps.

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

MANY = 16
"""So many drops at once are flushed and logged as one."""

_UNREADABLE = "cannot be read where it was claimed"

_NO_COLUMNS: dict[str, Any] = dict.fromkeys(("sha256", "bytes", "width", "height", "sidecar_text"))


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What a claim comes to. There are no `jobs` for a kept file that tells nothing new.

    Attributes:
        older: the drop of the version before this one.
        batch: the batch of the jobs if they are several, and its rows.
    """

    claimed: ClaimedDrop
    facts: dict[str, Any]
    jobs: list[dict[str, Any]]
    version: Version | None = None
    older: str | None = None
    batch: tuple[dict[str, Any], list[dict[str, Any]]] | None = None


def split(relative: str) -> tuple[str, str]:
    """`a/b/c.png` → (`a/b`, `c.png`)."""
    folder, _, name = relative.rpartition("/")
    return folder, name


def keep_claims(config: Config, drop_id: str) -> Path:
    """Where copies of kept and submitted files lie: an inbox that is kept is never written to."""
    return config.claims / drop_id


class SingleClaimer:
    """Takes candidates of one inbox in.

    Args:
        taken: told each path that left the inbox.
        left: told each path that could not be taken, and why.
    """

    def __init__(
        self,
        config: Config,
        inbox: Inbox,
        ledger: Ledger,
        known: KnownFiles,
        taken: Callable[[str], None],
        left: Callable[[str, str], None],
    ) -> None:
        self._config = config
        self._inbox = inbox
        self._resolver = job_rows.Resolver(config, inbox)
        self._ledger = ledger
        self._root = claim.claim_root(inbox.path, ledger.id)
        self._known_files = known
        self._on_claimed = taken
        self._on_failed = left

    # --- a group of candidates ---

    def claim(self, ready: Sequence[ReadyDrop]) -> list[ClaimedDrop]:
        """Take a group in.

        Gives the claims whose files changed on the way; they are to settle and be finished later.
        """
        claims = [self._plan(item) for item in ready]
        rows = [item.row for item in claims]
        self._ledger.transact(lambda s: drops.begin_claims(s, rows))
        failpoint("claiming-committed")
        with self._flush(len(claims)) as flush:
            held = [item for item in claims if self._fetch(item, durable=flush is None)]
            if len(held) < len(claims):
                lost = [item.row["id"] for item in claims if item not in held]
                self._ledger.transact(lambda s: drops.forget_drops(s, lost))
            self._sync(held, flush)
        moving = [item for item in held if not item.is_unchanged]
        return moving + self.finish([item for item in held if item.is_unchanged])

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
            return keep_claims(self._config, drop_id)
        return self._root / drop_id

    def _flush(self, number: int) -> AbstractContextManager[Callable[[], None] | None]:
        """One flush for many drops; for a few it might have to write too much of others'."""
        place = self._config.data if self._inbox.keeps else self._inbox.path
        return filesystem.shared_flush(place) if number >= MANY else nullcontext()

    def _fetch(self, item: ClaimedDrop, *, durable: bool) -> bool:
        """Bring the files into the claim; False where they were lost to someone or held open.

        `durable`: copies are to be on the disk at once.

        One file that cannot be taken, for whatever reason, does not stop the others.
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
        """Move or copy one file; what it is now, unless it changed on the way.

        The sidecar comes first: the image's rename is the claim.
        """
        source = self._inbox.path / path
        is_copied = path == ready.candidate.sidecar and ready.shares_sidecar
        if not (self._inbox.keeps or is_copied):
            taken = claim.claim_file(source, item.folder, ready.stats[path])
            return {source.name: taken.stat} if taken.unchanged else {}
        target = item.folder / source.name
        # Since it was decoded, its writer may have begun anew and now pause, so that a half file
        # stands still; or a folder on the way to it became a link to one that is none of ours.
        copied = claim.snapshot(source, target, durable=durable)
        if not copied.stat.same_content(ready.stats[path]):
            raise claim.Changed(str(source))
        return {source.name: FileStat.of(target.lstat())}

    def _roll_back(self, item: ClaimedDrop) -> None:
        if self._inbox.keeps:
            remove_tree(item.folder, ignore_errors=True)
        else:
            return_files(item.folder, self._inbox.path, item.row["folder"], item.row["stat"])

    def _sync(self, held: Sequence[ClaimedDrop], flush: Callable[[], None] | None) -> None:
        if flush is not None:
            flush()
        else:
            homes: set[str] = set()
            if not self._inbox.keeps:
                homes = {split(path)[0] for item in held for path in item.row["stat"]}
            claim.sync_claims([item.folder for item in held], map(self._inbox.path.joinpath, homes))
        failpoint("claim-synced")

    # --- claims whose files stand still ---

    def finish_settled(self, claims: Sequence[ClaimedDrop]) -> list[ClaimedDrop]:
        """`finish` for claims that were written to after they were made durable, or never were."""
        if claims:
            self._sync(claims, None)
        return self.finish(claims)

    def finish(self, claims: Sequence[ClaimedDrop]) -> list[ClaimedDrop]:
        """Hash, read and resolve; commit all drops with their jobs in one transaction.

        Gives the claims that were still written to.
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
                    # Before the commit that forgets the drop: a kept file has its original, and a
                    # folder that the ledger no longer knows would be taken for the only copy.
                    with suppress(OSError):
                        remove_tree_if_there(outcome.claimed.folder)
            replaced = self._ledger.transact(lambda s: self._commit(s, outcomes))
            failpoint("claimed-committed")
            self._after_commit(outcomes, replaced)
        return moving

    def _outcome(self, item: ClaimedDrop) -> _Outcome:
        data: bytes | None = None
        facts: dict[str, Any] = {}
        try:
            if item.image is not None:
                hashed = claim.hash_in_place(item.image)
                facts = {"sha256": hashed.sha256, "bytes": hashed.size}
        except claim.Changed:
            raise
        except (claim.ClaimError, OSError) as error:
            item.error = ImageUnreadable(f"{_UNREADABLE}: {error}").failure()
        try:
            data = job_rows.read_sidecar(item.sidecar) if item.sidecar else None
        except OSError as error:
            item.error = item.error or SidecarInvalid(f"{_UNREADABLE}: {error}").failure()
        if item.probed is not None:
            facts |= {"width": item.probed.width, "height": item.probed.height}
        if data is not None:
            facts["sidecar_text"] = job_rows.as_text(data)
        return self._outcome_of(item, _NO_COLUMNS | facts, data)

    def _outcome_of(self, item: ClaimedDrop, facts: dict[str, Any], data: bytes | None) -> _Outcome:
        version = older = None
        name, folder = item.row["image"] or item.row["sidecar"], item.row["folder"]
        known = job_rows.context_of(self._inbox, folder, name, facts["sha256"])
        if self._inbox.keeps and item.ready is not None:
            code = item.error.code if item.error else None
            key = self._resolver.key(known, data, code)
            before = self._known_files.version(item.ready.key_path)
            older = before.drop_id if before else None
            error = item.ready.candidate.error
            version = Version(item.ready.stats, key, error.code if error else None, item.row["id"])
            if before is not None and before.key == key:
                version = Version(version.stats, key, version.error, older)
                return _Outcome(item, facts, [], version)
        jobs, batch = self._jobs(item, data, known)
        return _Outcome(item, facts, jobs, version, older, batch)

    def _jobs(
        self, item: ClaimedDrop, data: bytes | None, known: JobContext
    ) -> tuple[list[dict[str, Any]], tuple[dict[str, Any], list[dict[str, Any]]] | None]:
        """The jobs of a drop, and their batch if the sidecar's `matrix` makes several."""
        folder, drop_id = item.row["folder"], item.row["id"]
        name: str = item.row["image"] or item.row["sidecar"]

        def job(outcome: JobSpec | Failure) -> dict[str, Any]:
            return job_rows.job_row(self._inbox, folder, name, drop_id, outcome)

        if item.error is not None:
            return [job(item.error)], None
        try:
            made = self._resolver.resolve(data, known)
        except JobError as error:
            return [job(error.failure())], None
        jobs = [job(spec) for _, spec in made]
        if len(jobs) == 1:
            return jobs, None
        told = [document for document, _ in made]
        return jobs, job_rows.matrix_batch(self._inbox, folder, name, data or b"", jobs, told)

    def resolve(self, data: bytes | None, facts: JobContext) -> JobSpec | Failure:
        """What a sidecar's bytes (or none) ask for, or why it cannot be done."""
        try:
            return job_rows.resolve_text(self._config, self._inbox, data, facts)
        except JobError as error:
            return error.failure()

    def _commit(self, session: Any, outcomes: Sequence[_Outcome]) -> list[str]:
        """Gives the drops whose place in the queue newer versions took."""
        replaced: list[str] = []
        held = [{"id": o.claimed.row["id"], **o.facts} for o in outcomes if o.jobs]
        drops.finish_claims(session, held, [])
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
        """Give the work to the job of an older version of the file if that is still queued."""
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
            remove_tree(keep_claims(self._config, drop_id), ignore_errors=True)
            self._ledger.transact(lambda s, i=drop_id: drops.set_drop_state(s, i, "gone"))

    def _log(self, jobs: Sequence[dict[str, Any]]) -> None:
        """A line for each; of many it would be most of the work, and the ledger has them all."""
        if len(jobs) >= MANY:
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
