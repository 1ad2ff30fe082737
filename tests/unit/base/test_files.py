"""Names, hashes, and files that appear whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dna_pipeline.base.files import (
    copy_file,
    fsync_dir,
    fsync_tree,
    open_to_read,
    rename_new,
    sha256_file,
    write_atomic,
    write_bytes,
)
from dna_pipeline.base.naming import STEM_BYTES, safe_name, safe_stem

# --- names ---


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("cat", "cat"),
        ("Größe 猫 🐈", "Größe 猫 🐈"),
        ("family 👨‍👩‍👧", "family 👨‍👩‍👧"),
        ("a/b\\c:d*e?f\"g<h>i|j", "a_b_c_d_e_f_g_h_i_j"),
        ("a\0b\nc\x1b[31md\x7f\x9b", "a_b_c__31md__".replace("__31m", "_[31m")),
        ("photo\u202egpj.exe", "photo_gpj.exe"),
        ("a\u2066b\u200fc\u061cd\ufeffe\u200bf", "a_b_c_d_e_f"),
        ("half \udcff pair \ud83d", "half _ pair _"),
        ("e\u0301te\u0301", "été"),
        (".hidden", "hidden"),
        ("..", "unnamed"),
        (" . ", "unnamed"),
        ("", "unnamed"),
        ("trailing. . ", "trailing"),
        ("a...b", "a...b"),
        ("con", "_con"),
        ("Aux.tar", "_Aux.tar"),
        ("NUL .x", "_NUL .x"),
        ("COM1", "_COM1"),
        ("lpt².txt", "_lpt².txt"),
        ("CONOUT$", "_CONOUT$"),
        ("console", "console"),
        ("com10", "com10"),
    ],
)  # fmt: skip
def test_safe_names(name: str, safe: str):
    assert safe_name(name) == safe


@pytest.mark.parametrize("character", ["a", "ü", "猫", "🐈"])
@pytest.mark.parametrize("before", ["", "x", "xy", "xyz"])
def test_long_names_are_cut_between_characters(character: str, before: str):
    name = safe_name(before + character * 200)
    size = len(character.encode())
    assert name == before + character * ((STEM_BYTES - len(before)) // size)


def test_cutting_makes_no_reserved_name():
    assert safe_name("con" + " " * 200 + "x") == "_con"
    assert len(safe_name("con." + "x" * 200).encode()) == STEM_BYTES
    assert safe_name("x" * 118 + ".  y") == "x" * 118


@pytest.mark.slow
@given(st.text(max_size=150) | st.text("con.auxlpt1 ./\\\u202e\u0301e猫\ud800", max_size=150))
@example("con" + "." * 130)
def test_safe_names_of_anything(name: str):
    safe = safe_name(name)
    assert 0 < len(safe.encode()) <= STEM_BYTES
    assert safe_name(safe) == safe
    assert unicodedata.is_normalized("NFC", safe)
    assert safe[0] != "." and safe[-1] not in ". "
    assert not set(safe) & set('<>:"/\\|?*')
    assert not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in safe)
    assert not any(unicodedata.bidirectional(c) in BIDI for c in safe)


BIDI = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


@pytest.mark.slow
@given(name=st.text(max_size=300))
def test_a_safe_name_can_be_used(name: str, tmp_path_factory: pytest.TempPathFactory):
    file = tmp_path_factory.getbasetemp() / (safe_name(name) + "." + "x" * (254 - STEM_BYTES))
    file.write_bytes(b"")
    assert file in file.parent.iterdir()
    file.unlink()


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("cat.png", "cat"),
        ("cat.tar.gz", "cat.tar"),
        ("cat", "cat"),
        (".png", "png"),
        ("nul.png", "_nul"),
        ("sub/cat.png", "cat"),
        ("cat..png", "cat"),
    ],
)
def test_safe_stems(name: str, stem: str):
    assert safe_stem(name) == stem


# --- hashes ---


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_sha256(tmp_path: Path, size: int):
    data = os.urandom(size)
    (tmp_path / "file").write_bytes(data)
    assert sha256_file(tmp_path / "file") == hashlib.sha256(data).hexdigest()


# --- write_atomic ---


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_write_replaces_whole(tmp_path: Path):
    target = tmp_path / "status.json"
    write_bytes(target, b"old")
    with target.open("rb") as reader:
        write_bytes(target, b"new, and longer")
        assert reader.read() == b"old"
    assert target.read_bytes() == b"new, and longer"
    assert names(tmp_path) == ["status.json"]


def test_what_is_being_written_is_hidden_and_unfinished(tmp_path: Path):
    target = tmp_path / "a.png"
    target.write_bytes(b"old")
    seen: list[str] = []

    def write(file):
        file.write(b"half")
        file.flush()
        seen.extend(set(names(tmp_path)) - {"a.png"})
        assert target.read_bytes() == b"old"

    write_atomic(target, write)
    assert len(seen) == 1
    assert seen[0].startswith(".") and seen[0].endswith(".tmp")
    assert target.read_bytes() == b"half"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_what_was(tmp_path: Path, error: type[BaseException]):
    target = tmp_path / "a.png"
    target.write_bytes(b"old")

    def write(file):
        file.write(b"half")
        raise error

    with pytest.raises(error):
        write_atomic(target, write)
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["a.png"]


def test_a_process_killed_while_it_writes_leaves_no_half_file(tmp_path: Path):
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from dna_pipeline.base.files import write_atomic\n"
        "def write(file):\n"
        "    file.write(b'half'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_atomic(Path(sys.argv[1]), write)\n"
    )
    target = tmp_path / "a.png"
    done = subprocess.run([sys.executable, "-c", code, str(target)], check=False, timeout=60)
    assert done.returncode == -9
    assert not target.exists()
    assert all(name.startswith(".") for name in names(tmp_path))


@pytest.mark.parametrize("name", ["x" * 255, "ü" * 127, "🐈" * 63])
def test_long_names(tmp_path: Path, name: str):
    write_bytes(tmp_path / name, b"x")
    assert names(tmp_path) == [name]


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path):
    target = tmp_path / "a"
    write_atomic(target, lambda file: (file.write(b"outer"), write_bytes(target, b"inner")))
    assert target.read_bytes() == b"outer"
    assert names(tmp_path) == ["a"]


def test_no_folder_to_write_to(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        write_bytes(tmp_path / "missing" / "a", b"x")


# --- copy_file ---


def test_copy(tmp_path: Path):
    source, target = tmp_path / "a", tmp_path / "b"
    data = os.urandom(2_500_000)
    source.write_bytes(data)
    source.chmod(0o640)
    os.utime(source, (1_000_000_000, 1_000_000_000))
    copy_file(source, target)
    assert target.read_bytes() == data
    assert target.stat().st_mtime == 1_000_000_000
    assert target.stat().st_ino != source.stat().st_ino
    assert source.stat().st_nlink == 1
    with source.open("r+b") as still_open:
        still_open.write(b"changed")
    assert target.read_bytes() == data


def test_copy_refuses_what_is_there(tmp_path: Path):
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_bytes(b"new")
    target.write_bytes(b"old")
    with pytest.raises(FileExistsError):
        copy_file(source, target)
    assert target.read_bytes() == b"old"
    link = tmp_path / "link"
    link.symlink_to("nowhere")
    with pytest.raises(FileExistsError):
        copy_file(source, link)
    assert not (tmp_path / "nowhere").exists()


def test_copy_without_a_source(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        copy_file(tmp_path / "a", tmp_path / "b")
    assert names(tmp_path) == []


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_copy_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "a").write_bytes(b"data")
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        copy_file(tmp_path / "a", tmp_path / "b")
    assert names(tmp_path) == ["a"]


def test_a_copy_to_where_times_cannot_be_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    (tmp_path / "a").write_bytes(b"data")
    monkeypatch.setattr(os, "utime", refused)
    copy_file(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"data"


# --- rename_new ---


def test_rename(tmp_path: Path):
    source, target = tmp_path / "a", tmp_path / "b"
    source.mkdir()
    (source / "file").write_bytes(b"x")
    rename_new(source, target)
    assert names(tmp_path) == ["b"]
    assert (target / "file").read_bytes() == b"x"


@pytest.mark.parametrize("kind", ["full", "empty", "file", "dangling"])
def test_rename_refuses_what_is_there(tmp_path: Path, kind: str):
    source, target = tmp_path / "a", tmp_path / "b"
    source.mkdir()
    if kind == "file":
        target.write_bytes(b"")
    elif kind == "dangling":
        target.symlink_to("nowhere")
    else:
        target.mkdir()
        if kind == "full":
            (target / "file").write_bytes(b"x")
    before = os.lstat(target).st_ino
    with pytest.raises(FileExistsError) as caught:
        rename_new(source, target)
    assert caught.value.filename == str(target)
    assert source.is_dir()
    assert os.lstat(target).st_ino == before


# --- fsync ---


def test_fsync_of_an_ordinary_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(b"x")
    (tmp_path / "read only").write_bytes(b"x")
    (tmp_path / "read only").chmod(0o400)
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "circle").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    synced: list[str] = []
    real = os.fsync

    def note(fd: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{fd}").readlink()))
        real(fd)

    monkeypatch.setattr(os, "fsync", note)
    fsync_tree(tmp_path)
    expected = [deep / "file", deep, tmp_path / "a", tmp_path / "read only", tmp_path]
    assert synced == [str(path) for path in expected]


def test_fsync_of_what_is_not_there(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        fsync_tree(tmp_path / "missing")
    with pytest.raises(FileNotFoundError):
        fsync_dir(tmp_path / "missing")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError):
        fsync_dir(tmp_path / "file")


def test_folders_of_file_systems_that_cannot_sync_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refused(fd: int) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", refused)
    fsync_dir(tmp_path)
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        fsync_dir(tmp_path)


# --- reading ---


def test_a_file_is_opened_and_no_link_to_one(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"bytes")
    (tmp_path / "link").symlink_to("file")
    with open_to_read(tmp_path / "file") as file:
        assert file.read() == b"bytes"
    with pytest.raises(OSError, match="link") as caught:
        open_to_read(tmp_path / "link")
    assert caught.value.errno == errno.ELOOP


@pytest.mark.skipif(sys.platform == "win32", reason="has no named pipes in folders")
@pytest.mark.timeout(20)
def test_a_pipe_is_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    with open_to_read(tmp_path / "pipe") as file:
        assert file.read() == b""
