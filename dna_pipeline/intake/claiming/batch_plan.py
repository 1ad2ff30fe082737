"""Rows and jobs of a batch that is being claimed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from dna_pipeline.base.errors import JobError
from dna_pipeline.config.batch import request_text
from dna_pipeline.config.schema import Inbox
from dna_pipeline.intake.claiming.claimer import Claim
from dna_pipeline.intake.planning import job_rows
from dna_pipeline.intake.planning.plan import Plan, PlanItem, Planner, Source, shown_image
from dna_pipeline.ledger import batches


@dataclass(slots=True, eq=False)
class BatchPlan:
    """The rows of a batch and the jobs of those that ask for something new.

    Attributes:
        batch: its row in the ledger.
        removed: result folders that are no longer in the outbox.
    """

    planner: Planner
    inbox: Inbox
    plan: Plan
    batch: Mapping[str, Any]
    drops: Mapping[Source, Claim]
    removed: Collection[str] = ()
    _jobs: dict[int, dict[str, Any]] = field(init=False, default_factory=dict[int, dict[str, Any]])

    def prepare(self, item: PlanItem, key: str) -> None:
        """Make a right row's job ahead: thousands of them would make the commit too long."""
        if item.error is None:
            self._jobs[item.row.number] = self._job(item, key)

    @property
    def skips_duplicates(self) -> bool:
        """True if rows that were done before are skipped."""
        return (self.plan.head.on_duplicate or self.inbox.on_duplicate) == "skip"

    def make_rows(
        self, session: Any, keys: Mapping[int, str]
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return jobs and rows. Equal rows of one batch each get a job, since each asks for one.

        Args:
            keys: dedup keys by row number; a row whose image was never seen has none.
        """
        existing = batches.existing(session, keys.values()) if self.skips_duplicates else {}
        done = {
            key: before.job
            for key, before in existing.items()
            if before.status != "completed" or self._is_there(before.folder)
        }
        jobs: list[dict[str, Any]] = []
        rows: list[dict[str, Any]] = []
        for item in self.plan.items:
            row = self._row(item)
            key = keys.get(item.row.number)
            if key in done:
                row |= {"status": "skipped", "job_id": done[key]}
            elif item.error is not None:
                row |= _wrong(item.error)
            else:
                jobs.append(job := self._jobs[item.row.number])
                row["job_id"] = job["id"]
            rows.append(row)
        return jobs, rows

    def _is_there(self, folder: str | None) -> bool:
        return folder is not None and folder not in self.removed

    def _row(self, item: PlanItem) -> dict[str, Any]:
        return {
            "batch_id": self.batch["id"], "number": item.row.number, "image": shown_image(item),
            "job_id": None, "status": None, "code": None, "field": None, "detail": None,
        }  # fmt: skip

    def _job(self, item: PlanItem, key: str) -> dict[str, Any]:
        assert item.source is not None
        drop = self.drops[item.source]
        context = self.planner.context(item, drop.columns["sha256"])
        spec = self.planner.resolve(item.row.document, job_rows.draw_seed, context)
        name = item.source.path.name
        job = job_rows.job_row(self.inbox, item.source.folder, name, drop.row["id"], spec)
        text = request_text(item.row.document)
        return job | {"batch": self.batch["id"], "key": key, "request": text}


def _wrong(error: JobError) -> dict[str, Any]:
    return {
        "status": "wrong", "code": error.code, "field": error.where or None,
        "detail": error.detail or error.sentence,
    }  # fmt: skip
