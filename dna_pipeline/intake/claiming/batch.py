"""Claims the batch of a job file or a table: all of its files or none.

    plan, look at every image → commit *claiming* → table, then images → fsync → hash
         → resolve each row → commit *claimed*: jobs, rows

If anything fails before the last commit, the files go back to where they lay, and the next look
begins anew. If the daemon itself ended, its next start gives the files back. A claim goes in steps,
since thousands of images take a while and other inboxes wait.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Any

import structlog

from dna_pipeline.base.errors import DnaError, ImageMissing, JobError
from dna_pipeline.base.failpoints import failpoint
from dna_pipeline.base.naming import safe_stem
from dna_pipeline.base.reachability import Look, look_directly
from dna_pipeline.config.schema import Config, Inbox
from dna_pipeline.intake.claiming import claims
from dna_pipeline.intake.claiming.batch_plan import BatchPlan
from dna_pipeline.intake.claiming.blocked import BlockedImages
from dna_pipeline.intake.claiming.claimer import Claim, Claimer, InputFile, hash_files
from dna_pipeline.intake.claiming.single import split
from dna_pipeline.intake.discovery.candidates import Candidate, References
from dna_pipeline.intake.discovery.completeness import quiet_period_s
from dna_pipeline.intake.discovery.probe import NotReadable, Probed, Prober
from dna_pipeline.intake.discovery.scan import FileStat
from dna_pipeline.intake.planning import job_rows
from dna_pipeline.intake.planning.finder import CandidateFinder
from dna_pipeline.intake.planning.known_files import RESERVED, KnownFiles, Stats, Version, to_json
from dna_pipeline.intake.planning.plan import (
    Plan,
    PlanItem,
    Planner,
    Source,
    image_error,
    shown_image,
)
from dna_pipeline.intake.planning.recent_images import RecentImages, explanation
from dna_pipeline.intake.planning.source_roots import lacking_root
from dna_pipeline.ledger import batches, drops
from dna_pipeline.ledger.store import Ledger

log = structlog.get_logger()

YIELD_EVERY = 16
"""Number of images that one step looks at, moves or hashes."""


def _stat_of(file: Path) -> FileStat | None:
    try:
        return FileStat.of(file.stat())
    except OSError:
        return None  # the copy of the file will fail, and names the cause


def _place(claim: Claim, inbox: Inbox) -> Path | None:
    """Return the path of a claim's image before the claim; None if it has no image."""
    return None if claim.image is None else inbox.path / claim.files[-1].place


class NotReady(DnaError):
    """An image may still be half written, or cannot be read; try again later.

    Attributes:
        is_long: True if the cause may last longer than a one-shot `run` should wait.
    """

    def __init__(self, why: str, *, is_long: bool = False) -> None:
        super().__init__(why)
        self.is_long = is_long


def is_long_wait(reason: NotReady | claims.ClaimError | OSError) -> bool:
    """True if the cause may last longer than a one-shot `run` should wait.

    A file that changed or vanished is retried at once.
    """
    if isinstance(reason, NotReady):
        return reason.is_long
    return not isinstance(reason, claims.Changed | claims.Lost)


def _own_files(candidate: Candidate) -> list[str]:
    """The table and the YAML beside it, or the job file."""
    return [path for path in (candidate.table, candidate.sidecar) if path is not None]


class BatchClaimer:
    """Claims the batches of one inbox."""

    def __init__(
        self,
        config: Config,
        inbox: Inbox,
        ledger: Ledger,
        claimer: Claimer,
        known_files: KnownFiles,
        prober: Prober,
        finder: CandidateFinder,
        look: Look = look_directly,
    ) -> None:
        self._config = config
        self._look = look
        self._inbox = inbox
        self._ledger = ledger
        self._claimer = claimer
        self._known_files = known_files
        self._prober = prober
        self._finder = finder
        self._planner = Planner(config, inbox)
        self._probed: dict[Path, tuple[FileStat, Probed]] = {}
        """Images of a batch that is not ready: decoded as a whole, so not again at each try."""
        self._blocked = BlockedImages(finder.tracker)

    def steps(self, candidate: Candidate, stats: Stats) -> Generator[None]:
        """Claim one batch, a little at each step.

        Args:
            stats: file status of its files at the last look.

        Raises:
            NotReady: a file may still be written or cannot be read, or a source root is away.
            ClaimError, OSError: files changed or vanished meanwhile. Nothing was claimed then.
            JobError: no job can be made of the batch.
        """
        if (lacking := lacking_root(self._inbox, self._look)) is not None:
            # Rows that are right while the root is mounted would count as wrong now.
            root, why = lacking
            raise NotReady(f"{root}, one of the inbox's source_roots, {why}", is_long=True)
        try:
            plan = self._planner.plan(candidate)
            if not plan.items:
                raise self._fits_nothing(plan.batch_file)
        except JobError as error:
            if self._has_failed(candidate, stats, error):
                return
            self._reserve_all(candidate, stats)
            raise
        self._explain_missing(plan, candidate)
        yield from self._probe(plan, stats)
        batch = self._batch_row(plan)
        by_source = self._claims(plan, stats, batch["id"])
        group = [self._own_claim(candidate, stats, plan, batch["id"]), *by_source.values()]
        self._claimer.begin(group, batch)
        try:
            yield from self._fetch(plan.batch_file, group)
            yield from self._commit(plan, stats, batch, by_source, group)
        except GeneratorExit:
            raise  # the daemon must stop fast, so its next start rolls the batch back
        except BaseException:
            self._roll_back(group)
            raise

    def _fits_nothing(self, job_file: str) -> ImageMissing:
        """Return the error of a job file whose globs fit no image."""
        reference = self._finder.reference(job_file)
        globs = reference.patterns if isinstance(reference, References) else ()
        text = f"no image fits {', '.join(globs[:3])}" if globs else "no image fits its images:"
        recent = RecentImages(self._ledger, self._inbox)
        why = "" if self._inbox.keeps else explanation(recent.find((), globs))
        return ImageMissing(f"{text}; {why}" if why else text, where="images")

    def _explain_missing(self, plan: Plan, candidate: Candidate) -> None:
        """Add to the errors of missing images that they were claimed before this file came."""
        others = {path for path, _ in candidate.claimed_by_others}
        missing = [
            item
            for item in plan.items
            if isinstance(item.error, ImageMissing) and self._path_of(item) not in others
        ]
        if self._inbox.keeps or not missing:
            return
        recent = RecentImages(self._ledger, self._inbox)
        for item in missing:
            assert item.error is not None
            if text := explanation(recent.find([self._path_of(item)])):
                item.error = ImageMissing(f"{item.error.detail}; {text}", where=item.error.where)

    def _path_of(self, item: PlanItem) -> str:
        """Return the path in the inbox of a row's image, which need not be there."""
        if item.source is not None:
            return os.path.relpath(item.source.path, self._inbox.path).replace(os.sep, "/")
        return posixpath.join(*self._planner.place(item))

    def _has_failed(self, candidate: Candidate, stats: Stats, error: JobError) -> bool:
        """True if these very files, which stay in the inbox, failed with the same code before."""
        own_files = _own_files(candidate)
        version = self._known_files.version(own_files[0])
        stats_now = {path: stats[path] for path in own_files}
        return version is not None and (version.stats, version.error) == (stats_now, error.code)

    def _probe(self, plan: Plan, stats: Stats) -> Generator[None]:
        for number, source in enumerate(plan.sources):
            if number % YIELD_EVERY == 0:
                yield
            stat = None if source.relative is None else stats[source.relative]
            before = self._probed.get(source.path)
            if stat is not None and before is not None and before[0] == stat:
                source.probed = before[1]
            else:
                self._decode(plan, source, stat)
            source.error = self._blocked.final_error(plan.batch_file, source.path) or source.error
            if source.error is None and (
                why := self._blocked.wait_reason(plan.batch_file, source.path)
            ):
                raise NotReady(why, is_long=True)
        for item in plan.items:
            item.error = image_error(item)

    def _decode(self, plan: Plan, source: Source, stat: FileStat | None) -> None:
        """Decode an image. Raises `NotReady` if a later try may give another result."""
        answer = source.probe(self._prober)
        if isinstance(answer, NotReadable):
            self._blocked.note_unreadable(plan.batch_file, source.path, answer.detail)
            if self._blocked.final_error(plan.batch_file, source.path) is None:
                raise NotReady(f"{source.relative or source.path}: {answer}", is_long=True)
            return
        still_s = inf if source.relative is None else self._finder.settled_for(source.relative)
        quiet_s = quiet_period_s(source.file, answer)
        if still_s < quiet_s:
            raise NotReady(f"{source.relative} may still be written")
        if stat is not None and isinstance(answer, Probed) and not quiet_s:
            self._probed[source.path] = stat, answer

    # --- claiming ---

    def _batch_row(self, plan: Plan) -> dict[str, Any]:
        row = job_rows.batch_row(self._inbox, *split(plan.batch_file), plan.kind)
        return row | {"max_failures": plan.head.max_failures}

    def _own_claim(self, candidate: Candidate, stats: Stats, plan: Plan, batch: str) -> Claim:
        """Plan the claim of the batch's own files. They are not copied where they are kept."""
        own_files = {path: stats[path] for path in _own_files(candidate)}
        moved = () if self._inbox.keeps else own_files
        files = [self._input_file("batch_file", path, stats, is_moved=True) for path in moved]
        # A batch may name thousands of images, so only this drop holds the batch's text.
        return self._claimer.plan(
            split(plan.batch_file)[0], files,
            id=batch, batch=batch, stat=to_json(own_files), sidecar_text=plan.text,
        )  # fmt: skip

    def _claims(self, plan: Plan, stats: Stats, batch: str) -> dict[Source, Claim]:
        """Plan a claim for each image that a right row names."""
        right = dict.fromkeys(i.source for i in plan.items if i.source and i.error is None)
        # Images that may fail come first, or each try would move all the others to and fro.
        blocked = self._blocked.is_blocked
        images = sorted(right, key=lambda source: not blocked(plan.batch_file, source.path))
        return {source: self._image_claim(source, stats, batch) for source in images}

    def _image_claim(self, source: Source, stats: Stats, batch: str) -> Claim:
        if source.relative is None:
            file = InputFile(
                "image", source.path.name, source.file, str(source.path), _stat_of(source.file)
            )
        else:
            is_moved = not self._inbox.keeps
            file = self._input_file("image", source.relative, stats, is_moved=is_moved)
        claim = self._claimer.plan(source.folder, [file], batch=batch, sidecar_text=None)
        claim.probed = source.probed
        return claim

    def _input_file(self, role: str, path: str, stats: Stats, *, is_moved: bool) -> InputFile:
        source = self._inbox.path / path
        return InputFile(role, source.name, source, path, stats[path], is_moved)

    def _fetch(self, batch_file: str, group: Sequence[Claim]) -> Generator[None]:
        """Move or copy all files into their claims, durably, and hash the images."""
        with self._claimer.flushing(group) as flush:
            for number, claim in enumerate(group):
                if number % YIELD_EVERY == 0:
                    yield
                with self._blocked.recording_failures(batch_file, _place(claim, self._inbox)):
                    self._claimer.fetch(claim, flush)
                    if not claim.is_unchanged:
                        raise claims.Changed(claim.files[-1].place)
            self._claimer.sync(group, flush)
        for number, claim in enumerate(group):
            if number % YIELD_EVERY == 0:
                yield
            with self._blocked.recording_failures(batch_file, _place(claim, self._inbox)):
                hash_files(claim)
        failpoint("hashed")

    def _roll_back(self, group: Sequence[Claim]) -> None:
        """Give all files back to the inbox, unless the batch was committed."""
        batch_id = group[0].row["id"]
        if self._ledger.transact(lambda s: batches.get(s, batch_id)).state != "claiming":
            return
        with suppress(OSError):  # `ClaimRecovery` returns later what cannot be returned now
            self._claimer.roll_back(group)
        for file in (file for claim in group for file in claim.files if file.is_moved):
            self._finder.mark_returned(file.place)

    # --- the ledger ---

    def _commit(
        self,
        plan: Plan,
        stats: Stats,
        batch: dict[str, Any],
        by_source: Mapping[Source, Claim],
        group: Sequence[Claim],
    ) -> Generator[None]:
        batch_plan = BatchPlan(self._planner, self._inbox, plan, batch, by_source)
        models = self._planner.model_identities()
        keys: dict[int, str] = {}
        for number, item in enumerate(plan.items):
            if number % (8 * YIELD_EVERY) == 0:
                yield
            if (sha256 := self._sha256(item, by_source)) is not None:
                context = self._planner.context(item, sha256)
                key = self._planner.dedup_key(item.row.document, context, models)
                keys[item.row.number] = key
                batch_plan.prepare(item, key)
        yield
        batch_plan.removed = self._removed(keys.values()) if batch_plan.skips_duplicates else ()
        versions = self._reserved(plan, stats)
        if self._inbox.keeps:
            dedup_key = self._dedup_key(plan, by_source)
            before = self._known_files.version(plan.batch_file)
            if before is not None and before.key == dedup_key:
                self._skip_unchanged(
                    plan.batch_file, Version(stats, dedup_key, None, before.drop_id), group
                )
                return
            versions[plan.batch_file] = Version(stats, dedup_key, None, batch["id"])

        def commit(session: Any) -> int:
            before = self._known_files.version(plan.batch_file)
            if self._inbox.on_change == "latest" and before is not None and before.drop_id:
                older = [before.drop_id, *batches.drops_of(session, before.drop_id)]
                batches.withdraw(session, older)
            jobs, rows = batch_plan.make_rows(session, keys)
            drops.finish_claims(session, [claim.columns for claim in by_source.values()], [])
            drops.finish_claims(session, [{"id": batch["id"]}], jobs)
            drops.remember_files(session, self._known_files.rows(versions))
            batches.finish(session, batch["id"], rows, plan.dialect.to_json())
            return len(jobs)

        number = self._ledger.transact(commit)
        failpoint("claimed-committed")
        self._blocked.forget(plan.batch_file)
        self._probed.clear()
        self._known_files.note(versions)
        for file in (file for claim in group for file in claim.files if file.is_moved):
            self._finder.mark_claimed(file.place)
        log.info(
            "batch.claimed", inbox=self._inbox.name, name=batch["name"], batch=batch["id"],
            rows=len(plan.items), jobs=number,
        )  # fmt: skip

    def _dedup_key(self, plan: Plan, by_source: Mapping[Source, Claim]) -> str:
        """Hash the rows of a kept batch and the bytes of its images: equal if both are the same."""

        def row(item: PlanItem) -> str:
            if item.error is not None or item.source is None:
                return item.error.code if item.error is not None else ""
            context = self._planner.context(item, by_source[item.source].columns["sha256"])
            return self._planner.dedup_key(item.row.document, context, lambda _: None)

        rows = [(item.row.number, shown_image(item), row(item)) for item in plan.items]
        return hashlib.sha256(f"{plan.head}\n{rows}".encode()).hexdigest()

    def _skip_unchanged(self, batch_file: str, version: Version, group: Sequence[Claim]) -> None:
        """Return a batch that asks for nothing new, since its files were only touched."""
        self._roll_back(group)
        versions = {batch_file: version}
        self._ledger.transact(lambda s: drops.remember_files(s, self._known_files.rows(versions)))
        self._known_files.note(versions)

    def _sha256(self, item: PlanItem, by_source: Mapping[Source, Claim]) -> str | None:
        """Return the hash of a right row's image; None if the row is wrong.

        If the image is missing, since an earlier claim moved it, return the hash of that claim.
        """
        if item.error is None:
            return by_source[item.source].columns["sha256"] if item.source else None
        if not isinstance(item.error, ImageMissing) or self._planner.row_error(item) is not None:
            return None
        folder, name = self._planner.place(item)
        where = job_rows.printable(folder), safe_stem(name), job_rows.printable(name)
        return self._ledger.transact(lambda s: batches.last_sha256(s, self._inbox.name, *where))

    def _reserved(self, plan: Plan, stats: Stats) -> dict[str, Version]:
        """Return known files that reserve the images of wrong rows.

        These images stay in the inbox, and nothing else may claim them until the batch is mended.
        """
        if self._inbox.keeps:
            return {}
        right = {item.source for item in plan.items if item.error is None}
        name = split(plan.batch_file)[1]
        versions: dict[str, Version] = {}
        for item in plan.items:
            source = item.source
            if source is None or source.relative is None or source in right:
                continue
            why = f"{name} names it in row {item.row.number}, which is wrong; mend and drop that"
            file_stats = {source.relative: stats[source.relative]}
            versions[source.relative] = Version(file_stats, RESERVED, job_rows.printable(why))
        return versions

    def _reserve_all(self, candidate: Candidate, stats: Stats) -> None:
        """Reserve all images of a batch that is wrong as a whole, like those of wrong rows."""
        if self._inbox.keeps:
            return
        name = split(candidate.table or candidate.sidecar or "")[1]
        why = job_rows.printable(f"{name} names it, which is wrong; mend and drop that")
        versions = {i: Version({i: stats[i]}, RESERVED, why) for i in candidate.images}
        self._ledger.transact(lambda s: drops.remember_files(s, self._known_files.rows(versions)))
        self._known_files.note(versions)

    def _removed(self, keys: Iterable[str]) -> set[str]:
        """Find result folders of jobs with these keys that someone removed from the outbox.

        Runs before the commit, so that a slow disk does not keep the ledger waiting. If the outbox
        cannot be reached, no folder counts as removed.
        """
        existing = self._ledger.transact(lambda s: batches.existing(s, keys))
        folders = {job.folder for job in existing.values() if job.folder is not None}
        if not self._look(self._config.outbox).is_there:
            return set()
        return {folder for folder in folders if not (self._config.outbox / folder).is_dir()}
