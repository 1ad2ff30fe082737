"""One flush for many files, and a rename that replaces nothing."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from dna_pipeline.base import filesystem

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux's syncfs")


def test_the_flush_is_the_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    real = filesystem._libc().syncfs

    class Libc:
        def syncfs(self, fd: int) -> int:
            flushed.append(real(fd))
            return flushed[-1]

    monkeypatch.setattr(filesystem, "type_of", lambda folder: "ext4")
    monkeypatch.setattr(filesystem, "_libc", Libc)
    with filesystem.shared_flush(tmp_path) as flush:
        assert flush is not None
        flush()
    assert flushed == [0]
    with pytest.raises(OSError) as raised:
        flush()
    assert raised.value.errno == errno.EBADF


@pytest.mark.parametrize("kind", ["nfs4", "fuse.sshfs", "overlay", ""])
def test_where_one_flush_may_not_do_there_is_none(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filesystem, "type_of", lambda folder: kind)
    with filesystem.shared_flush(tmp_path) as flush:
        assert flush is None


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        (0, False),
        (0xA0000003, True),  # a junction, or a volume mount point
        (0xA000000C, True),  # a symbolic link
        (0xA000001D, True),  # one that WSL made
        (0x9000301A, False),  # a file that OneDrive keeps in the cloud
        (0x80000013, False),  # one that Windows Server deduplicated
    ],
)
def test_what_windows_says_of_links(tmp_path: Path, tag: int, expected: bool) -> None:
    mode = tmp_path.lstat().st_mode
    status = SimpleNamespace(st_mode=mode, st_reparse_tag=tag)
    assert filesystem.is_link(cast(os.stat_result, status)) == expected


def test_links_of_other_systems(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    assert filesystem.is_link((tmp_path / "link").lstat())
    assert not filesystem.is_link(tmp_path.lstat())


# --- a rename that replaces nothing ---


@pytest.mark.parametrize("one_step", [True, False])
@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_a_rename_to_a_free_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, one_step: bool
) -> None:
    if not one_step:
        monkeypatch.setattr(filesystem, "_rename_exclusively", lambda *_: False)
    source, taken = tmp_path / "a", tmp_path / "taken"
    if kind == "folder":
        source.mkdir()
        taken.mkdir()
    elif kind == "link":
        source.symlink_to("away")
        taken.symlink_to("elsewhere")
    else:
        source.write_bytes(b"a")
        taken.write_bytes(b"taken")
    before = taken.lstat()
    with pytest.raises(FileExistsError):
        filesystem.rename_to_free(source, taken)
    assert taken.lstat().st_ino == before.st_ino
    inode = source.lstat().st_ino
    filesystem.rename_to_free(source, tmp_path / "é free")
    assert (tmp_path / "é free").lstat().st_ino == inode
    assert not os.path.lexists(source)


def test_a_rename_of_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        filesystem.rename_to_free(tmp_path / "a", tmp_path / "b")


def test_a_system_without_that_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    (tmp_path / "a").write_bytes(b"a")
    filesystem.rename_to_free(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"a"
