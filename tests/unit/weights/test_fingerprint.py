"""Hashes of weights in `weights.json`."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import pytest

from dna_pipeline.base.files import read_json, sha256_file
from dna_pipeline.providers.base import Device, Provider
from dna_pipeline.weights import fingerprint
from dna_pipeline.weights.fingerprint import Fingerprints, file_identity

WITHIN_S = 30.0


def test_two_processes_keep_the_hashes_of_each_other(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a", "b", "c")]
    for file in files:
        file.write_bytes(file.name.encode())
    one, other = Fingerprints(tmp_path), Fingerprints(tmp_path)
    one.sha256(files[0])
    other.sha256(files[1])
    one.sha256(files[2])
    expected = {file_identity(file): sha256_file(file) for file in files}
    assert read_json(tmp_path / "weights.json") == expected


class Model(Provider):
    """A model of these files."""

    name_in_config: ClassVar[str] = "model"
    stages: ClassVar[frozenset[str]] = frozenset()
    root: Path
    files: list[Path]

    def missing(self) -> str | None:
        return None

    def weights(self) -> tuple[Path, list[Path]]:
        return self.root, self.files

    def load(self, device: Device) -> Any:
        raise NotImplementedError


def test_a_hash_that_is_known_needs_no_look_at_the_bytes(tmp_path: Path) -> None:
    files = [tmp_path / "m/a", tmp_path / "m/b"]
    files[0].parent.mkdir()
    for file in files:
        file.write_bytes(file.name.encode())
    folder, single = Model(root=tmp_path / "m", files=files), Model(root=files[0], files=files[:1])
    known = Fingerprints(tmp_path)
    assert known.known_sha256(folder) is None
    assert known.known_sha256(Model(root=tmp_path, files=[])) is None
    known.sha256(files[0])
    assert known.known_sha256(folder) is None
    assert known.known_sha256(single) == sha256_file(files[0])
    assert Fingerprints(tmp_path).of(folder)[1] == Fingerprints(tmp_path).known_sha256(folder)
    files[1].write_bytes(b"another")
    assert Fingerprints(tmp_path).known_sha256(folder) is None
    files[1].unlink()
    assert Fingerprints(tmp_path).known_sha256(folder) is None


def test_threads_that_ask_for_one_file_hash_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "model"
    file.write_bytes(b"model")
    prints, begun, hashed = Fingerprints(tmp_path), threading.Barrier(3), list[Path]()

    def slowly(path: Path) -> str:
        hashed.append(path)
        threading.Event().wait(0.2)
        return sha256_file(path)

    def ask(_: int) -> str:
        begun.wait(WITHIN_S)
        return prints.sha256(file)

    monkeypatch.setattr(fingerprint, "sha256_file", slowly)
    with ThreadPoolExecutor(3) as threads:
        assert {*threads.map(ask, range(3))} == {sha256_file(file)}
    assert hashed == [file]


def test_a_long_file_keeps_no_thread_from_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long, short = tmp_path / "long", tmp_path / "short"
    for file in (long, short):
        file.write_bytes(file.name.encode())
    prints, has_begun, may_end = Fingerprints(tmp_path), threading.Event(), threading.Event()

    def hash_of(path: Path) -> str:
        if path == long:
            has_begun.set()
            assert may_end.wait(WITHIN_S)
        return sha256_file(path)

    monkeypatch.setattr(fingerprint, "sha256_file", hash_of)
    with ThreadPoolExecutor(1) as thread:
        asked = thread.submit(prints.sha256, long)
        try:
            assert has_begun.wait(WITHIN_S)
            assert prints.sha256(short) == sha256_file(short)
            assert not asked.done()
        finally:
            may_end.set()
        assert asked.result(WITHIN_S) == sha256_file(long)


def test_threads_that_enter_hashes_at_once_lose_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each reads what is there, and writes it with its own: one after another."""
    files = [tmp_path / str(number) for number in range(8)]
    for file in files:
        file.write_bytes(file.name.encode())
    prints = Fingerprints(tmp_path)
    monkeypatch.setattr(fingerprint, "read_json", lambda path: Slow(read_json(path) or {}))
    with ThreadPoolExecutor(len(files)) as threads:
        found = [*threads.map(prints.sha256, files)]
    assert found == [sha256_file(file) for file in files]
    assert len(read_json(tmp_path / "weights.json") or {}) == len(files)


class Slow(dict[str, str]):
    """Lets other threads go first after it was joined with another."""

    def __or__(self, other: Any) -> Any:
        joined = {**self, **other}
        threading.Event().wait(0.02)
        return joined


def test_a_file_that_changes_while_it_is_hashed_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "model"
    file.write_bytes(b"one")
    prints = Fingerprints(tmp_path)

    def change(path: Path) -> str:
        found = sha256_file(path)
        path.write_bytes(b"another")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(fingerprint, "sha256_file", change)
        prints.sha256(file)
    assert prints.sha256(file) == sha256_file(file)
