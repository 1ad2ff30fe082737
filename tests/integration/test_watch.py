"""The daemon, without models: what it tells of files it leaves, and of itself to other daemons."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import fork_server
from tests.commands import call

CONFIG = """\
version: 1
models: {matte: {provider: border_key}}
pipelines: {cut: [{remove_background: {}}]}
inboxes:
  - {path: in, pipeline: cut, settle_seconds: 0.2, rescan_seconds: 0.5}
  - {path: %s, name: kept, pipeline: cut, originals: keep}
"""


def studio(root: Path, kept: Path) -> Path:
    root.mkdir()
    (root / "in").mkdir()
    (root / "pipeline.yaml").write_text(CONFIG % kept)
    return root


@contextmanager
def watching(root: Path) -> Iterator[fork_server.Process]:
    (root / "log").unlink(missing_ok=True)
    server = fork_server.light()
    daemon = fork_server.logged(server, root / "log", "dna_pipeline", "watch", cwd=root)
    try:
        deadline = time.monotonic() + 60
        while not (root / "outbox/status.json").exists():
            assert daemon.poll() is None, (root / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield daemon
    finally:
        daemon.terminate()
        assert daemon.wait(30) == 0


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return studio(tmp_path / "a", tmp_path / "kept")


CONFLICT = "a.sync-conflict-20260101-120000-ABCDEFG.png"
LEFT = {
    "cat.yaml.txt": "a YAML's name ends in .yaml",
    "photo.jxl": "save it as PNG or JPEG",
    "sub": "a subfolder, and this inbox is not recursive",
    "lone.yaml": "image",
    CONFLICT: "a conflict copy",
}


def is_told(told: dict[str, str]) -> bool:
    return told.keys() == LEFT.keys() and all(LEFT[name] in told[name] for name in LEFT)


@pytest.mark.slow
def test_status_tells_what_was_left_and_why(root: Path) -> None:
    (root / "in/sub").mkdir()
    for name in ("cat.yaml.txt", "photo.jxl", "sub/deep.png", CONFLICT):
        (root / "in" / name).write_bytes(b"x")
    (root / "in/lone.yaml").write_text("priority: 2")
    with watching(root):
        deadline = time.monotonic() + 30
        told: dict[str, str] = {}
        while not is_told(told) and time.monotonic() < deadline:
            time.sleep(0.2)
            status = json.loads((root / "outbox/status.json").read_bytes())
            told = {entry["file"]: entry["reason"] for entry in status["waiting"]}
        assert is_told(told), told
        time.sleep(1.2)
        shown = call(root, "status").stdout
        for name, reason in LEFT.items():
            (line,) = [line for line in shown.splitlines() if f"in/{name}:" in line]
            assert line.startswith("waiting")
            assert reason in line
        facts = json.loads(call(root, "status", "--json").stdout)
        assert {entry["file"] for entry in facts["waiting"]} == LEFT.keys()


@pytest.mark.slow
def test_the_daemon_shows_that_it_lives_and_cleans_up(root: Path) -> None:
    call(root, "resume")  # makes the ledger: what lay there before it is not its own
    leftover = root / "data/work" / ("0" * 32)
    leftover.mkdir(parents=True)
    os.utime(leftover, (0, 0))
    with watching(root) as daemon:
        (path,) = (root / "in/.dna").glob("*/owner.json")
        facts = json.loads(path.read_bytes())
        assert facts["pid"] == daemon.pid
        assert facts["data"] == str(root / "data")
        deadline = time.monotonic() + 10
        while leftover.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not leftover.exists()
    assert list((root / "in").iterdir()) == []


@pytest.mark.slow
def test_a_kept_inbox_that_another_daemon_watches_is_refused(root: Path, tmp_path: Path) -> None:
    other = studio(tmp_path / "b", tmp_path / "kept")
    with watching(root) as daemon:
        second = call(other, "run")
        assert second.returncode == 3
        assert f"process {daemon.pid}, data folder {root}/data" in second.stderr
    assert call(other, "run").returncode == 0
    assert list((tmp_path / "kept").iterdir()) == []


@pytest.mark.slow
def test_a_daemon_refuses_a_damaged_ledger_and_leaves_it(root: Path) -> None:
    assert call(root, "run").returncode == 0
    ledger = root / "data/ledger.db"
    damaged = b"\0" * ledger.stat().st_size
    ledger.write_bytes(damaged)
    done = call(root, "watch")
    assert done.returncode == 2
    assert str(ledger) in done.stderr
    assert "dna-pipeline repair" in done.stderr
    assert ledger.read_bytes() == damaged
    assert call(root, "repair").returncode == 0
    assert call(root, "run").returncode == 0
