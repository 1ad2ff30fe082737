"""Sidecars that come after their image was taken in."""

from __future__ import annotations

import posixpath
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog

from dna_pipeline.base.errors import ImageMissing
from dna_pipeline.base.files import fsync_dir, remove_file, replace_file
from dna_pipeline.base.naming import safe_name, safe_stem
from dna_pipeline.base.times import utcnow
from dna_pipeline.config.tables import is_table_name
from dna_pipeline.intake.claiming import claims
from dna_pipeline.intake.claiming.single import SingleClaimer, split
from dna_pipeline.intake.discovery.candidates import Candidate, References
from dna_pipeline.intake.discovery.names import is_sidecar_of, without_suffix
from dna_pipeline.intake.discovery.scan import FileStat, is_yaml_name
from dna_pipeline.intake.planning import job_rows
from dna_pipeline.intake.planning.drops import ReadyDrop
from dna_pipeline.intake.planning.finder import CandidateFinder
from dna_pipeline.intake.planning.known_files import to_json
from dna_pipeline.intake.planning.recent_images import RecentImages, explanation
from dna_pipeline.ledger import batches, drops, requests
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.ledger.tables import Drop, Job

log = structlog.get_logger()

WINDOW = timedelta(hours=1)
"""How long after an image was taken in a sidecar without an image is taken to be its."""


class LateSidecars:
    """Gives them to their jobs if those are still queued; else they fail and name the job."""

    def __init__(self, ledger: Ledger, lookout: CandidateFinder, taker: SingleClaimer) -> None:
        self._ledger = ledger
        self._finder = lookout
        self._claimer = taker
        self._inbox = lookout.inbox
        self._handled: dict[str, FileStat] = {}
        self._explained: dict[str, tuple[FileStat, str]] = {}

    def handle(self, now: float) -> list[ReadyDrop]:
        """Deal with the YAMLs that wait for an image, once each.

        Gives those that came too late, to be taken in and fail.
        """
        found: list[ReadyDrop] = []
        if self._inbox.keeps:
            return found  # there the image still lies beside it
        lookout = self._finder
        self._handled = {p: s for p, s in self._handled.items() if lookout.files.get(p) == s}
        for waiting in list(lookout.waiting):
            path = waiting.path
            settled = lookout.tracker.settled_since(path)
            if waiting.kind != "image" or path in self._handled or settled is None:
                continue
            if not is_yaml_name(path) or isinstance(lookout.reference(path), References):
                continue
            # Its image may be on its way too.
            if now >= settled + self._inbox.sidecar_wait_s:
                self._handled[path] = lookout.files[path]
                if (too_late := self._handle(path, lookout.files[path])) is not None:
                    found.append(too_late)
        return found

    def explain(self) -> None:
        """Add to what a job file waits for that it was taken in before the job file came.

        Asked of the ledger once for each state of a file.
        """
        lookout = self._finder
        if self._inbox.keeps:
            return
        self._explained = {
            p: known for p, known in self._explained.items() if lookout.files.get(p) == known[0]
        }
        for index, waiting in enumerate(lookout.waiting):
            is_job_file = waiting.kind == "image" and is_yaml_name(waiting.path)
            if is_job_file and (text := self._explanation(waiting.path)):
                lookout.waiting[index] = replace(waiting, reason=f"{waiting.reason}; {text}")

    def _explanation(self, job_file: str) -> str:
        if (known := self._explained.get(job_file)) is not None:
            return known[1]
        if (stat := self._finder.files.get(job_file)) is None:
            return ""
        told = self._finder.reference(job_file)
        text = ""
        if isinstance(told, str):
            told = References((posixpath.normpath(posixpath.join(split(job_file)[0], told)),))
        if isinstance(told, References):
            missing = [path for path in told.paths if path not in self._finder.files]
            recent = RecentImages(self._ledger, self._inbox)
            text = explanation(recent.find(missing, told.patterns))
        self._explained[job_file] = stat, text
        return text

    def _handle(self, sidecar: str, stat: FileStat) -> ReadyDrop | None:
        name = split(sidecar)[1]
        if (of_table := self._of_table(sidecar, stat)) is not None:
            return of_table
        for drop, job in self._drops(sidecar):
            if not self._belongs(sidecar, posixpath.join(drop.folder, drop.image or "")):
                continue
            if job.batch is not None:
                return _too_late(sidecar, stat, job)
            is_newer = drop.sidecar == name and job.status == "queued"
            if drop.sidecar is None or is_newer or _is_same(drop, sidecar, stat):
                return self._hand_over(sidecar, stat, drop, job)
        return None

    def _of_table(self, sidecar: str, stat: FileStat) -> ReadyDrop | None:
        """A YAML whose table was taken in without one: its jobs are what they are."""
        if not is_table_name(without_suffix(sidecar)):
            return None
        folder, name = map(job_rows.printable, split(without_suffix(sidecar)))
        since = utcnow() - WINDOW
        batch = self._ledger.transact(
            lambda s: batches.newest(s, self._inbox.name, folder, name, since)
        )
        if batch is None or sidecar in batch.stat:
            return None
        error = ImageMissing(
            f"{split(sidecar)[1]} came after its table had been taken in, as batch "
            f"{safe_stem(name)}-{batch.id[:8]}",
            hint="cancel that batch, then drop the table and its YAML again, together",
        )
        return ReadyDrop(Candidate(None, sidecar, error), {sidecar: stat}, sidecar, error)

    def _drops(self, sidecar: str) -> list[tuple[Drop, Job]]:
        """Recent drops that it could tell by its name, or that it names."""
        named = self._finder.reference(sidecar)
        folder, name = split(sidecar)
        if isinstance(named, str):
            folder, name = split(posixpath.normpath(posixpath.join(folder, named)))
            stems = [safe_stem(name)]
        else:
            told = name.rpartition(".")[0]
            stems = [safe_name(told), safe_stem(told)]
        since = utcnow() - WINDOW
        folder = job_rows.printable(folder)
        return self._ledger.transact(
            lambda s: drops.recent_drops(s, self._inbox.name, folder, stems, since)
        )

    def _belongs(self, sidecar: str, image: str) -> bool:
        named = self._finder.reference(sidecar)
        if isinstance(named, str):
            return posixpath.normpath(posixpath.join(split(sidecar)[0], named)) == image
        return is_sidecar_of(sidecar, image)

    def _hand_over(self, sidecar: str, stat: FileStat, drop: Drop, job: Job) -> ReadyDrop | None:
        try:
            if not _is_same(drop, sidecar, stat) and not self._attach(sidecar, stat, drop, job):
                return _too_late(sidecar, stat, job)
            self._move_in(sidecar, stat, Path(drop.claim))
            log.info("job.changed", job=job.id, sidecar=sidecar)
        except (claims.ClaimError, OSError) as reason:
            log.info("drop.left", inbox=self._inbox.name, file=sidecar, why=str(reason))
            self._finder.mark_failed(sidecar, f"could not be taken in: {reason}")
            del self._handled[sidecar]
        return None

    def _attach(self, sidecar: str, stat: FileStat, drop: Drop, job: Job) -> bool:
        """Commit what the sidecar asks for, with a copy of it in the claim; False: too late.

        The copy comes first, the sidecar itself after the commit: whenever this is cut off, it
        lies in the inbox or with its job, and the next look goes on.
        """
        if job.status != "queued":
            return False
        copy = Path(drop.claim) / split(sidecar)[1]
        copied = claims.snapshot(self._inbox.path / sidecar, copy)
        if not copied.stat.same_content(stat):
            raise claims.Changed(sidecar)
        fsync_dir(copy.parent)
        data = job_rows.read_sidecar(copy)
        facts = job_rows.context_of(self._inbox, drop.folder, drop.image, drop.sha256)
        work = job_rows.job_columns(self._inbox, self._claimer.resolve(data, facts))
        text = job_rows.as_text(data)

        def commit(session: Any) -> bool:
            if not requests.replace_queued(session, job.id, work):
                return False
            seen = drop.stat | to_json({sidecar: stat})
            drops.set_sidecar(session, drop.id, copy.name, text, seen)
            return True

        return self._ledger.transact(commit)

    def _move_in(self, sidecar: str, stat: FileStat, folder: Path) -> None:
        """Take the sidecar out of the inbox, into the place of its copy if that is still there."""
        source = self._inbox.path / sidecar
        if not FileStat.of(source.lstat()).same_content(stat):
            raise claims.Changed(sidecar)
        if folder.is_dir():
            replace_file(source, folder / source.name)
        else:
            remove_file(source)
        fsync_dir(source.parent)
        self._finder.mark_claimed(sidecar)


def _too_late(sidecar: str, stat: FileStat, job: Job) -> ReadyDrop:
    name = split(sidecar)[1]
    why = "had begun by then" if job.batch is None else f"is one of batch {job.batch[:8]}"
    error = ImageMissing(
        f"{name} came after its image had been taken in; job {job.id[:8]} {why}",
        hint="drop the image and its YAML again, together",
    )
    return ReadyDrop(Candidate(None, sidecar, error), {sidecar: stat}, sidecar, error)


def _is_same(drop: Drop, sidecar: str, stat: FileStat) -> bool:
    """Whether the drop was given this very file, and only its removal was cut off."""
    seen = drop.stat.get(sidecar)
    return seen is not None and FileStat(**seen).same_content(stat)
