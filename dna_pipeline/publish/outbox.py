"""Puts results together aside and lets them appear by one rename.

Knows folders and bytes only; what is in them, and when each step is committed, is the daemon's.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from dna_pipeline.base.failpoints import failpoint
from dna_pipeline.base.files import (
    copy_file,
    fsync_dir,
    fsync_tree,
    remove_file,
    remove_temporaries,
    remove_tree,
    rename_new,
    replace_file,
    temporary_name,
    write_bytes,
)
from dna_pipeline.base.naming import safe_name
from dna_pipeline.media.meshes.obj_names import copy_renamed

FAILED = "failed"
CANCELLED = "cancelled"
LATEST = "latest"
SOURCE = "source"
_TAKEN = (FAILED, CANCELLED, LATEST)


@dataclass(frozen=True, slots=True)
class Publication:
    """A folder to be published.

    Attributes:
        job: the job's id.
        name: path of the folder relative to the outbox, with forward slashes.
        files: what to copy, each with its path in the folder.
        account: manifest.json or error.json, written last; its name and bytes.
        texts: further small files.
    """

    job: str
    name: str
    files: tuple[tuple[Path, str], ...]
    manifest: tuple[str, bytes]
    texts: tuple[tuple[str, bytes], ...] = ()


def mirrored(folder: str) -> str:
    """A subfolder of an inbox as it is called in the outbox: safe names, some of them taken."""
    first, *rest = (safe_name(part) for part in folder.split("/"))
    return "/".join([f"{first}_" if first.casefold() in _TAKEN else first, *rest])


def place_below(folder: str, batch_folder: str) -> str:
    """A folder of an inbox as the source folder of a batch mirrors it; "" for the batch's own."""
    below = Path(os.path.relpath(folder or ".", batch_folder or "."))
    parts = ["_" if part == ".." else safe_name(part) for part in below.parts]
    return "/".join(parts)


def batch_folder(inbox: str, folder: str, stem: str, batch_id: str) -> str:
    """Where in the outbox the results of a batch are, which was dropped in that folder."""
    above = f"{inbox}/{mirrored(folder)}" if folder else inbox
    return f"{above}/{stem}-{batch_id[:8]}"


class Outbox:
    """The outbox, and the hidden folder in it where results are put together."""

    def __init__(self, root: Path, ledger_id: str) -> None:
        self.root = root
        self._staging = root / ".dna" / ledger_id

    def folder(self, name: str) -> Path:
        return self.root / name

    def staging(self, job: str) -> Path:
        return self._staging / job

    def free_name(self, name: str) -> str:
        """`name`, or with a number after it where a folder of that name is there already."""
        number, candidate = 1, name
        while os.path.lexists(self.root / candidate):
            number += 1
            candidate = f"{name}-{number}"
        return candidate

    def build(self, publication: Publication) -> str:
        """Fill the staging folder anew, durably; SHA-256 of the account."""
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

    def holds(self, name: str, account: str, sha256: str) -> bool:
        """Whether the folder of that name is the one with that account."""
        return _has(self.root / name / account, sha256)

    def is_staged(self, job: str, account: str, sha256: str) -> bool:
        """Whether the staging folder is whole: the account is written last."""
        return _has(self.staging(job) / account, sha256)

    def publish(self, job: str, name: str) -> None:
        """Let the staged folder appear. Raises FileExistsError if the name is taken."""
        target = self.root / name
        self.make_folder(target.parent)
        rename_new(self.staging(job), target)
        fsync_dir(self._staging)

    def make_folder(self, folder: Path) -> None:
        """Make a folder, durably, with those above it."""
        if not folder.is_dir():
            if os.path.lexists(folder):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
            self.make_folder(folder.parent)
            folder.mkdir(exist_ok=True)
            fsync_dir(folder.parent)

    def replace_latest(
        self,
        source: Path,
        inbox: str,
        folder: str,
        name: str,
        renamed: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Swap `<inbox>/latest/<folder>/<name>` for a copy of `source` by one rename.

        Args:
            renamed: new names, by the old ones, of files that an OBJ, MTL or PLY names.
        """
        self.put(source, self.root / inbox / LATEST / folder / name, renamed)

    def put(
        self,
        source: Path | bytes,
        target: Path,
        renamed: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Let a file appear at a place in the outbox by one rename, durably.

        What lies there is replaced. Nothing but the file is ever seen in its folder.

        Args:
            source: a file to copy, or the bytes themselves.
            renamed: as for `replace_latest`.
        """
        self.make_folder(target.parent)
        self._staging.mkdir(parents=True, exist_ok=True)
        # A name of its own each time: results and batch reports are written by two threads.
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
        """Take a published folder away, if it is there: by one rename, then its files."""
        if not (self.root / name).is_dir():
            return
        trash = self._staging / f"trash-{os.urandom(4).hex()}"
        trash.parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).rename(trash)
        fsync_dir((self.root / name).parent)
        remove_tree(trash, ignore_errors=True)

    def remove_temporaries(self) -> None:
        """Remove files that were left half written."""
        remove_file(self._staging / "latest.tmp", missing_ok=True)  # an older version's
        remove_temporaries(self._staging)
        remove_temporaries(self.root)


def _has(path: Path, sha256: str) -> bool:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    except OSError:
        return False
