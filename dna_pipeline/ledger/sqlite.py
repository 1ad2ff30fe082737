"""Choice of the SQLite module, its limit of values, and read-only connections.

Every SQLite before 3.51.3 but 3.50.7 and 3.44.6 can lose a commit when the write-ahead log is
reset. This module does without SQLAlchemy, whose import takes longer than most queries.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar
from urllib.parse import quote

BUSY_TIMEOUT_MS = 15_000
VALUES_AT_ONCE = 500
"""Largest number of values in one statement: SQLite allows 32,766."""

_FIXED = ((3, 51, 3),)
_FIXED_BRANCHES = {(3, 50): 7, (3, 44): 6}

T = TypeVar("T")


def chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """Split values into parts that one statement may name."""
    return (values[i : i + VALUES_AT_ONCE] for i in range(0, len(values), VALUES_AT_ONCE))


def wal_is_safe(version: tuple[int, int, int]) -> bool:
    """True if a version of SQLite is free of the WAL-reset bug."""
    patch = _FIXED_BRANCHES.get(version[:2])
    return version >= _FIXED[0] or (patch is not None and version[2] >= patch)


def sqlite_module() -> Any:
    """Return the interpreter's own DB-API module, unless only a packaged one is safe."""
    if wal_is_safe(sqlite3.sqlite_version_info):
        return sqlite3
    packaged = _packaged()
    return packaged if packaged is not None else sqlite3


def _packaged() -> ModuleType | None:
    try:
        from pysqlite3 import dbapi2  # pyright: ignore
    except ImportError:
        return None
    module: Any = dbapi2
    return module if wal_is_safe(module.sqlite_version_info) else None


def flush_fully(connection: Any) -> None:
    """Make commits and checkpoints reach the drive itself.

    SQLite heeds this only on macOS, where a plain fsync leaves the bytes in the drive's own cache.
    """
    for pragma in ("fullfsync", "checkpoint_fullfsync"):
        connection.execute(f"PRAGMA {pragma}=ON")


def open_reader(path: Path) -> Any:
    """Open a DB-API connection that cannot write and holds no transaction between statements.

    It may be used from any thread, by one at a time.
    """
    name = f"file:{quote(os.fsencode(path.as_posix()))}?mode=ro"
    connection = sqlite_module().connect(
        name, uri=True, isolation_level=None, check_same_thread=False
    )
    connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA query_only=ON")
    return connection
