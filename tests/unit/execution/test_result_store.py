"""The store of results on disk."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from dna_pipeline.base.files import sha256_file, temporary_name
from dna_pipeline.execution import result_store
from dna_pipeline.execution.result_store import ResultStore

KEY = "ab" + "1" * 62
OTHER = "ab" + "2" * 62
FACTS = {"job": "j", "seconds": 2.5}


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore(tmp_path / "data/kept", free_bytes=0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (folder := tmp_path / "work").mkdir()
    return folder


def keep(store: ResultStore, folder: Path, key: str = KEY, **contents: bytes) -> None:
    paths = [folder / f"{name}.png" for name in contents]
    for path, data in zip(paths, contents.values(), strict=True):
        path.write_bytes(data)
    store.keep(key, FACTS, [(path, sha256_file(path)) for path in paths])
    for path in paths:
        path.unlink()  # as a work folder is removed


def entry_of(tmp_path: Path, key: str = KEY) -> Path:
    return tmp_path / "data/kept" / key[:2] / key


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_kept_can_be_taken_again_and_again(store: ResultStore, folder: Path) -> None:
    assert store.take(KEY, folder) is None
    keep(store, folder, cat=b"pixels", entry=b"others")
    for _ in range(2):
        assert store.take(KEY, folder) == FACTS
        assert contents(folder) == {"cat.png": b"pixels", "entry.png": b"others"}
        for path in folder.iterdir():
            path.write_bytes(b"edited")  # a copy: the store does not notice
            path.unlink()
    assert store.take(OTHER, folder) is None
    assert contents(folder) == {}


def test_an_entry_stays_as_it_was_first_kept(store: ResultStore, folder: Path) -> None:
    keep(store, folder, cat=b"first")
    keep(store, folder, cat=b"second")
    store.take(KEY, folder)
    assert contents(folder) == {"cat.png": b"first"}


@pytest.mark.parametrize("damage", ["changed", "short", "gone", "no record", "no JSON", "a path"])
def test_a_damaged_entry_is_removed(
    store: ResultStore, folder: Path, tmp_path: Path, damage: str
) -> None:
    keep(store, folder, cat=b"pixels", dog=b"others")
    entry = entry_of(tmp_path)
    record = entry / "entry.json"
    match damage:
        case "changed":
            (entry / "1").write_bytes(b"Others")
        case "short":
            (entry / "1").write_bytes(b"other")
        case "gone":
            (entry / "1").unlink()
        case "no record":
            record.unlink()
        case "no JSON":
            record.write_bytes(b"{")
        case _:
            record.write_text(record.read_text().replace("dog.png", "../dog.png"))
    assert store.take(KEY, folder) is None
    assert contents(folder) == {}
    assert not (tmp_path / "dog.png").exists()
    assert not store.has(KEY)
    keep(store, folder, cat=b"pixels")
    assert store.take(KEY, folder) == FACTS


def test_bytes_in_memory(store: ResultStore, tmp_path: Path) -> None:
    assert store.read(KEY) is None
    store.keep_bytes(KEY, FACTS, "scene", b"floats")
    assert store.read(KEY) == (FACTS, b"floats")
    (entry_of(tmp_path) / "0").write_bytes(b"Floats")
    assert store.read(KEY) is None
    assert not store.has(KEY)


def test_a_disk_that_is_full_when_taking_costs_no_entry(
    store: ResultStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(store, folder, cat=b"pixels", dog=b"others")
    real = result_store.copy_file

    def copy(source: Path, target: Path) -> None:
        if source.name == "1":
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, target)

    monkeypatch.setattr(result_store, "copy_file", copy)
    assert store.take(KEY, folder) is None
    assert contents(folder) == {}
    assert store.has(KEY)


@pytest.mark.parametrize("step", ["link_or_copy", "failpoint"])
def test_what_cannot_be_kept_leaves_nothing_half(
    store: ResultStore, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(result_store, step, fail)
    with pytest.raises(OSError, match="No space"):
        keep(store, folder, cat=b"pixels")
    monkeypatch.undo()
    (folder / "cat.png").unlink()
    assert list(store.entries()) == []
    assert list((tmp_path / "data/kept").iterdir()) == []


def test_a_disk_that_is_nearly_full_keeps_nothing(folder: Path, tmp_path: Path) -> None:
    much = shutil.disk_usage(tmp_path).free * 2
    store = ResultStore(tmp_path / "kept", free_bytes=much)
    with pytest.raises(OSError, match="MiB are free"):
        keep(store, folder, cat=b"pixels")
    assert not (tmp_path / "kept").exists()


def test_entries_with_size_and_last_use(store: ResultStore, folder: Path, tmp_path: Path) -> None:
    assert list(store.entries()) == []
    keep(store, folder, cat=b"pixels")
    keep(store, folder, OTHER, cat=b"others!")
    for key in (KEY, OTHER):
        os.utime(entry_of(tmp_path, key) / "entry.json", (1000, 1000))
    store.take(OTHER, folder)
    entries = {entry.path.name: entry for entry in store.entries()}
    assert entries[KEY].used == 1000
    assert entries[OTHER].used > 1000
    size = sum(path.stat().st_size for path in entry_of(tmp_path).iterdir())
    assert entries[KEY].bytes == size > 6
    store.remove(entries[KEY].path)
    store.remove(entries[KEY].path)
    assert [entry.path.name for entry in store.entries()] == [OTHER]


def test_what_killed_processes_left_is_removed(
    store: ResultStore, folder: Path, tmp_path: Path
) -> None:
    keep(store, folder, cat=b"pixels")
    left = tmp_path / "data/kept" / temporary_name()
    left.mkdir()
    (left / "0").write_bytes(b"half")
    store.remove_temporaries(older_than_s=60)
    assert left.exists()
    assert [entry.path.name for entry in store.entries()] == [KEY]
    store.remove_temporaries()
    assert not left.exists()
    assert store.has(KEY)
