"""A folder of checkpoints with the real program: a grid over them, wrong files, and preloading."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import Studio, photograph

pytestmark = pytest.mark.slow

spec = importlib.util.spec_from_file_location(
    "weight_files", Path(__file__).parents[1] / "unit/weights/weight_files.py"
)
assert spec is not None and spec.loader is not None
files: Any = importlib.util.module_from_spec(spec)
spec.loader.exec_module(files)

CONFIG = """\
version: 1
runtime: {preload: [one, absent]}
models: {"*": models/checkpoints}
pipelines: {restyle: [{img2img: {model: one, steps: 2, max_size: 64}}]}
inboxes: [{path: inbox/restyle, pipeline: restyle, settle_seconds: 0.3, sidecar_wait_seconds: 0.6}]
"""


@pytest.fixture
def checkpoints(studio: Studio, models_dir: Path) -> Path:
    """The folder of checkpoints: two models in Diffusers format, and one of another kind."""
    (studio.root / "pipeline.yaml").write_text(CONFIG)
    folder = studio.root / "data/models/checkpoints"
    for name in ("one", "two"):
        shutil.copytree(models_dir / "sd-v1-5-local", folder / name)
    files.write_safetensors(folder / "large.safetensors", files.SDXL)
    return folder


def submit(studio: Studio, name: str, sidecar: str) -> None:
    studio.inbox("restyle").joinpath(f"{name}.png.yaml").write_text(sidecar)
    photograph("coffee", 64).save(studio.inbox("restyle") / f"{name}.png")


def test_a_grid_over_checkpoints(studio: Studio, checkpoints: Path):
    with studio.watch():
        submit(studio, "grid", "matrix: {img2img.model: [one, two]}\n")
        studio.ended(2)
        log = (studio.root / "watch.log").read_text()
        # A model that comes while the daemon runs is found.
        shutil.copytree(checkpoints / "one", checkpoints / "late")
        submit(studio, "late", "img2img: {model: late}\n")
        submit(studio, "wrong", "img2img: {model: large}\n")
        submit(studio, "absent", "img2img: {model: lat}\n")
        studio.ended(5)
    assert log.index("model.preloaded") < log.index("stage.finished")
    assert "model.not_preloaded" in log and "'absent'" in log
    manifests = [json.loads(path.read_bytes()) for path in studio.outbox.rglob("manifest.json")]
    named = {each["stages"][0]["model"]["name"]: each["stages"][0]["model"] for each in manifests}
    assert set(named) == {"one", "two", "late"}
    assert named["late"]["path"] == "models/checkpoints/late"
    wrong = studio.error_of("wrong")
    assert wrong["code"] == "weights_mismatch"
    assert wrong["detail"].startswith(
        f"{checkpoints / 'large.safetensors'} is a checkpoint of Stable Diffusion XL; needed here"
    )
    absent = studio.error_of("absent")
    assert absent["code"] == "unknown_model"
    assert "no model is called 'lat'; did you mean 'late'?" in absent["detail"]


def test_check_names_wrong_files(studio: Studio, checkpoints: Path):
    (checkpoints / "one.ckpt").write_bytes(b"x")
    (checkpoints / "page.safetensors").write_text("<!doctype html>")
    submit(studio, "wrong", "img2img: {model: large}\n")
    report = studio.facts("check")
    models = {model["name"]: model for model in report["models"]}
    assert models["two"]["missing"] is None and models["two"]["mismatch"] is None
    assert "is a checkpoint of Stable Diffusion XL" in models["large"]["mismatch"]
    assert models["large"]["jobs"] == 1
    assert "is a web page" in models["page"]["mismatch"]
    assert "one.ckpt and one in" in models["one"]["missing"]
    assert not report["would_all_run"]
    done = studio.cli("check")
    assert done.returncode == 2
    assert "1 job would fail by a wrong file of a model" in done.stdout


def test_run_loads_only_what_a_job_needs(studio: Studio, checkpoints: Path):
    done = studio.cli("run")
    assert done.returncode == 0
    assert "preloaded" not in done.stderr


def loads_of(studio: Studio) -> dict[str, int]:
    """How often each model was loaded, by the daemon's log."""
    counts: dict[str, int] = {}
    before: set[str] = set()
    for line in (studio.root / "watch.log").read_text().splitlines():
        if "models.changed" in line:
            now = {name for name in ("one", "two") if repr(name) in line or f'"{name}"' in line}
            for name in now - before:
                counts[name] = counts.get(name, 0) + 1
            before = now
    return counts


def test_alternating_jobs_load_each_checkpoint_seldom(studio: Studio, checkpoints: Path):
    (studio.root / "pipeline.yaml").write_text(CONFIG.replace("preload: [one, absent]", ""))
    photograph("coffee", 64).save(studio.inbox("restyle") / "coffee.png")
    rows = [f"coffee.png,{('one', 'two')[number % 2]},{number}" for number in range(12)]
    text = "\n".join(["image,img2img.model,img2img.seed", *rows, ""])
    (studio.inbox("restyle") / "rows.csv").write_text(text)
    with studio.watch():
        jobs = studio.ended(12)
    assert {job["status"] for job in jobs} == {"completed"}
    assert loads_of(studio) == {"one": 1, "two": 1}
