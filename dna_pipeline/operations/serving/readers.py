"""Connections for reading the ledger that requests of a server share."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager

from dna_pipeline.config.schema import Config
from dna_pipeline.ledger.gallery_queries import GalleryQueries
from dna_pipeline.ledger.health import FileId, file_id
from dna_pipeline.operations.lookup import require_ledger


class Readers:
    """Lends connections to the ledger, one to each thread that asks, and keeps a few for the next.

    A connection is not lent again once another file has taken the ledger's place, as `repair` puts
    one there.
    """

    def __init__(self, config: Config, most_kept: int = 8) -> None:
        self._config = config
        self._most_kept = most_kept
        self._free: deque[tuple[FileId, GalleryQueries]] = deque()
        self._lock = threading.Lock()

    @contextmanager
    def lend(self) -> Generator[GalleryQueries]:
        """Lend a connection for the block. Raises `ConfigError` if there is no ledger yet."""
        file = file_id(self._config.ledger_path)
        queries = self._take(file) or self._open()
        try:
            yield queries
        except BaseException:
            queries.close()
            raise
        self._give_back(file, queries)

    def has_ledger(self) -> bool:
        """True if there is a ledger, and so if there may be jobs."""
        return self._config.ledger_path.exists()

    def close(self) -> None:
        """Close the connections that are not lent; others may go on for a moment."""
        with self._lock:
            self._most_kept = 0
            free, self._free = self._free, deque()
        for _, queries in free:
            queries.close()

    def _open(self) -> GalleryQueries:
        require_ledger(self._config)
        return GalleryQueries(self._config.ledger_path)

    def _take(self, file: FileId | None) -> GalleryQueries | None:
        stale: list[GalleryQueries] = []
        with self._lock:
            while self._free:
                kept, queries = self._free.pop()
                if kept == file:
                    break
                stale.append(queries)
            else:
                queries = None
        for old in stale:
            old.close()
        return queries

    def _give_back(self, file: FileId | None, queries: GalleryQueries) -> None:
        with self._lock:
            if file is not None and len(self._free) < self._most_kept:
                self._free.append((file, queries))
                return
        queries.close()
