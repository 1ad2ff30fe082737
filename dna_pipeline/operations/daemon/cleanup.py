"""Cleanup of the folders that no job needs any more.

Every removal of folders that an earlier process left behind goes through here, by these rules:

    not ours (by name or mark)        left where it is; `status` lists it
    ours, its job or drop is open     left, since it is needed
    ours, its job or drop has ended   removed
    ours, but unknown to the ledger   moved to `<data>/recovered`, where nothing is ever removed

A folder that the ledger does not know may hold the only copy of an image, since people may have
restored an older copy of the ledger. Each step can be repeated after a kill, and no file loses its
name before a second name of the same bytes is durable.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from itertools import takewhile
from pathlib import Path
from typing import Literal

import structlog

from dna_pipeline.base.failpoints import failpoint
from dna_pipeline.base.files import (
    copy_anew,
    fsync_dir,
    fsync_tree,
    is_same_file,
    is_start_of,
    is_temporary,
    remove_temporaries,
    remove_tree_if_there,
    rename_new,
)
from dna_pipeline.base.layout import (
    CLAIMS,
    SOURCE,
    entries,
    folders_in,
    is_id,
    is_real_folder,
    is_trash,
)
from dna_pipeline.base.naming import numbered
from dna_pipeline.base.periodic import PeriodicTask, Throttle
from dna_pipeline.base.reachability import Look, look_directly, require_answer
from dna_pipeline.base.times import utcnow
from dna_pipeline.config.schema import Config
from dna_pipeline.intake.claiming import claims
from dna_pipeline.intake.discovery.scan import FileStat, is_image_name
from dna_pipeline.ledger import drops, queue, receivers, store
from dna_pipeline.ledger.engine import Transaction
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.ledger.tables import Job
from dna_pipeline.operations.ownership import make_mark
from dna_pipeline.publish import cancelled_rows

log = structlog.get_logger()


INTERVAL_S = 3600.0

UNSENT_KEPT = timedelta(days=7)
"""Time for which messages that a receiver does not take are kept."""

Fate = Literal["keep", "remove", "recover"]
"""Decision about one leftover folder."""

Decide = Callable[[str], Fate]


class Cleanup:
    """Cleans up after earlier processes, for one data folder and its ledger.

    Args:
        look: says whether a folder can be reached; a folder that does not answer stays as it is.
    """

    def __init__(self, config: Config, ledger: Ledger, look: Look = look_directly) -> None:
        self._config = config
        self._look = look
        self._ledger = ledger
        self._mark = make_mark(config, ledger)
        self._task = PeriodicTask(self.round, Throttle(INTERVAL_S))

    # --- all folders, at the start and every hour ---

    def at_start(self) -> None:
        """Clean up at once after the last daemon."""
        self.dispose_unneeded()
        thumbnails = self._config.thumbnails
        folders = [thumbnails / name for name in folders_in(thumbnails)]
        for folder in (self._config.data, thumbnails, *folders):
            remove_temporaries(folder)
        for _ in self.steps(0):
            pass

    def step(self, now: float) -> None:
        """Do one small step of the hourly round if any is due: none of it is urgent."""
        try:
            self._task.step(now)
        except OSError as error:
            log.warning("cleanup.failed", why=str(error))

    def round(self) -> Iterator[None]:
        """Remove old events and leftovers, a few at each step."""
        now = utcnow()
        before = now - timedelta(days=self._config.retention.events_days)
        dropped = self._ledger.transact(lambda s: receivers.drop_old(s, now - UNSENT_KEPT))
        for name, number in dropped.items():
            log.error("messages.dropped", receiver=name, messages=number)
        needed = self._ledger.transact(receivers.needed_after)
        after: int | None = 0
        while after is not None:
            after = self._ledger.transact(
                lambda s, a=after: store.prune_events(s, before, a, needed)
            )
            yield
        yield from self._old_thumbnails(before.timestamp())
        yield from self.steps(self._config.retention.work_hours * 3600)

    def _old_thumbnails(self, before: float) -> Iterator[None]:
        """Remove thumbnails that were made before that time, a folder at each step: the contact
        sheets have copies, and any can be made again."""
        for name in folders_in(self._config.thumbnails):
            for path in entries(self._config.thumbnails / name):
                with suppress(OSError):
                    if path.stat().st_mtime < before:
                        path.unlink()
            yield

    def steps(self, grace_s: float) -> Iterator[None]:
        """Clean up one folder a step; skip folders that changed within `grace_s` seconds."""
        staging = self._config.outbox / CLAIMS / self._ledger.id
        for root, is_name, decider in (
            (self._config.work, is_id, lambda: self._job_fate),
            (staging, _is_staged, lambda: self._job_fate),
            (self._config.claims, is_id, self._claims_fate),
        ):
            if self._look(root).is_silent:
                continue
            names = [p.name for p in entries(root) if is_name(p.name) and self._is_ours(p)]
            # A drop's row is committed before its folder is made. So list the folders first and
            # query the ledger after it, or the drop of a concurrent command would look unknown.
            decide = decider()
            for name in names:
                if self._deal_with(root / name, decide, grace_s):
                    yield

    def _is_ours(self, path: Path) -> bool:
        return is_real_folder(path) and not self._mark.is_foreign(path)

    def _deal_with(self, folder: Path, decide: Decide, grace_s: float) -> bool:
        """Clean up one folder; True if it was changed or failed. An error is logged, so that the
        other folders are still cleaned up."""
        try:
            if grace_s and time.time() - folder.stat().st_mtime <= grace_s:
                return False
            fate = decide(folder.name)
            if fate == "remove":
                remove_tree_if_there(folder)
                log.info("leftover.removed", folder=str(folder))
            elif fate == "recover":
                move_to_recovered(self._config, folder)
        except OSError as error:
            log.warning("leftover.left", folder=str(folder), why=str(error))
            return True
        return fate != "keep"

    def _job_fate(self, name: str) -> Fate:
        """Decide about a work folder or a staging folder, which has the id of its job as name."""
        if is_trash(name):
            return "remove"
        is_open, job = self._ledger.transact(
            lambda s: (queue.is_open(s, name), queue.find_job(s, name))
        )
        if job is None:
            return "recover"
        return "keep" if is_open else "remove"

    def _claims_fate(self) -> Decide:
        """Give the function that decides about a copy, whose folder has the id of its drop as
        name."""
        needed = self._ledger.transact(drops.open_drop_ids)

        def decide(name: str) -> Fate:
            if name in needed:
                return "keep"
            state = self._ledger.transact(lambda s: drops.drop_state(s, name))
            if state is None:
                return "recover"
            return "remove" if state == "gone" else "keep"

        return decide

    # --- single claims ---

    def is_copy(self, folder: Path) -> bool:
        """True if the folder is a claim of copies, in the data folder."""
        return folder.parent == self._config.claims and is_id(folder.name)

    def is_claim(self, folder: Path) -> bool:
        """True if the folder is a claim of originals that this ledger moved out of an inbox."""
        root = folder.parent
        is_ours = root.name == self._ledger.id and root.parent.name == CLAIMS
        return is_ours and is_id(folder.name)

    def dispose_unneeded(self, drop_id: str | None = None) -> None:
        """Remove the claims that no job needs: of one drop, or of all drops.

        If a claim cannot be removed now, the next start tries again, since no job depends on it.
        """
        for drop in self._ledger.transact(lambda s: drops.unneeded_drops(s, drop_id)):
            self._ledger.transact(lambda s, i=drop.id: drops.set_drop_state(s, i, "disposing"))
            try:
                require_answer(self._look, Path(drop.claim).parent)
                failpoint("disposing-committed")
                self._dispose(Path(drop.claim))
                failpoint("claim-unlinked")
            except OSError as error:
                log.warning("claim.left", claim=drop.claim, why=error.strerror)
                continue
            self._ledger.transact(lambda s, i=drop.id: drops.set_drop_state(s, i, "gone"))
            failpoint("gone-committed")

    def _dispose(self, folder: Path) -> None:
        """Remove a claim; a path that is no claim stays."""
        if self.is_copy(folder):
            remove_tree_if_there(folder)
        elif self.is_claim(folder):
            claims.dispose(folder)
        else:
            log.warning("claim.left", claim=str(folder), why="it is not the folder of a claim")

    def settle_returned_claim(self, drop_id: str, folder: Path) -> None:
        """Clean up a claim that was out of reach when its drop ended and can be reached again.

        The claim is removed if its original was to be deleted or lies in a result folder; else it
        is moved to `<data>/recovered`.
        """
        image, places = self._ledger.transact(lambda s: self._archives(s, drop_id))
        is_archived = image is None or any(_is_archive(folder, image, path) for path in places)
        if not is_archived:
            move_to_recovered(self._config, folder)
        claims.dispose(folder)

    def _archives(self, session: Transaction, drop_id: str) -> tuple[str | None, list[Path]]:
        """Give the image's name and the paths where it may be archived; None if the image was to be
        deleted."""
        drop, jobs = drops.drop_with_jobs(session, drop_id)
        if drop.originals == "delete" and all(job.status == "completed" for job in jobs):
            return None, []
        image = drop.image or ""
        places = [self._place(job, job.publish_name, image) for job in jobs if job.publish_name]
        return image, [place for place in places if place is not None]

    def _place(self, job: Job, name: str, image: str) -> Path | None:
        folder = self._config.outbox / name
        if not cancelled_rows.is_shared(name):
            return folder / SOURCE / image
        row = cancelled_rows.find_row(folder, job.stem, job.id)
        return None if row is None else row.image

    def give_up_copy(
        self, folder: Path, originals: Mapping[Path, FileStat], copies: Container[str] = ()
    ) -> None:
        """Undo a copy that was interrupted before its job was recorded.

        The copy is removed if all its files still have unchanged originals, or originals that have
        only grown since, as those do that a program still writes. Else it is moved to
        `<data>/recovered`, since people may have restored an older ledger, which does not know
        what became of the copy.

        Args:
            originals: size and times of each original before it was copied.
            copies: names of companions whose originals may lie anywhere.
        """
        if not is_real_folder(folder):
            return
        by_name = {path.name: path for path in originals}
        files = [path for path in entries(folder) if not is_temporary(path.name)]
        files = [path for path in files if path.name not in copies]
        if all(_has_original(path, by_name.get(path.name), originals) for path in files):
            remove_tree_if_there(folder)
        else:
            move_to_recovered(self._config, folder)


def _is_archive(folder: Path, image: str, place: Path) -> bool:
    """True if the image of a claim lies at that place, and its companions beside it."""
    others = [path.name for path in entries(folder) if is_image_name(path.name)]
    names = {name: place.with_name(name) for name in others} | {image: place}
    return all(is_same_file(folder / name, path) for name, path in names.items())


def move_to_recovered(config: Config, folder: Path) -> Path | None:
    """Move a folder to `<data>/recovered`, where people find it and nothing removes it.

    Gives its new path; None for an empty folder, which is removed instead.
    """
    with suppress(OSError):
        folder.rmdir()
        fsync_dir(folder.parent)
        return None
    home = config.recovered
    if not home.is_dir():
        home.mkdir()
        fsync_dir(home.parent)
    target = _move(folder, home)
    log.warning("copy.recovered", folder=str(target), was=str(folder))
    return target


def _is_staged(name: str) -> bool:
    return is_id(name) or is_trash(name)


def _has_original(copy: Path, original: Path | None, stats: Mapping[Path, FileStat]) -> bool:
    if original is None:
        return False
    try:
        now = FileStat.of(original.stat())  # follows a link in a source root to its file
        if now.same_content(stats[original]):
            return True
        return copy.is_file() and original.is_file() and is_start_of(copy, original)
    except OSError:
        return False


# --- moving folders, also to another file system ---


def _move(folder: Path, home: Path) -> Path:
    """Move into `home` under a free name: by one rename, or by a copy to another file system."""
    try:
        target = _free_name(home, folder.name)
        rename_new(folder, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        target = _copy(folder, home)
        remove_tree_if_there(folder)
    fsync_dir(folder.parent)
    return target


def _copy(folder: Path, home: Path) -> Path:
    """Copy a folder durably. An equal copy from an interrupted earlier move is used again."""
    for path in takewhile(os.path.lexists, (home / name for name in numbered(folder.name))):
        if _is_same_tree(folder, path):
            return path
    partial = home / f".{folder.name}.partial"
    remove_tree_if_there(partial)
    shutil.copytree(folder, partial, symlinks=True, copy_function=copy_anew)
    fsync_tree(partial)
    target = _free_name(home, folder.name)
    rename_new(partial, target)
    return target


def _free_name(home: Path, name: str) -> Path:
    return next(home / n for n in numbered(name) if not os.path.lexists(home / n))


def _is_same_tree(one: Path, other: Path) -> bool:
    """True if both folders have the same names, bytes and targets of links."""
    if not (is_real_folder(one) and is_real_folder(other)):
        return False
    names = [sorted(path.name for path in folder.iterdir()) for folder in (one, other)]
    return names[0] == names[1] and all(_is_same(one / n, other / n) for n in names[0])


def _is_same(one: Path, other: Path) -> bool:
    if one.is_symlink() or other.is_symlink():
        both = one.is_symlink() and other.is_symlink()
        return both and one.readlink() == other.readlink()
    return _is_same_tree(one, other) or is_same_file(one, other)
