"""A ledger that is damaged or gone is refused, and stays as it is."""

import sqlite3
import sys
from pathlib import Path

import pytest

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.ledger import health
from dna_pipeline.ledger.queries import Queries
from dna_pipeline.ledger.store import Ledger, get_setting, set_setting
from tests.ledgers import lay_out


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    made = Ledger(path)
    for number in range(200):
        made.transact(lambda s, n=number: set_setting(s, f"number{n}", "x" * 500))
    made.close()
    return path


def test_nothing_is_written_while_the_ledger_is_rebuilt(ledger: Path) -> None:
    opened = Ledger(ledger, unlocked=True)
    building = health.building_file(ledger)
    building.touch()
    with pytest.raises(health.LedgerReplaced, match="is being rebuilt"):
        opened.transact(lambda s: set_setting(s, "late", "1"))
    with pytest.raises(health.LedgerReplaced, match="is being rebuilt"):
        Ledger(ledger, unlocked=True)
    health.discard_building(ledger)
    assert opened.transact(lambda s: get_setting(s, "late")) is None
    opened.close()


@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be replaced there")
def test_nothing_is_written_to_a_ledger_that_was_replaced(ledger: Path, tmp_path: Path) -> None:
    opened = Ledger(ledger, unlocked=True)
    other = tmp_path / "other.db"
    lay_out(other)
    ledger.rename(tmp_path / "damaged")
    other.rename(ledger)
    with pytest.raises(health.LedgerReplaced, match="another ledger"):
        opened.transact(lambda s: set_setting(s, "late", "1"))
    opened.close()


def scribble(path: Path) -> bytes:
    """Overwrites pages in the middle; the header stays well."""
    data = bytearray(path.read_bytes())
    data[4 * 4096 : 30 * 4096] = b"\xa5" * (26 * 4096)
    path.write_bytes(data)
    return bytes(data)


@pytest.mark.slow
def test_damaged_pages_are_found_at_opening(ledger: Path) -> None:
    content = scribble(ledger)
    with pytest.raises(ConfigError, match=r"ledger\.db: the ledger is damaged .*repair"):
        Ledger(ledger)
    assert ledger.read_bytes() == content


@pytest.mark.slow
def test_a_large_one_is_checked_where_that_was_asked_for(ledger: Path, monkeypatch) -> None:
    monkeypatch.setattr(health, "CHECKED_BYTES", 0)
    scribble(ledger)
    with pytest.raises(ConfigError, match="damaged"):
        Ledger(ledger, thorough=True)


@pytest.mark.slow
def test_a_large_one_that_stopped_well_is_not_read_through(ledger: Path, monkeypatch) -> None:
    monkeypatch.setattr(health, "CHECKED_BYTES", 0)
    data = bytearray(ledger.read_bytes())
    data[-4096:] = b"\xa5" * 4096
    ledger.write_bytes(data)
    Ledger(ledger).close()
    with pytest.raises(ConfigError, match="damaged"):
        Ledger(ledger, thorough=True)


@pytest.mark.slow
@pytest.mark.parametrize("loss", [Path.unlink, lambda path: path.write_bytes(b"")])
def test_one_that_is_gone_is_not_begun_anew(ledger: Path, loss) -> None:
    loss(ledger)
    with pytest.raises(ConfigError, match=r"damaged \(it is (gone|empty)\)"):
        Ledger(ledger)
    assert not ledger.exists() or ledger.stat().st_size == 0


def test_a_first_opening_that_was_cut_off_is_no_loss(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").touch()
    Ledger(tmp_path / "ledger.db").close()


@pytest.mark.slow
def test_the_stop_was_clean_or_not(ledger: Path) -> None:
    assert health.was_stopped_cleanly(ledger)
    opened = Ledger(ledger)
    opened.transact(lambda s: set_setting(s, "paused", "yes"))
    assert health.was_stopped_cleanly(ledger) == (_mode(ledger) != "wal")
    opened.close()
    assert health.was_stopped_cleanly(ledger)


@pytest.mark.slow
def test_a_look_is_no_unclean_stop(ledger: Path) -> None:
    views = Queries(ledger)
    assert views.jobs() == []
    views.close()
    assert health.was_stopped_cleanly(ledger)


def _mode(path: Path) -> str:
    connection = sqlite3.connect(path)
    try:
        return connection.execute("PRAGMA journal_mode").fetchone()[0]
    finally:
        connection.close()


@pytest.mark.slow
def test_what_is_wrong_in_words(ledger: Path) -> None:
    assert health.problem(ledger) is None
    assert health.problem(ledger.with_name("never.db")) is None
    scribble(ledger)
    assert health.problem(ledger)
    ledger.unlink()
    assert health.problem(ledger) == "it is gone"
