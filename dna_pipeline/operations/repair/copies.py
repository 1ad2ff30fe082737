"""Settle the copies in `<data>/claims` after their ledger was lost.

A copy is removed only if its ledger had decided to remove it, if its bytes lie in a result, or if
they lie in an inbox that keeps its files; that file then runs again, whatever was done with the
same bytes before. A submitted or retried copy may be the only one. It is queued again if the
damaged ledger still names its inbox, else it moves to `<data>/recovered`, where nothing is ever
removed. Folders that are not ours by name or mark stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import Any

import structlog

from dna_pipeline.base.files import is_same_file, is_temporary, remove_tree_if_there, sha256_file
from dna_pipeline.base.layout import SOURCE, entries, is_id, is_real_folder
from dna_pipeline.base.naming import printable
from dna_pipeline.config.schema import Config, Inbox
from dna_pipeline.intake.claiming import claims
from dna_pipeline.intake.claiming.claim import claim_of
from dna_pipeline.intake.claiming.claimer import hash_files, read_sidecar
from dna_pipeline.intake.claiming.companions import describe
from dna_pipeline.intake.claiming.recorder import Recorder, image_entry
from dna_pipeline.intake.claiming.rollback import names_of_copies
from dna_pipeline.intake.discovery.scan import scan
from dna_pipeline.intake.planning import job_rows
from dna_pipeline.intake.planning.planner import Planner
from dna_pipeline.intake.planning.references import read_references
from dna_pipeline.ledger import drops, queue
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.operations.daemon.cleanup import move_to_recovered
from dna_pipeline.operations.ownership import read_mark
from dna_pipeline.operations.repair.kept_files import FinishedJob, KeptFile
from dna_pipeline.operations.repair.results import image_of, sidecar_of
from dna_pipeline.operations.repair.salvage import Salvage, has_all_jobs

log = structlog.get_logger()


class Copies:
    """Settles each folder in `<data>/claims` that the new ledger does not know.

    Args:
        remains: the readable rows of the damaged ledger.
        restored: ids of the drops that were restored with their batches.
        finished: inputs of the jobs that have ended, of inboxes that keep their files.

    Attributes:
        requeued: number of copies that became jobs again.
        recovered: new paths of the folders that were moved to `<data>/recovered`.
        to_run: files of inboxes that must run, since copies of them were removed.
        unclear: names of the removed copies of which it is not known if they were submitted.
    """

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        remains: Salvage,
        restored: Set[str],
        finished: Iterable[FinishedJob],
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._remains = remains
        self._restored = restored
        self._done = {(job.inbox, job.name, job.sha256) for job in finished}
        self._last_drops = {
            KeptFile(row["inbox"], row["path"]): row["drop_id"] for row in remains.known_files
        }
        self._kept: dict[str, list[KeptFile]] | None = None
        self.requeued = 0
        self.recovered: list[str] = []
        self.to_run: set[KeptFile] = set()
        self.unclear: list[str] = []

    def settle(self) -> None:
        mark = read_mark(self._config.data)
        for folder in entries(self._config.claims):
            is_ours = is_id(folder.name) and is_real_folder(folder)
            is_foreign = mark is not None and mark.is_foreign(folder)
            if is_ours and not is_foreign and folder.name not in self._restored:
                self._settle(folder)

    def _settle(self, folder: Path) -> None:
        drop = self._remains.drops.get(folder.name) or self._drop_by_job(folder.name)
        files = [path for path in entries(folder) if not is_temporary(path.name)]
        if not files or self._is_done(folder, drop, files):
            remove_tree_if_there(folder)
        elif not self._has_ended(folder.name) and self._requeue(folder, drop, files):
            self.requeued += 1
        elif (target := move_to_recovered(self._config, folder)) is not None:
            self.recovered.append(str(target))

    def _drop_by_job(self, drop_id: str) -> dict[str, Any] | None:
        """Give what a readable row of an open job tells of its drop; None if there is none."""
        if (job := self._remains.open_jobs.get(drop_id)) is None:
            return None
        return {
            "inbox": job["inbox"], "folder": job["folder"], "image": job["name"],
            "sidecar": None, "state": "claimed",
        }  # fmt: skip

    def _is_done(self, folder: Path, drop: Mapping[str, Any] | None, files: list[Path]) -> bool:
        """True if the copy is not needed: its ledger said so, or its bytes lie elsewhere too.

        It is not enough that its jobs have ended: a damaged ledger may show only some of them.
        """
        if drop is not None and drop["state"] == "disposing":
            return True
        if self._has_ended(folder.name):
            images = [path for path in files if path.name == _image(files, drop)]
            return bool(images) and all(map(self._is_archived, images))
        if drop is None:
            return self._is_kept(folder, files)
        # A submitted image must run even if a kept file has the same bytes.
        inbox = self._config.inbox(str(drop["inbox"]))
        return (
            inbox is not None
            and inbox.keeps
            and self._runs_from(inbox, str(drop["folder"] or ""), _without_copies(files, drop))
        )

    def _runs_from(self, inbox: Inbox, home: str, files: list[Path]) -> bool:
        """True if all files of a copy lie in that folder of the inbox, so that they run from there.

        Args:
            home: path of the folder below the inbox; "" for the inbox itself.
        """
        originals = [KeptFile(inbox.name, f"{home}/{path.name}".lstrip("/")) for path in files]
        if not all(map(self._is_same, files, originals)):
            return False
        self.to_run.update(originals)
        return True

    def _is_kept(self, folder: Path, files: list[Path]) -> bool:
        """True if the files of a copy of unknown origin lie in an inbox that keeps them, and run
        from there. If they had run there already, the copy was probably submitted or retried."""
        main = folder / (_image(files, None) or files[0].name)
        for original in self._originals_of(main):
            is_own = self._last_drops.get(original) == folder.name
            inbox = self._config.inbox(original.inbox)
            if inbox is None or (not is_own and self._has_run(original, main)):
                continue
            if self._runs_from(inbox, original.path.rpartition("/")[0], files):
                self.unclear += [] if is_own else [main.name]
                return True
        return False

    def _has_run(self, original: KeptFile, copy: Path) -> bool:
        """True if a kept file was taken in before this copy, or if its bytes were, by a result."""
        done = (original.inbox, printable(copy.name), sha256_file(copy))
        return original in self._last_drops or done in self._done

    def _has_ended(self, drop_id: str) -> bool:
        """True if all jobs of the drop have their folders, so that the new ledger knows them."""
        return has_all_jobs(self._ledger, self._remains, drop_id)

    def _is_archived(self, copy: Path) -> bool:
        """True if the same bytes lie in the folder of one of the copy's jobs, or in a `keep`
        inbox."""
        ids = self._remains.jobs_of.get(copy.parent.name, set())
        jobs = (self._ledger.transact(lambda s, i=job: queue.find_job(s, i)) for job in ids)
        names = [job.publish_name for job in jobs if job is not None]
        places = [self._config.outbox / name / SOURCE / copy.name for name in names if name]
        return any(is_same_file(copy, place) for place in places) or bool(self._originals_of(copy))

    def _originals_of(self, copy: Path) -> list[KeptFile]:
        """List the files of the same name and bytes in inboxes that keep their files."""
        if self._kept is None:
            self._kept = self._find_kept()
        return [file for file in self._kept.get(copy.name, []) if self._is_same(copy, file)]

    def _is_same(self, copy: Path, original: KeptFile) -> bool:
        inbox = self._config.inbox(original.inbox)
        return inbox is not None and is_same_file(copy, inbox.path / original.path)

    def _find_kept(self) -> dict[str, list[KeptFile]]:
        kept: dict[str, list[KeptFile]] = {}
        for inbox in self._config.inboxes:
            if not inbox.keeps:
                continue
            try:
                listing = scan(inbox)
            except OSError:
                continue
            for path in listing.files:
                file = KeptFile(inbox.name, path)
                kept.setdefault(path.rpartition("/")[2], []).append(file)
        return kept

    def _requeue(self, folder: Path, drop: Mapping[str, Any] | None, files: list[Path]) -> bool:
        """Make the copy a job again; False if its inbox or its image is unknown or unreadable."""
        inbox = self._config.inbox(str(drop["inbox"])) if drop else None
        image = _image(files, drop)
        if drop is None or inbox is None or image is None or drop["state"] != "claimed":
            return False
        sidecar = sidecar_of([path.name for path in files], image, drop["sidecar"])
        row = job_rows.drop_row(inbox, str(drop["folder"] or ""), image, sidecar)
        names = [path.name for path in files]
        references = () if sidecar is None else read_references(folder / sidecar)
        companions = drop.get("companions") or describe(names, image, references)
        row |= {"id": folder.name, "claim": str(folder), "companions": companions}
        claim = claim_of(row)
        try:
            data = read_sidecar(claim)
            hash_files(claim)
        except (claims.ClaimError, OSError) as error:
            log.warning("copy.unreadable", folder=str(folder), why=str(error))
            return False
        self._ledger.transact(lambda s: drops.begin_claims(s, [row]))
        planner = Planner(self._config, inbox)
        plan = planner.plan_claimed(row["folder"], image, data, claim.sha256, None, claim.image)
        entry = image_entry(planner, claim, plan)
        Recorder(self._config, inbox, self._ledger).record([entry])
        return True


def _without_copies(files: list[Path], drop: Mapping[str, Any]) -> list[Path]:
    """The files of a claim without companions that its jobs name by their paths."""
    copies = names_of_copies(drop.get("companions"))
    return [path for path in files if path.name not in copies]


def _image(files: list[Path], drop: Mapping[str, Any] | None) -> str | None:
    """Give the name of a claim's image; None if it has none, or if that is not clear."""
    if drop is not None and drop["image"] is None:
        return None
    return image_of([path.name for path in files], drop["image"] if drop else None)
