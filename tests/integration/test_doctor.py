"""The command `doctor` on this machine, as people and programs call it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.commands import call_apart
from tests.hanging import HangingMount

CONFIG = """\
version: 1
runtime: {device: cpu}
models:
  sd15: {provider: diffusers, path: models/sd-v1-5-local}
  triposr: {provider: triposr, path: models/triposr-base}
  matte: {provider: border_key}
pipelines:
  mesh: [{img2img: {model: sd15}}, {remove_background: {model: matte}}, {triposr: {model: triposr}}]
inboxes: [{path: inbox, pipeline: mesh}]
"""

KEYS = ["check", "state", "value", "hint", "subject"]


@pytest.fixture
def studio(tmp_path: Path, models_dir: Path) -> Path:
    (tmp_path / "pipeline.yaml").write_text(CONFIG)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/models").symlink_to(models_dir)
    return tmp_path


def doctor(folder: Path, **options: Any) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit status and findings, by check and subject."""
    done = call_apart(folder, "doctor", "--json", **options)
    findings = json.loads(done.stdout)
    assert all(list(finding) == KEYS for finding in findings), done.stderr
    return done.returncode, {f"{f['check']} {f['subject']}".strip(): f for f in findings}


@pytest.mark.slow
@pytest.mark.usefixtures("opengl")
def test_a_sound_machine(studio: Path):
    code, findings = doctor(studio)
    assert code == 0
    unwell = {name: f for name, f in findings.items() if f["state"] not in ("ok", "note")}
    assert unwell == {}
    assert "self-test passed" in findings["device"]["value"]
    assert sorted(path.name for path in studio.iterdir()) == ["data", "pipeline.yaml"]
    assert [path.name for path in (studio / "data").iterdir()] == ["models"]


@pytest.mark.slow
def test_people_get_lines_of_80_columns(studio: Path):
    done = call_apart(studio, "doctor")
    lines = done.stdout.splitlines()
    assert done.returncode == 0
    assert all(len(line) <= 80 or len(line[26:].split()) == 1 for line in lines)
    assert all(line.startswith(("ok ", "note ", "warning ", "fault ", " " * 26)) for line in lines)
    assert done.stdout.isascii()
    assert done.stderr.startswith("jobs can run")


@pytest.mark.slow
def test_missing_weights_and_a_full_configuration(studio: Path):
    (studio / "data/models").unlink()
    done = call_apart(studio, "doctor")
    assert done.returncode == 1
    assert "fault   weights sd15" in done.stdout
    assert done.stdout.count("dna-pipeline models pull\n") == 2
    assert done.stderr.startswith("2 faults")


@pytest.mark.slow
def test_without_and_with_a_broken_configuration(tmp_path: Path):
    code, findings = doctor(tmp_path)
    assert code == 0
    assert findings["config"]["state"] == "note"
    (tmp_path / "pipeline.yaml").write_text(CONFIG.replace("device", "devise") + "inboxs: []\n")
    code, findings = doctor(tmp_path)
    assert code == 1
    value = findings["config"]["value"]
    assert "line 2" in value
    assert value.endswith("(and 1 more)")
    assert "\n" not in value
    assert findings["device"]["state"] in ("ok", "note")
    missing = os.environ | {"DNA_CONFIG": "nowhere.yaml"}
    code, findings = doctor(tmp_path, env=missing)
    assert code == 1
    assert "there is no such file" in findings["config"]["value"]


@pytest.mark.slow
def test_broken_libraries_and_an_empty_path(studio: Path, tmp_path_factory: pytest.TempPathFactory):
    stubs = tmp_path_factory.mktemp("stubs")
    (stubs / "torch").mkdir()
    (stubs / "torch/__init__.py").write_text("import os; os.kill(os.getpid(), 11)\n")
    root = Path(__file__).parents[2]
    env = os.environ | {
        "PYTHONPATH": f"{stubs}:{root}", "IMAGEIO_FFMPEG_EXE": "/nowhere/ffmpeg", "PATH": "",
        "DNA_OPENGL": "off",
    }  # fmt: skip
    code, findings = doctor(studio, env=env)
    assert code == 1
    assert findings["device"]["state"] == "fault"
    assert "SIGSEGV" in findings["device"]["value"]
    assert findings["ffmpeg"]["state"] == "fault"
    assert findings["opengl"]["state"] == "note"
    assert findings["sqlite"]["state"] == "ok"


@pytest.mark.slow
def test_a_dead_mount_does_not_stop_it(studio: Path, hang: Callable[..., HangingMount]):
    for name in ("outbox", "inbox"):
        (studio / name).mkdir()
        hang(studio / name)
    code, findings = doctor(studio)
    assert code == 1
    for name in ("folder outbox", "folder inbox inbox"):
        assert findings[name]["state"] == "fault"
        assert "does not answer" in findings[name]["value"]
    assert findings["folder data"]["state"] == "ok"


@pytest.mark.slow
def test_nvidia_s_driver_beside_a_torch_for_the_cpu(studio: Path):
    from dna_pipeline.operations.torch_build import installed_build

    build = installed_build()
    if build is None or not build.is_for_cpu or shutil.which("nvidia-smi"):
        pytest.skip("this machine has a GPU, or a torch for one")
    shim = studio / "nvidia-smi"
    shim.write_text("#!/bin/sh\necho 'Driver Version: 550.54.14  CUDA Version: 12.4'\n")
    shim.chmod(0o755)
    (studio / "pipeline.yaml").write_text(CONFIG.replace("device: cpu", "device: auto"))
    code, findings = doctor(studio, env=os.environ | {"PATH": f"{studio}:{os.environ['PATH']}"})
    assert code == 0
    assert findings["torch"]["state"] == "warning"
    assert "DNA_TORCH_INDEX_URL" in findings["torch"]["hint"]
    assert "CUDA 12.4 or older" in findings["torch"]["hint"]
