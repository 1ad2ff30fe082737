"""Read-only files on Windows, and locked ones on macOS: neither was run on its own system."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest

from dna_pipeline.base.files import (
    copy_anew,
    copy_file,
    fsync_tree,
    remove_file,
    remove_tree,
    replace_file,
    unprotect,
    write_bytes,
)
from tests.windows import protect_read_only_files


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return protect_read_only_files(monkeypatch)


def read_only(path: Path, data: bytes = b"bytes") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(0o444)
    return path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_copy_of_a_read_only_file_is_an_ordinary_file(refused, tmp_path: Path) -> None:
    source = read_only(tmp_path / "a")
    os.utime(source, (1_000_000_000, 1_000_000_000))
    (tmp_path / "out").mkdir()
    copy_file(source, tmp_path / "out/b")
    assert (mode(source), mode(tmp_path / "out/b")) == (0o444, 0o644)
    assert (tmp_path / "out/b").stat().st_mtime == 1_000_000_000
    fsync_tree(tmp_path / "out")
    (tmp_path / "out/b").unlink()
    assert refused == []


@pytest.mark.parametrize("kind", [0o600, 0o640, 0o755])
def test_a_copy_keeps_the_mode_of_an_ordinary_file(tmp_path: Path, kind: int) -> None:
    source = tmp_path / "a"
    source.write_bytes(b"x")
    source.chmod(kind)
    copy_file(source, tmp_path / "b")
    assert mode(tmp_path / "b") == kind


def test_flushing_leaves_a_read_only_file_read_only(refused, tmp_path: Path) -> None:
    path = read_only(tmp_path / "claim/a")
    fsync_tree(tmp_path)
    assert refused == ["a"]
    assert mode(path) == 0o444


def test_read_only_files_are_removed_and_replaced(refused, tmp_path: Path) -> None:
    remove_file(read_only(tmp_path / "a"))
    remove_file(tmp_path / "a", missing_ok=True)
    with pytest.raises(FileNotFoundError):
        remove_file(tmp_path / "a")
    target = read_only(tmp_path / "b", b"old")
    write_bytes(target, b"new")
    assert target.read_bytes() == b"new"
    target.chmod(0o444)
    (tmp_path / "c").write_bytes(b"newest")
    replace_file(tmp_path / "c", target)
    assert target.read_bytes() == b"newest"
    copy_anew(target, read_only(tmp_path / "d", b"half"))
    assert (tmp_path / "d").read_bytes() == b"newest"
    assert refused == ["a", "b", "b", "d"]


def test_what_cannot_be_removed_at_all_is_as_it_was(tmp_path: Path, monkeypatch) -> None:
    path = read_only(tmp_path / "a")

    def refuse(*_, **__) -> None:
        raise PermissionError(13, "in use", str(path))

    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(PermissionError, match="in use"):
        remove_file(path)
    assert mode(path) == 0o444
    with pytest.raises(PermissionError, match="in use"):
        remove_tree(tmp_path)
    remove_tree(tmp_path, ignore_errors=True)
    assert path.exists()


def test_a_tree_with_read_only_files_is_removed(refused, tmp_path: Path) -> None:
    for name in ("a", "sub/b", "sub/deep/c"):
        read_only(tmp_path / "tree" / name)
    outside = read_only(tmp_path / "outside")
    (tmp_path / "tree/link").symlink_to(outside)
    remove_tree(tmp_path / "tree")
    assert not (tmp_path / "tree").exists()
    assert (mode(outside), sorted(refused)) == (0o444, ["a", "b", "c"])
    with pytest.raises(FileNotFoundError):
        remove_tree(tmp_path / "tree")
    remove_tree(tmp_path / "tree", ignore_errors=True)


def test_finder_s_lock_is_taken_off_and_put_back(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x")
    flags = {str(path): stat.UF_IMMUTABLE | stat.UF_NODUMP}
    real = Path.lstat

    def lstat(path: Path) -> SimpleNamespace:
        return SimpleNamespace(st_mode=real(path).st_mode, st_flags=flags[str(path)])

    def change(path: Path, value: int) -> None:
        flags[str(path)] = value

    monkeypatch.setattr(Path, "lstat", lstat)
    monkeypatch.setattr(os, "chflags", change, raising=False)
    restore = unprotect(path)
    assert restore is not None
    assert flags == {str(path): stat.UF_NODUMP}
    assert unprotect(path) is None
    restore()
    assert flags == {str(path): stat.UF_IMMUTABLE | stat.UF_NODUMP}
