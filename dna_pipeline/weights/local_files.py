"""Finds the files of published models in a folder, whatever their names there."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from dna_pipeline.base.errors import TransferFailed
from dna_pipeline.base.files import copy_file, sha256_file
from dna_pipeline.weights.download import MAX_SMALL_BYTES, RemoteFile
from dna_pipeline.weights.progress import Progress


class FileNotFound(TransferFailed):
    """No file of the folder has the bytes."""


@dataclass
class LocalFiles:
    """The files at or below a folder, found by size and SHA-256.

    So the layout does not matter: a Diffusers folder, a folder with all files side by side, and
    the hub's cache with its links are searched alike. Links to folders are followed: a cache is
    often moved to another disk.

    Attributes:
        links: True to share the bytes by a hard link; later changes of one file are then changes
            of both. Else they are copied, or shared until changed if the file system can do so.
    """

    folder: Path
    progress: Progress
    links: bool = False
    _hashes: dict[Path, str] = field(default_factory=dict[Path, str])

    @cached_property
    def _by_size(self) -> dict[int, list[Path]]:
        files: defaultdict[int, list[Path]] = defaultdict(list)
        for path in _files_below(self.folder):
            files[path.stat().st_size].append(path)
        return files

    def fetch(self, remote: RemoteFile, part: Path) -> str:
        """Copy or link a file to `part`. Returns its SHA-256.

        Raises:
            FileNotFound: the folder does not hold the file.
            TransferFailed: the file changed while it was copied.
        """
        if part.is_file() and sha256_file(part) == remote.file.sha256:
            self.progress.advance(remote.file.bytes)
            return remote.file.sha256
        source, sha256 = self._find(remote)
        part.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)
        self._take(source, part)
        if sha256_file(part) != sha256:
            part.unlink()
            raise TransferFailed(f"{source} changed while it was copied; nothing was kept of it")
        self.progress.advance(remote.file.bytes)
        return sha256

    def _take(self, source: Path, part: Path) -> None:
        real = Path(os.path.realpath(source))
        if self.links:
            with suppress(OSError):  # another file system, or one without hard links
                part.hardlink_to(real)
                return
        copy_file(real, part)

    def _find(self, remote: RemoteFile) -> tuple[Path, str]:
        """The file with the pinned bytes, and their hash. Raises `FileNotFound`."""
        name = PurePosixPath(remote.file.remote).name
        paths = self._by_size.get(remote.file.bytes, [])
        for path in sorted(paths, key=lambda path: path.name != name):
            if self._hash(path) == remote.file.sha256:
                return path, remote.file.sha256
        if remote.may_differ and (changed := self._changed(remote)) is not None:
            return changed, self._hash(changed)
        raise FileNotFound(self._why(remote, name))

    def _changed(self, remote: RemoteFile) -> Path | None:
        """A small file at the same path, with other bytes."""
        for size, paths in self._by_size.items():
            for path in paths:
                relative = path.relative_to(self.folder).as_posix()
                if 0 < size <= MAX_SMALL_BYTES and f"/{relative}".endswith(f"/{remote.file.path}"):
                    return path
        return None

    def _hash(self, path: Path) -> str:
        if path not in self._hashes:
            self._hashes[path] = sha256_file(path)
        return self._hashes[path]

    def _why(self, remote: RemoteFile, name: str) -> str:
        named = [p for paths in self._by_size.values() for p in paths if p.name == name]
        same = min(named, key=lambda p: not p.as_posix().endswith(remote.file.path), default=None)
        expected = f"SHA-256 {remote.file.sha256}, {remote.file.bytes:,} bytes"
        if same is None:
            return f"{remote.name} ({expected})"
        return f"{remote.name} ({expected}; {same} has {self._hash(same)})"


def _files_below(top: Path) -> Iterator[Path]:
    """All files at or below a folder. A folder that several links lead to is searched once, since a
    link to a folder above it would lead in a circle."""
    searched: set[str] = set()
    for folder, folders, names in os.walk(top, followlinks=True):
        if (real := os.path.realpath(folder)) in searched:
            folders.clear()
            continue
        searched.add(real)
        folders.sort()
        for name in sorted(names):
            if (path := Path(folder, name)).is_file():
                yield path
