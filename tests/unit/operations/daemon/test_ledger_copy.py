"""Refusal of a daemon whose ledger is a copy of that of a daemon at work."""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dna_pipeline.base.errors import Locked
from dna_pipeline.base.layout import claim_root
from dna_pipeline.base.reachability import look_directly
from dna_pipeline.intake.claiming import owner
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.operations.daemon import ledger_copy
from dna_pipeline.operations.daemon.lock import hold_lock, holder


class Folders:
    """A data folder whose daemon has claims in an inbox, and a copy of it."""

    def __init__(self, root: Path) -> None:
        self.inbox, self.data, self.copy = root / "in", root / "data", root / "copy"
        self.inbox.mkdir()
        ledger = Ledger(self.data / "ledger.db")
        self.id = ledger.id
        ledger.close()
        shutil.copytree(self.data, self.copy)
        self.waited_s = 0.0

    @property
    def record(self) -> Path:
        return claim_root(self.inbox, self.id) / owner.NAME

    def beat(self, host: str, data: Path | None = None) -> None:
        daemon = {"host": host, "pid": 4711, "since": "2026-11-30T10:00:00Z"}
        record = owner.record_of((data or self.data) / "ledger.db", daemon)
        owner.write(self.inbox, self.id, record)

    def start(self, data: Path, after: Callable[[], Any] = lambda: None) -> None:
        def wait(seconds: float) -> None:
            self.waited_s += seconds
            after()

        places = [("photos", self.inbox)]
        ledger_copy.refuse_copy(places, data / "ledger.db", look_directly, wait)


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path)


def test_a_copy_is_refused_while_the_other_holds_its_lock(folders: Folders) -> None:
    with hold_lock(folders.data):
        record = owner.record_of(folders.data / "ledger.db", holder(folders.data) or {})
        owner.write(folders.inbox, folders.id, record)
        with pytest.raises(Locked) as refusal:
            folders.start(folders.copy)
    text = str(refusal.value)
    for part in (f"{folders.copy}", f"process {os.getpid()}", f"{folders.data}", "inbox photos"):
        assert part in text
    assert folders.waited_s == 0
    folders.start(folders.copy)


def test_a_copy_is_refused_where_the_next_heartbeat_of_another_machine_is_seen(
    folders: Folders,
) -> None:
    folders.beat("elsewhere")

    def beat_later() -> None:
        if folders.waited_s > 5:
            folders.beat("elsewhere")

    with pytest.raises(Locked, match="process 4711 on elsewhere, since"):
        folders.start(folders.copy, beat_later)
    assert 5 < folders.waited_s < owner.BEAT_S


def test_a_daemon_of_another_machine_that_shows_no_heartbeat_is_dead(folders: Folders) -> None:
    folders.beat("elsewhere")
    folders.start(folders.copy)
    assert folders.waited_s == ledger_copy.WATCH_S


def test_one_that_was_silent_for_a_minute_is_not_waited_for(folders: Folders) -> None:
    folders.beat("elsewhere")
    at = time.time() - owner.DEAD_AFTER_S - 1
    os.utime(folders.record, (at, at))
    folders.start(folders.copy)
    assert folders.waited_s == 0


@pytest.mark.parametrize("is_moved", [False, True])
def test_the_same_ledger_starts_at_once_under_another_name_or_path(
    folders: Folders, is_moved: bool
) -> None:
    """A container has another name at each start; a disk may be mounted elsewhere."""
    folders.beat("a-container")
    if is_moved:
        folders.data.rename(folders.data.with_name("moved"))
    folders.start(folders.data.with_name("moved") if is_moved else folders.data)
    assert folders.waited_s == 0


def test_a_ledger_that_was_rebuilt_here_starts_at_once(folders: Folders) -> None:
    folders.beat(platform.node())
    ledger = folders.data / "ledger.db"
    shutil.copyfile(ledger, ledger.with_suffix(".new"))
    ledger.with_suffix(".new").replace(ledger)
    with hold_lock(folders.data):
        folders.start(folders.data)
    assert folders.waited_s == 0


def test_the_first_heartbeat_replaces_the_record_of_an_earlier_place(folders: Folders) -> None:
    folders.beat("elsewhere")
    record = owner.record_of(folders.copy / "ledger.db", {"host": "here", "pid": 1})
    heartbeat = owner.Heartbeat([folders.inbox], folders.id, record)
    heartbeat.start()
    assert owner.read(folders.record.parent) == record
    heartbeat.stop()
    assert not folders.record.exists()


def test_an_inbox_that_is_away_is_not_asked(folders: Folders) -> None:
    folders.beat("elsewhere")
    shutil.rmtree(folders.inbox)
    folders.start(folders.copy)
    assert folders.waited_s == 0
