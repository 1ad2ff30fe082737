"""Decides what becomes of folders that no job needs any more, and does it.

All removing of what an earlier process left behind goes through here, by these rules:

    not ours (by name or mark)        left where it is; `status` lists it
    ours, its job or drop is open     left, since it is needed
    ours, its job or drop has ended   removed
    ours, but unknown to the ledger   moved to `<data>/recovered`, where nothing is ever removed

A folder that the ledger does not know may hold the only copy of an image: an older copy of the
ledger may have been put back. Each step can be repeated after a kill; no byte loses its name before
another one has it durably.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from enum import Enum
from pathlib import Path

import structlog

from dna_pipeline.base.failpoints import failpoint
from dna_pipeline.base.files import (
    copy_anew,
    fsync_dir,
    fsync_tree,
    is_same_file,
    is_temporary,
    remove_temporaries,
    remove_tree_if_there,
    rename_new,
)
from dna_pipeline.base.layout import CLAIMS, is_id, is_real_folder, is_trash
from dna_pipeline.base.reachability import Look, look_directly, require_answer
from dna_pipeline.config.schema import Config
from dna_pipeline.intake.claiming import claims
from dna_pipeline.intake.discovery.scan import FileStat
from dna_pipeline.ledger import drops, queue
from dna_pipeline.ledger.engine import Transaction
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.ledger.tables import Job
from dna_pipeline.operations.ownership import entries, make_mark
from dna_pipeline.publish import cancelled_rows
from dna_pipeline.publish.outbox import SOURCE

log = structlog.get_logger()


class Fate(Enum):
    """Decision about one leftover folder."""

    KEEP = "keep"
    REMOVE = "remove"
    RECOVER = "recover"


Decide = Callable[[str], Fate]


class Cleanup:
    """Cleans up after earlier processes, for one data folder and its ledger.

    Args:
        look: says whether a folder can be reached; one that does not answer is left as it is.
    """

    def __init__(self, config: Config, ledger: Ledger, look: Look = look_directly) -> None:
        self._config = config
        self._look = look
        self._ledger = ledger
        self._mark = make_mark(config, ledger)

    # --- all folders, at the start and every hour ---

    def at_start(self) -> None:
        """Deal at once with all that the last daemon left."""
        self.dispose_unneeded()
        remove_temporaries(self._config.data)
        for _ in self.steps(0):
            pass

    def steps(self, grace_s: float) -> Iterator[None]:
        """Deal with one folder a step; those that changed within `grace_s` seconds are left."""
        staging = self._config.outbox / CLAIMS / self._ledger.id
        for root, is_name, decider in (
            (self._config.work, is_id, lambda: self._job_fate),
            (staging, _is_staged, lambda: self._job_fate),
            (self._config.claims, is_id, self._claims_fate),
        ):
            if self._look(root).is_silent:
                continue
            names = [p.name for p in entries(root) if is_name(p.name) and self._is_ours(p)]
            # A row is there before its folder is. So the ledger is asked after the folders were
            # listed, or a drop that a command makes meanwhile would look unknown.
            decide = decider()
            for name in names:
                if self._deal_with(root / name, decide, grace_s):
                    yield

    def _is_ours(self, path: Path) -> bool:
        return is_real_folder(path) and not self._mark.is_foreign(path)

    def _deal_with(self, folder: Path, decide: Decide, grace_s: float) -> bool:
        """True if something was done. Trouble with one folder is no trouble of the others."""
        try:
            if grace_s and _age_s(folder) <= grace_s:
                return False
            fate = decide(folder.name)
            if fate is Fate.REMOVE:
                remove_tree_if_there(folder)
                log.info("leftover.removed", folder=str(folder))
            elif fate is Fate.RECOVER:
                move_to_recovered(self._config, folder)
        except OSError as error:
            log.warning("leftover.left", folder=str(folder), why=str(error))
            return True
        return fate is not Fate.KEEP

    def _job_fate(self, name: str) -> Fate:
        """Decide about a work folder or a half-made result, which is named by its job."""
        if is_trash(name):
            return Fate.REMOVE
        is_open, job = self._ledger.transact(
            lambda s: (queue.is_open(s, name), queue.find_job(s, name))
        )
        if job is None:
            return Fate.RECOVER
        return Fate.KEEP if is_open else Fate.REMOVE

    def _claims_fate(self) -> Decide:
        """Give the decision about copies, each of which is named by its drop."""
        needed = self._ledger.transact(drops.open_drop_ids)

        def decide(name: str) -> Fate:
            if name in needed:
                return Fate.KEEP
            state = self._ledger.transact(lambda s: drops.drop_state(s, name))
            fates = {None: Fate.RECOVER, "gone": Fate.REMOVE}
            return fates.get(state, Fate.KEEP)

        return decide

    # --- single claims ---

    def is_copy(self, folder: Path) -> bool:
        """Whether it is the folder of a copy in the data folder, and not of moved originals."""
        return folder.parent == self._config.claims and is_id(folder.name)

    def is_claim(self, folder: Path) -> bool:
        """Whether it is the folder of originals that this ledger moved out of an inbox."""
        root = folder.parent
        is_ours = root.name == self._ledger.id and root.parent.name == CLAIMS
        return is_ours and is_id(folder.name)

    def dispose_unneeded(self, drop_id: str | None = None) -> None:
        """Remove the claims that no job needs: of one drop, or of all.

        A claim that cannot be removed now is left for the next start: its jobs have ended well.
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
        """Remove a claim. A path that is no claim is left alone."""
        if self.is_copy(folder):
            remove_tree_if_there(folder)
        elif self.is_claim(folder):
            claims.dispose(folder)
        else:
            log.warning("claim.left", claim=str(folder), why="it is not the folder of a claim")

    def settle_returned_claim(self, drop_id: str, folder: Path) -> None:
        """Deal with a claim that was out of reach when its drop ended and is back.

        It is removed if its original was to be deleted or lies in a result's folder; else it is
        moved to `<data>/recovered`.
        """
        image, places = self._ledger.transact(lambda s: self._archives(s, drop_id))
        is_archived = image is None or any(is_same_file(folder / image, path) for path in places)
        if not is_archived:
            move_to_recovered(self._config, folder)
        claims.dispose(folder)

    def _archives(self, session: Transaction, drop_id: str) -> tuple[str | None, list[Path]]:
        """The image, and where it may have been archived; None if nobody wants it any more."""
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

    def give_up_copy(self, folder: Path, originals: Mapping[Path, FileStat]) -> None:
        """Undo a copy that was cut off before its job was recorded.

        It is removed if all its files have their originals, unchanged; else it is moved to
        `<data>/recovered`: an older ledger that was put back does not know what became of the copy.

        Args:
            originals: what was seen of them before they were copied.
        """
        if not is_real_folder(folder):
            return
        by_name = {path.name: path for path in originals}
        files = [path for path in entries(folder) if not is_temporary(path.name)]
        if all(_has_original(path, by_name.get(path.name), originals) for path in files):
            remove_tree_if_there(folder)
        else:
            move_to_recovered(self._config, folder)


def move_to_recovered(config: Config, folder: Path) -> Path | None:
    """Move a folder to where people find it and nothing removes it; an empty one goes.

    Gives where it is now.
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


def _age_s(folder: Path) -> float:
    return time.time() - folder.stat().st_mtime


def _has_original(copy: Path, original: Path | None, seen: Mapping[Path, FileStat]) -> bool:
    if original is None:
        return False
    try:
        now = FileStat.of(original.stat())  # of a link in a source root: of the file it leads to
        return now.same_content(seen[original]) or is_same_file(copy, original)
    except OSError:
        return False


# --- moving, also to another file system ---


def _move(folder: Path, home: Path) -> Path:
    """Move into `home` under a free name: by one rename, or where that cannot be, by a copy."""
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
    """Copy a folder durably; one that was copied before, and not removed since, is found."""
    if twin := next(filter(lambda p: _is_same_tree(folder, p), _names(home, folder.name)), None):
        return twin
    partial = home / f".{folder.name}.partial"
    remove_tree_if_there(partial)
    shutil.copytree(folder, partial, symlinks=True, copy_function=copy_anew)
    fsync_tree(partial)
    target = _free_name(home, folder.name)
    rename_new(partial, target)
    return target


def _free_name(home: Path, name: str) -> Path:
    *_, last = _names(home, name)
    return last


def _names(home: Path, name: str) -> Iterator[Path]:
    """`name`, `name-2` and so on; the last one is free."""
    number, path = 1, home / name
    while os.path.lexists(path):
        yield path
        number += 1
        path = home / f"{name}-{number}"
    yield path


def _is_same_tree(one: Path, other: Path) -> bool:
    """Whether both folders hold the same: names, bytes, and where links lead."""
    if not (is_real_folder(one) and is_real_folder(other)):
        return False
    names = [sorted(path.name for path in folder.iterdir()) for folder in (one, other)]
    return names[0] == names[1] and all(_is_same(one / n, other / n) for n in names[0])


def _is_same(one: Path, other: Path) -> bool:
    if one.is_symlink() or other.is_symlink():
        both = one.is_symlink() and other.is_symlink()
        return both and one.readlink() == other.readlink()
    return _is_same_tree(one, other) or is_same_file(one, other)
