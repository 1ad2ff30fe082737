"""Batches after their ledger was lost, where the damaged one still tells of them.

What a row asked for is in no file beside its image. A claim whose row cannot be read is adopted
like any other; one that was only half taken in goes back to the inbox.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from dna_pipeline.base.errors import Failure, JobError
from dna_pipeline.base.layout import is_real_folder
from dna_pipeline.base.times import utcnow
from dna_pipeline.config.schema import Config, Inbox
from dna_pipeline.config.sidecar import JobSpec
from dna_pipeline.intake.claiming import claims
from dna_pipeline.intake.planning import job_rows
from dna_pipeline.ledger import batches, drops, queue, store
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.ledger.tables import Batch, BatchRow, Drop
from dna_pipeline.operations.repair.salvage import Salvage


class Batches:
    """Fills a new ledger with the batches of the damaged one, and with their rows that wait.

    Attributes:
        drops: the ids of the drops that were restored.
    """

    def __init__(self, config: Config, ledger: Ledger, found: Salvage) -> None:
        self._config = config
        self._ledger = ledger
        self._found = found
        self.drops: set[str] = set()

    def restore(self) -> None:
        known = [b for b in map(_batch, self._found.batches) if b is not None]
        ids = {batch["id"] for batch in known}
        rows = [row for row in self._found.batch_rows if row["batch_id"] in ids]
        for table, values in ((Batch, known), (BatchRow, rows)):
            self._ledger.transact(lambda s, t=table, v=values: store.insert_new_rows(s, t, v))
        for drop in self._found.drops.values():
            if self._batches_of(drop) & ids and self._has_claim(drop):
                self._restore_drop(drop)

    def _has_claim(self, drop: dict[str, Any]) -> bool:
        """Whether its folder is there; a damaged path leads to no folder that is not a claim."""
        folder = Path(str(drop["claim"]))
        homes = (self._config.claims.name, self._ledger.id)
        is_ours = folder.name == drop["id"] and folder.parent.name in homes
        return is_ours and is_real_folder(folder)

    def _batches_of(self, drop: dict[str, Any]) -> set[Any]:
        jobs = self._found.jobs_of.get(str(drop["id"]), set())
        return {drop["batch"], *(self._found.job_links[job][0] for job in jobs)} - {None}

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
                return  # whoever looks at claims next says so
            jobs = [job for job in self._jobs(inbox, drop, sha256) if job is not None]
        told = {c.name: drop[c.name] for c in Drop.__table__.columns if c.name in drop}
        # Its batch's own drop, which had it for all, may be gone.
        told["sidecar_text"] = told["sidecar_text"] or self._found.job_files.get(str(drop["batch"]))
        row = told | {"state": "claimed", "sha256": sha256, "created_at": utcnow()}

        def commit(session: Any) -> None:
            store.insert_rows(session, Drop, [row])
            drops.finish_claims(session, [], jobs)

        self._ledger.transact(commit)
        self.drops.add(str(drop["id"]))

    def _jobs(self, inbox: Inbox, drop: dict[str, Any], sha256: str) -> list[dict[str, Any] | None]:
        wanted = sorted(self._found.jobs_of.get(str(drop["id"]), ()), key=self._place)
        return [self._job(inbox, drop, job_id, sha256) for job_id in wanted]

    def _place(self, job_id: str) -> tuple[str, int]:
        rows = self._found.row_of
        return rows.get(job_id, ("", 0))

    def _job(
        self, inbox: Inbox, drop: dict[str, Any], job_id: str, sha256: str
    ) -> dict[str, Any] | None:
        """One that has no folder yet, as its row told it."""
        batch, request, key = self._found.job_links[job_id]
        if self._ledger.transact(lambda s: queue.find_job(s, job_id)) is not None:
            return None
        folder, image = str(drop["folder"]), str(drop["image"])
        name = self._ledger.transact(lambda s: batches.name_of(s, batch))
        facts = replace(
            job_rows.context_of(inbox, folder, image, sha256),
            batch=name, row=self._found.row_of.get(job_id, ("", None))[1],
        )  # fmt: skip
        outcome: JobSpec | Failure
        try:
            data = None if request is None else request.encode()
            outcome = job_rows.resolve_text(self._config, inbox, data, facts)
        except JobError as error:
            outcome = error.failure()
        job = job_rows.job_row(inbox, folder, image, str(drop["id"]), outcome)
        return job | {"id": job_id, "batch": batch, "request": request, "key": key}


def _batch(told: dict[str, Any]) -> dict[str, Any] | None:
    """Its row; none of one that was not taken in as a whole, whose files go back."""
    if told["state"] == "claiming":
        return None
    try:
        ended = told["finished_at"]
        return told | {
            "state": "claimed" if told["state"] == "claimed" else "open",
            "created_at": datetime.fromisoformat(told["created_at"]),
            "finished_at": None if ended is None else datetime.fromisoformat(ended),
        }
    except (TypeError, ValueError):
        return None
