"""Hashes of weights in `weights.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from dna_pipeline.base.files import read_json, sha256_file
from dna_pipeline.providers.base import Device, Provider
from dna_pipeline.weights.fingerprint import Fingerprints, file_identity


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
