"""`dna-pipeline init --for …`: what it writes is valid, warns of nothing, and does its work."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from conftest import Studio, product_shot

from dna_pipeline.config import yaml12
from dna_pipeline.config.loader import load_config
from tests import fork_server
from tests.onnx_files import redness_network

pytestmark = pytest.mark.slow

PURPOSES = ("photos", "night", "dcc")
Make = Callable[[str], Studio]


@pytest.fixture
def make(tmp_path: Path, models_dir: Path) -> Make:
    """Makes a studio by `init --for`, with small models in place of the real ones."""

    def make(purpose: str) -> Studio:
        studio = Studio(tmp_path, fork_server.heavy)
        done = studio.cli("init", "--for", purpose)
        assert done.returncode == 0, done.stderr
        for folder in models_dir.iterdir():
            (tmp_path / "data/models" / folder.name).symlink_to(folder, target_is_directory=True)
        (tmp_path / "data/models/u2net.onnx").write_bytes(redness_network(320))
        return studio

    return make


def edit(studio: Studio, before: str, after: str) -> None:
    file = studio.root / "pipeline.yaml"
    text = file.read_text()
    assert text.count(before) == 1
    file.write_text(text.replace(before, after))


def rest_never(studio: Studio) -> None:
    """Have the hours begin an hour ago and last for half a day."""
    hour = datetime.now().hour
    edit(studio, '22:00-06:00"          #', f'{(hour - 1) % 24}:00-{(hour + 12) % 24}:00"  #')


def manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_bytes())


@pytest.mark.parametrize("purpose", PURPOSES)
def test_check_has_nothing_to_say(make: Make, purpose: str):
    studio = make(purpose)
    if purpose == "night":
        rest_never(studio)
    done = studio.cli("check")
    assert done.returncode == 0
    assert done.stderr == f"{studio.root / 'pipeline.yaml'} is valid\n"
    assert done.stdout == "nothing is wrong; nothing waits in the inboxes\n"
    config = load_config(studio.root / "pipeline.yaml", {})
    assert all(inbox.path.is_dir() for inbox in config.inboxes), "init makes every inbox"


@pytest.mark.parametrize("purpose", PURPOSES)
def test_each_file_names_the_schema_that_accepts_it(make: Make, purpose: str):
    studio = make(purpose)
    inbox = {"photos": "inbox/photos", "night": "inbox/night", "dcc": "exports/blender"}[purpose]
    (example,) = (studio.root / "examples").rglob("*.yaml")
    copied = studio.root / inbox / example.name
    copied.write_bytes(example.read_bytes())
    for file in (studio.root / "pipeline.yaml", example, copied):
        text = file.read_text()
        first, second, *_ = text.splitlines()
        assert first.startswith("# yaml-language-server: $schema=")
        named = first.partition("=")[2]
        assert second == f"# $schema: {named}", "as JetBrains reads it"
        schema = json.loads((file.parent / named).read_bytes())
        jsonschema.Draft7Validator(schema).validate(yaml12.loads(text.encode()).value)


def test_it_overwrites_nothing(make: Make):
    studio = make("photos")
    files = [*studio.root.rglob("*.*ml"), *studio.root.glob("schemas/*.json")]
    before = {path: path.read_bytes() for path in files}
    assert {path.suffix for path in before} >= {".yaml", ".json"}
    for path in before:
        path.write_bytes(before[path] + b"# mine\n")
    assert "stays as it is" in studio.cli("init", "--for", "photos").stderr
    assert {path: path.read_bytes() for path in before} == {
        path: data + b"# mine\n" for path, data in before.items()
    }


def test_photographs_become_meshes(make: Make):
    studio = make("photos")
    product_shot().save(studio.inbox("photos") / "chair.jpg")
    product_shot().save(studio.inbox("photos") / "stool.jpg")
    product_shot().save(studio.inbox("cutouts") / "stool.jpg")
    example = studio.root / "examples/photos/chair.jpg.yaml"
    (studio.inbox("photos") / example.name).write_bytes(example.read_bytes())

    done = studio.cli("run")

    assert done.returncode == 0, done.stderr
    (chair,) = studio.outbox.glob("photos/chair-*")
    (stool,) = studio.outbox.glob("photos/stool-*")
    (cutout,) = studio.outbox.glob("cutouts/stool-*")
    assert {path.name for path in stool.iterdir()} == {
        "stool.glb", "stool.matte.png", "stool.preview.png", "manifest.json", "source",
    }  # fmt: skip
    assert (chair / "chair.turntable.mp4").is_file()
    assert manifest(chair)["job"]["meta"] == {"asset": "chair_01"}
    assert {path.name for path in cutout.iterdir()} == {
        "stool.matte.png",
        "manifest.json",
        "source",
    }
    assert studio.leftovers() == []


def test_a_table_is_worked_off_at_night(make: Make):
    studio = make("night")
    for name in ("chair_00", "chair_01"):
        path = studio.root / "library/chairs" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        product_shot().save(path)
    edit(studio, "sidecar_wait_seconds: 60", "sidecar_wait_seconds: 1")
    rest_never(studio)
    for name in ("shots.csv.yaml", "shots.csv"):
        example = studio.root / "examples/night" / name
        (studio.inbox("night") / name).write_bytes(example.read_bytes())

    done = studio.cli("run")

    assert done.returncode == 0, done.stderr
    (batch,) = studio.outbox.glob("night/shots-*")
    rows = list(csv.DictReader((batch / "batch.csv").read_text("utf-8-sig").splitlines()))
    assert [row["status"] for row in rows] == ["completed", "completed"]
    (picture,) = batch.glob("chair_00-*/chair_00.png")
    (mesh,) = batch.glob("chair_01-*/chair_01.glb")
    parameters = manifest(picture.parent)["stages"][0]["params"]
    assert parameters["prompt"] in ("a clay chair, chair_00", "a wooden chair, chair_00")
    assert manifest(mesh.parent)["job"]["tags"] == ["night"]
    assert (studio.root / "library/chairs/chair_00.png").is_file(), "it is only read"


def test_jobs_of_the_night_wait_by_day(make: Make):
    studio = make("night")
    hour = datetime.now().hour
    edit(studio, '22:00-06:00"          #', f'{(hour + 3) % 24}:00-{(hour + 9) % 24}:00"  #')
    edit(studio, "sidecar_wait_seconds: 60", "sidecar_wait_seconds: 0")
    product_shot().save(studio.inbox("night") / "chair.png")
    done = studio.cli("run")
    assert done.returncode == 0, done.stderr
    (job,) = studio.jobs()
    assert (job["status"], job["hold"]) == ("queued", "hours")


def test_exports_stay_and_the_newest_mesh_is_at_hand(make: Make):
    studio = make("dcc")
    exports = studio.root / "exports"
    product_shot().save(exports / "houdini/old.png")
    assert studio.cli("run").returncode == 0
    assert studio.jobs() == [], "what lay there before is left alone"

    example = studio.root / "examples/blender/robot.png.yaml"
    (exports / "blender" / example.name).write_bytes(example.read_bytes())
    product_shot().save(exports / "blender/robot.png")
    (exports / "maya/shot_010").mkdir()
    product_shot().save(exports / "maya/shot_010/chair.png")
    done = studio.cli("run")

    assert done.returncode == 0, done.stderr
    assert (studio.outbox / "blender/latest/robot.glb").is_file()
    assert (studio.outbox / "maya/latest/shot_010/chair.obj").is_file()
    assert (exports / "blender/robot.png").is_file()
    assert (exports / "maya/shot_010/chair.png").is_file()
    (robot,) = studio.outbox.glob("blender/robot-*")
    assert manifest(robot)["job"]["pipeline"] == "textured"
