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
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from math import inf
from pathlib import Path
from typing import Any

import structlog

from dna_pipeline.base import filesystem
from dna_pipeline.base.errors import DnaError, ImageMissing, JobError
from dna_pipeline.base.failpoints import failpoint
from dna_pipeline.base.files import remove_tree_if_there
from dna_pipeline.base.layout import claim_dir
from dna_pipeline.base.naming import safe_stem
from dna_pipeline.base.reachability import Look, look_directly
from dna_pipeline.config.schema import Config, Inbox
from dna_pipeline.intake.claiming import claims
from dna_pipeline.intake.claiming.batch_plan import BatchDrop, BatchPlan
from dna_pipeline.intake.claiming.blocked import BlockedImages
from dna_pipeline.intake.claiming.rollback import roll_back
from dna_pipeline.intake.claiming.single import BULK_SIZE, copy_claim_dir, split
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


def _stats_of(source: Source, stats: Stats) -> Stats:
    """Return an image's file status by its path: in the inbox, or absolute in a source root."""
    if source.relative is not None:
        return {source.relative: stats[source.relative]}
    try:
        return {str(source.path): FileStat.of(source.file.stat())}
    except OSError:
        return {}  # the copy of the file will fail, and names the cause


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
        known_files: KnownFiles,
        prober: Prober,
        finder: CandidateFinder,
        look: Look = look_directly,
    ) -> None:
        self._config = config
        self._look = look
        self._inbox = inbox
        self._ledger = ledger
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
        batch_drops = self._drops(plan, candidate, stats, batch["id"])
        self._ledger.transact(lambda s: self._begin(s, batch, [item.row for item in batch_drops]))
        failpoint("claiming-committed")
        try:
            with ExitStack() as stack:
                yield from self._fetch(plan.batch_file, batch_drops, stats, stack)
            yield from self._commit(plan, candidate, stats, batch, batch_drops)
        except GeneratorExit:
            raise  # the daemon must stop fast, so its next start rolls the batch back
        except BaseException:
            self._roll_back(batch_drops)
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

    def _drops(self, plan: Plan, candidate: Candidate, stats: Stats, batch: str) -> list[BatchDrop]:
        """Make a drop for the batch's own files, and one for each image that a right row names."""
        own_files = _own_files(candidate)
        own = self._drop(batch, split(own_files[0])[0], None, {p: stats[p] for p in own_files})
        # A batch may name thousands of images, so only this drop holds the batch's text.
        own |= {"id": batch, "sidecar_text": plan.text}
        moves = not self._inbox.keeps
        own["claim"] = str(self._claim_folder(batch, is_moved=moves))
        paths = [self._inbox.path / path for path in own_files] if moves else []
        batch_drops = [BatchDrop(own, paths, moves)]
        right = dict.fromkeys(i.source for i in plan.items if i.source and i.error is None)
        # Images that may fail come first, or each try would move all the others to and fro.
        blocked = self._blocked.is_blocked
        for source in sorted(right, key=lambda source: not blocked(plan.batch_file, source.path)):
            source_stats = _stats_of(source, stats)
            row = self._drop(batch, source.folder, source.path.name, source_stats)
            is_moved = moves and source.relative is not None
            row["claim"] = str(self._claim_folder(row["id"], is_moved=is_moved))
            batch_drops.append(BatchDrop(row, [source.path], is_moved, source))
        return batch_drops

    def _drop(self, batch: str, folder: str, image: str | None, stats: Stats) -> dict[str, Any]:
        row = job_rows.drop_row(self._inbox, folder, image, None)
        return row | {"batch": batch, "stat": to_json(stats), "sidecar_text": None}

    def _claim_folder(self, drop_id: str, *, is_moved: bool) -> Path:
        if is_moved:
            return claim_dir(self._inbox.path, self._ledger.id, drop_id)
        return copy_claim_dir(self._config, drop_id)

    def _begin(self, session: Any, batch: dict[str, Any], rows: Sequence[dict[str, Any]]) -> None:
        batches.begin(session, batch)
        drops.begin_claims(session, rows)

    def _fetch(
        self, batch_file: str, batch_drops: Sequence[BatchDrop], stats: Stats, stack: ExitStack
    ) -> Generator[None]:
        """Move or copy all files into their claims, durably, and hash the images."""
        moved = [item for item in batch_drops if item.is_moved]
        copied = [item for item in batch_drops if not item.is_moved and item.paths]
        flush_moved = self._flush(self._inbox.path, len(moved), stack)
        flush_copied = self._flush(self._config.data, len(copied), stack)
        for number, item in enumerate(batch_drops):
            if number % YIELD_EVERY == 0:
                yield
            if item.is_moved:
                claims.make_claim_dir(self._inbox.path, self._ledger.id, item.row["id"])
            else:
                item.folder.mkdir(parents=True)
            for path in item.paths:
                with self._blocked.recording_failures(batch_file, item.image):
                    self._fetch_file(item, path, stats, durable=flush_copied is None)
                failpoint("image-taken" if item.source is not None else "sidecar-taken")
        homes = {path.parent for item in moved for path in item.paths}
        for part, flush in ((moved, flush_moved), (copied, flush_copied)):
            if flush is not None:
                flush()
            else:
                claims.sync_claims([item.folder for item in part], homes)
        failpoint("claim-synced")
        for number, item in enumerate(moved):
            if number % YIELD_EVERY == 0:
                yield
            if item.source is not None:
                with self._blocked.recording_failures(batch_file, item.image):
                    hashed = claims.hash_in_place(item.folder / item.source.path.name)
                item.columns = {"sha256": hashed.sha256, "bytes": hashed.size}
        failpoint("hashed")

    @staticmethod
    def _flush(place: Path, number: int, stack: ExitStack) -> Callable[[], None] | None:
        """Return one flush for many drops, as `SingleClaimer` does; None for a few drops."""
        return stack.enter_context(filesystem.shared_flush(place)) if number >= BULK_SIZE else None

    def _fetch_file(self, item: BatchDrop, path: Path, stats: Stats, *, durable: bool) -> None:
        if not item.is_moved:
            file = path if item.source is None else item.source.file
            hashed = claims.snapshot(file, item.folder / path.name, durable=durable)
            if item.source is None or item.source.relative is not None:
                expected = stats[path.relative_to(self._inbox.path).as_posix()]
                # Since the file was decoded, its writer may have begun anew, or a folder of its
                # path may have become a link to a folder outside the inbox.
                if not hashed.stat.same_content(expected):
                    raise claims.Changed(str(path))
            item.columns = {"sha256": hashed.sha256, "bytes": hashed.size}
            return
        expected = stats[path.relative_to(self._inbox.path).as_posix()]
        if not claims.claim_file(path, item.folder, expected).unchanged:
            raise claims.Changed(str(path))

    def _roll_back(self, batch_drops: Sequence[BatchDrop]) -> None:
        """Give all files back to the inbox, unless the batch was committed.

        `ClaimRecovery` returns later what cannot be returned now.
        """
        batch_id = batch_drops[0].row["id"]
        if self._ledger.transact(lambda s: batches.get(s, batch_id)).state != "claiming":
            return
        drop_ids: list[str] = []
        for item in batch_drops:
            with suppress(OSError):
                roll_back(self._config, self._inbox, item.row, remove_tree_if_there)
                drop_ids.append(item.row["id"])
                for path in item.row["stat"] if item.is_moved else ():
                    self._finder.mark_returned(path)

        def forget(session: Any) -> None:
            drops.forget_drops(session, drop_ids)
            batches.forget_unclaimed(session)

        self._ledger.transact(forget)

    # --- the ledger ---

    def _commit(
        self,
        plan: Plan,
        candidate: Candidate,
        stats: Stats,
        batch: dict[str, Any],
        batch_drops: Sequence[BatchDrop],
    ) -> Generator[None]:
        by_source = {item.source: item for item in batch_drops if item.source is not None}
        for source, item in by_source.items():
            probed = source.probed
            assert probed is not None
            item.columns |= {"width": probed.width, "height": probed.height}
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
                    plan.batch_file, Version(stats, dedup_key, None, before.drop_id), batch_drops
                )
                return
            versions[plan.batch_file] = Version(stats, dedup_key, None, batch["id"])

        def commit(session: Any) -> int:
            before = self._known_files.version(plan.batch_file)
            if self._inbox.on_change == "latest" and before is not None and before.drop_id:
                older = [before.drop_id, *batches.drops_of(session, before.drop_id)]
                batches.withdraw(session, older)
            jobs, rows = batch_plan.make_rows(session, keys)
            columns = [{"id": i.row["id"], **i.columns} for i in by_source.values()]
            drops.finish_claims(session, columns, [])
            drops.finish_claims(session, [{"id": batch["id"]}], jobs)
            drops.remember_files(session, self._known_files.rows(versions))
            batches.finish(session, batch["id"], rows, plan.dialect.to_json())
            return len(jobs)

        number = self._ledger.transact(commit)
        failpoint("claimed-committed")
        self._blocked.forget(plan.batch_file)
        self._probed.clear()
        self._known_files.note(versions)
        for path in [p for item in batch_drops if item.is_moved for p in item.paths]:
            self._finder.mark_claimed(path.relative_to(self._inbox.path).as_posix())
        log.info(
            "batch.claimed", inbox=self._inbox.name, name=batch["name"], batch=batch["id"],
            rows=len(plan.items), jobs=number,
        )  # fmt: skip

    def _dedup_key(self, plan: Plan, drops: Mapping[Source, BatchDrop]) -> str:
        """Hash the rows of a kept batch and the bytes of its images: equal if both are the same."""

        def row(item: PlanItem) -> str:
            if item.error is not None or item.source is None:
                return item.error.code if item.error is not None else ""
            context = self._planner.context(item, drops[item.source].columns["sha256"])
            return self._planner.dedup_key(item.row.document, context, lambda _: None)

        rows = [(item.row.number, shown_image(item), row(item)) for item in plan.items]
        return hashlib.sha256(f"{plan.head}\n{rows}".encode()).hexdigest()

    def _skip_unchanged(
        self, batch_file: str, version: Version, batch_drops: Sequence[BatchDrop]
    ) -> None:
        """Return a batch that asks for nothing new, since its files were only touched."""
        self._roll_back(batch_drops)
        versions = {batch_file: version}
        self._ledger.transact(lambda s: drops.remember_files(s, self._known_files.rows(versions)))
        self._known_files.note(versions)

    def _sha256(self, item: PlanItem, drops: Mapping[Source, BatchDrop]) -> str | None:
        """Return the hash of a right row's image; None if the row is wrong.

        If the image is missing, since an earlier claim moved it, return the hash of that claim.
        """
        if item.error is None:
            return drops[item.source].columns["sha256"] if item.source else None
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
