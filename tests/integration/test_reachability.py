"""Helpers that look at folders, with mounts that really do not answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from dna_pipeline.base import filesystem, reachability
from dna_pipeline.base.reachability import FolderProbe, Reach
from tests.hanging import HangingMount

Hang = Callable[..., HangingMount]

LONG_S = 3600.0


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> Iterator[FolderProbe]:
    monkeypatch.setattr(reachability, "RETRY_S", 0.1)
    probe = FolderProbe(limit_s=0.5)
    yield probe
    probe.close()


def look_until(probe: FolderProbe, folder: Path, state: str) -> Reach:
    deadline = time.monotonic() + 60
    while (reach := probe.look(folder)).state != state:
        assert time.monotonic() < deadline, reach
        time.sleep(0.05)
    return reach


def helpers() -> list[psutil.Process]:
    children = psutil.Process().children()
    return [c for c in children if any("reachability" in word for word in c.cmdline())]


def test_what_is_there_what_is_empty_and_what_is_not(probe: FolderProbe, tmp_path: Path) -> None:
    status = tmp_path.stat()
    there = Reach("there", "", status.st_dev, status.st_ino, is_empty=True)
    assert probe.look(tmp_path) == there
    (tmp_path / "file").touch()
    assert probe.look(tmp_path) == Reach("there", "", status.st_dev, status.st_ino)
    assert probe.look(tmp_path / "file") == Reach("missing", "is no folder")
    assert probe.look(tmp_path / "gone") == Reach("missing", "No such file or directory")
    assert len(helpers()) == 1, "one helper serves all folders that answer"


@pytest.mark.slow
@pytest.mark.parametrize("stubborn", [False, True])
def test_a_dead_mount_is_silent_and_comes_back(
    probe: FolderProbe, tmp_path: Path, hang: Hang, stubborn: bool
) -> None:
    far, near = tmp_path / "far", tmp_path / "near"
    for folder in (far, near):
        folder.mkdir()
    assert probe.look(far).is_there
    gone = hang(far, stubborn=stubborn)
    reach = probe.look(far)
    assert (reach.is_silent, reach.is_there) == (True, False)
    assert "does not answer" in reach.why
    # Whoever waited once more for the silent one would now wait for an hour.
    probe.limit_s = LONG_S
    for _ in range(5):
        assert probe.look(far).is_silent
        assert probe.look(near).is_there
        time.sleep(0.1)
    probe.limit_s = 0.5
    gone.unmount()
    assert look_until(probe, far, "there").inode == far.stat().st_ino


@pytest.mark.slow
def test_helpers_that_cannot_be_killed_do_not_pile_up(
    probe: FolderProbe, tmp_path: Path, hang: Hang, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reachability, "RETRY_S", 0.0)
    monkeypatch.setattr(reachability, "MAX_STUCK", 2)
    probe.limit_s = 0.1
    gone = hang(tmp_path, stubborn=True)
    for _ in range(50):
        assert probe.look(tmp_path).is_silent
        time.sleep(0.05)
    left = helpers()
    assert len(left) == 2
    probe.close()
    assert [helper.is_running() for helper in left] == [True, True]
    gone.unmount()
    for helper in left:
        helper.wait(10)


@pytest.mark.slow
def test_a_helper_that_died_is_replaced(probe: FolderProbe, tmp_path: Path) -> None:
    assert probe.look(tmp_path).is_there
    for helper in helpers():
        helper.kill()
    assert look_until(probe, tmp_path, "there").is_there


@pytest.mark.slow
def test_a_closed_probe_starts_nothing(tmp_path: Path) -> None:
    probe = FolderProbe()
    assert probe.look(tmp_path).is_there
    probe.close()
    assert probe.look(tmp_path).is_silent
    assert helpers() == []


def test_which_folders_may_hang(tmp_path: Path, hang: Hang) -> None:
    for name in ("near", "far", "links"):
        (tmp_path / name).mkdir()
    links = tmp_path / "links"
    (links / "absolute").symlink_to(tmp_path / "far")
    (links / "relative").symlink_to("../near/../far/below")
    (links / "near").symlink_to("../near")
    (links / "circle").symlink_to("circle")
    hang(tmp_path / "far")
    risky = ["far", "far/below", "links/absolute/below", "links/relative", "near/../far"]
    safe = ["near", "links/near", "links/circle", "not there/below", "."]
    assert [path for path in risky if not filesystem.may_hang(tmp_path / path)] == []
    assert [path for path in safe if filesystem.may_hang(tmp_path / path)] == []


@pytest.mark.slow
def test_a_command_asks_a_helper_only_where_it_must(tmp_path: Path, hang: Hang) -> None:
    far = tmp_path / "far"
    far.mkdir()
    with reachability.brief_looks() as look:
        assert look(tmp_path).is_there
        assert helpers() == []
        gone = hang(far)
        assert look(far).is_silent
        gone.unmount()
