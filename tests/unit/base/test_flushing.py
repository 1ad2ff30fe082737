"""What reaches the drive itself: with macOS' own call, which was tried on no Mac."""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dna_pipeline.base import files
from dna_pipeline.intake.claiming import claims
from dna_pipeline.ledger.engine import open_writer
from integrations import client

FULL = 51
"""F_FULLFSYNC on macOS."""


class Drive:
    """Records which descriptors were flushed, by their files' names, and how."""

    def __init__(self) -> None:
        self.full: list[str] = []
        self.plain: list[str] = []
        self.refusal: int | None = None

    def fcntl(self, fd: int, command: int) -> int:
        assert command == FULL
        if self.refusal is not None:
            raise OSError(self.refusal, os.strerror(self.refusal))
        self.full.append(name_of(fd))
        return 0

    def fsync(self, fd: int) -> None:
        self.plain.append(name_of(fd))


def name_of(fd: int) -> str:
    return Path(f"/proc/self/fd/{fd}").readlink().name


@pytest.fixture
def drive(monkeypatch: pytest.MonkeyPatch) -> Drive:
    """A Mac's."""
    drive = Drive()
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", FULL, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", drive.fcntl)
    monkeypatch.setattr(os, "fsync", drive.fsync)
    return drive


def _write_bytes(folder: Path) -> None:
    files.write_bytes(folder / "a", b"x")


def _copy_file(folder: Path) -> None:
    files.copy_file(folder / "there", folder / "a")


def _fsync_tree(folder: Path) -> None:
    files.fsync_tree(folder)


def _snapshot(folder: Path) -> None:
    claims.snapshot(folder / "there", folder / "a")


def _send(folder: Path) -> None:
    client.Client(folder, {"in": folder}).send("in", folder / "there", suffix=".png")


@pytest.mark.parametrize(
    ("act", "flushes"),
    [(_write_bytes, 2), (_copy_file, 1), (_fsync_tree, 2), (_snapshot, 1), (_send, 3)],
)
def test_a_mac_is_told_to_empty_its_drive_s_cache(
    drive: Drive, tmp_path: Path, act: Callable[[Path], None], flushes: int
) -> None:
    (tmp_path / "there").write_bytes(b"bytes")
    act(tmp_path)
    assert (len(drive.full), drive.plain) == (flushes, [])


@pytest.mark.parametrize("refusal", [errno.ENOTSUP, errno.EINVAL, errno.ENOTTY])
def test_a_file_system_that_knows_no_full_flush_gets_a_plain_one(
    drive: Drive, tmp_path: Path, refusal: int
) -> None:
    drive.refusal = refusal
    files.write_bytes(tmp_path / "a", b"x")
    assert len(drive.plain) == 2
    _write_bytes(tmp_path)
    (tmp_path / "there").write_bytes(b"bytes")
    before = len(drive.plain)
    _send(tmp_path)
    assert len(drive.plain) == before + 3


@pytest.mark.parametrize("act", [_write_bytes, _send])
def test_a_drive_that_fails_is_no_drive_without_that_call(
    drive: Drive, tmp_path: Path, act: Callable[[Path], None]
) -> None:
    (tmp_path / "there").write_bytes(b"bytes")
    drive.refusal = errno.EIO
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        act(tmp_path)
    assert drive.plain == []


def test_elsewhere_the_plain_call_is_enough(
    drive: Drive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    files.write_bytes(tmp_path / "a", b"x")
    assert (drive.full, len(drive.plain)) == ([], 2)


def test_no_part_of_the_program_flushes_by_itself() -> None:
    """Only `files.fsync` knows how each system wants it."""
    root = Path(str(files.__file__)).parents[1]
    calls = [
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if "os.fsync(" in path.read_text(encoding="utf-8")
    ]
    assert calls == ["base/files.py"]


def test_the_ledger_is_flushed_to_the_drive(tmp_path: Path) -> None:
    engine = open_writer(tmp_path / "ledger.db")
    with engine.connect() as connection:
        told = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("fullfsync", "checkpoint_fullfsync", "synchronous")
        }
    engine.dispose()
    assert told == {"fullfsync": 1, "checkpoint_fullfsync": 1, "synchronous": 2}
