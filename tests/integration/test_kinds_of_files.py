"""Files under wrong names, files that are no images, and render passes, from inbox to outbox."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import pytest
from PIL import Image

from tests.commands import call, facts

HEIC = Path(__file__).parents[1] / "golden" / "heic"

CONFIG = """\
version: 1
models: {matte: {provider: border_key}}
pipelines: {cut: [{remove_background: {}}]}
inboxes: [{path: inbox/cut, pipeline: cut, sidecar_wait_seconds: 0, settle_seconds: 0.2}]
"""


def box() -> Image.Image:
    image = Image.new("RGB", (64, 64), "white")
    image.paste((200, 30, 30), (20, 20, 44, 44))
    return image


def reasons(said: dict[str, Any]) -> dict[str, str]:
    return {entry["file"]: entry["reason"] for entry in said["waiting"]}


@pytest.mark.slow
def test_the_content_decides_what_a_file_is(studio: Path) -> None:
    inbox = studio / "inbox/cut"
    box().save(inbox / "IMG_0001.HEIC", "JPEG")
    box().save(inbox / "b.heif", "PNG")
    (inbox / "c.jpg").write_bytes((HEIC / "box.heic").read_bytes())
    (inbox / "d.heic").write_bytes((HEIC / "box.heic").read_bytes())
    (inbox / "e.png").write_text("<!doctype html><title>Sign in</title>")
    box().save(inbox / "f.jxl", "PNG")

    said = facts(studio, "check")
    assert {job["file"]: job["error"] for job in said["jobs"]} == {
        "IMG_0001.HEIC": None, "b.heif": None, "c.jpg": None, "d.heic": None,
        "e.png": "image_unreadable",
    }  # fmt: skip
    ran = facts(studio, "run")
    statuses = {job["name"]: job["status"] for job in ran["jobs"]}
    assert {name for name, status in statuses.items() if status == "failed"} == {"e.png"}
    assert {*statuses} - {"e.png"} == {"IMG_0001.HEIC", "b.heif", "c.jpg", "d.heic"}
    (text,) = (studio / "outbox/cut/failed").glob("e-*/ERROR.txt")
    assert "web page" in text.read_text()
    assert "download the image itself" in text.read_text()
    assert "save it as PNG or JPEG" in reasons(ran)["f.jxl"]
    manifests = [json.loads(p.read_text()) for p in studio.glob("outbox/cut/d-*/manifest.json")]
    assert [(m["input"]["width"], m["input"]["height"]) for m in manifests] == [(64, 96)]


@pytest.mark.slow
def test_render_passes_stay_and_are_named(studio: Path) -> None:
    inbox = studio / "inbox/cut"
    light = dict.fromkeys("RGB", np.full((32, 32), 0.5, np.float32))
    for name in ("Image0001.exr", "Depth0001.exr", "Mist0001.exr"):
        OpenEXR.File({"type": OpenEXR.scanlineimage}, light).write(str(inbox / name))
    box().save(inbox / "Normal0001.png")
    box().save(inbox / "AO0001.png")
    (inbox / "AO0001.yaml").write_text("priority: 1")
    box().save(inbox / "chair_depth.png")
    (inbox / "job.yaml").write_text("image: chair_depth.png")

    said = facts(studio, "check")
    assert {job["file"] for job in said["jobs"]} == {
        "Image0001.exr", "AO0001.png", "chair_depth.png"
    }  # fmt: skip
    waits = reasons(said)
    assert set(waits) == {"Depth0001.exr", "Mist0001.exr", "Normal0001.png"}
    assert waits["Depth0001.exr"].startswith("looks like a render pass (depth), not a picture; ")
    assert "waiting cut/Mist0001.exr: looks like a render pass (mist)" in call(
        studio, "check"
    ).stdout  # fmt: skip
    ran = facts(studio, "run")
    assert {job["name"] for job in ran["jobs"]} == {
        "Image0001.exr", "AO0001.png", "chair_depth.png"
    }  # fmt: skip
    assert reasons(ran) == waits
    assert {path.name for path in inbox.iterdir() if path.is_file()} == set(waits)

    (inbox / "Normal0001.png").rename(inbox / "map.png")
    assert [job["name"] for job in facts(studio, "run")["jobs"]] == ["map.png"]


@pytest.mark.slow
def test_a_render_pass_that_is_submitted_is_taken(studio: Path) -> None:
    box().save(studio / "Normal0001.png")
    assert call(studio, "submit", "Normal0001.png").returncode == 0
    assert [job["name"] for job in facts(studio, "run")["jobs"]] == ["Normal0001.png"]
