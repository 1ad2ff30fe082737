"""Whether a ledger file is what it was: looked at when opened; refused if not, never replaced.

Beside the database lies `ledger.id`, one line with the ledger's id. It tells a ledger that is gone
from one that never was, and gives a rebuilt one its old name.
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
"""A ledger up to this size is checked at every opening (about 0.1 s), a larger one only by a daemon
that starts after one that was killed."""

_MAGIC = b"SQLite format 3\0"

_NO_TEXT = "what should be text in it is none"
"""Where SQLite's own complaint quotes what cannot be decoded."""

COMPANIONS = ("-wal", "-shm", "-journal")
"""What SQLite puts beside a database while it is open."""


def id_file(path: Path) -> Path:
    """Where the id of the ledger at `path` is written down."""
    return path.with_suffix(".id")


def known_id(path: Path) -> str | None:
    """The id that the ledger at `path` has or had; None if it never was."""
    try:
        return id_file(path).read_text(encoding="ascii").strip() or None
    except (OSError, ValueError):
        return None


def note_id(path: Path, ledger_id: str) -> None:
    """Write down that there is a ledger, once it is made."""
    if known_id(path) != ledger_id:
        write_bytes(id_file(path), f"{ledger_id}\n".encode())


def is_lost(path: Path) -> bool:
    """Whether there was a ledger and it is gone, or emptied."""
    return known_id(path) is not None and (not path.exists() or path.stat().st_size == 0)


def was_stopped_cleanly(path: Path) -> bool:
    """Whether the last connection that wrote closed in order: it takes its log back in.

    One that only looked may leave an empty log behind.
    """
    logs = [path.with_name(path.name + end) for end in ("-wal", "-journal")]
    return not any(log.exists() and log.stat().st_size > 0 for log in logs)


def refusal(path: Path, why: object) -> ConfigError:
    """The error to raise for a ledger that cannot be used."""
    return ConfigError(
        f"{path}: the ledger is damaged ({why}). It was left as it is. `dna-pipeline repair` sets "
        "it aside and rebuilds it from the results and from what was taken in; or put back a copy"
    )


def check_present(path: Path) -> None:
    """Refuse to begin a new ledger where there was one. Raises `ConfigError`."""
    if is_lost(path):
        raise refusal(path, f"it is {'empty' if path.exists() else 'gone'}")


def check_header(path: Path) -> None:
    """Refuse what is no database at first sight, for those who only look. Raises `ConfigError`."""
    with path.open("rb") as file:
        start = file.read(len(_MAGIC))
    if start not in (b"", _MAGIC):
        raise refusal(path, "it is not a database")


def check(engine: Engine, path: Path, *, thorough: bool) -> None:
    """Refuse a damaged ledger.

    Args:
        thorough: whatever its size.

    Raises:
        ConfigError: it is no database, or its pages contradict one another.
    """
    from sqlalchemy.exc import DatabaseError

    size = path.stat().st_size if path.exists() else 0
    try:
        with engine.connect() as connection:
            if size <= CHECKED_BYTES or thorough:
                said = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
            else:
                connection.exec_driver_sql("SELECT count(*) FROM sqlite_master")
                said = "ok"
    except DatabaseError as error:
        if not is_damage(error):
            raise
        raise refusal(path, error.orig) from None
    except UnicodeDecodeError:
        raise refusal(path, _NO_TEXT) from None
    if said != "ok":
        raise refusal(path, " ".join(str(said).split()))


def is_damage(error: BaseException) -> bool:
    """Whether SQLite says that the file is broken: not that it is locked, full or unreadable."""
    from sqlalchemy.exc import DatabaseError, OperationalError

    return (
        isinstance(error, DatabaseError)
        and not isinstance(error, OperationalError)
        and any(word in str(error.orig) for word in ("malformed", "not a database", "corrupt"))
    )


def problem(path: Path) -> str | None:
    """What is wrong with the ledger; None if it is whole, or if there is and was none."""
    if is_lost(path):
        return f"it is {'empty' if path.exists() else 'gone'}"
    if not path.exists() or path.stat().st_size == 0:
        return None
    module = sqlite_module()
    connection: Any = module.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=15)
    try:
        flush_fully(connection)  # closing the last connection writes the log into the ledger
        said = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except module.OperationalError:
        raise
    except module.DatabaseError as error:
        return str(error)
    except UnicodeDecodeError:
        return _NO_TEXT
    finally:
        connection.close()
    return None if said == "ok" else " ".join(str(said).split())
