"""Who owns the claims in an inbox, and whether they live."""

import json
import os
import socket
import time
from pathlib import Path

import pytest

from dna_pipeline.base.layout import claim_dir, claim_root, claim_roots
from dna_pipeline.intake.claiming import claims, owner

ID = "0123456789ab"
HERE = {"host": socket.gethostname(), "pid": os.getpid(), "data": "/nowhere"}


def nobody(data: Path) -> bool:
    return False


def test_a_beat_is_seen_and_resigning_leaves_nothing(tmp_path: Path) -> None:
    owner.beat(tmp_path, ID, HERE)
    root = claim_root(tmp_path, ID)
    assert owner.read(root) == HERE
    os.utime(root / owner.NAME, (0, 0))
    owner.beat(tmp_path, ID, HERE)
    assert owner.silence_s(root, time.time()) < 5
    owner.resign(tmp_path, ID)
    assert list(tmp_path.iterdir()) == []


def test_who_leaves_claims_behind_stays_named(tmp_path: Path) -> None:
    owner.beat(tmp_path, ID, HERE)
    claims.make_claim_dir(tmp_path, ID, "drop")
    owner.resign(tmp_path, ID)
    assert owner.read(claim_root(tmp_path, ID)) == HERE
    claims.dispose(claim_dir(tmp_path, ID, "drop"))
    assert claims.list_claims(tmp_path, ID) == []
    owner.resign(tmp_path, ID)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("silent", "alive"), [(1, True), (59, True), (61, False)])
@pytest.mark.parametrize("host", ["another", socket.gethostname()])
def test_where_no_lock_can_be_seen_silence_tells(tmp_path: Path, silent, alive, host) -> None:
    owner.beat(tmp_path, ID, HERE | {"host": host})
    root = claim_root(tmp_path, ID)
    os.utime(root / owner.NAME, (1000, 1000))
    assert owner.is_alive(root, 1000 + silent, nobody) == alive


@pytest.mark.parametrize("held", [True, False])
def test_on_this_machine_the_lock_tells(tmp_path: Path, held: bool) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/daemon.lock").touch()
    owner.beat(tmp_path, ID, HERE | {"data": str(tmp_path / "data")})
    root = claim_root(tmp_path, ID)
    now = time.time() + (1000 if held else 0)
    assert owner.is_alive(root, now, lambda data: held) == held


@pytest.mark.parametrize("content", ["", "[]", "{", '{"data": 3}'])
def test_what_anyone_wrote_there_harms_nothing(tmp_path: Path, content: str) -> None:
    root = claim_root(tmp_path, ID)
    root.mkdir(parents=True)
    (root / owner.NAME).write_text(content)
    assert owner.data_of(root) is None
    assert owner.is_alive(root, time.time() + 61, nobody) is False


def test_only_ledgers_are_listed(tmp_path: Path) -> None:
    for name in (ID, "x", "0123456789AB"):
        (tmp_path / ".dna" / name).mkdir(parents=True)
    (tmp_path / ".dna/abcdefabcdef").symlink_to(tmp_path)
    assert [root.name for root in claim_roots(tmp_path)] == [ID]


def test_the_heartbeat_goes_on_by_itself(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(owner, "BEAT_S", 0.02)
    heart = owner.Heartbeat([tmp_path, tmp_path / "away"], ID, HERE)
    heart.start()
    path = claim_root(tmp_path, ID) / owner.NAME
    os.utime(path, (0, 0))
    deadline = time.monotonic() + 10
    while path.stat().st_mtime == 0 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert path.stat().st_mtime > 0
    assert json.loads(path.read_bytes()) == HERE
    heart.stop()
    assert list(tmp_path.iterdir()) == []
