"""The commands on data folders that hold more than dna-pipeline's files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from tests import commands

CONFIG = """\
version: 1
models: {matte: {provider: border_key}}
pipelines: {cut: [{remove_background: {}}]}
inboxes:
  - {path: in, pipeline: cut, settle_seconds: 0.1, sidecar_wait_seconds: 0}
"""


def call(root: Path, *arguments: str, **env: str) -> commands.Done:
    return commands.call(root, *arguments, env={**os.environ, **env})


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    (tmp_path / "pipeline.yaml").write_text(CONFIG)
    image = Image.new("RGB", (64, 64), "white")
    image.paste((200, 30, 30), (20, 20, 44, 44))
    image.save(tmp_path / "cat.png")
    return tmp_path


@pytest.fixture
def home(root: Path) -> Path:
    """Somebody's home folder, which looks a little like a data folder."""
    home = root / "home"
    for name in ("work/my_scene/a.blend", "claims/insurance/policy.pdf", "Documents/a.txt"):
        (home / name).parent.mkdir(parents=True)
        (home / name).write_bytes(b"mine")
    return home


@pytest.mark.parametrize(
    "command",
    [["watch"], ["run"], ["submit", "cat.png"], ["repair"], ["repair", "--claims"], ["pause"]],
)
def test_no_ledger_begins_in_somebody_s_home(root: Path, home: Path, command: list[str]) -> None:
    before = names(home)
    done = call(root, *command, DNA_DATA_DIR=str(home))
    assert done.returncode == 2
    assert "this folder holds what is not dna-pipeline's: Documents. Nothing was changed" in (
        done.stderr
    )
    assert f"an empty one in this, such as {home / 'dna-pipeline'}" in done.stderr
    assert names(home) == before


@pytest.mark.parametrize("command", ["check", "status"])
def test_looking_is_not_refused(root: Path, home: Path, command: str) -> None:
    before = names(home)
    assert call(root, command, DNA_DATA_DIR=str(home)).returncode == 0
    assert names(home) == before


@pytest.mark.slow
def test_an_empty_folder_in_it_will_do(root: Path, home: Path) -> None:
    before = names(home)
    env = {"DNA_DATA_DIR": str(home / "dna-pipeline")}
    assert call(root, "submit", "cat.png", **env).returncode == 0
    assert call(root, "run", **env).returncode == 0
    assert {name for name in names(home) if not name.startswith("dna-pipeline")} == before


@pytest.mark.slow
def test_folders_of_others_stay_where_a_ledger_is(root: Path, home: Path) -> None:
    """As where an older version made one in a home folder."""
    (home / "Documents").rename(root / "Documents")
    assert call(root, "run", DNA_DATA_DIR=str(home)).returncode == 0
    (root / "Documents").rename(home / "Documents")
    assert call(root, "run", DNA_DATA_DIR=str(home)).returncode == 0
    for name in ("work/my_scene/a.blend", "claims/insurance/policy.pdf"):
        assert (home / name).read_bytes() == b"mine"
    done = call(root, "status", DNA_DATA_DIR=str(home))
    assert (
        f"foreign   {home / 'work/my_scene'}: not dna-pipeline's; it is left alone" in done.stdout
    )
    told = json.loads((root / "outbox/status.json").read_bytes())
    assert told["foreign"] == [str(home / "work/my_scene"), str(home / "claims/insurance")]


@pytest.mark.slow
def test_status_tells_what_was_recovered(root: Path) -> None:
    assert call(root, "resume").returncode == 0
    for digit in "ab":
        folder = root / "data/claims" / (digit * 32)
        folder.mkdir(parents=True)
        (folder / "stdin").write_bytes(b"the only one")
    assert call(root, "run").returncode == 0
    home = root / "data/recovered"
    assert len(list(home.glob("*/stdin"))) == 2
    assert call(root, "status").stdout.splitlines()[-1] == (
        f"recovered 2 folders in {home}: copies of images that no job knows; look at them and "
        "remove them yourself"
    )
    told = json.loads((root / "outbox/status.json").read_bytes())
    assert told["recovered"] == {"folder": str(home), "count": 2}
    assert json.loads(call(root, "status", "--json").stdout)["recovered"] == told["recovered"]


@pytest.mark.slow
def test_the_outbox_where_older_versions_had_theirs(root: Path) -> None:
    """`DNA_OUTPUT_DIR` is `data/output`, with old pictures in it and models beside it."""
    env = {"DNA_DATA_DIR": "data", "DNA_OUTPUT_DIR": "data/output"}
    for name in ("output/img2img_1_42.png", "models/a.onnx", "wildcards/b.txt"):
        (root / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "data" / name).write_bytes(b"mine")
    assert call(root, "submit", "cat.png", **env).returncode == 0
    assert call(root, "run", **env).returncode == 0
    (folder,) = (root / "data/output/submit").iterdir()
    assert (folder / "source/cat.png").is_file()
    done = call(root, "verify", "--json", **env)
    assert done.returncode == 0
    assert [entry["folder"] for entry in json.loads(done.stdout)] == [str(folder)]

    (root / "data/ledger.db").write_bytes(b"not a database" * 1000)
    done = call(root, "repair", "--json", **env)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["jobs"], report["unreadable"]) == ({"completed": 1}, [])
    assert call(root, "run", **env).returncode == 0
    assert call(root, "verify", **env).returncode == 0
    assert (root / "data/output/img2img_1_42.png").read_bytes() == b"mine"


@pytest.mark.slow
def test_an_image_called_manifest_json_is_no_manifest(root: Path) -> None:
    (root / "cat.png").rename(root / "manifest.json")
    assert call(root, "submit", "manifest.json").returncode == 0
    assert call(root, "run").returncode == 0
    assert (next(root.glob("outbox/submit/*/source/manifest.json"))).is_file()
    done = call(root, "verify")
    assert done.returncode == 0, done.stdout
    assert "1 result with" in done.stderr
    (root / "data/ledger.db").unlink()
    report = json.loads(call(root, "repair", "--json").stdout)
    assert (report["jobs"], report["unreadable"]) == ({"completed": 1}, [])
