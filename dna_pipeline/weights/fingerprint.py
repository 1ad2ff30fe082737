"""Hashes of weights, computed once for each version of a file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from dna_pipeline.base.files import sha256_file, write_bytes
from dna_pipeline.weights.licences import is_weights, licence_of

if TYPE_CHECKING:
    from dna_pipeline.providers.base import Provider


class Fingerprints:
    """SHA-256 of models, cached in `<data>/weights.json` by path, size and time of each file."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._file = data / "weights.json"
        try:
            self._hashes: dict[str, str] = json.loads(self._file.read_bytes())
        except (OSError, ValueError):
            self._hashes = {}

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
        digest = hashlib.sha256()
        for name, path in sorted((_name_below(root, file), file) for file in files):
            digest.update(f"{name}\0{self._hash(path)}\n".encode())
        return self._manifest_path(root), digest.hexdigest()

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

    def _manifest_path(self, path: Path) -> str:
        inside = path.is_relative_to(self._data)
        return (path.relative_to(self._data) if inside else path).as_posix()

    def _hash(self, path: Path) -> str:
        stat = path.stat()
        key = f"{path}|{stat.st_size}|{stat.st_mtime_ns}"
        if key not in self._hashes:
            self._hashes[key] = sha256_file(path)
            write_bytes(self._file, json.dumps(self._hashes, indent=1).encode())
        return self._hashes[key]


def _name_below(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else f"../{path.name}"
