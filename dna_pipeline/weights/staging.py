"""Folders in which the files of a model are put together, and the rename that shows it.

The staging folder lies beside the model's place, so on the same file system. Its name is hidden.
Nothing that exists is ever replaced.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Generator, Iterable, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from dna_pipeline.base.errors import TransferFailed
from dna_pipeline.base.files import fsync_dir, fsync_tree, remove_tree_if_there, rename_new
from dna_pipeline.weights.pins import PinnedFile, Placement

STAGING = ".dna-pull"
"""Name of the folder that holds all staging folders of the folder above it."""

_LOCK = "lock"
_NO_LINKS = frozenset(
    {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL}
)
"""Errors of file systems without hard links, such as FAT and some network mounts."""


@dataclass(frozen=True, slots=True)
class Staging:
    """The staging folder of one model. A file in it may still be growing."""

    target: Path
    name: str

    @property
    def root(self) -> Path:
        return self.target.parent / STAGING

    @property
    def folder(self) -> Path:
        return self.root / self.name

    def path_of(self, name: str) -> Path:
        """Place of a file by its path below the model's folder."""
        return self.folder / name

    def bytes_of(self, file: PinnedFile) -> int:
        """Number of the file's bytes that are there, right or wrong."""
        try:
            return min(self.path_of(file.path).stat().st_size, file.bytes)
        except OSError:
            return 0

    def remove_others(self, names: Iterable[str]) -> None:
        """Remove all files but these: what an earlier pull with other options left."""
        kept = {self.path_of(name) for name in names}
        for path in sorted(self.folder.rglob("*"), reverse=True):
            if path.is_dir() and not path.is_symlink():
                if not any(path in file.parents for file in kept):
                    path.rmdir()
            elif path not in kept:
                path.unlink()

    def remove(self) -> None:
        remove_tree_if_there(self.folder)


def staging_of(placement: Placement) -> Staging:
    return Staging(placement.target, placement.model.name)


@contextmanager
def hold_lock(root: Path) -> Generator[None]:
    """Hold the lock of all staging folders below `root`, so that two pulls never write to one file.

    Raises:
        TransferFailed: another process holds it.
    """
    root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise TransferFailed(
            f"another `dna-pipeline models` command writes to {root.parent} now; wait for its end"
        ) from None
    try:
        yield
    finally:
        lock.release()


def resolved(target: Path) -> Path:
    """The place without links on the way to it.

    Raises:
        TransferFailed: a link leads nowhere, as when its disk is not mounted. To follow it would
            write gigabytes to another disk.
    """
    for path in (target, *target.parents):
        if path.is_symlink() and not path.exists():
            raise TransferFailed(f"{path} is a link to {path.readlink()}, which is not there")
    return Path(os.path.realpath(target))


def publish(staging: Staging, names: Sequence[str], *, is_file: bool, again: str) -> None:
    """Let the staged files of a model appear at its place. Durable on return.

    Args:
        is_file: True for a model that is one file.
        again: clause that says what to do if something is in the way.

    Raises:
        TransferFailed: a file was made there meanwhile; nothing was replaced.
    """
    try:
        if is_file:
            publish_file(staging, names[0])
        else:
            publish_folder(staging, names)
    except FileExistsError as error:
        place = error.filename2 or error.filename
        raise TransferFailed(f"{place} was made meanwhile and stays as it is; {again}") from None


def publish_folder(staging: Staging, names: Iterable[str]) -> None:
    """Let a staged folder with exactly these files appear at its place, by one rename.

    Where the place is a folder with some of a model's files, each staged file appears in it by a
    rename of its own, the weights last. Durable on return.

    Raises:
        FileExistsError: a file is in the way; nothing was replaced.
    """
    staging.remove_others(names)
    fsync_tree(staging.folder)
    _remove_empty(staging.target)
    if not staging.target.is_dir():
        rename_new(staging.folder, staging.target)
        return
    for name in names:
        _publish(staging.path_of(name), staging.target / name)
    staging.remove()


def publish_file(staging: Staging, name: str) -> None:
    """Let a staged file appear at its place. Durable on return.

    Raises:
        FileExistsError: a file is in the way; it stays as it is.
    """
    fsync_tree(staging.folder)
    _publish(staging.path_of(name), staging.target)
    staging.remove()


def _remove_empty(folder: Path) -> None:
    """Remove a folder if it is empty, so that a rename can take its place."""
    try:
        folder.rmdir()
    except OSError:
        return


def _publish(source: Path, target: Path) -> None:
    """Move a file to a name that must be free. A plain rename would replace what is there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.hardlink_to(source)
        fsync_dir(target.parent)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        rename_new(source, target)
    else:
        source.unlink()


@dataclass(frozen=True, slots=True)
class Leftover:
    """A staging folder that a transfer which was cut off left.

    Attributes:
        bytes: size of its files.
    """

    folder: Path
    bytes: int


def leftovers(roots: Iterable[Path]) -> list[Leftover]:
    """The staging folders with files in them, in these folders of staging folders."""
    left: list[Leftover] = []
    for root in sorted(set(roots)):
        for folder in sorted(path for path in root.glob("*") if path.is_dir()):
            files = [path for path in folder.rglob("*") if not path.is_dir()]
            if files:
                left.append(Leftover(folder, sum(path.lstat().st_size for path in files)))
    return left


def discard(roots: Iterable[Path]) -> list[Leftover]:
    """Remove all staging folders. Returns those that were removed.

    Raises:
        TransferFailed: a transfer works in one of the folders now; nothing was removed.
    """
    present = sorted({root for root in roots if root.is_dir()})
    with ExitStack() as locks:
        for root in present:
            locks.enter_context(hold_lock(root))
        removed = leftovers(present)
        for one in removed:
            remove_tree_if_there(one.folder)
    return removed
