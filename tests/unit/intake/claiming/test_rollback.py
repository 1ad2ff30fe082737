"""Files of a claim that go back to their inbox, and copies that are removed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dna_pipeline.base.files import temporary_name
from dna_pipeline.config.loader import load_config
from dna_pipeline.config.schema import Config
from dna_pipeline.intake.claiming.rollback import return_files, roll_back
from dna_pipeline.intake.discovery.scan import FileStat
from dna_pipeline.intake.planning.known_files import to_json

CONFIG = """\
version: 1
models: {key: {provider: border_key}}
pipelines: {cut: [{remove_background: {model: key}}]}
inboxes: [{path: in, pipeline: cut}]
"""


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    (tmp_path / "in/shapes").mkdir(parents=True)
    return tmp_path / "in"


@pytest.fixture
def claim(inbox: Path) -> Path:
    folder = inbox / ".dna/claims" / ("0" * 32) / ("1" * 32)
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def config(tmp_path: Path, inbox: Path) -> Config:
    (tmp_path / "pipeline.yaml").write_text(CONFIG)
    return load_config(tmp_path / "pipeline.yaml", {})


def contents(inbox: Path) -> dict[str, bytes]:
    paths = (path for path in inbox.rglob("*") if path.is_file())
    return {path.relative_to(inbox).as_posix(): path.read_bytes() for path in paths}


def test_a_file_that_is_no_copy_of_its_namesake_is_not_removed(inbox: Path, claim: Path) -> None:
    other = inbox / "shapes/x.mask.png"
    other.write_bytes(b"another mask")
    (claim / "x.mask.png").write_bytes(b"the only one")
    return_files(claim, inbox, "", to_json({"shapes/x.mask.png": FileStat.of(other.stat())}))
    assert sorted(contents(inbox).values()) == [b"another mask", b"the only one"]


def test_a_file_that_was_still_being_written_does_not_come_back(inbox: Path, claim: Path) -> None:
    (claim / "cat.png").write_bytes(b"cat")
    (claim / temporary_name()).write_bytes(b"tags: [")
    return_files(claim, inbox, "")
    assert contents(inbox) == {"cat.png": b"cat"}


@pytest.mark.parametrize("data", [b"tags: [x]", b"tags", b""])
def test_a_copy_is_removed_also_if_it_was_cut_off(inbox: Path, claim: Path, data: bytes) -> None:
    original = inbox / "cat.yaml"
    original.write_bytes(b"tags: [x]")
    (claim / "cat.yaml").write_bytes(data)
    return_files(claim, inbox, "", to_json({"cat.yaml": FileStat.of(original.stat())}))
    assert contents(inbox) == {"cat.yaml": b"tags: [x]"}


def test_a_file_in_a_source_root_does_not_stand_for_the_disk_of_the_inbox(
    config: Config, claim: Path
) -> None:
    """The disk was another one, and nothing of it is there now but an empty folder."""
    root = config.file.parent / "library/round.png"
    root.parent.mkdir()
    root.write_bytes(b"a mask")
    here = FileStat.of(root.stat())
    away = here._replace(device=here.device + 1)
    row: dict[str, Any] = {
        "claim": str(claim), "folder": "", "companions": None,
        "stat": to_json({"cat.png": away, str(root): here}),
    }  # fmt: skip
    claim.rmdir()
    with pytest.raises(FileNotFoundError, match="its disk is away"):
        roll_back(config, config.inboxes[0], row, lambda _: None)
