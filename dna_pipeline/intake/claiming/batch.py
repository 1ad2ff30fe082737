"""Claims the batch of a job file or a table: all of its files or none.

    plan → look at every image → commit *claiming* → table, then images → fsync → hash
         → resolve each row → commit *claimed*: jobs, rows

If anything fails before the last commit, the files go back to where they lay, and the next look
begins anew. If the daemon itself ended, its next start gives the files back. A claim goes in steps,
since thousands of images take a while and other inboxes wait.
"""

from __future__ import annotations

import os
import posixpath
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any, Literal

import structlog

from dna_pipeline.base.errors import DnaError, ImageMissing, JobError
from dna_pipeline.base.naming import name_of, printable, safe_stem
from dna_pipeline.base.reachability import Look, look_directly
from dna_pipeline.config.schema import Config
from dna_pipeline.intake.claiming import claims
from dna_pipeline.intake.claiming.blocked import BlockedImages
from dna_pipeline.intake.claiming.claim import Claim, InputFile, companions_in
from dna_pipeline.intake.claiming.claimer import (
    NO_FLUSH,
    Claimer,
    Flush,
    hash_files,
)
from dna_pipeline.intake.claiming.companions import markers, named_files
from dna_pipeline.intake.claiming.recorder import Entry, Recorder
from dna_pipeline.intake.discovery.candidates import Candidate, References
from dna_pipeline.intake.discovery.completeness import incomplete_until, lacks_end
from dna_pipeline.intake.discovery.probe import NotReadable, Probed, Prober
from dna_pipeline.intake.discovery.scan import FileStat
from dna_pipeline.intake.planning.companion_files import Need
from dna_pipeline.intake.planning.file_identities import ModelIdentities
from dna_pipeline.intake.planning.finder import CandidateFinder
from dna_pipeline.intake.planning.known_files import RESERVED, KnownFiles, Stats, Version, to_json
from dna_pipeline.intake.planning.named_images import Source
from dna_pipeline.intake.planning.plan import Plan, PlanItem, image_error
from dna_pipeline.intake.planning.planner import Planner
from dna_pipeline.intake.planning.recent_images import RecentImages
from dna_pipeline.intake.planning.source_roots import lacking_root
from dna_pipeline.ledger import batches
from dna_pipeline.ledger.store import Ledger

log = structlog.get_logger()

State = Literal["probing", "fetching", "hashing", "resolving"]

_AT_ONCE: dict[State, int] = {"probing": 16, "fetching": 16, "hashing": 16, "resolving": 128}
"""Number of images, or of rows, that one step works on."""


def _stat_of(file: Path) -> FileStat:
    try:
        return FileStat.of(file.stat())
    except OSError:
        return FileStat(0, 0, 0, 0, 0)  # the copy of the file will fail, and names the cause


class NotReady(DnaError):
    """An image may still be half written, or cannot be read; try again later.

    Attributes:
        is_long: True if the cause may last longer than a one-shot `run` should wait.
    """

    def __init__(self, why: str, *, is_long: bool = False) -> None:
        super().__init__(why)
        self.is_long = is_long


def _at_hand(file: InputFile, claimed_places: Mapping[str, Path]) -> InputFile:
    """A companion that another row's claim moved out of the inbox is read from that claim."""
    path = claimed_places.get(file.place) if file.reference else None
    return file if path is None or not path.is_file() else replace(file, source=path)


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


@dataclass(slots=True, eq=False)
class BatchClaim:
    """A batch that is being claimed, between two steps.

    Attributes:
        stats: file status of its files at the last look.
        state: `probing` its images, `fetching` files into their claims, `hashing` them, or
            `resolving` its rows.
        todo: the images, claims or rows that remain in this state.
        row: its row of the ledger's table `batches`.
        models: identities of the models, made anew before its rows are resolved.
        own: claim of its own files; None while it probes.
        by_source: the claims of its images.
        claimed_places: by their paths in the inbox, the files that are moved, as paths in claims.
    """

    candidate: Candidate
    stats: Stats
    plan: Plan
    row: dict[str, Any]
    models: ModelIdentities
    todo: deque[Any]
    state: State = "probing"
    own: Claim | None = None
    by_source: dict[Source, Claim] = field(default_factory=dict[Source, Claim])
    claimed_places: dict[str, Path] = field(default_factory=dict[str, Path])
    flush: Flush = NO_FLUSH
    resources: ExitStack = field(default_factory=ExitStack)

    @property
    def group(self) -> list[Claim]:
        return [] if self.own is None else [self.own, *self.by_source.values()]

    @property
    def moved(self) -> Iterator[str]:
        """Paths of the files that leave the inbox."""
        return (file.place for claim in self.group for file in claim.files if file.is_moved)

    def enter(self, state: State, todo: Iterable[Any]) -> None:
        self.state, self.todo = state, deque(todo)


@dataclass(eq=False)
class BatchClaimer:
    """Claims the batches of one inbox.

    Without known files, nothing is remembered of the files of a batch: they stay where they lie for
    others, who may do other rows of the same table. The inbox then has to keep its originals.
    """

    _config: Config
    _ledger: Ledger
    _finder: CandidateFinder
    _planner: Planner
    _claimer: Claimer
    _recorder: Recorder
    _known_files: KnownFiles | None
    _prober: Prober
    _look: Look = look_directly

    def __post_init__(self) -> None:
        self._inbox = self._finder.inbox
        self._probed: dict[Path, tuple[FileStat, Probed]] = {}
        """Images of a batch that is not ready: decoded as a whole, so not again at each try."""
        self._blocked = BlockedImages(self._finder.tracker)

    def start(self, candidate: Candidate, stats: Stats) -> BatchClaim | None:
        """Plan a batch; None if these very files, which stay in the inbox, failed before.

        Args:
            stats: file status of its files at the last look.

        Raises: as `step`.
        """
        if (lacking := lacking_root(self._inbox, self._look)) is not None:
            # Rows that are right while the root is mounted would count as wrong now.
            root, why = lacking
            raise NotReady(f"{root}, one of the inbox's source_roots, {why}", is_long=True)
        try:
            plan = self._planner.plan(candidate)
            if not plan.items:
                raise self._fits_nothing(plan.file)
        except JobError as error:
            if self._has_failed(candidate, stats, error):
                return None
            self._reserve_all(candidate, stats)
            raise
        self._explain_missing(plan, candidate)
        row = self._planner.batch_row(plan)
        models = self._planner.model_identities()
        todo = deque([*plan.sources, *plan.companions])
        return BatchClaim(candidate, stats, plan, row, models, todo)

    def step(self, batch: BatchClaim) -> BatchClaim | None:
        """Do a little more of a batch; None if it is done.

        Raises:
            NotReady: a file may still be written or cannot be read, or a source root is away.
            ClaimError, OSError: files changed or vanished meanwhile. Nothing was claimed then.
            JobError: no job can be made of the batch.
        """
        try:
            for _ in range(min(_AT_ONCE[batch.state], len(batch.todo))):
                self._work_on(batch, batch.todo.popleft())
            return batch if batch.todo or self._go_on(batch) else None
        except BaseException:
            self._roll_back(batch)
            raise

    def _work_on(self, batch: BatchClaim, part: Any) -> None:
        match batch.state:
            case "probing":
                self._probe(batch, part)
            case "fetching":
                self._fetch(batch, part)
            case "hashing":
                with self._recording_failures(batch, part):
                    hash_files(part)
            case "resolving":
                self._resolve(batch, part)

    def _go_on(self, batch: BatchClaim) -> bool:
        """Enter the next state; False if there is none."""
        match batch.state:
            case "probing":
                self._begin(batch)
                batch.enter("fetching", batch.group)
            case "fetching":
                self._claimer.sync(batch.group, batch.flush)
                batch.resources.close()
                batch.enter("hashing", batch.group)
            case "hashing":
                batch.models = self._planner.model_identities()
                batch.enter("resolving", batch.plan.items)
            case "resolving":
                self._record(batch)
                return False
        return True

    def _fits_nothing(self, job_file: str) -> ImageMissing:
        """Return the error of a job file whose globs fit no image."""
        reference = self._finder.reference(job_file)
        globs = reference.patterns if isinstance(reference, References) else ()
        text = f"no image fits {', '.join(globs[:3])}" if globs else "no image fits its images:"
        recent = RecentImages(self._ledger, self._inbox)
        why = "" if self._inbox.keeps else recent.explanation((), globs)
        return ImageMissing(f"{text}; {why}" if why else text, where="images")

    def _explain_missing(self, plan: Plan, candidate: Candidate) -> None:
        """Add to the errors of missing images that they were claimed before this file came."""
        others = {path for path, _ in candidate.claimed_by_others}
        missing = [
            (item, path)
            for item in plan.items
            if isinstance(item.error, ImageMissing)
            and (path := self._path_of(plan, item)) not in others
        ]
        if self._inbox.keeps or not missing:
            return
        recent = RecentImages(self._ledger, self._inbox)
        for item, path in missing:
            assert item.error is not None
            if text := recent.explanation([path]):
                item.error = ImageMissing(f"{item.error.detail}; {text}", where=item.error.where)

    def _path_of(self, plan: Plan, item: PlanItem) -> str:
        """Return the path in the inbox of a row's image, which need not be there."""
        if item.source is not None:
            return os.path.relpath(item.source.path, self._inbox.path).replace(os.sep, "/")
        return posixpath.join(*plan.place(item))

    def _has_failed(self, candidate: Candidate, stats: Stats, error: JobError) -> bool:
        """True if these very files, which stay in the inbox, failed with the same code before."""
        own_files = _own_files(candidate)
        version = self._version_before(own_files[0])
        stats_now = {path: stats[path] for path in own_files}
        return version is not None and (version.stats, version.error) == (stats_now, error.code)

    # --- states ---

    def _probe(self, batch: BatchClaim, source: Source) -> None:
        file = batch.plan.file
        stat = None if source.relative is None else batch.stats.get(source.relative)
        before = self._probed.get(source.path)
        if stat is not None and before is not None and before[0] == stat:
            source.probed = before[1]
        else:
            self._decode(batch.plan, source, stat)
        source.error = self._blocked.final_error(file, source.path) or source.error
        if source.error is None and (why := self._blocked.wait_reason(file, source.path)):
            raise NotReady(why, is_long=True)

    def _decode(self, plan: Plan, source: Source, stat: FileStat | None) -> None:
        """Decode an image. Raises `NotReady` if a later try may give another result."""
        answer = source.probe(self._prober)
        if isinstance(answer, NotReadable):
            self._blocked.note_unreadable(plan.file, source.path, answer.detail)
            if self._blocked.final_error(plan.file, source.path) is None:
                raise NotReady(f"{source.relative or source.path}: {answer}", is_long=True)
            return
        tracker = self._finder.tracker
        settled = None if source.relative is None else tracker.settled_since(source.relative)
        since = -inf if settled is None else settled
        if incomplete_until(source.file, answer, since, tracker.looked_at) is not None:
            raise NotReady(f"{source.relative} may still be written")
        if stat is not None and isinstance(answer, Probed) and not lacks_end(source.file):
            self._probed[source.path] = stat, answer

    def _begin(self, batch: BatchClaim) -> None:
        for item in batch.plan.items:
            item.error = image_error(item)
        batch.by_source = self._claims(batch.plan, batch.stats, batch.row["id"])
        batch.own = self._own_claim(batch)
        batch.claimed_places = {
            file.place: claim.place(file)
            for claim in batch.group
            for file in claim.files
            if file.is_moved
        }
        self._claimer.begin(batch.group, batch.row)
        batch.flush = batch.resources.enter_context(self._claimer.flushing(batch.group))

    def _own_claim(self, batch: BatchClaim) -> Claim:
        """Plan the claim of the batch's own files. They are not copied where they are kept."""
        own_files = {path: batch.stats[path] for path in _own_files(batch.candidate)}
        moved = () if self._inbox.keeps else own_files
        files = [self._claimer.input_file("batch_file", path, own_files) for path in moved]
        batch_id = batch.row["id"]
        claim = self._claimer.plan(
            batch.plan.folder, files, id=batch_id, batch=batch_id, stat=to_json(own_files)
        )
        # A batch may name thousands of images, so only this drop holds the batch's text.
        claim.text = batch.plan.text
        return claim

    def _claims(self, plan: Plan, stats: Stats, batch: str) -> dict[Source, Claim]:
        """Plan a claim for each image that a right row names."""
        right = dict.fromkeys(i.source for i in plan.items if i.source and i.error is None)
        # Images that may fail come first, or each try would move all the others to and fro.
        blocked = self._blocked.is_blocked
        images = sorted(right, key=lambda source: not blocked(plan.file, source.path))
        named: dict[Source, dict[Need, Source]] = {}
        for item in plan.items:
            if item.source in right and item.error is None:
                named.setdefault(item.source, {}).update(item.named)
        return {s: self._image_claim(s, named.get(s, {}), stats, batch) for s in images}

    def _image_claim(
        self, source: Source, named: Mapping[Need, Source], stats: Stats, batch: str
    ) -> Claim:
        image = self._input_file("image", source, stats)
        files = [] if source.mask is None else [self._input_file("mask", source.mask, stats)]
        files += named_files([*files, image], named)
        claim = self._claimer.plan(source.folder, [*files, image], batch=batch)
        claim.probed = source.probed
        return claim

    def _input_file(self, role: str, source: Source, stats: Stats) -> InputFile:
        if source.relative is not None:
            return self._claimer.input_file(role, source.relative, stats)
        stat = _stat_of(source.file)
        return InputFile(role, source.path.name, source.file, str(source.path), stat)

    def _fetch(self, batch: BatchClaim, claim: Claim) -> None:
        claim.files = tuple(_at_hand(file, batch.claimed_places) for file in claim.files)
        with self._recording_failures(batch, claim):
            self._claimer.fetch(claim, batch.flush)
            if not claim.is_as_expected:
                raise claims.Changed(claim.files[-1].place)

    def _recording_failures(self, batch: BatchClaim, claim: Claim) -> AbstractContextManager[None]:
        image = None if claim is batch.own else self._inbox.path / claim.files[-1].place
        return self._blocked.recording_failures(batch.plan.file, image)

    def _resolve(self, batch: BatchClaim, item: PlanItem) -> None:
        """Find a row's dedup key, and make its job ahead: thousands would make the commit long."""
        plan = batch.plan
        claim = None if item.source is None else batch.by_source.get(item.source)
        if (image := self._image_of(batch, item, claim)) is None:
            return
        if item.source is not None and claim is not None:
            item.source.claimed = claim.image
        item.key = self._planner.dedup_key(plan, item, image.sha256, batch.models, image.companions)
        if item.error is None and claim is not None:
            self._planner.add_job(plan, item, claim.row["id"], image.sha256, batch.row)

    def _image_of(
        self, batch: BatchClaim, item: PlanItem, claim: Claim | None
    ) -> batches.LastImage | None:
        """Return hashes of a right row's image and its companions; None if the row is wrong.

        If the image is missing, since an earlier claim moved it, return those of that claim.
        """
        if item.error is None:
            if claim is None or claim.sha256 is None:
                return None
            return batches.LastImage(claim.sha256, companions_in(claim) or [])
        if not isinstance(item.error, ImageMissing):
            return None
        if self._planner.row_error(batch.plan, item) is not None:
            return None
        folder, _, name = self._path_of(batch.plan, item).rpartition("/")
        where = printable(folder), safe_stem(name), printable(name)
        return self._ledger.transact(lambda s: batches.last_image(s, self._inbox.name, *where))

    def _record(self, batch: BatchClaim) -> None:
        plan, stats = batch.plan, batch.stats
        entry = Entry(plan, batch.group, batch.row, self._versions(batch))
        before = self._version_before(plan.file)
        entry.older = before.drop_id if before else None
        entry.joins_open = self._known_files is None
        if self._inbox.keeps and self._known_files is not None:
            hashes = {source: claim.sha256 or "" for source, claim in batch.by_source.items()}
            files = {source: companions_in(claim) for source, claim in batch.by_source.items()}
            key = self._planner.batch_version_key(plan, hashes, files)
            entry.is_unchanged = before is not None and before.key == key
            drop_id = entry.older if entry.is_unchanged else batch.row["id"]
            entry.versions[plan.file] = Version(stats, key, None, drop_id)
        if (plan.head.on_duplicate or self._inbox.on_duplicate) == "skip":
            entry.removed = self._removed(entry.keys())
        jobs = self._recorder.record([entry])
        self._blocked.forget(plan.file)
        self._probed.clear()
        for path in batch.moved:
            self._finder.mark_claimed(path)
        if not entry.is_unchanged:
            log.info(
                "batch.claimed", inbox=self._inbox.name, name=batch.row["name"],
                batch=batch.row["id"], rows=len(plan.items), jobs=len(jobs),
            )  # fmt: skip

    def _roll_back(self, batch: BatchClaim) -> None:
        """Give all files back to the inbox, unless nothing was claimed or the batch is recorded."""
        batch.resources.close()
        if batch.own is None:
            return
        with suppress(OSError):  # `ClaimRecovery` returns later what cannot be returned now
            self._claimer.roll_back(batch.group)
        for path in batch.moved:
            self._finder.tracker.expect_back(path)

    # --- known files ---

    def _version_before(self, path: str) -> Version | None:
        """Return the version of a file that was known last; None if there is none."""
        return None if self._known_files is None else self._known_files.version(path)

    def _versions(self, batch: BatchClaim) -> dict[str, Version]:
        """Return known files that keep images of wrong rows and masks in the inbox."""
        plan = batch.plan
        if self._known_files is None:
            return {}
        right = (item for item in plan.items if item.error is None)
        named = ((source, plan.name) for item in right for source in item.named.values())
        images = {source.relative for source in batch.by_source if source.relative is not None}
        return self._reserved(plan, batch.stats) | markers(named, self._known_files, images)

    def _reserved(self, plan: Plan, stats: Stats) -> dict[str, Version]:
        """Return known files that reserve the images of wrong rows.

        These images stay in the inbox, and nothing else may claim them until the batch is mended.
        """
        if self._inbox.keeps:
            return {}
        right = {item.source for item in plan.items if item.error is None}
        name = plan.name
        versions: dict[str, Version] = {}
        for item in plan.items:
            source = item.source
            if source is None or source.relative is None or source in right:
                continue
            why = f"{name} names it in row {item.row.number}, which is wrong; mend and drop that"
            file_stats = {source.relative: stats[source.relative]}
            versions[source.relative] = Version(file_stats, RESERVED, printable(why))
        return versions

    def _reserve_all(self, candidate: Candidate, stats: Stats) -> None:
        """Reserve all images of a batch that is wrong as a whole, like those of wrong rows."""
        if self._inbox.keeps:
            return
        name = name_of(candidate.table or candidate.sidecar or "")
        why = printable(f"{name} names it, which is wrong; mend and drop that")
        self._recorder.remember(
            {i: Version({i: stats[i]}, RESERVED, why) for i in candidate.images}
        )

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
