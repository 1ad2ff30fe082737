"""The engine that writes to the ledger.

Writers take the lock when a transaction begins (BEGIN IMMEDIATE), so that two of them wait for one
another instead of failing halfway. WAL lets readers disturb nobody; it is used if the SQLite at
hand does it safely. Otherwise the rollback journal stays, and a COMMIT that a reader blocks is
tried again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool

from dna_pipeline.ledger.sqlite import BUSY_TIMEOUT_MS, flush_fully, sqlite_module, wal_is_safe

CACHE_KIB = 32 << 10
"""Size of SQLite's page cache: ids are random, so each touches other pages of every index."""

T = TypeVar("T")

Transaction = Session
"""Type that `Ledger.transact` passes to the function that it runs."""

LedgerError = SQLAlchemyError
"""Any error of the ledger."""

LedgerUnavailable = OperationalError
"""The ledger cannot be used at the moment: it is locked, or its disk is full or gone. Its `orig` is
SQLite's own error."""


def open_writer(path: Path) -> Engine:
    """Open an engine whose transactions are immediate and durable (`synchronous=FULL`)."""
    module = sqlite_module()
    wal = wal_is_safe(module.sqlite_version_info)
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        module=module,
        poolclass=QueuePool,
        # isolation_level=None leaves BEGIN and COMMIT to us; without it the driver adds its own.
        connect_args={"isolation_level": None, "check_same_thread": False},
    )

    def connected(connection: Any, _: object) -> None:
        connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        flush_fully(connection)
        connection.execute(f"PRAGMA journal_mode={'WAL' if wal else 'DELETE'}")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
        connection.execute("PRAGMA foreign_keys=ON")

    def begun(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begun)
    return engine


def is_busy(error: OperationalError) -> bool:
    """True if the database was merely in use."""
    text = str(error.orig)
    return "locked" in text or "busy" in text


def retry_busy(action: Callable[[], T], seconds: float = 30) -> T:
    """Run a whole transaction, again while readers block it (rollback journal only)."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return action()
        except OperationalError as error:
            if not is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
