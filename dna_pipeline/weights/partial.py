"""A file that is being fetched: its bytes so far, and their hash."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from dna_pipeline.base.files import fsync

_CHUNK = 1 << 20


class PartialFile:
    """A file on disk that grows at its end, with the SHA-256 of all its bytes.

    The bytes of an earlier process are hashed again on opening.

    Args:
        report: called with each number of bytes that are there, old ones too.
    """

    def __init__(self, path: Path, report: Callable[[int], None]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        self._report = report
        self._file = path.open("r+b")
        self._digest = hashlib.sha256()
        self.bytes = 0
        while chunk := self._file.read(_CHUNK):
            self._count(chunk)

    def _count(self, chunk: bytes) -> None:
        self._digest.update(chunk)
        self.bytes += len(chunk)
        self._report(len(chunk))

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def append(self, chunk: bytes) -> None:
        self._file.write(chunk)
        self._count(chunk)

    def clear(self) -> None:
        """Throw all bytes away."""
        self._file.seek(0)
        self._file.truncate()
        self._digest = hashlib.sha256()
        self._report(-self.bytes)
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
