"""Copies in `<data>/claims` after their ledger was lost: put to use, or where people find them.

A copy of a kept file has its original in the inbox. One that was submitted or retried may be all
there is: it is queued again where the damaged ledger still says for which inbox, else it moves to
`<data>/recovered`, which nothing ever removes.
"""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path
from typing import Any

import structlog

from dna_pipeline.artifact import remove_tree, sha256_file
from dna_pipeline.errors import Failure, JobError
from dna_pipeline.housekeeping import lay_aside
from dna_pipeline.inbox import claim
from dna_pipeline.inbox.scan import is_image_name, is_yaml_name, scan
from dna_pipeline.intake import records
from dna_pipeline.ledger import queue, store
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.repair.salvage import Salvage
from dna_pipeline.spec.config import Config, Inbox
from dna_pipeline.spec.facts import JobFacts
from dna_pipeline.spec.sidecar import JobSpec

log = structlog.get_logger()


class Copies:
    """Deals with each folder in `<data>/claims` that the new ledger does not know.

    Attributes:
        requeued: how many became jobs again.
        recovered: the folders that were moved out of the way.
    """

    def __init__(self, config: Config, ledger: Ledger, found: Salvage, restored: Set[str]) -> None:
        self._config = config
        self._ledger = ledger
        self._found = found
        self._restored = restored
        self._originals: dict[str, list[Path]] | None = None
        self.requeued = 0
        self.recovered: list[str] = []

    def settle(self) -> None:
        claims = self._config.data / "claims"
        for folder in sorted(claims.iterdir()) if claims.is_dir() else ():
            is_ours = folder.is_dir() and not folder.is_symlink()
            if is_ours and folder.name not in self._restored:
                self._settle(folder)

    def _settle(self, folder: Path) -> None:
        names = sorted(path.name for path in folder.iterdir())
        image = next((name for name in names if is_image_name(name)), None)
        if image is None or self._is_done(folder.name) or self._has_original(folder / image):
            remove_tree(folder, ignore_errors=True)
        elif not self._requeue(folder, names, image):
            self.recovered.append(str(lay_aside(self._config.data, folder)))

    def _is_done(self, drop_id: str) -> bool:
        """Whether all jobs of it have their folders."""
        jobs = self._found.jobs_of.get(drop_id, set())
        return bool(jobs) and self._ledger.transact(
            lambda s: all(queue.find_job(s, job) is not None for job in jobs)
        )

    def _has_original(self, copy: Path) -> bool:
        """Whether the same bytes lie under that name in an inbox that keeps its files."""
        if self._originals is None:
            self._originals = self._find_originals()
        places = self._originals.get(copy.name, [])
        size = copy.stat().st_size
        return any(
            place.stat().st_size == size and sha256_file(place) == sha256_file(copy)
            for place in places
            if place.is_file()
        )

    def _find_originals(self) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = {}
        for inbox in self._config.inboxes:
            if not inbox.keeps:
                continue
            try:
                seen = scan(inbox)
            except OSError:
                continue
            for path in seen.files:
                found.setdefault(path.rpartition("/")[2], []).append(inbox.path / path)
        return found

    def _requeue(self, folder: Path, names: list[str], image: str) -> bool:
        """Make it a job again; False where nobody knows whose."""
        drop = self._found.drops.get(folder.name)
        inbox = self._config.inbox(str(drop["inbox"])) if drop else None
        if drop is None or inbox is None or drop["state"] != "claimed":
            return False
        sidecar = next((name for name in names if is_yaml_name(name)), None)
        data = records.read_sidecar(folder / sidecar) if sidecar else None
        try:
            hashed = claim.hash_in_place(folder / image)
        except (claim.ClaimError, OSError) as error:
            log.warning("copy.unreadable", folder=str(folder), why=str(error))
            return False
        row = records.drop_row(inbox, str(drop["folder"] or ""), image, sidecar)
        row |= {"id": folder.name, "claim": str(folder)}
        facts: dict[str, Any] = {
            "id": folder.name, "sha256": hashed.sha256, "bytes": hashed.size,
            "sidecar_text": None if data is None else records.as_text(data),
        }  # fmt: skip
        known = records.facts_of(inbox, row["folder"], image, hashed.sha256)
        spec = self._resolve(inbox, data, known)
        job = records.job_row(inbox, row["folder"], image, folder.name, spec)

        def commit(session: Any) -> None:
            store.begin_claims(session, [row])
            store.finish_claims(session, [facts], [job])

        self._ledger.transact(commit)
        self.requeued += 1
        return True

    def _resolve(self, inbox: Inbox, data: bytes | None, facts: JobFacts) -> JobSpec | Failure:
        try:
            return records.resolve_text(self._config, inbox, data, facts)
        except JobError as error:
            return error.failure()
