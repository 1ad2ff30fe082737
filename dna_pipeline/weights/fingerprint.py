"""Hashes of weights, computed once for each version of a file."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dna_pipeline.base.files import read_json, sha256_file, write_bytes
from dna_pipeline.weights.licences import licence_of
from dna_pipeline.weights.pins import is_weights
from dna_pipeline.weights.progress import Progress

if TYPE_CHECKING:
    from dna_pipeline.providers.base import Provider


class Fingerprints:
    """SHA-256 of models, cached in `<data>/weights.json` by path, size and time of each file.

    Several threads may use one: a file that two of them ask for is hashed once, and others are
    hashed beside it.
    """

    def __init__(self, data: Path) -> None:
        self._data = data
        self._file = data / "weights.json"
        self._hashes: dict[str, str] = read_json(self._file) or {}
        self._lock = threading.Lock()
        """Held for changes of the hashes, and for nothing that takes long."""
        self._under_way: dict[str, threading.Lock] = {}
        """A lock for each version of a file that is hashed now."""

    def of(self, provider: Provider) -> tuple[str, str | None]:
        """The path as the manifest names it, and the hash; None for a model without weights."""
        root, files = provider.weights()
        hashes = {path: self.sha256(path) for path in files}
        return manifest_path(self._data, root), model_hash(root, hashes) if files else None

    def known_sha256(self, provider: Provider) -> str | None:
        """The hash, as `of` gives it, if all files of the model were hashed before; else None."""
        root, files = provider.weights()
        try:
            hashes = {path: self._hashes[file_identity(path)] for path in files}
        except (KeyError, OSError):
            return None
        return model_hash(root, hashes) if hashes else None

    def licence(self, provider: Provider) -> str | None:
        """The licence for the manifest: from the configuration, else from the hashes of the files.

        None for a model without weights; `not known` if neither names the licence.

        Raises:
            OSError: the weights cannot be read.
        """
        files = provider.weights()[1]
        if provider.license is not None or not files:
            return provider.license
        return licence_of(self.sha256(path) for path in files if is_weights(path))

    def known_licence(self, provider: Provider) -> str | None:
        """The licence, as `licence` gives it, if the weights were hashed before; else None."""
        files = [path for path in provider.weights()[1] if is_weights(path)]
        try:
            hashes = [self._hashes.get(file_identity(path)) for path in files]
        except OSError:
            return None
        cached = [sha256 for sha256 in hashes if sha256 is not None]
        return licence_of(cached) if cached and len(cached) == len(files) else None

    def remember(self, hashes: Mapping[Path, str]) -> None:
        """Enter hashes of files that were just computed. Those that another process has entered
        meanwhile are kept."""
        self._enter({file_identity(path): sha256 for path, sha256 in hashes.items()})

    def _enter(self, new: dict[str, str]) -> None:
        with self._lock:
            self._hashes = (read_json(self._file) or {}) | self._hashes | new
            write_bytes(self._file, json.dumps(self._hashes, indent=1).encode())

    def sha256(self, path: Path) -> str:
        """The SHA-256 of a file. Raises OSError if it cannot be read."""
        key = file_identity(path)
        if (sha256 := self._hashes.get(key)) is not None:
            return sha256
        with self._lock:
            alone = self._under_way.setdefault(key, threading.Lock())
        with alone:
            if (sha256 := self._hashes.get(key)) is not None:
                return sha256
            try:
                return self._hashed(path, key)
            finally:
                with self._lock:
                    self._under_way.pop(key, None)

    def _hashed(self, path: Path, key: str) -> str:
        """Hash a file, and enter that if the file is still of that version."""
        sha256 = sha256_file(path)
        if file_identity(path) == key:
            self._enter({key: sha256})
        return sha256


def manifest_path(data: Path, root: Path) -> str:
    """The path of a model as manifests name it: below the data folder, else absolute."""
    return (root.relative_to(data) if root.is_relative_to(data) else root).as_posix()


def model_hash(root: Path, hashes: Mapping[Path, str]) -> str:
    """The hash of a model from the hashes of its files, as manifests have it.

    That of a single file is its own SHA-256. That of a folder is the SHA-256 of one line
    `<path>\\0<sha256>\\n` for each file, in the order of their paths. A file outside of the folder,
    or beside a single file, counts by its name after `../`.
    """
    if list(hashes) == [root]:
        return hashes[root]
    digest = hashlib.sha256()
    by_name = {name_below(root, path): sha256 for path, sha256 in hashes.items()}
    for name, sha256 in sorted(by_name.items()):
        digest.update(f"{name}\0{sha256}\n".encode())
    return digest.hexdigest()


def hash_files(
    name: str, files: Iterable[Path], hash_of: Callable[[Path], str], progress: Progress
) -> dict[Path, str]:
    """Hash the files of the model of that name, and show how far it is."""
    hashes: dict[Path, str] = {}
    for path in files:
        progress.show_file(f"{name} {path.name}")
        hashes[path] = hash_of(path)
        progress.advance(path.stat().st_size)
    return hashes


def name_below(root: Path, path: Path) -> str:
    """The name by which a file of a model counts in the model's hash."""
    if path == root or not path.is_relative_to(root):
        return path.name if path == root else f"../{path.name}"
    return path.relative_to(root).as_posix()


def file_identity(path: Path) -> str:
    """Path, size and time of a file: a version of it, without a look at its bytes. Raises
    OSError."""
    stat = path.stat()
    return f"{path}|{stat.st_size}|{stat.st_mtime_ns}"
