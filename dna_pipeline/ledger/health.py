"""Checks of a ledger file when it is opened: a damaged ledger is refused, never replaced.

Beside the database lies `ledger.id`, one line with the ledger's id. It tells a ledger that is gone
from one that never was, and gives a rebuilt ledger its old id.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.base.files import write_bytes
from dna_pipeline.ledger.sqlite import flush_fully, sqlite_module

if TYPE_CHECKING:
    from sqlalchemy import Engine

CHECKED_BYTES = 32 << 20
"""Size up to which a ledger is checked at every opening (about 0.1 s). A larger one is checked only
by a daemon that starts after another was killed."""

_MAGIC = b"SQLite format 3\0"

_NO_TEXT = "what should be text in it is none"
"""Reason for a refusal if SQLite's own message quotes bytes that cannot be decoded."""

COMPANIONS = ("-wal", "-shm", "-journal")
"""Ends of the names of the files that SQLite puts beside an open database."""

BUILDING = ".dna-rebuilding.db"
"""Name of the new ledger of a repair until it is complete. A rebuild begins by removing a file of
this name, so it must be a name that nobody gives to a file of their own."""

FileId = tuple[int, int]
"""Device and inode of a file."""


class LedgerReplaced(ConfigError):
    """A repair replaces the ledger, or has replaced it since it was opened."""


def file_id(path: Path) -> FileId | None:
    """Device and inode of a file; None if it is not there."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def id_file(path: Path) -> Path:
    """Return the path of the file that holds the id of the ledger at `path`."""
    return path.with_suffix(".id")


def known_id(path: Path) -> str | None:
    """Return the id that the ledger at `path` has or had; None if there never was one."""
    try:
        return id_file(path).read_text(encoding="ascii").strip() or None
    except (OSError, ValueError):
        return None


def note_id(path: Path, ledger_id: str) -> None:
    """Write the id of a ledger beside it, once the ledger is made."""
    if known_id(path) != ledger_id:
        write_bytes(id_file(path), f"{ledger_id}\n".encode())


def building_file(path: Path) -> Path:
    """Return the path of the new ledger that a repair builds beside the one at `path`."""
    return path.with_name(BUILDING)


def discard_building(path: Path) -> None:
    """Remove the unfinished new ledger of a repair of the ledger at `path`, if there is one."""
    building = building_file(path)
    for end in ("", *COMPANIONS):
        building.with_name(building.name + end).unlink(missing_ok=True)
    id_file(building).unlink(missing_ok=True)


def is_lost(path: Path) -> bool:
    """True if there was a ledger and its file is gone or empty."""
    return known_id(path) is not None and (not path.exists() or path.stat().st_size == 0)


def was_stopped_cleanly(path: Path) -> bool:
    """True if the last connection that wrote was closed, which moves its log into the database.

    A connection that only reads may leave an empty log behind.
    """
    logs = [path.with_name(path.name + end) for end in ("-wal", "-journal")]
    return not any(log.exists() and log.stat().st_size > 0 for log in logs)


def refusal(path: Path, why: object) -> ConfigError:
    """Make the error for a ledger that cannot be used."""
    return ConfigError(
        f"{path}: the ledger is damaged ({why}). It was left as it is. `dna-pipeline repair` sets "
        "it aside and rebuilds it from the results and from what was taken in; or put back a copy"
    )


def check_present(path: Path) -> None:
    """Refuse to begin a new ledger where another was. Raises `ConfigError`."""
    if is_lost(path):
        raise refusal(path, f"it is {'empty' if path.exists() else 'gone'}")


def check_in_place(path: Path, opened: FileId | None) -> None:
    """Refuse to write what a repair would lose.

    Args:
        opened: the file that was opened; None if that is still to be done.

    Raises:
        LedgerReplaced: a repair has begun, or another file is at `path` by now.
    """
    if building_file(path).exists():
        raise LedgerReplaced(
            f"{path}: the ledger is being rebuilt; try again when `dna-pipeline repair` has ended, "
            "and start that again if it was interrupted"
        )
    if opened is not None and file_id(path) != opened:
        raise LedgerReplaced(f"{path}: another ledger has taken its place; try again")


def check_header(path: Path) -> None:
    """Refuse a file whose first bytes are not a database's; for readers. Raises `ConfigError`."""
    with path.open("rb") as file:
        start = file.read(len(_MAGIC))
    if start not in (b"", _MAGIC):
        raise refusal(path, "it is not a database")


def check(engine: Engine, path: Path, *, thorough: bool) -> None:
    """Refuse a damaged ledger.

    Args:
        thorough: check all pages, however large the ledger is.

    Raises:
        ConfigError: the file is no database, or its pages contradict one another.
    """
    from sqlalchemy.exc import DatabaseError

    size = path.stat().st_size if path.exists() else 0
    try:
        with engine.connect() as connection:
            if size <= CHECKED_BYTES or thorough:
                result = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
            else:
                connection.exec_driver_sql("SELECT count(*) FROM sqlite_master")
                result = "ok"
    except DatabaseError as error:
        if not is_damage(error):
            raise
        raise refusal(path, error.orig) from None
    except UnicodeDecodeError:
        raise refusal(path, _NO_TEXT) from None
    if result != "ok":
        raise refusal(path, " ".join(str(result).split()))


def is_damage(error: BaseException) -> bool:
    """True if SQLite reports a broken file, and not a locked, full or unreadable one."""
    from sqlalchemy.exc import DatabaseError, OperationalError

    return (
        isinstance(error, DatabaseError)
        and not isinstance(error, OperationalError)
        and any(word in str(error.orig) for word in ("malformed", "not a database", "corrupt"))
    )


def problem(path: Path) -> str | None:
    """Return the problem of a ledger file; None if it is whole, or if there never was one."""
    if is_lost(path):
        return f"it is {'empty' if path.exists() else 'gone'}"
    if not path.exists() or path.stat().st_size == 0:
        return None
    module = sqlite_module()
    connection: Any = module.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=15)
    try:
        flush_fully(connection)  # closing the last connection writes the log into the ledger
        result = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except module.OperationalError:
        raise
    except module.DatabaseError as error:
        return str(error)
    except UnicodeDecodeError:
        return _NO_TEXT
    finally:
        connection.close()
    return None if result == "ok" else " ".join(str(result).split())
