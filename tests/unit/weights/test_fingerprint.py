"""Hashes of weights in `weights.json`."""

from __future__ import annotations

from pathlib import Path

from dna_pipeline.base.files import read_json, sha256_file
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
