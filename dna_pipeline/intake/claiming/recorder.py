"""Record plans whose files are claimed: drops, jobs, batches and known files, in one commit."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from dna_pipeline.base.errors import JobError
from dna_pipeline.base.failpoints import failpoint
from dna_pipeline.base.files import remove_tree, remove_tree_if_there
from dna_pipeline.base.naming import printable
from dna_pipeline.config.schema import Config, Inbox
from dna_pipeline.intake.claiming.claim import Claim
from dna_pipeline.intake.planning.known_files import KnownFiles, Version, rows_of
from dna_pipeline.intake.planning.plan import Plan
from dna_pipeline.intake.planning.planner import Planner
from dna_pipeline.ledger import batches, drops, requests
from dna_pipeline.ledger.store import Ledger


@dataclass(slots=True, eq=False)
class Entry:
    """A plan with its claims, as the ledger gets it.

    Attributes:
        batch: its row of the ledger's table `batches`; None for the one job of an image.
        versions: the known files that it makes, by their key paths.
        older: the drop of the version before this one; None if there is none.
        is_unchanged: True if a kept file asks for nothing new, so that its copy goes again.
        removed: result folders that are no longer in the outbox, if rows that were done before are
            skipped; None if all rows run.
        joins_open: True if rows count on equal jobs that have not ended, even if all rows run: the
            command that asks for them may have been cut off and given again.
    """

    plan: Plan
    claims: Sequence[Claim]
    batch: dict[str, Any] | None = None
    versions: dict[str, Version] = field(default_factory=dict[str, Version])
    older: str | None = None
    is_unchanged: bool = False
    removed: Collection[str] | None = None
    joins_open: bool = False

    def keys(self) -> list[str]:
        """The dedup keys of its items."""
        return [item.key for item in self.plan.items if item.key is not None]

    def jobs_and_rows(self, session: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return jobs and rows. Equal rows of one batch each get a job, since each asks for one."""
        if self.batch is None:
            return [item.job for item in self.plan.items if item.job is not None], []
        done = self._done(session)
        jobs: list[dict[str, Any]] = []
        rows: list[dict[str, Any]] = []
        for item in self.plan.items:
            row: dict[str, Any] = {
                "batch_id": self.batch["id"], "number": item.row.number,
                "image": self.plan.shown_image(item), "job_id": None, "status": None, "code": None,
                "field": None, "detail": None,
            }  # fmt: skip
            if item.key in done:
                row |= {"status": "skipped", "job_id": done[item.key]}
            elif item.error is not None:
                row |= _wrong(item.error)
            elif item.job is not None:
                jobs.append(item.job)
                row["job_id"] = item.job["id"]
            rows.append(row)
        return jobs, rows

    def _done(self, session: Any) -> dict[str | None, str]:
        """Return the jobs that did before what rows ask for, by dedup key."""
        if self.removed is None and not self.joins_open:
            return {}
        return {
            key: before.job
            for key, before in batches.existing(session, self.keys()).items()
            if before.status != "completed" or self._has_result(before)
        }

    def _has_result(self, before: batches.Existing) -> bool:
        """True if a row that a completed job did before is to be skipped."""
        folder = before.folder
        return self.removed is not None and folder is not None and folder not in self.removed


def image_entry(planner: Planner, claim: Claim, plan: Plan) -> Entry:
    """Make the entry of a claimed image, with its jobs, and their batch if they are several."""
    batch = planner.batch_row(plan) if plan.kind == "matrix" else None
    for item in plan.items:
        planner.add_job(plan, item, claim.row["id"], claim.sha256, batch)
    return Entry(plan, [claim], batch)


@dataclass(eq=False)
class Recorder:
    """Records the entries of one inbox."""

    _config: Config
    _inbox: Inbox
    _ledger: Ledger
    _known_files: KnownFiles | None = None
    """Known files of the inbox; None if no entry makes any."""

    def record(self, entries: Sequence[Entry]) -> list[dict[str, Any]]:
        """Commit drops, jobs, batches and known files; return the jobs."""
        failpoint("hashed")
        for entry in entries:
            for claim in entry.claims if entry.is_unchanged else ():
                # A kept file still has its original. The folder goes before the commit that forgets
                # the drop: without a drop it would count as the only copy.
                with suppress(OSError):
                    remove_tree_if_there(claim.folder)
        jobs, replaced = self._ledger.transact(lambda s: self._commit(s, entries))
        failpoint("claimed-committed")
        self._note(_versions(entries))
        for drop_id in replaced:
            remove_tree(self._config.claims / drop_id, ignore_errors=True)
            self._ledger.transact(lambda s, i=drop_id: drops.set_drop_state(s, i, "gone"))
        return jobs

    def remember(self, versions: dict[str, Version]) -> None:
        """Commit known files of which no drop was made."""
        rows = rows_of(self._inbox.name, versions)
        self._ledger.transact(lambda s: drops.remember_files(s, rows))
        self._note(versions)

    def _note(self, versions: dict[str, Version]) -> None:
        if self._known_files is not None:
            self._known_files.note(versions)

    def _commit(
        self, session: Any, entries: Sequence[Entry]
    ) -> tuple[list[dict[str, Any]], list[str]]:
        """Commit entries; return their jobs, and the drops whose place in the queue a newer version
        of the file got."""
        new = [entry for entry in entries if not entry.is_unchanged]
        for entry in new:
            # Before its rows are made: a row that finds the older version's job is skipped.
            if entry.batch is not None and entry.older is not None:
                self._withdraw(session, entry.older)
        made = [(entry, *entry.jobs_and_rows(session)) for entry in new]
        columns = [claim.columns for entry in new for claim in entry.claims]
        drops.finish_claims(session, columns, [])
        replaced = [
            entry.older
            for entry, jobs, _ in made
            if entry.older is not None and self._replace_older(session, entry.older, entry, jobs)
        ]
        queued = [job for entry, jobs, _ in made if entry.older not in replaced for job in jobs]
        drops.finish_claims(session, [], queued)
        for entry, _, rows in made:
            if entry.batch is not None:
                if entry.plan.kind == "matrix":
                    batches.begin(session, entry.batch)
                batches.finish(session, entry.batch["id"], rows, entry.plan.dialect.to_json())
        unchanged = [claim for entry in entries if entry.is_unchanged for claim in entry.claims]
        drops.forget_drops(session, [claim.row["id"] for claim in unchanged])
        if any(claim.row["batch"] is not None for claim in unchanged):
            batches.forget_unclaimed(session)
        drops.remember_files(session, rows_of(self._inbox.name, _versions(entries)))
        return [job for _, jobs, _ in made for job in jobs], replaced

    def _replace_older(
        self, session: Any, older: str, entry: Entry, jobs: Sequence[dict[str, Any]]
    ) -> bool:
        """Give the new work to the older version's job; False if that is not queued any more."""
        if self._inbox.on_change != "latest" or entry.batch is not None:
            return False
        (job,) = jobs
        if job["status"] != "queued":
            return False
        queued = requests.queued_from(session, older)
        changes = {k: v for k, v in job.items() if k not in ("id", "created_at", "batch")}
        if queued is not None and requests.replace_queued(session, queued, changes):
            drops.set_drop_state(session, older, "disposing")
            return True
        self._withdraw(session, older)
        return False

    def _withdraw(self, session: Any, older: str) -> None:
        """Withdraw the older version's work that waits, where only the latest one counts."""
        if self._inbox.on_change == "latest":
            batches.withdraw(session, [older, *batches.drops_of(session, older)])


def _versions(entries: Iterable[Entry]) -> dict[str, Version]:
    return {path: version for entry in entries for path, version in entry.versions.items()}


def _wrong(error: JobError) -> dict[str, Any]:
    """Columns of a wrong row. Its error may name files whose names are not UTF-8."""
    return {
        "status": "wrong", "code": error.code, "field": printable(error.where) or None,
        "detail": printable(error.detail or error.sentence),
    }  # fmt: skip
