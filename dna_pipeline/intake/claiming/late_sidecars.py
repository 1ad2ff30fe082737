"""Sidecars that come after their image was claimed."""

from __future__ import annotations

import posixpath
from collections.abc import Container, Iterable
from dataclasses import replace
from datetime import timedelta
from functools import cached_property, partial
from glob import escape
from pathlib import Path
from typing import Any

import structlog

from dna_pipeline.base.errors import Failure, ImageMissing, JobError
from dna_pipeline.base.files import (
    fsync_dir,
    remove_file,
    remove_temporaries,
    replace_file,
    temporary_name,
)
from dna_pipeline.base.layout import claim_root
from dna_pipeline.base.naming import folder_of, name_of, printable, safe_name, safe_stem
from dna_pipeline.base.times import utcnow
from dna_pipeline.config.prompt_file import in_words_of_texts, is_prompt_file
from dna_pipeline.config.schema import Inbox
from dna_pipeline.config.sidecar import JobSpec
from dna_pipeline.config.tables import is_table_name
from dna_pipeline.intake.claiming import claims
from dna_pipeline.intake.claiming.claim import claim_of, companions_in
from dna_pipeline.intake.claiming.companions import copy_into, find_lacking, markers
from dna_pipeline.intake.discovery.candidates import Candidate, References, Waiting
from dna_pipeline.intake.discovery.mask_names import is_mask_name, masks_of, target_of
from dna_pipeline.intake.discovery.names import is_sidecar_of, without_suffix
from dna_pipeline.intake.discovery.scan import (
    IMAGE_SUFFIXES,
    FileStat,
    is_image_name,
    is_sidecar_name,
    is_yaml_name,
)
from dna_pipeline.intake.discovery.waits import wait_for_image_s
from dna_pipeline.intake.planning import job_rows
from dna_pipeline.intake.planning.finder import CandidateFinder
from dna_pipeline.intake.planning.known_files import Version, rows_of, to_json
from dna_pipeline.intake.planning.planner import Planner
from dna_pipeline.intake.planning.ready_drops import ReadyDrop
from dna_pipeline.intake.planning.recent_images import RecentImages
from dna_pipeline.ledger import batches, drops, requests
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.ledger.tables import Drop, Job

log = structlog.get_logger()

WINDOW = timedelta(hours=1)
"""Time after the claim of an image in which a sidecar without an image may still belong to it."""


class _Explanations:
    """The common parts of the explanations of many files of one inbox, each made when first asked
    for and then kept.

    Args:
        files: paths of the files that lie in the inbox.
    """

    def __init__(self, ledger: Ledger, inbox: Inbox, files: Iterable[str]) -> None:
        self._ledger = ledger
        self._inbox = inbox
        self._files = files

    @cached_property
    def recent(self) -> RecentImages:
        """The images that were claimed lately."""
        return RecentImages(self._ledger, self._inbox)

    @cached_property
    def _alone(self) -> Container[str]:
        """The masks that belong to no image."""
        return masks_of(filter(is_image_name, self._files)).alone

    def of_mask(self, mask: str) -> str:
        if mask not in self._alone:
            return ""
        name = target_of(mask)
        return self.recent.explanation([name], [f"{escape(name)}.*"])

    def of_sidecar(self, sidecar: str) -> str:
        name = without_suffix(sidecar)
        return self.recent.explanation([name, *(f"{name}.{end}" for end in IMAGE_SUFFIXES)])


class LateSidecars:
    """Gives late sidecars to their jobs.

    If the job is no longer queued, a sidecar gets a job of its own, which fails and names it. But
    where the job had a sidecar of that name already, this one is likely the first file of the next
    pair: failed at once, it would leave the image, when that comes, to run without it. So it waits
    for the image, and the reason names the job.
    """

    def __init__(self, ledger: Ledger, finder: CandidateFinder, planner: Planner) -> None:
        self._ledger = ledger
        self._finder = finder
        self._planner = planner
        self._inbox = finder.inbox
        self._handled: dict[str, FileStat] = {}
        self._late: dict[str, ReadyDrop] = {}
        """Sidecars that came too late for a job, but to which a new image may still come."""
        self._explained: dict[str, tuple[FileStat, str]] = {}

    def handle(self, now: float) -> list[ReadyDrop]:
        """Handle each YAML that waits for an image, once for each state of the file.

        Returns:
            The sidecars that came too late: they are to be claimed, and their jobs fail.
        """
        too_late_drops: list[ReadyDrop] = []
        if self._inbox.keeps:
            return too_late_drops  # the image still lies beside its sidecar
        finder = self._finder
        self._handled = {p: s for p, s in self._handled.items() if finder.files.get(p) == s}
        self._late = {p: late for p, late in self._late.items() if p in self._handled}
        for path in [waiting.path for waiting in finder.waiting if waiting.kind == "image"]:
            settled = finder.tracker.settled_since(path)
            if settled is None:
                continue
            # The image may still be on its way, so the sidecar waits for it first.
            if self._is_new(path) and now >= settled + wait_for_image_s(self._inbox):
                self._handled[path] = finder.files[path]
                if (too_late := self._handle(path, finder.files[path])) is not None:
                    self._late[path] = too_late
            if path in self._late and now >= settled + self._inbox.sidecar_wait_s:
                too_late_drops.append(self._late.pop(path))
        return too_late_drops

    def _is_new(self, path: str) -> bool:
        """True if a file is a sidecar that was not handled in this state."""
        if path in self._handled or not is_sidecar_name(path):
            return False
        return not isinstance(self._finder.reference(path), References)

    def explain(self) -> None:
        """Add to the reason why a YAML or a mask waits, and to the error of a YAML that waited in
        vain, that its images were claimed before.

        Asks about each state of a file once, and then pairs the masks and reads the ledger once for
        all files together.
        """
        finder = self._finder
        if self._inbox.keeps:
            return
        context = _Explanations(self._ledger, self._inbox, finder.files)
        self._explained = {
            p: entry for p, entry in self._explained.items() if finder.files.get(p) == entry[0]
        }
        for index, waiting in enumerate(finder.waiting):
            if self._is_explained(waiting) and (text := self._explanation(waiting.path, context)):
                finder.waiting[index] = replace(waiting, reason=f"{waiting.reason}; {text}")
        for index, candidate in enumerate(finder.pending):
            sidecar, error = candidate.sidecar, candidate.error
            if sidecar is None or candidate.paths != [sidecar] or type(error) is not ImageMissing:
                continue
            if text := self._explanation(sidecar, context):
                error = ImageMissing(f"{error.detail}; {text}", hint=error.hint, where=error.where)
                finder.pending[index] = replace(candidate, error=error)

    def _is_explained(self, waiting: Waiting) -> bool:
        """True if a file waits for images that may have been claimed before.

        A plain sidecar is handled first, since it may still change the queued job of its image.
        """
        path = waiting.path
        if waiting.kind == "mask":
            return is_mask_name(path)
        if waiting.kind != "image" or not is_yaml_name(path) or path not in self._finder.files:
            return False
        if path in self._handled or path in self._explained:
            return True
        return isinstance(self._finder.reference(path), str | References)

    def _explanation(self, file: str, context: _Explanations) -> str:
        if (entry := self._explained.get(file)) is not None:
            return entry[1]
        if (stat := self._finder.files.get(file)) is None:
            return ""
        explain = context.of_mask if is_mask_name(file) else partial(self._of_naming_file, context)
        text = explain(file)
        self._explained[file] = stat, text
        return text

    def _of_naming_file(self, context: _Explanations, path: str) -> str:
        reference = self._finder.reference(path)
        if isinstance(reference, str):
            reference = References(
                (posixpath.normpath(posixpath.join(folder_of(path), reference)),)
            )
        if not isinstance(reference, References):
            return context.of_sidecar(path)
        missing = [image for image in reference.paths if image not in self._finder.files]
        return context.recent.explanation(missing, reference.patterns)

    def _handle(self, sidecar: str, stat: FileStat) -> ReadyDrop | None:
        name = name_of(sidecar)
        if (of_table := self._of_table(sidecar, stat)) is not None:
            return of_table
        for drop, job in self._drops(sidecar):
            if not self._belongs(sidecar, posixpath.join(drop.folder, drop.image or "")):
                continue
            if is_prompt_file(name) and drop.sidecar not in (None, name):
                continue  # the YAML counts
            if job.batch is not None:
                return _too_late(sidecar, stat, job)
            is_newer = drop.sidecar == name and job.status == "queued"
            if drop.sidecar is None or is_newer or _is_same(drop, sidecar, stat):
                return self._hand_over(sidecar, stat, drop, job)
        return None

    def _of_table(self, sidecar: str, stat: FileStat) -> ReadyDrop | None:
        """Return a table's YAML that came too late, after the table itself was claimed.

        None if it is no YAML of a table, or the table was not claimed.
        """
        if not is_table_name(without_suffix(sidecar)):
            return None
        folder, name = map(printable, posixpath.split(without_suffix(sidecar)))
        since = utcnow() - WINDOW
        batch = self._ledger.transact(
            lambda s: batches.newest_drop(s, self._inbox.name, folder, name, since)
        )
        if batch is None or sidecar in batch.stat:
            return None
        error = ImageMissing(
            f"{name_of(sidecar)} came after its table had been taken in, as batch "
            f"{safe_stem(name)}-{batch.id[:8]}",
            hint="cancel that batch, then drop the table and its YAML again, together",
        )
        return ReadyDrop(Candidate(None, sidecar, error), {sidecar: stat}, sidecar, error)

    def _drops(self, sidecar: str) -> list[tuple[Drop, Job]]:
        """Find recent drops of the image that the sidecar names, or that its own name fits.

        Only images that lay in the inbox count: one that a client sent has its settings with it,
        and a retried one those of its failure folder.
        """
        reference = self._finder.reference(sidecar)
        folder, name = posixpath.split(sidecar)
        if isinstance(reference, str):
            folder, name = posixpath.split(posixpath.normpath(posixpath.join(folder, reference)))
            stems = [safe_stem(name)]
        else:
            stem = name.rpartition(".")[0]
            stems = [safe_name(stem), safe_stem(stem)]
        since = utcnow() - WINDOW
        folder = printable(folder)
        recent = self._ledger.transact(
            lambda s: drops.recent_drops(s, self._inbox.name, folder, stems, since)
        )
        return [(drop, job) for drop, job in recent if self._lay_in_inbox(drop)]

    def _lay_in_inbox(self, drop: Drop) -> bool:
        """True if a drop was claimed from the inbox. Only then its row has the status of the files
        there; that of a claim which the ledger did not know has none, but lies in the inbox."""
        root = claim_root(self._inbox.path, self._ledger.id)
        return bool(drop.stat) or Path(drop.claim).parent == root

    def _belongs(self, sidecar: str, image: str) -> bool:
        reference = self._finder.reference(sidecar)
        if isinstance(reference, str):
            return posixpath.normpath(posixpath.join(folder_of(sidecar), reference)) == image
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
        """Commit what the sidecar asks for, with a copy of it in the claim; False if too late.

        The copy is made before the commit, and the sidecar itself moves after it. So after a crash
        at any point the sidecar lies in the inbox or with its job, and the next look goes on.
        """
        if job.status != "queued":
            return False
        place = Path(drop.claim) / name_of(sidecar)
        finish_attaching(self._ledger, self._inbox)
        remove_temporaries(place.parent)  # those of a look that was cut off
        copy = place.with_name(temporary_name())
        is_changed = False
        try:
            is_changed = self._commit(sidecar, stat, drop, job, copy)
        finally:
            if not is_changed:
                remove_file(copy, missing_ok=True)
        # The sidecar in this place may be an earlier one, the only file of it, which counts until
        # the commit. So it is replaced only now; a kill in between leaves the note of the commit,
        # and the next start does this before the job can be published with the earlier file.
        if is_changed:
            _put_in_place(copy, place)
        return is_changed

    def _commit(self, sidecar: str, stat: FileStat, drop: Drop, job: Job, copy: Path) -> bool:
        """Copy the sidecar to `copy` and commit what it asks for; False if too late."""
        name = name_of(sidecar)
        copied = claims.snapshot(self._inbox.path / sidecar, copy)
        if not copied.stat.same_content(stat):
            raise claims.Changed(sidecar)
        fsync_dir(copy.parent)
        data = job_rows.read_sidecar(copy, name)
        file = None if drop.image is None else Path(drop.claim) / drop.image
        context = job_rows.context_of(self._inbox, drop.folder, drop.image, drop.sha256, file)
        outcome, added, versions = self._add_companions(
            sidecar, drop, self._planner.outcome(data, context)
        )
        if isinstance(outcome, Failure) and is_prompt_file(sidecar):
            outcome = in_words_of_texts(outcome)
        work = job_rows.job_columns(self._inbox, outcome)
        text = job_rows.as_text(data)

        def commit(session: Any) -> bool:
            if not requests.replace_queued(session, job.id, work):
                return False
            stats = drop.stat | to_json({sidecar: stat})
            drops.set_sidecar(session, drop.id, name, text, stats)
            drops.note_copy(session, self._inbox.name, copy, copy.with_name(name))
            drops.set_companions(session, drop.id, [*(drop.companions or ()), *added] or None)
            drops.remember_files(session, rows_of(self._inbox.name, versions))
            return True

        is_changed = self._ledger.transact(commit)
        if is_changed:
            self._finder.note(versions)
        return is_changed

    def _add_companions(
        self, sidecar: str, drop: Drop, outcome: JobSpec | Failure
    ) -> tuple[JobSpec | Failure, list[dict[str, Any]], dict[str, Version]]:
        """Copy the companions that a late sidecar names into the claim.

        Returns:
            The outcome, a failure if one is missing; the rows of those that were copied; and the
            known files that keep them in the inbox.
        """
        if not isinstance(outcome, JobSpec):
            return outcome, [], {}
        row = {name: getattr(drop, name) for name in ("claim", "inbox", "image", "sidecar")}
        claim = claim_of(row | {"companions": drop.companions})
        files = self._planner.companion_files(folder_of(sidecar))
        try:
            sources = find_lacking(claim, outcome, files)
        except JobError as error:
            return error.failure(), [], {}
        copy_into(claim, sources)
        added = [file for file in companions_in(claim) or () if file["sha256"] is not None]
        versions = markers((source, name_of(sidecar)) for source in sources.values())
        return outcome, added, versions

    def _move_in(self, sidecar: str, stat: FileStat, folder: Path) -> None:
        """Move the sidecar out of the inbox: over its copy, or remove it if the claim is gone."""
        source = self._inbox.path / sidecar
        if not FileStat.of(source.lstat()).same_content(stat):
            raise claims.Changed(sidecar)
        if folder.is_dir():
            replace_file(source, folder / source.name)
        else:
            remove_file(source)
        fsync_dir(source.parent)
        self._finder.mark_claimed(sidecar)


def finish_attaching(ledger: Ledger, inbox: Inbox) -> None:
    """Put the copy of a late sidecar in its place, if that was cut off after the commit."""
    if (noted := ledger.transact(lambda s: drops.noted_copy(s, inbox.name))) is not None:
        copy, place = map(Path, noted)
        if copy.is_file():
            _put_in_place(copy, place)


def _put_in_place(copy: Path, place: Path) -> None:
    replace_file(copy, place)
    fsync_dir(place.parent)


def _too_late(sidecar: str, stat: FileStat, job: Job) -> ReadyDrop:
    name = name_of(sidecar)
    why = "had begun by then" if job.batch is None else f"is one of batch {job.batch[:8]}"
    error = ImageMissing(
        f"{name} came after its image had been taken in; job {job.id[:8]} {why}",
        hint="drop the image and its YAML again, together",
    )
    return ReadyDrop(Candidate(None, sidecar, error), {sidecar: stat}, sidecar, error)


def _is_same(drop: Drop, sidecar: str, stat: FileStat) -> bool:
    """True if the drop has this very file already, and only its removal was cut off."""
    before = drop.stat.get(sidecar)
    return before is not None and FileStat(**before).same_content(stat)
