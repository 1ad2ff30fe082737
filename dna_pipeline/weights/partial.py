"""A file that is being fetched: its bytes so far, and their hash."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import TracebackType
from typing import Self

from dna_pipeline.base.files import fsync
from dna_pipeline.weights.progress import Progress

_CHUNK = 1 << 20


class PartialFile:
    """A file on disk that grows at its end, with the SHA-256 of all its bytes.

    The bytes of an earlier process are hashed again on opening. A file with a second name, a hard
    link to somebody's own, is left to that name, and begun anew.
    """

    def __init__(self, path: Path, progress: Progress) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.stat().st_nlink > 1:
            path.unlink()
        path.touch()
        self._progress = progress
        self._file = path.open("r+b")
        self._digest = hashlib.sha256()
        self.bytes = 0
        while chunk := self._file.read(_CHUNK):
            self._count(chunk)
            progress.resume(len(chunk))

    def _count(self, chunk: bytes) -> None:
        self._digest.update(chunk)
        self.bytes += len(chunk)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def append(self, chunk: bytes) -> None:
        self._file.write(chunk)
        self._count(chunk)
        self._progress.advance(len(chunk))

    def clear(self) -> None:
        """Throw all bytes away."""
        self._file.seek(0)
        self._file.truncate()
        self._digest = hashlib.sha256()
        self._progress.resume(-self.bytes)
        self.bytes = 0

    def sync(self) -> None:
        """Make the bytes durable."""
        self._file.flush()
        fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
