"""The rename that shows a model, and what it never does."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from dna_pipeline.base.errors import TransferFailed
from dna_pipeline.weights.staging import (
    Staging,
    discard,
    hold_lock,
    leftovers,
    publish_file,
    publish_folder,
    resolved,
)


@pytest.fixture
def staging(tmp_path: Path) -> Staging:
    staging = Staging(tmp_path / "models/target", "name")
    (staging.folder / "part").mkdir(parents=True)
    (staging.folder / "part/w.safetensors").write_bytes(b"weights")
    (staging.folder / "a.json").write_bytes(b"{}")
    return staging


NAMES = ["a.json", "part/w.safetensors"]


def test_only_the_files_of_the_model_appear(staging: Staging):
    (staging.folder / "left").mkdir()
    (staging.folder / "left/other.bin").write_bytes(b"of other options")
    publish_folder(staging, NAMES)
    names = {p.relative_to(staging.target).as_posix() for p in staging.target.rglob("*")}
    assert names == {*NAMES, "part"}
    assert not staging.folder.exists()


def test_a_file_in_the_way_stays(staging: Staging):
    staging.target.mkdir()
    (staging.target / "a.json").write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        publish_folder(staging, NAMES)
    assert (staging.target / "a.json").read_bytes() == b"mine"
    assert (staging.folder / "a.json").read_bytes() == b"{}"


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_without_hard_links(
    staging: Staging, monkeypatch: pytest.MonkeyPatch, number: int
):
    def refuse(self: Path, target: Path) -> None:
        raise OSError(number, "no links here", str(self))

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    publish_file(staging, "a.json")
    assert staging.target.read_bytes() == b"{}"


def test_a_failing_disk_is_not_taken_for_one_without_links(
    staging: Staging, monkeypatch: pytest.MonkeyPatch
):
    def fail(self: Path, target: Path) -> None:
        raise OSError(errno.EIO, "broken", str(self))

    monkeypatch.setattr(Path, "hardlink_to", fail)
    with pytest.raises(OSError, match="broken"):
        publish_file(staging, "a.json")
    assert not staging.target.exists()


def test_one_process_at_a_time(tmp_path: Path):
    with (
        hold_lock(tmp_path / "models/.dna-pull"),
        pytest.raises(TransferFailed, match="another"),
        hold_lock(tmp_path / "models/.dna-pull"),
    ):
        pass
    with hold_lock(tmp_path / "models/.dna-pull"):
        pass


def test_a_link_to_nowhere_is_not_followed(tmp_path: Path):
    (tmp_path / "models").symlink_to(tmp_path / "unmounted")
    with pytest.raises(TransferFailed, match="which is not there"):
        resolved(tmp_path / "models/sd15")
    (tmp_path / "unmounted").mkdir()
    assert resolved(tmp_path / "models/sd15") == tmp_path / "unmounted/sd15"


def test_what_transfers_left_is_counted_and_removed(staging: Staging, tmp_path: Path):
    roots = [staging.root, staging.root, tmp_path / "none/.dna-pull"]
    (staging.root / "empty").mkdir()
    assert [(one.folder, one.bytes) for one in leftovers(roots)] == [(staging.folder, 9)]
    assert len(discard(roots)) == 1
    assert leftovers(roots) == []
    assert not staging.folder.exists()
    assert not (tmp_path / "none").exists()


def test_a_second_name_that_a_kill_left_is_removed_alone(staging: Staging):
    staging.target.hardlink_to(staging.path_of("a.json"))
    discard([staging.root])
    assert staging.target.read_bytes() == b"{}"
    assert staging.target.stat().st_nlink == 1
