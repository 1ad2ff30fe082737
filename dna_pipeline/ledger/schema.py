"""Migration of a ledger file to this version's schema, with Alembic, after a copy is made."""

from __future__ import annotations

import filecmp
import os
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, text

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.base.files import rename_new, temporary_name
from dna_pipeline.base.naming import numbered

HEAD = "0009"
"""Newest revision below `migrations/versions`."""

_MIGRATIONS = Path(__file__).parent / "migrations"


def ensure(engine: Engine, path: Path) -> None:
    """Create the tables, or migrate them after a copy of the ledger is made.

    Raises:
        ConfigError: the ledger was written by a newer version.
    """
    with engine.connect() as connection:
        current = revision(connection)
    if current == HEAD:
        return
    if current is not None and current not in known_revisions():
        raise ConfigError(
            f"{path}: written by a newer version of dna-pipeline (schema {current}, this one knows "
            f"up to {HEAD}); update dna-pipeline, or point paths.data at another folder"
        )
    if current is not None:
        _back_up(engine, path.with_name(f"{path.name}.before-{HEAD}"))
    _upgrade(engine)


def revision(connection: Connection) -> str | None:
    """Return the schema's revision; None for an empty file."""
    if not connection.dialect.has_table(connection, "alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def known_revisions() -> set[str]:
    from alembic.script import ScriptDirectory

    return {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}


def _config() -> Any:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", _MIGRATIONS.as_posix().replace("%", "%%"))
    return config


def _back_up(engine: Engine, target: Path) -> None:
    """Copy the ledger to `target`, or to that name with a number if the name is in use.

    A migration that fails is tried again at each start, so a copy that exists is not made twice.
    """
    temporary = target.with_name(temporary_name())
    try:
        with engine.connect() as connection:
            connection.connection.execute("VACUUM INTO ?", (str(temporary),))  # pyright: ignore
        for copy in map(target.with_name, numbered(target.name)):
            if not os.path.lexists(copy):
                rename_new(temporary, copy)
                return
            if copy.is_file() and filecmp.cmp(temporary, copy, shallow=False):
                return
    finally:
        temporary.unlink(missing_ok=True)


def _upgrade(engine: Engine) -> None:
    from alembic import command

    config = _config()
    with engine.connect() as connection:
        raw: Any = connection.connection
        # Batch mode drops a table to rebuild it, which deletes child rows if foreign keys are on.
        raw.execute("PRAGMA foreign_keys=OFF")
        try:
            with connection.begin():
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        finally:
            raw.execute("PRAGMA foreign_keys=ON")
