"""Files of a claim that go back to their inbox, and copies that are removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from dna_pipeline.intake.claiming.rollback import return_files
from dna_pipeline.intake.discovery.scan import FileStat
from dna_pipeline.intake.planning.known_files import to_json


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    (tmp_path / "in/shapes").mkdir(parents=True)
    return tmp_path / "in"


@pytest.fixture
def claim(inbox: Path) -> Path:
    folder = inbox / ".dna/claims" / ("0" * 32) / ("1" * 32)
    folder.mkdir(parents=True)
    return folder


def contents(inbox: Path) -> dict[str, bytes]:
    paths = (path for path in inbox.rglob("*") if path.is_file())
    return {path.relative_to(inbox).as_posix(): path.read_bytes() for path in paths}


def test_a_file_that_is_no_copy_of_its_namesake_is_not_removed(inbox: Path, claim: Path) -> None:
    other = inbox / "shapes/x.mask.png"
    other.write_bytes(b"another mask")
    (claim / "x.mask.png").write_bytes(b"the only one")
    return_files(claim, inbox, "", to_json({"shapes/x.mask.png": FileStat.of(other.stat())}))
    assert sorted(contents(inbox).values()) == [b"another mask", b"the only one"]


@pytest.mark.parametrize("data", [b"tags: [x]", b"tags", b""])
def test_a_copy_is_removed_also_if_it_was_cut_off(inbox: Path, claim: Path, data: bytes) -> None:
    original = inbox / "cat.yaml"
    original.write_bytes(b"tags: [x]")
    (claim / "cat.yaml").write_bytes(data)
    return_files(claim, inbox, "", to_json({"cat.yaml": FileStat.of(original.stat())}))
    assert contents(inbox) == {"cat.yaml": b"tags: [x]"}
