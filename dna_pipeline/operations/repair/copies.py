"""Settle the copies in `<data>/claims` after their ledger was lost.

A copy is removed only if its bytes certainly lie elsewhere too, or if its ledger had decided to
remove it. A submitted or retried copy may be the only one. It is queued again if the damaged ledger
still names its inbox, else it moves to `<data>/recovered`, where nothing is ever removed. Folders
that are not ours by name or mark stay.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import structlog

from dna_pipeline.base.files import is_same_file, is_temporary, remove_tree_if_there
from dna_pipeline.base.layout import is_id, is_real_folder
from dna_pipeline.config.schema import Config
from dna_pipeline.intake.claiming import claims
from dna_pipeline.intake.discovery.scan import scan
from dna_pipeline.intake.planning import job_rows
from dna_pipeline.intake.planning.plan import Planner
from dna_pipeline.ledger import drops, queue
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.ledger.tables import Job
from dna_pipeline.operations.daemon.cleanup import move_to_recovered
from dna_pipeline.operations.ownership import entries, read_mark
from dna_pipeline.operations.repair.results import image_of, sidecar_of
from dna_pipeline.operations.repair.salvage import Salvage
from dna_pipeline.publish.outbox import SOURCE

log = structlog.get_logger()


class Copies:
    """Settles each folder in `<data>/claims` that the new ledger does not know.

    Args:
        remains: the readable rows of the damaged ledger.
        restored: ids of the drops that were restored with their batches.

    Attributes:
        requeued: number of copies that became jobs again.
        recovered: new paths of the folders that were moved to `<data>/recovered`.
    """

    def __init__(
        self, config: Config, ledger: Ledger, remains: Salvage, restored: Set[str]
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._remains = remains
        self._restored = restored
        self._originals: dict[str, list[Path]] | None = None
        self.requeued = 0
        self.recovered: list[str] = []

    def settle(self) -> None:
        mark = read_mark(self._config.data)
        for folder in entries(self._config.claims):
            is_ours = is_id(folder.name) and is_real_folder(folder)
            is_foreign = mark is not None and mark.is_foreign(folder)
            if is_ours and not is_foreign and folder.name not in self._restored:
                self._settle(folder)

    def _settle(self, folder: Path) -> None:
        drop = self._remains.drops.get(folder.name)
        files = [path for path in entries(folder) if not is_temporary(path.name)]
        if not files or self._is_done(folder, drop, files):
            remove_tree_if_there(folder)
        elif not self._has_ended(folder.name) and self._requeue(folder, drop, files):
            self.requeued += 1
        elif (target := move_to_recovered(self._config, folder)) is not None:
            self.recovered.append(str(target))

    def _is_done(self, folder: Path, drop: Mapping[str, Any] | None, files: list[Path]) -> bool:
        """True if the copy is not needed: its ledger said so, or its bytes lie elsewhere too.

        It is not enough that its jobs have ended: a damaged ledger may show only some of them.
        """
        if drop is not None and drop["state"] == "disposing":
            return True
        if self._has_ended(folder.name):
            images = [path for path in files if path.name == _image(files, drop)]
            return bool(images) and all(map(self._is_archived, images))
        inbox = None if drop is None else self._config.inbox(str(drop["inbox"]))
        # A submitted image must run even if a kept file has the same bytes, so originals count
        # only for copies from a `keep` inbox or of unknown origin.
        may_be_kept = drop is None or (inbox is not None and inbox.keeps)
        return may_be_kept and all(map(self._has_original, files))

    def _has_ended(self, drop_id: str) -> bool:
        """True if the damaged ledger shows jobs of the drop, and all of them have their folders."""
        return bool(jobs := self._jobs(drop_id)) and None not in jobs

    def _jobs(self, drop_id: str) -> list[Job | None]:
        ids = self._remains.jobs_of.get(drop_id, set())
        return [self._ledger.transact(lambda s, i=job: queue.find_job(s, i)) for job in ids]

    def _is_archived(self, copy: Path) -> bool:
        """True if the same bytes lie in the folder of one of the copy's jobs, or in a `keep`
        inbox."""
        names = [job.publish_name for job in self._jobs(copy.parent.name) if job is not None]
        places = [self._config.outbox / name / SOURCE / copy.name for name in names if name]
        return any(is_same_file(copy, place) for place in places) or self._has_original(copy)

    def _has_original(self, copy: Path) -> bool:
        """True if the same bytes lie under the same name in an inbox that keeps its files."""
        if self._originals is None:
            self._originals = self._find_originals()
        return any(is_same_file(copy, place) for place in self._originals.get(copy.name, []))

    def _find_originals(self) -> dict[str, list[Path]]:
        originals: dict[str, list[Path]] = {}
        for inbox in self._config.inboxes:
            if not inbox.keeps:
                continue
            try:
                listing = scan(inbox)
            except OSError:
                continue
            for path in listing.files:
                originals.setdefault(path.rpartition("/")[2], []).append(inbox.path / path)
        return originals

    def _requeue(self, folder: Path, drop: Mapping[str, Any] | None, files: list[Path]) -> bool:
        """Make the copy a job again; False if its inbox or its image is unknown or unreadable."""
        inbox = self._config.inbox(str(drop["inbox"])) if drop else None
        image = _image(files, drop)
        if drop is None or inbox is None or image is None or drop["state"] != "claimed":
            return False
        sidecar = sidecar_of([path.name for path in files], image, drop["sidecar"])
        try:
            data = job_rows.read_sidecar(folder / sidecar) if sidecar else None
            hashed = claims.hash_in_place(folder / image)
        except (claims.ClaimError, OSError) as error:
            log.warning("copy.unreadable", folder=str(folder), why=str(error))
            return False
        row = job_rows.drop_row(inbox, str(drop["folder"] or ""), image, sidecar)
        row |= {"id": folder.name, "claim": str(folder)}
        drop_values: dict[str, Any] = {
            "id": folder.name, "sha256": hashed.sha256, "bytes": hashed.size,
            "sidecar_text": None if data is None else job_rows.as_text(data),
        }  # fmt: skip
        context = job_rows.context_of(inbox, row["folder"], image, hashed.sha256)
        spec = Planner(self._config, inbox).outcome(data, context)
        job = job_rows.job_row(inbox, row["folder"], image, folder.name, spec)

        def commit(session: Any) -> None:
            drops.begin_claims(session, [row])
            drops.finish_claims(session, [drop_values], [job])

        self._ledger.transact(commit)
        return True


def _image(files: list[Path], drop: Mapping[str, Any] | None) -> str | None:
    """Give the name of a claim's image; None if it has none, or if that is not clear."""
    if drop is not None and drop["image"] is None:
        return None
    return image_of([path.name for path in files], drop["image"] if drop else None)
