"""Inbox folders that do not exist: which are made at the start, and what is said of the others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.commands import call

CONFIG = """\
version: 1
models: {{matte: {{provider: border_key}}}}
pipelines: {{cut: [{{remove_background: {{}}}}]}}
inboxes:
  - {{path: {path}, pipeline: cut, settle_seconds: 0}}
"""


@pytest.fixture
def studio(tmp_path: Path) -> Path:
    """What `init` makes, in a folder of its own."""
    assert call(tmp_path, "init", "studio").returncode == 0
    return tmp_path / "studio"


def watch_folder(studio: Path, path: str) -> None:
    (studio / "pipeline.yaml").write_text(CONFIG.format(path=path))


@pytest.mark.slow
@pytest.mark.parametrize("path", ["inbox/restlye", "inbx/restyle", "inbox/Re-style", "inbox/mash"])
def test_a_mistyped_path_is_told_and_not_made(studio: Path, path: str):
    watch_folder(studio, path)
    meant = "inbox/mesh" if path == "inbox/mash" else "inbox/restyle"
    sentence = (
        f"the folder {studio / path} does not exist; did you mean {meant!r}? Mend the path in "
        "pipeline.yaml, line 5"
    )
    checked = call(studio, "check")
    assert checked.returncode == 2
    assert sentence in checked.stdout
    done = call(studio, "run")
    assert sentence in done.stdout
    assert "inbox.missing" in done.stderr
    shown = call(studio, "status", "--json").stdout
    assert {"inbox": Path(path).name, "file": None, "reason": sentence} in json.loads(shown)[
        "waiting"
    ]
    assert f"did you mean {meant!r}?" in call(studio, "status").stdout
    assert not (studio / path).exists()


@pytest.mark.slow
@pytest.mark.parametrize("path", ["inbox/night", "shots/seq010", "drop"])
def test_a_new_one_beside_pipeline_yaml_is_made_and_that_is_said(studio: Path, path: str):
    watch_folder(studio, path)
    checked = call(studio, "check")
    assert checked.returncode == 2
    assert f"the folder {studio / path} does not exist; make it" in checked.stdout
    assert not (studio / path).exists(), "check makes nothing"
    done = call(studio, "run")
    assert done.returncode == 0
    assert (studio / path).is_dir()
    assert "folder.made" in done.stderr
    assert str(studio / path) in done.stderr


@pytest.mark.slow
def test_a_copy_of_the_configuration_alone_works_at_once(studio: Path, tmp_path: Path):
    other = tmp_path / "clone"
    other.mkdir()
    shutil.copy(studio / "pipeline.yaml", other)
    done = call(other, "run")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (other / "inbox").iterdir()} == {"restyle", "mesh"}
    assert "inbox.missing" not in done.stderr


@pytest.mark.slow
def test_none_is_made_elsewhere(studio: Path, tmp_path: Path):
    """A share that is not mounted has no folder."""
    share = tmp_path / "share"
    watch_folder(studio, str(share / "drop"))
    done = call(studio, "run")
    assert f"the folder {share / 'drop'} does not exist; make it, or mend" in done.stdout
    assert not share.exists()


@pytest.mark.slow
def test_none_is_made_a_second_time(studio: Path):
    """A share may be mounted beside pipeline.yaml, too."""
    watch_folder(studio, "share")
    assert call(studio, "run").returncode == 0
    (studio / "share").rmdir()
    done = call(studio, "run")
    assert not (studio / "share").exists()
    assert f"the folder {studio / 'share'} does not exist any more; connect its disk" in done.stdout
    checked = call(studio, "check")
    assert checked.returncode == 2
    assert "does not exist any more" in checked.stdout


@pytest.mark.slow
def test_none_is_made_through_a_link_to_a_disk_that_is_away(studio: Path, tmp_path: Path):
    (studio / "share").symlink_to(tmp_path / "disk", target_is_directory=True)
    watch_folder(studio, "share")
    call(studio, "run")
    assert not (tmp_path / "disk").exists()


@pytest.mark.slow
def test_a_file_is_no_inbox(studio: Path):
    (studio / "drop").write_text("not a folder")
    watch_folder(studio, "drop")
    checked = call(studio, "check")
    assert checked.returncode == 2
    assert f"{studio / 'drop'} is not a folder; name one in pipeline.yaml, line 5" in checked.stdout
    assert f"{studio / 'drop'} is not a folder" in call(studio, "run").stdout


@pytest.mark.slow
def test_one_that_is_missing_does_not_stop_the_others(studio: Path, tmp_path: Path):
    watch_folder(studio, str(tmp_path / "share/drop"))
    with (studio / "pipeline.yaml").open("a") as file:
        file.write("  - {path: inbox/mesh, pipeline: cut, settle_seconds: 0}\n")
    (studio / "inbox/mesh/a.png").write_bytes(b"no picture")
    done = call(studio, "run")
    assert done.returncode == 1
    assert "1 failed" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("neighbours", "path", "is_made"),
    [
        (["photos"], "inbox", True),
        ([], "inbox", False),
        (["photos"], "far/inbox", False),
        (["inboxes"], "inboxs", False),
    ],
    ids=["a new folder", "an empty mount point", "two folders missing", "mistyped"],
)
def test_one_elsewhere_is_made_only_where_its_disk_is_surely_there(
    studio: Path, tmp_path: Path, neighbours: list[str], path: str, is_made: bool
):
    disk = tmp_path / "disk"
    disk.mkdir()
    for name in neighbours:
        (disk / name).mkdir()
    watch_folder(studio, str(disk / path))
    done = call(studio, "run")
    assert (disk / path).is_dir() == is_made
    assert ("folder.made" if is_made else "inbox.missing") in done.stderr
