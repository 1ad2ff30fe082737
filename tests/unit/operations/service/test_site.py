from __future__ import annotations

import os
import sysconfig
from pathlib import Path

import pytest

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.operations import configuration
from dna_pipeline.operations.service import site
from dna_pipeline.operations.service.site import make_site, real_config, site_key

CONFIG = """\
version: 1
models: {matte: {provider: rembg, name: u2net, path: "%s/models/u2net.onnx"}}
pipelines: {cut: [{remove_background: {}}]}
inboxes: [{path: inbox/cut, pipeline: cut, source_roots: [library]}]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (path := tmp_path / "pipeline.yaml").write_text(CONFIG % tmp_path.as_posix())
    return path


@pytest.mark.parametrize(
    ("folder", "slug"),
    [
        ("My Studio", "my-studio"),
        ("Büro 50%", "buro-50"),
        ("猫", "site"),
        ("--", "site"),
        ("x" * 99, "x" * 40),
        ("a@b:c.service", "a-b-c-service"),
    ],
)
def test_the_key_is_made_of_the_folder(folder: str, slug: str):
    key = site_key(Path("/studios", folder, "pipeline.yaml"))
    assert key.rpartition("-")[0] == slug
    assert key == site_key(Path("/studios", folder, "pipeline.yaml"))
    assert len(key.rpartition("-")[2]) == 8


def test_sites_of_one_name_have_keys_of_their_own():
    files = [Path(f"/{disk}/studio/{name}.yaml") for disk in "ab" for name in ("day", "night")]
    assert len({site_key(file) for file in files}) == 4


def test_a_linked_folder_is_the_same_site(file: Path, tmp_path: Path):
    link = tmp_path / "link"
    link.symlink_to(tmp_path, target_is_directory=True)
    assert site_key(real_config(link / "pipeline.yaml")) == site_key(real_config(file))


def test_a_shared_file_is_a_site_in_each_folder(file: Path, tmp_path: Path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other/pipeline.yaml").symlink_to(file)
    assert real_config(tmp_path / "other/pipeline.yaml").parent.name == "other"


def test_the_command_starts_the_daemon_of_that_file(file: Path):
    made = make_site(file, configuration.load(file, {}), {}, "/opt/venv/bin/python")
    begin = ("/opt/venv/bin/python", "-m", "dna_pipeline", "--config", str(real_config(file)))
    assert made.command == (*begin, "watch", "--plain")
    assert made.data == file.parent / "data"


def test_variables_that_move_folders_are_kept_as_absolute_paths(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    env = {
        "DNA_DATA_DIR": str(tmp_path / "elsewhere"), "DNA_OUTPUT_DIR": "results",
        "DNA_DEBUG_LOG_PATH": "log.txt", "PYTHONUTF8": "1", "SECRET": "x", "PATH": "/bin",
    }  # fmt: skip
    made = make_site(file, configuration.load(file, env), env)
    variables = dict(made.variables)
    variables.pop("PYTHONPATH", None)
    assert variables == {
        "DNA_DATA_DIR": str(tmp_path / "elsewhere"), "DNA_OUTPUT_DIR": str(tmp_path / "results"),
        "DNA_DEBUG_LOG_PATH": str(tmp_path / "log.txt"), "PYTHONUTF8": "1",
    }  # fmt: skip


def test_a_checkout_is_put_on_the_path_of_imports(file: Path, monkeypatch: pytest.MonkeyPatch):
    config = configuration.load(file, {})
    own = str(Path(site.dna_pipeline.__file__).parents[1])
    given = make_site(file, config, {"PYTHONPATH": os.pathsep.join(("/lib/mine", own))})
    assert given.variables["PYTHONPATH"] == os.pathsep.join(("/lib/mine", own))
    monkeypatch.setattr(sysconfig, "get_path", lambda _: "/nowhere")
    assert make_site(file, config, {}).variables["PYTHONPATH"] == own
    monkeypatch.setattr(sysconfig, "get_path", lambda _: own)
    assert make_site(file, config, {}).variables == {}


def test_places_are_all_folders_and_models(file: Path, tmp_path: Path):
    places = set(make_site(file, configuration.load(file, {}), {}).places)
    paths = ["data", "outbox", "inbox/cut", "library", "models/u2net.onnx"]
    assert {str(file), *(str(tmp_path / path) for path in paths)} <= places


@pytest.mark.parametrize("name", ["a\nb", "a\x07b", "a\u2028b", "a\udcffb"])
def test_a_path_that_no_unit_can_hold_is_refused(file: Path, name: str):
    config = configuration.load(file, {})
    with pytest.raises(ConfigError, match="rename the folder") as error:
        make_site(file, config, {}, f"/opt/{name}/python")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["a b", "a\u3000b", "100%", "猫", "$x", "it's"])
def test_other_paths_are_taken(file: Path, name: str):
    made = make_site(file, configuration.load(file, {}), {}, f"/opt/{name}/python")
    assert made.command[0] == f"/opt/{name}/python"
