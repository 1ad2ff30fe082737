"""Files of models in a folder, behind links to folders too."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from dna_pipeline.weights.download import RemoteFile
from dna_pipeline.weights.local_files import FileNotFound, LocalFiles
from dna_pipeline.weights.pins import PinnedFile, Source
from tests.hub import Silent

DATA = b"weights" * 100
FILE = PinnedFile("w.bin", "w.bin", len(DATA), hashlib.sha256(DATA).hexdigest())
REMOTE = RemoteFile(FILE, Source("o/r", "rev", True), "m")


def test_a_folder_that_is_a_link_is_searched(tmp_path: Path):
    (tmp_path / "disk/hub").mkdir(parents=True)
    (tmp_path / "disk/hub/blob").write_bytes(DATA)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/hub").symlink_to(tmp_path / "disk/hub")
    LocalFiles(tmp_path / "cache", Silent()).fetch(REMOTE, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == DATA


def test_links_in_a_circle_end(tmp_path: Path):
    for name in ("cache", "cache/a", "cache/b"):
        (tmp_path / name).mkdir()
        for up in range(3):
            (tmp_path / name / f"up{up}").symlink_to(tmp_path / "cache")
    with pytest.raises(FileNotFound):
        LocalFiles(tmp_path / "cache", Silent()).fetch(REMOTE, tmp_path / "part")
    (tmp_path / "cache/b/w").write_bytes(DATA)
    LocalFiles(tmp_path / "cache", Silent()).fetch(REMOTE, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == DATA
