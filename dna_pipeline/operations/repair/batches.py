"""Restore batches from a damaged ledger into the new one.

The request of a row is in no file beside its image, so only the damaged ledger has it. A claim
whose row cannot be read is adopted like any other claim. A claim of a batch that was not completely
claimed goes back to its inbox.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from dna_pipeline.base.layout import is_real_folder
from dna_pipeline.base.times import utcnow
from dna_pipeline.config.schema import Config, Inbox
from dna_pipeline.intake.claiming import claims
from dna_pipeline.intake.planning import job_rows
from dna_pipeline.intake.planning.planner import Planner
from dna_pipeline.ledger import batches, drops, queue, store
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.ledger.tables import Batch, BatchRow, Drop
from dna_pipeline.operations.repair.salvage import Salvage, list_of


class Batches:
    """Fills a new ledger with the batches of the damaged one, and with their rows that wait.

    Args:
        remains: the readable rows of the damaged ledger.

    Attributes:
        drops: the ids of the drops that were restored.
    """

    def __init__(self, config: Config, ledger: Ledger, remains: Salvage) -> None:
        self._config = config
        self._ledger = ledger
        self._remains = remains
        self.drops: set[str] = set()

    def restore(self) -> None:
        readable = [b for b in map(_batch, self._remains.batches) if b is not None]
        ids = {batch["id"] for batch in readable}
        rows = [row for row in self._remains.batch_rows if row["batch_id"] in ids]
        for table, values in ((Batch, readable), (BatchRow, rows)):
            self._ledger.transact(lambda s, t=table, v=values: store.add_new_rows(s, t, v))
        for drop in self._remains.drops.values():
            if self._batches_of(drop) & ids and self._has_claim(drop):
                self._restore_drop(drop)

    def _has_claim(self, drop: dict[str, Any]) -> bool:
        """True if the drop's claim exists. The path may be damaged, so its form is checked too."""
        folder = Path(str(drop["claim"]))
        homes = (self._config.claims.name, self._ledger.id)
        is_ours = folder.name == drop["id"] and folder.parent.name in homes
        return is_ours and is_real_folder(folder)

    def _batches_of(self, drop: dict[str, Any]) -> set[Any]:
        jobs = self._remains.jobs_of.get(str(drop["id"]), set())
        return {drop["batch"], *(self._remains.job_links[job][0] for job in jobs)} - {None}

    def _restore_drop(self, drop: dict[str, Any]) -> None:
        inbox = self._config.inbox(str(drop["inbox"]))
        if inbox is None or drop["state"] == "claiming":
            return
        jobs: list[dict[str, Any]] = []
        sha256 = None
        if drop["image"] is not None:
            try:
                sha256 = claims.hash_in_place(Path(str(drop["claim"]), str(drop["image"]))).sha256
            except (claims.ClaimError, OSError):
                return  # the next recovery of claims reports the problem
            jobs = self._jobs(inbox, drop, sha256)
        values = {c.name: drop[c.name] for c in Drop.__table__.columns if c.name in drop}
        # The drop of the job file, which holds the text for all rows, may be gone.
        job_file = self._remains.job_files.get(str(drop["batch"]))
        values["sidecar_text"] = values["sidecar_text"] or job_file
        row = values | {"state": "claimed", "sha256": sha256, "created_at": utcnow()}

        def commit(session: Any) -> None:
            drops.begin_claims(session, [row])
            drops.finish_claims(session, [], jobs)
            for job in jobs:
                batches.reopen(session, job["id"])

        self._ledger.transact(commit)
        self.drops.add(str(drop["id"]))

    def _jobs(self, inbox: Inbox, drop: dict[str, Any], sha256: str) -> list[dict[str, Any]]:
        """Build the jobs of a drop that have no folder yet, in the order of their rows."""
        row_of, ids = self._remains.row_of, self._remains.jobs_of.get(str(drop["id"]), ())
        in_order = sorted(ids, key=lambda job_id: row_of.get(job_id, ("", 0)))
        jobs = (self._job(inbox, drop, job_id, sha256) for job_id in in_order)
        return [job for job in jobs if job is not None]

    def _job(
        self, inbox: Inbox, drop: dict[str, Any], job_id: str, sha256: str
    ) -> dict[str, Any] | None:
        """Build a job that has no folder yet, from its row; None if the new ledger has the job."""
        batch, request, key = self._remains.job_links[job_id]
        if self._ledger.transact(lambda s: queue.find_job(s, job_id)) is not None:
            return None
        folder, image = str(drop["folder"]), str(drop["image"])
        name = self._ledger.transact(lambda s: batches.name_of(s, batch))
        context = replace(
            job_rows.context_of(inbox, folder, image, sha256, Path(str(drop["claim"])) / image),
            batch=name, row=self._remains.row_of.get(job_id, ("", None))[1],
        )  # fmt: skip
        data = None if request is None else request.encode()
        outcome = Planner(self._config, inbox).outcome(data, context)
        job = job_rows.job_row(inbox, folder, image, str(drop["id"]), outcome)
        return job | {"id": job_id, "batch": batch, "request": request, "key": key}


def _batch(row: dict[str, Any]) -> dict[str, Any] | None:
    """Convert a batch's row. None if the row is damaged, or if the batch was not completely
    claimed, so that its files go back to the inbox. One that had ended stays so: its folder may
    have been taken away, and people were told."""
    if row["state"] == "claiming":
        return None
    try:
        ended = row["finished_at"]
        return row | {
            "state": row["state"] if row["state"] in ("claimed", "done") else "open",
            "axes": list_of(row.get("axes")),
            "created_at": datetime.fromisoformat(row["created_at"]),
            "finished_at": None if ended is None else datetime.fromisoformat(ended),
        }
    except (TypeError, ValueError):
        return None
