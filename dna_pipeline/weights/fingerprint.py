"""Hashes of weights, computed once for each version of a file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dna_pipeline.base.files import read_json, sha256_file, write_bytes
from dna_pipeline.weights.licences import licence_of
from dna_pipeline.weights.pins import is_weights

if TYPE_CHECKING:
    from dna_pipeline.providers.base import Provider


class Fingerprints:
    """SHA-256 of models, cached in `<data>/weights.json` by path, size and time of each file."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._file = data / "weights.json"
        self._hashes: dict[str, str] = read_json(self._file) or {}

    def of(self, provider: Provider) -> tuple[str, str | None]:
        """The path as the manifest names it, and the hash; None for a model without weights.

        The hash of a single file is its own SHA-256. That of a folder is the SHA-256 of one line
        `<path>\\0<sha256>\\n` for each file, in the order of their paths. A file outside of the
        folder, or beside a single file, counts by its name after `../`.
        """
        root, files = provider.weights()
        if not files:
            return self._manifest_path(root), None
        if files == [root]:
            return self._manifest_path(root), self._hash(root)
        hashes = {name_below(root, f): self._hash(f) for f in files}
        return self._manifest_path(root), folder_hash(hashes)

    def of_file(self, path: Path) -> str:
        """The hash of one file. Raises OSError."""
        return self._hash(path)

    def licence(self, provider: Provider) -> str | None:
        """The licence for the manifest: from the configuration, else from the hashes of the files.

        None for a model without weights; `not known` if neither names the licence.

        Raises:
            OSError: the weights cannot be read.
        """
        files = provider.weights()[1]
        if provider.license is not None or not files:
            return provider.license
        return licence_of(self._hash(path) for path in files if is_weights(path))

    def known_licence(self, provider: Provider) -> str | None:
        """The licence, as `licence` gives it, if the weights were hashed before; else None."""
        files = [path for path in provider.weights()[1] if is_weights(path)]
        try:
            hashes = [self._hashes.get(_key(path)) for path in files]
        except OSError:
            return None
        cached = [sha256 for sha256 in hashes if sha256 is not None]
        return licence_of(cached) if cached and len(cached) == len(files) else None

    def remember(self, hashes: Mapping[Path, str]) -> None:
        """Enter hashes of files that were just computed."""
        self._hashes |= {_key(path): sha256 for path, sha256 in hashes.items()}
        write_bytes(self._file, json.dumps(self._hashes, indent=1).encode())

    def _manifest_path(self, path: Path) -> str:
        inside = path.is_relative_to(self._data)
        return (path.relative_to(self._data) if inside else path).as_posix()

    def _hash(self, path: Path) -> str:
        if (key := _key(path)) not in self._hashes:
            self.remember({path: sha256_file(path)})
        return self._hashes[key]


def name_below(root: Path, path: Path) -> str:
    """The name by which a file of a model counts in the model's hash."""
    if path == root or not path.is_relative_to(root):
        return path.name if path == root else f"../{path.name}"
    return path.relative_to(root).as_posix()


def _key(path: Path) -> str:
    stat = path.stat()
    return f"{path}|{stat.st_size}|{stat.st_mtime_ns}"


def folder_hash(hashes: Mapping[str, str]) -> str:
    """The hash of a model of several files, from the hash of each by its path in the folder."""
    digest = hashlib.sha256()
    for name, sha256 in sorted(hashes.items()):
        digest.update(f"{name}\0{sha256}\n".encode())
    return digest.hexdigest()
