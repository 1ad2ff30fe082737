"""The extension in a real Blender (the `bpy` module), with the real daemon."""

import json
import os
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from conftest import Studio
from PIL import Image

from dna_pipeline import __version__
from dna_pipeline.config.loader import load_config
from dna_pipeline.operations.serving.addresses import announced
from tests.conftest import load_script

CONFIG = """\
version: 1
models:
  triposr: {{provider: triposr, path: {models}/triposr-base}}
  matte: {{provider: border_key}}
pipelines:
  mesh: [{{remove_background: {{}}}}, {{triposr: {{resolution: 32, preview: false}}}}]
inboxes:
  - {{path: inbox/kept, pipeline: mesh, originals: keep, settle_seconds: 0.3,
      sidecar_wait_seconds: 5, rescan_seconds: 1}}
"""
ALL = ["send_view", "send_image", "reload_latest", "open_page"]


SERVER = "http://127.0.0.1:9"
"""Address of a server that nobody asks: only the links to its page are made."""


@pytest.fixture(scope="module")
def package():
    return load_script("package_blender")


def in_blender(python: Path, archive: Path, *arguments: str) -> dict[str, Any]:
    script = Path(__file__).with_name("in_blender.py")
    places = {"BLENDER_USER_RESOURCES": str(archive.parent / "user")}
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | places
    done = subprocess.run(
        [python, script, archive, *arguments],
        env=environment, capture_output=True, text=True, timeout=570,
    )  # fmt: skip
    told = Path(f"{archive}.json")
    assert told.exists(), done.stdout + done.stderr
    return json.loads(told.read_bytes())


def test_the_same_sources_make_the_same_zip(package: Any, tmp_path: Path):
    one, two = (package.package(tmp_path / name) for name in ("a", "b"))
    assert one.read_bytes() == two.read_bytes()
    assert __version__ in one.name
    with zipfile.ZipFile(one) as archive:
        names = archive.namelist()
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert {"blender_manifest.toml", "__init__.py", "client.py", "LICENSE"} <= set(names)


@pytest.mark.slow
def test_blender_installs_and_removes_it(package: Any, blender_python: Path, tmp_path: Path):
    seen = in_blender(blender_python, package.package(tmp_path), "install")
    assert seen["installed"] == {"enabled": True, "panel": "dna-pipeline", "operators": ALL}
    assert seen["uninstalled"] == {"enabled": False, "panel": False, "settings": False}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_from_a_view_to_a_mesh_at_the_cursor(
    studio: Studio, models_dir: Path, package: Any, blender_python: Path
):
    (studio.root / "pipeline.yaml").write_text(CONFIG.format(models=models_dir))
    data = load_config(studio.root / "pipeline.yaml", {}).data
    with announced(data, SERVER, has_token=False), studio.watch():
        studio.wait(lambda: (studio.outbox / "status.json").exists())
        archive = package.package(studio.root / "zip")
        seen = in_blender(blender_python, archive, "mesh", str(studio.outbox))

    assert seen["sent"]["state"].startswith("completed: Tower-")
    assert any(text.startswith("running") for text in seen["sent"]["texts"])
    assert seen["is_as_before"]
    assert len(seen["new"]) == 1
    check_mesh(seen["new"][0], seen["sent"])
    check_reloaded(seen["reloaded"])
    assert seen["failed"]["state"].startswith("failed: sidecar_invalid: ")
    assert (seen["panel"]["missing"], seen["panel"]["shown"]) == ([], 7)
    pages = [f"{SERVER}/results/{seen[name]['job']}" for name in ("failed", "sent")]
    assert seen["panel"]["pages"] == pages
    assert seen["opened"] == pages[1]
    assert seen["refused"] == "This is no address of a page: file:///etc/passwd"
    for text in ("Tower: completed", "painted: failed: sidecar_invalid:"):
        assert text in seen["panel"]["text"]
    assert seen["without_glb"] == {
        "is_done": True, "code": "not_imported",
        "message": "Tower-1 has no .glb; add glb to the formats of its stage triposr",
    }  # fmt: skip
    assert seen["image"] == ["GENERATED", "", True, ["Render Result", "painted"]]
    with Image.open(studio.inbox("kept") / "painted.png") as painted:
        assert painted.size == (64, 64)
        assert painted.getpixel((0, 63)) == (255, 128, 0, 255)
        assert painted.getpixel((0, 0))[3] == 0


def check_mesh(item: dict[str, Any], sent: dict[str, Any]) -> None:
    manifest = sent["manifest"]
    (told,) = [file for file in manifest["artifacts"] if file["role"] == "mesh"]
    assert (len(item["points"]), item["faces"]) == (told["vertices"], told["faces"])
    assert item["origin"] == pytest.approx([3, -2, 1])
    assert item["rotation"] == pytest.approx([0, 0, 0])
    assert item["collections"] == [f"Tower-{manifest['job']['id'][:8]}"]
    assert item["colors"] > 10
    assert ["VERTEX_COLOR", "Base Color"] in item["shown_by"]
    # glTF's up (+Y) and front (+Z) are Blender's +Z and -Y.
    mesh: Any = trimesh.load(Path(sent["folder"], told["path"]), force="mesh", process=False)
    x, y, z = mesh.vertices.T
    expected = np.stack([x, -z, y], axis=1) + item["origin"]
    assert np.array(item["points"]) == pytest.approx(expected, abs=1e-5)
    # It stands on the cursor, and is one metre long.
    low, high = expected.min(axis=0), expected.max(axis=0)
    assert [*(low + high)[:2] / 2, low[2]] == pytest.approx(item["origin"], abs=1e-5)
    assert max(high - low) == pytest.approx(1)


def check_reloaded(seen: dict[str, Any]) -> None:
    before, after = seen["before"], seen["after"]
    (told,) = [file for file in seen["manifest"]["artifacts"] if file["role"] == "mesh"]
    assert seen["state"].startswith("completed")
    for key in ("name", "collections", "origin", "rotation"):
        assert after[key] == before[key]
    assert len(after["points"]) == told["vertices"]
    assert after["points"] != before["points"]
    assert seen["added"] == 0
