"""Takes job files and tables in: all of one or nothing of it.

    plan, look at every image → commit *claiming* → table, then images → fsync → hash
         → resolve each row → commit *claimed*: jobs, rows

Whatever ends this before the last commit, the files go back to where they lay, at the next start if
it was the daemon's end, and the next look begins anew. It goes in steps, since thousands of images
take a while and other inboxes wait.
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
from dna_pipeline.base.failpoints import point
from dna_pipeline.base.files import remove_tree_if_there
from dna_pipeline.base.naming import safe_stem
from dna_pipeline.base.reachability import Look, look_directly
from dna_pipeline.config.schema import Config, Inbox
from dna_pipeline.intake.claiming import claims
from dna_pipeline.intake.claiming.batch_plan import Account, Taken
from dna_pipeline.intake.claiming.blocked import BlockedImages
from dna_pipeline.intake.claiming.rollback import undo
from dna_pipeline.intake.claiming.single import MANY, keep_claims, split
from dna_pipeline.intake.discovery.candidates import Candidate, Names
from dna_pipeline.intake.discovery.completeness import patience_s
from dna_pipeline.intake.discovery.probe import NotReadable, Probed, Prober
from dna_pipeline.intake.discovery.scan import FileStat
from dna_pipeline.intake.planning import job_rows
from dna_pipeline.intake.planning.finder import Lookout
from dna_pipeline.intake.planning.known_files import RESERVED, KnownFiles, Stats, Version, to_json
from dna_pipeline.intake.planning.plan import Item, Plan, Planner, Source, image_error, shown_image
from dna_pipeline.intake.planning.source_roots import lacking_root
from dna_pipeline.intake.planning.taken_before import RecentImages, explanation
from dna_pipeline.ledger import batches, store
from dna_pipeline.ledger.store import Ledger

log = structlog.get_logger()

YIELD_EVERY = 16
"""So many images are looked at, moved or hashed in one step."""


def _seen(source: Source, stats: Stats) -> Stats:
    """What was seen of an image, by its path: in the inbox, or whole for one in a source root."""
    if source.relative is not None:
        return {source.relative: stats[source.relative]}
    try:
        return {str(source.path): FileStat.of(source.file.stat())}
    except OSError:
        return {}  # whoever copies it says so


class NotYet(DnaError):
    """An image may still be half written, or cannot be read; try again later.

    Attributes:
        long: it may take longer than a one-shot `run` should sit out.
    """

    def __init__(self, why: str, *, long: bool = False) -> None:
        super().__init__(why)
        self.long = long


def may_last(reason: NotYet | claims.ClaimError | OSError) -> bool:
    """Whether it may take longer than a one-shot `run` should sit out. What moved on, did so."""
    if isinstance(reason, NotYet):
        return reason.long
    return not isinstance(reason, claims.Changed | claims.Lost)


def _tellers(candidate: Candidate) -> list[str]:
    """The table and the YAML beside it, or the job file."""
    return [path for path in (candidate.table, candidate.sidecar) if path is not None]


class BatchTaker:
    """Takes the batches of one inbox in."""

    def __init__(
        self,
        config: Config,
        inbox: Inbox,
        ledger: Ledger,
        known: KnownFiles,
        prober: Prober,
        lookout: Lookout,
        look: Look = look_directly,
    ) -> None:
        self._config = config
        self._look = look
        self._inbox = inbox
        self._ledger = ledger
        self._known = known
        self._prober = prober
        self._lookout = lookout
        self._planner = Planner(config, inbox)
        self._probed: dict[Path, tuple[FileStat, Probed]] = {}
        """What was decoded whole of a batch that is not ready: it is not decoded at each try."""
        self._blocked = BlockedImages(lookout.tracker)

    def steps(self, candidate: Candidate, stats: Stats) -> Generator[None]:
        """Take one in, a little at each step.

        Args:
            stats: what was seen of its files.

        Raises:
            NotYet: one may still be written or cannot be read, or a source root is away.
            ClaimError, OSError: files changed or went meanwhile. Nothing was taken then.
            JobError: it is of no use.
        """
        if (lacking := lacking_root(self._inbox, self._look)) is not None:
            # Rows would be wrong that are right once it is mounted again.
            root, why = lacking
            raise NotYet(f"{root}, one of the inbox's source_roots, {why}", long=True)
        try:
            plan = self._planner.plan(candidate)
            if not plan.items:
                raise self._fits_nothing(plan.teller)
        except JobError as error:
            if self._has_failed(candidate, stats, error):
                return
            self._reserve_all(candidate, stats)
            raise
        self._explain_missing(plan, candidate)
        yield from self._probe(plan, stats)
        batch = self._batch_row(plan)
        taken = self._drops(plan, candidate, stats, batch["id"])
        self._ledger.transact(lambda s: self._begin(s, batch, [item.row for item in taken]))
        point("claiming-committed")
        try:
            with ExitStack() as stack:
                yield from self._fetch(plan.teller, taken, stats, stack)
            yield from self._commit(plan, candidate, stats, batch, taken)
        except GeneratorExit:
            raise  # the daemon stops, which is to be quick: the next start undoes it
        except BaseException:
            self._undo(taken)
            raise

    def _fits_nothing(self, job_file: str) -> ImageMissing:
        """The error of a job file whose globs fit no image."""
        told = self._lookout.reference(job_file)
        globs = told.patterns if isinstance(told, Names) else ()
        text = f"no image fits {', '.join(globs[:3])}" if globs else "no image fits its images:"
        recent = RecentImages(self._ledger, self._inbox)
        why = "" if self._inbox.keeps else explanation(recent.find((), globs))
        return ImageMissing(f"{text}; {why}" if why else text, where="images")

    def _explain_missing(self, plan: Plan, candidate: Candidate) -> None:
        """Add to rows without their image that it was taken in before this file came."""
        others = {path for path, _ in candidate.taken}
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

    def _path_of(self, item: Item) -> str:
        """Path in the inbox of a row's image, which need not be there."""
        if item.source is not None:
            return os.path.relpath(item.source.path, self._inbox.path).replace(os.sep, "/")
        return posixpath.join(*self._planner.place(item))

    def _has_failed(self, candidate: Candidate, stats: Stats, error: JobError) -> bool:
        """Whether these very files, which stay in the inbox, failed for the same before."""
        tellers = _tellers(candidate)
        known = self._known.version(tellers[0])
        seen = {path: stats[path] for path in tellers}
        return known is not None and (known.stats, known.error) == (seen, error.code)

    def _probe(self, plan: Plan, stats: Stats) -> Generator[None]:
        for number, source in enumerate(plan.sources):
            if number % YIELD_EVERY == 0:
                yield
            seen = None if source.relative is None else stats[source.relative]
            before = self._probed.get(source.path)
            if seen is not None and before is not None and before[0] == seen:
                source.probed = before[1]
            else:
                self._decode(plan, source, seen)
            source.error = self._blocked.given_up(plan.teller, source.path) or source.error
            if source.error is None and (why := self._blocked.rests(plan.teller, source.path)):
                raise NotYet(why, long=True)
        for item in plan.items:
            item.error = image_error(item)

    def _decode(self, plan: Plan, source: Source, seen: FileStat | None) -> None:
        """Raises `NotYet` where it may be otherwise later."""
        answer = source.probe(self._prober)
        if isinstance(answer, NotReadable):
            self._blocked.note_unread(plan.teller, source.path, answer.detail)
            if self._blocked.given_up(plan.teller, source.path) is None:
                raise NotYet(f"{source.relative or source.path}: {answer}", long=True)
            return
        still_s = inf if source.relative is None else self._lookout.still_for(source.relative)
        patience = patience_s(source.file, answer)
        if still_s < patience:
            raise NotYet(f"{source.relative} may still be written")
        if seen is not None and isinstance(answer, Probed) and not patience:
            self._probed[source.path] = seen, answer

    # --- claiming ---

    def _batch_row(self, plan: Plan) -> dict[str, Any]:
        row = job_rows.batch_row(self._inbox, *split(plan.teller), plan.kind)
        return row | {"max_failures": plan.head.max_failures}

    def _drops(self, plan: Plan, candidate: Candidate, stats: Stats, batch: str) -> list[Taken]:
        """One for what tells the batch, one for each image that a right row names."""
        tellers = _tellers(candidate)
        own = self._drop(batch, split(tellers[0])[0], None, {p: stats[p] for p in tellers})
        # Once, and not with each of its images: it may name thousands.
        own |= {"id": batch, "sidecar_text": plan.text}
        moves = not self._inbox.keeps
        own["claim"] = str(self._claim_folder(batch, is_moved=moves))
        paths = [self._inbox.path / path for path in tellers] if moves else []
        found = [Taken(own, paths, moves)]
        right = dict.fromkeys(i.source for i in plan.items if i.source and i.error is None)
        # Those that may fail come first, or each try would move all the others to and fro.
        blocked = self._blocked.is_blocked
        for source in sorted(right, key=lambda source: not blocked(plan.teller, source.path)):
            seen = _seen(source, stats)
            row = self._drop(batch, source.folder, source.path.name, seen)
            is_moved = moves and source.relative is not None
            row["claim"] = str(self._claim_folder(row["id"], is_moved=is_moved))
            found.append(Taken(row, [source.path], is_moved, source))
        return found

    def _drop(self, batch: str, folder: str, image: str | None, seen: Stats) -> dict[str, Any]:
        row = job_rows.drop_row(self._inbox, folder, image, None)
        return row | {"batch": batch, "stat": to_json(seen), "sidecar_text": None}

    def _claim_folder(self, drop_id: str, *, is_moved: bool) -> Path:
        if is_moved:
            return claims.claim_dir(self._inbox.path, self._ledger.id, drop_id)
        return keep_claims(self._config, drop_id)

    def _begin(self, session: Any, batch: dict[str, Any], rows: Sequence[dict[str, Any]]) -> None:
        batches.begin(session, batch)
        store.begin_claims(session, rows)

    def _fetch(
        self, teller: str, taken: Sequence[Taken], stats: Stats, stack: ExitStack
    ) -> Generator[None]:
        """Bring all files into their claims, durably, and hash the images."""
        moved = [item for item in taken if item.is_moved]
        copied = [item for item in taken if not item.is_moved and item.paths]
        flush_moved = self._flush(self._inbox.path, len(moved), stack)
        flush_copied = self._flush(self._config.data, len(copied), stack)
        for number, item in enumerate(taken):
            if number % YIELD_EVERY == 0:
                yield
            if item.is_moved:
                claims.make_claim_dir(self._inbox.path, self._ledger.id, item.row["id"])
            else:
                item.folder.mkdir(parents=True)
            for path in item.paths:
                with self._blocked.noting(teller, item.image):
                    self._bring(item, path, stats, durable=flush_copied is None)
                point("image-taken" if item.source is not None else "sidecar-taken")
        homes = {path.parent for item in moved for path in item.paths}
        for part, flush in ((moved, flush_moved), (copied, flush_copied)):
            if flush is not None:
                flush()
            else:
                claims.sync_claims([item.folder for item in part], homes)
        point("claim-synced")
        for number, item in enumerate(moved):
            if number % YIELD_EVERY == 0:
                yield
            if item.source is not None:
                with self._blocked.noting(teller, item.image):
                    hashed = claims.hash_in_place(item.folder / item.source.path.name)
                item.facts = {"sha256": hashed.sha256, "bytes": hashed.size}
        point("hashed")

    @staticmethod
    def _flush(place: Path, number: int, stack: ExitStack) -> Callable[[], None] | None:
        """One flush for many drops, as `Taker` does it."""
        return stack.enter_context(filesystem.flush_of_all(place)) if number >= MANY else None

    def _bring(self, item: Taken, path: Path, stats: Stats, *, durable: bool) -> None:
        if not item.is_moved:
            file = path if item.source is None else item.source.file
            hashed = claims.snapshot(file, item.folder / path.name, durable=durable)
            if item.source is None or item.source.relative is not None:
                seen = stats[path.relative_to(self._inbox.path).as_posix()]
                # Its writer may have begun anew since it was decoded, or a folder on the way to it
                # became a link to one that is none of ours.
                if not hashed.stat.same_content(seen):
                    raise claims.Changed(str(path))
            item.facts = {"sha256": hashed.sha256, "bytes": hashed.size}
            return
        seen = stats[path.relative_to(self._inbox.path).as_posix()]
        if not claims.take(path, item.folder, seen).unchanged:
            raise claims.Changed(str(path))

    def _undo(self, taken: Sequence[Taken]) -> None:
        """Everything as it was, unless it was committed; `recover` does what cannot be done now."""
        batch_id = taken[0].row["id"]
        if self._ledger.transact(lambda s: batches.get(s, batch_id)).state != "claiming":
            return
        undone: list[str] = []
        for item in taken:
            with suppress(OSError):
                undo(self._config, self._inbox, item.row, remove_tree_if_there)
                undone.append(item.row["id"])
                for path in item.row["stat"] if item.is_moved else ():
                    self._lookout.returned(path)

        def forget(session: Any) -> None:
            store.forget_drops(session, undone)
            batches.forget_unclaimed(session)

        self._ledger.transact(forget)

    # --- the ledger ---

    def _commit(
        self,
        plan: Plan,
        candidate: Candidate,
        stats: Stats,
        batch: dict[str, Any],
        taken: Sequence[Taken],
    ) -> Generator[None]:
        drops = {item.source: item for item in taken if item.source is not None}
        for source, item in drops.items():
            probed = source.probed
            assert probed is not None
            item.facts |= {"width": probed.width, "height": probed.height}
        account = Account(self._planner, self._inbox, plan, batch, drops)
        models = self._planner.models()
        keys: dict[int, str] = {}
        for number, item in enumerate(plan.items):
            if number % (8 * YIELD_EVERY) == 0:
                yield
            if (sha256 := self._sha256(item, drops)) is not None:
                facts = self._planner.facts(item, sha256)
                key = self._planner.key(item.row.document, facts, models)
                keys[item.row.number] = key
                account.prepare(item, key)
        yield
        account.removed = self._removed(keys.values()) if account.skips else ()
        versions = self._reserved(plan, stats)
        if self._inbox.keeps:
            told, before = self._told(plan, drops), self._known.version(plan.teller)
            if before is not None and before.key == told:
                self._pass_over(plan.teller, Version(stats, told, None, before.drop_id), taken)
                return
            versions[plan.teller] = Version(stats, told, None, batch["id"])

        def commit(session: Any) -> int:
            before = self._known.version(plan.teller)
            if self._inbox.on_change == "latest" and before is not None and before.drop_id:
                older = [before.drop_id, *batches.drops_of(session, before.drop_id)]
                batches.withdraw(session, older)
            jobs, rows = account.make(session, keys)
            facts = [{"id": i.row["id"], **i.facts} for i in drops.values()]
            store.finish_claims(session, facts, [])
            store.finish_claims(session, [{"id": batch["id"]}], jobs)
            store.remember_files(session, self._known.rows(versions))
            batches.finish(session, batch["id"], rows, plan.dialect.to_json())
            return len(jobs)

        number = self._ledger.transact(commit)
        point("claimed-committed")
        self._blocked.forget(plan.teller)
        self._probed.clear()
        self._known.note(versions)
        for path in [p for item in taken if item.is_moved for p in item.paths]:
            self._lookout.taken(path.relative_to(self._inbox.path).as_posix())
        log.info(
            "batch.claimed", inbox=self._inbox.name, name=batch["name"], batch=batch["id"],
            rows=len(plan.items), jobs=number,
        )  # fmt: skip

    def _told(self, plan: Plan, drops: Mapping[Source, Taken]) -> str:
        """What makes two versions of a kept batch the same: its images' bytes and its rows."""

        def row(item: Item) -> str:
            if item.error is not None or item.source is None:
                return item.error.code if item.error is not None else ""
            facts = self._planner.facts(item, drops[item.source].facts["sha256"])
            return self._planner.key(item.row.document, facts, lambda _: None)

        rows = [(item.row.number, shown_image(item), row(item)) for item in plan.items]
        return hashlib.sha256(f"{plan.head}\n{rows}".encode()).hexdigest()

    def _pass_over(self, teller: str, version: Version, taken: Sequence[Taken]) -> None:
        """A batch that tells nothing new: its files were touched only."""
        self._undo(taken)
        known = {teller: version}
        self._ledger.transact(lambda s: store.remember_files(s, self._known.rows(known)))
        self._known.note(known)

    def _sha256(self, item: Item, drops: Mapping[Source, Taken]) -> str | None:
        """What a right row's image holds; or held, when it was taken in and left the inbox."""
        if item.error is None:
            return drops[item.source].facts["sha256"] if item.source else None
        if not isinstance(item.error, ImageMissing) or self._planner.trial(item) is not None:
            return None
        folder, name = self._planner.place(item)
        where = job_rows.printable(folder), safe_stem(name), job_rows.printable(name)
        return self._ledger.transact(lambda s: batches.last_sha256(s, self._inbox.name, *where))

    def _reserved(self, plan: Plan, stats: Stats) -> dict[str, Version]:
        """The images of wrong rows, which stay where they are, and are nobody else's meanwhile."""
        if self._inbox.keeps:
            return {}
        right = {item.source for item in plan.items if item.error is None}
        name = split(plan.teller)[1]
        found: dict[str, Version] = {}
        for item in plan.items:
            source = item.source
            if source is None or source.relative is None or source in right:
                continue
            why = f"{name} names it in row {item.row.number}, which is wrong; mend and drop that"
            seen = {source.relative: stats[source.relative]}
            found[source.relative] = Version(seen, RESERVED, job_rows.printable(why))
        return found

    def _reserve_all(self, candidate: Candidate, stats: Stats) -> None:
        """The images of what is wrong as a whole, likewise."""
        if self._inbox.keeps:
            return
        name = split(candidate.table or candidate.sidecar or "")[1]
        why = job_rows.printable(f"{name} names it, which is wrong; mend and drop that")
        found = {i: Version({i: stats[i]}, RESERVED, why) for i in candidate.images}
        self._ledger.transact(lambda s: store.remember_files(s, self._known.rows(found)))
        self._known.note(found)

    def _removed(self, keys: Iterable[str]) -> set[str]:
        """The result folders of jobs with these keys that were removed from the outbox, as far as
        can be seen. Asked before the commit: a disk must not keep the ledger waiting."""
        found = self._ledger.transact(lambda s: batches.existing(s, keys))
        folders = {job.folder for job in found.values() if job.folder is not None}
        if not self._look(self._config.outbox).is_there:
            return set()
        return {folder for folder in folders if not (self._config.outbox / folder).is_dir()}
