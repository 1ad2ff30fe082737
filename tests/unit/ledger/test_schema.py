import sqlite3
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, text

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.ledger import engine as engines
from dna_pipeline.ledger import schema
from dna_pipeline.ledger.store import Ledger, get_setting, set_setting
from dna_pipeline.ledger.tables import Base


def master(engine) -> dict[str, str]:
    """What SQLite was told to create, spaces evened out."""
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE sql NOT NULL"))
        return {name: " ".join(sql.replace('"', "").split()) for name, sql in rows}


def columns(engine, table: str) -> list[tuple[str, str, bool]]:
    found = inspect(engine).get_columns(table)
    return [(c["name"], str(c["type"]).split("(")[0], c["nullable"]) for c in found]


def test_the_migrations_make_what_the_models_say(tmp_path: Path) -> None:
    Ledger(tmp_path / "migrated.db").close()
    migrated = create_engine(f"sqlite:///{tmp_path}/migrated.db")
    modelled = create_engine(f"sqlite:///{tmp_path}/modelled.db")
    Base.metadata.create_all(modelled)
    for table in Base.metadata.tables:
        assert columns(migrated, table) == columns(modelled, table)
        assert inspect(migrated).get_pk_constraint(table) == inspect(modelled).get_pk_constraint(
            table
        )
        assert inspect(migrated).get_foreign_keys(table) == inspect(modelled).get_foreign_keys(
            table
        )
    ours, theirs = master(migrated), master(modelled)
    indexes = {name for name in theirs if name[:3] in ("ix_", "ux_")}
    assert indexes
    assert {n: ours.get(n) for n in indexes} == {n: theirs[n] for n in indexes}
    assert ours.keys() - theirs.keys() == {"alembic_version"}
    assert "AUTOINCREMENT" in ours["events"]
    migrated.dispose()
    modelled.dispose()


def test_head_is_alembics_head() -> None:
    script = ScriptDirectory.from_config(schema._config())
    assert script.get_heads() == [schema.HEAD]


def test_a_newer_ledger_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    Ledger(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(ConfigError, match=r"newer version of dna-pipeline .schema 9999"):
        Ledger(path)
    assert [p.name for p in tmp_path.iterdir() if "before" in p.name] == []


@pytest.mark.parametrize(
    "content", [b"not a database at all" * 100, b"SQLite format 3\0" + b"x" * 5000]
)
def test_what_is_no_ledger_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(content)
    with pytest.raises(
        ConfigError, match=r"ledger\.db: the ledger is damaged .*dna-pipeline repair"
    ):
        Ledger(path)
    assert path.read_bytes() == content


def test_a_copy_is_set_aside_before_a_migration(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "ledger.db"
    ledger = Ledger(path)
    ledger.transact(lambda s: set_setting(s, "paused", "yes"))
    ledger.close()
    monkeypatch.setattr(schema, "HEAD", "9999")
    monkeypatch.setattr(schema, "_upgrade", lambda engine: None)
    Ledger(path).close()
    copy = path.with_name("ledger.db.before-9999")
    with sqlite3.connect(copy) as connection:
        assert connection.execute("SELECT value FROM settings WHERE name = 'paused'").fetchone()
    connection.close()


def migrate_again(path: Path, monkeypatch) -> None:
    """Open a ledger whose migration ends before it has changed anything."""
    monkeypatch.setattr(schema, "HEAD", "9999")
    monkeypatch.setattr(schema, "_upgrade", lambda engine: None)
    Ledger(path).close()


def test_an_older_copy_stays_and_the_new_one_gets_a_number(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "ledger.db"
    Ledger(path).close()
    older = path.with_name("ledger.db.before-9999")
    older.write_bytes(b"mine")
    migrate_again(path, monkeypatch)
    assert older.read_bytes() == b"mine"
    with sqlite3.connect(path.with_name("ledger.db.before-9999-2")) as connection:
        assert connection.execute("PRAGMA quick_check").fetchone() == ("ok",)
    connection.close()


def test_a_migration_that_is_tried_again_makes_no_second_copy(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "ledger.db"
    Ledger(path).close()
    for _ in range(3):
        migrate_again(path, monkeypatch)
    names = {file.name for file in tmp_path.iterdir()}
    assert names == {"ledger.db", "ledger.id", "ledger.db.before-9999"}


def test_a_second_opening_changes_nothing(tmp_path: Path) -> None:
    first = Ledger(tmp_path / "ledger.db")
    second = Ledger(tmp_path / "ledger.db")
    assert first.id == second.id
    assert len(first.id) == 12
    first.close()
    second.close()
    assert {p.name for p in tmp_path.iterdir()} == {"ledger.db", "ledger.id"}


@pytest.mark.parametrize("name", ["a b", "50%", "what?", "a#b", "ünï", "caf\udce9"])
def test_folders_of_any_name(tmp_path: Path, name: str) -> None:
    from dna_pipeline.ledger.queries import Queries

    ledger = Ledger(tmp_path / name / "ledger.db")
    views = Queries(ledger.path)
    assert views.jobs() == []
    assert ledger.path.is_file()
    views.close()
    ledger.close()


def test_the_version_that_loses_commits_is_known() -> None:
    safe = [(3, 51, 3), (3, 53, 4), (3, 50, 7), (3, 44, 6), (4, 0, 0)]
    unsafe = [(3, 40, 1), (3, 44, 5), (3, 50, 6), (3, 51, 2), (3, 45, 9)]
    assert all(engines.wal_is_safe(version) for version in safe)
    assert not any(engines.wal_is_safe(version) for version in unsafe)


def test_foreign_keys_are_checked_after_a_migration_too(tmp_path: Path) -> None:
    from sqlalchemy.exc import IntegrityError

    from dna_pipeline.ledger import queue

    ledger = Ledger(tmp_path / "ledger.db")
    with pytest.raises(IntegrityError):
        ledger.transact(
            lambda s: queue.finish_stage(
                s,
                "nobody",
                {
                    "stage_id": "a", "type": "a", "params": {}, "device": "cpu", "dtype": "float32",
                    "batch_size": 1, "attempt": 1, "seconds": 1, "warnings": [], "environment": {},
                },
                [],
            )
        )  # fmt: skip
    assert ledger.transact(lambda s: get_setting(s, "ledger_id")) == ledger.id
    ledger.close()
