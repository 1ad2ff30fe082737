"""Write folders and files of the outbox: fill them in a staging folder, then rename them once.

This module knows folders and bytes alone. The publisher decides about contents and commits.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from dna_pipeline.base.failpoints import failpoint
from dna_pipeline.base.files import (
    copy_file,
    fsync_dir,
    fsync_tree,
    is_temporary,
    remove_file,
    remove_temporaries,
    remove_tree,
    rename_new,
    replace_file,
    temporary_name,
    write_bytes,
)
from dna_pipeline.base.layout import CLAIMS, FAILED, STATUS, claim_root, claim_roots
from dna_pipeline.base.naming import numbered
from dna_pipeline.media.meshes.obj_names import copy_renamed


@dataclass(frozen=True, slots=True)
class Publication:
    """A folder to be published.

    Attributes:
        job: the job's id.
        name: path of the folder relative to the outbox, with forward slashes.
        files: what to copy, each with its path in the folder.
        manifest: name and bytes of manifest.json or error.json, which is written last.
        texts: further small files.
    """

    job: str
    name: str
    files: tuple[tuple[Path, str], ...]
    manifest: tuple[str, bytes]
    texts: tuple[tuple[str, bytes], ...] = ()


class Outbox:
    """The outbox, with its hidden staging folders."""

    def __init__(self, root: Path, ledger_id: str) -> None:
        self.root = root
        self._staging = claim_root(root, ledger_id)

    @property
    def mark(self) -> Path:
        """The folder of the staging folders. It stays, so it tells the outbox from the mount point
        of its disk, also when people took all results."""
        return self._staging

    def is_bare(self) -> bool:
        """True if the outbox has no mark of any ledger, and nothing that a daemon that has just
        begun did not write itself. False if it cannot be listed."""
        try:
            names = set(os.listdir(self.root)) - {STATUS, CLAIMS}  # noqa: PTH208
        except OSError:
            return False
        return all(map(is_temporary, names)) and not claim_roots(self.root)

    def folder(self, name: str) -> Path:
        return self.root / name

    def staging(self, job: str) -> Path:
        return self._staging / job

    def free_name(self, name: str) -> str:
        """Give `name`, or `name` with a number if that name is taken."""
        return next(n for n in numbered(name) if not os.path.lexists(self.root / n))

    def build(self, publication: Publication) -> str:
        """Fill the staging folder anew, durably; give the SHA-256 of the manifest file."""
        staging = self.staging(publication.job)
        remove_tree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        for source, name in publication.files:
            target = staging / name
            target.parent.mkdir(exist_ok=True)
            copy_file(source, target)
        failpoint("staging-filled")
        for name, data in (*publication.texts, publication.manifest):
            (staging / name).parent.mkdir(exist_ok=True)
            write_bytes(staging / name, data)
        fsync_tree(staging)
        fsync_dir(self._staging)
        failpoint("manifest-written")
        return hashlib.sha256(publication.manifest[1]).hexdigest()

    def holds(self, name: str, file_name: str, sha256: str) -> bool:
        """True if the published folder `name` has the manifest file with that hash."""
        return _has(self.root / name / file_name, sha256)

    def is_staged(self, job: str, file_name: str, sha256: str) -> bool:
        """True if the staging folder is complete: its manifest, written last, has that hash."""
        return _has(self.staging(job) / file_name, sha256)

    def publish(self, job: str, name: str) -> None:
        """Let the staged folder appear. Raises FileExistsError if the name is taken."""
        target = self.root / name
        self.make_folder(target.parent)
        try:
            rename_new(self.staging(job), target)
        except FileNotFoundError:
            # A retry has just removed the folder of the failures, since the last one left it.
            self.make_folder(target.parent)
            rename_new(self.staging(job), target)
        fsync_dir(self._staging)

    def remove_empty_parent(self, folder: Path) -> None:
        """Make the removal of a failure folder durable, and remove the inbox's folder of failures
        after the last one."""
        parent = folder.parent
        with suppress(OSError):  # it holds other failures, or is gone
            if parent.name == FAILED:
                parent.rmdir()
                parent = parent.parent
        if parent.is_dir():
            fsync_dir(parent)

    def make_folder(self, folder: Path) -> None:
        """Make a folder durably, with all folders above it."""
        if not folder.is_dir():
            if os.path.lexists(folder):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
            self.make_folder(folder.parent)
            folder.mkdir(exist_ok=True)
            fsync_dir(folder.parent)

    def put(
        self,
        source: Path | bytes,
        target: Path,
        renamed: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Let a file appear at a place in the outbox by one rename, durably.

        A file at that place is replaced. No temporary file ever appears in its folder.

        Args:
            source: a file to copy, or the bytes themselves.
            renamed: new names, by the old ones, of files that an OBJ, MTL or PLY names.
        """
        self.make_folder(target.parent)
        self._staging.mkdir(parents=True, exist_ok=True)
        # Two threads write results and batch reports, so each call needs a name of its own.
        temporary = self._staging / temporary_name()
        if isinstance(source, bytes):
            write_bytes(temporary, source)
        elif renamed:
            copy_renamed(source, temporary, renamed)
        else:
            copy_file(source, temporary)
        replace_file(temporary, target)
        fsync_dir(target.parent)

    def remove(self, name: str) -> None:
        """Remove a published folder, if it is there: by one rename, then file by file."""
        if not (self.root / name).is_dir():
            return
        trash = self._staging / f"trash-{os.urandom(4).hex()}"
        trash.parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).rename(trash)
        self.remove_empty_parent(self.root / name)
        remove_tree(trash, ignore_errors=True)

    def remove_temporaries(self) -> None:
        """Remove the unfinished files of an earlier process."""
        remove_file(self._staging / "latest.tmp", missing_ok=True)  # of an older version
        remove_temporaries(self._staging)
        remove_temporaries(self.root)


def _has(path: Path, sha256: str) -> bool:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    except OSError:
        return False
