"""What `dna-pipeline check` says, in which order, and when it ends with exit status 2."""

from __future__ import annotations

import json
import os
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dna_pipeline.base.layout import claim_root
from dna_pipeline.intake.claiming import claims
from dna_pipeline.interfaces.cli.main import main
from dna_pipeline.operations.daemon.lock import hold_kept, hold_lock
from tests import certificates
from tests.commands import call_apart
from tests.unit.weights import weight_files

CONFIG = """\
version: 1
models:
  matte: {provider: border_key}
  triposr: {provider: triposr, path: models/triposr-base}
pipelines:
  cut: [{remove_background: {}}]
  mesh: [{triposr: {}}]
inboxes:
  - {path: inbox/cut, pipeline: cut}
"""


class Studio:
    """A folder with a pipeline.yaml. Commands run in this process, where each is cheap."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.folder = folder
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        monkeypatch.chdir(folder)

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    def call(self, *arguments: str) -> tuple[int | str | None, str]:
        """Exit status and standard output."""
        self._monkeypatch.setattr(sys, "argv", ["dna-pipeline", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code, self._capsys.readouterr().out


@pytest.fixture
def studio(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Studio:
    (tmp_path / "pipeline.yaml").write_text(CONFIG)
    (tmp_path / "inbox/cut").mkdir(parents=True)
    return Studio(tmp_path, monkeypatch, capsys)


def check(studio: Studio, *arguments: str) -> tuple[int | str | None, str]:
    return studio.call("check", *arguments)


def check_elsewhere(studio: Studio, env: dict[str, str]) -> tuple[int, str]:
    """In a process of its own, with its own packages."""
    done = call_apart(studio.folder, "check", env=env)
    return done.returncode, done.stdout


def facts(studio: Studio) -> dict[str, Any]:
    return json.loads(check(studio, "--json")[1])


def picture(path: Path) -> None:
    Image.new("RGB", (64, 64), "white").save(path)


def table(studio: Studio, rows: list[str]) -> None:
    picture(studio / "inbox/cut/a.png")
    lines = ["image,remove_background.force", *rows]
    (studio / "inbox/cut/shots.csv").write_text("\n".join(lines) + "\n")


# --- rows and files ---


@pytest.mark.slow
def test_wrong_rows_first_and_one_line_last(studio: Studio):
    table(studio, [*["a.png,true"] * 4, "b.png,", "a.png,perhaps"])
    code, out = check(studio)
    lines = out.splitlines()
    assert code == 2
    assert "shots.csv row 6" in lines[1]
    assert "image_missing" in lines[1]
    assert "shots.csv row 7" in lines[2]
    assert lines.index("inbox  file   sidecar or table  would run") > 2
    assert "shots.csv row 2" in out
    assert lines[-1] == (
        "2 of 6 rows are wrong; 4 jobs, no history yet, 1 MiB; 3 of them take results of other jobs"
    )


@pytest.mark.slow
def test_thousands_of_rows_are_cut_short_and_no_wrong_one_is_lost_among_them(studio: Studio):
    table(studio, [*["a.png,"] * 1500, "b.png,", *["a.png,"] * 500])
    code, out = check(studio)
    lines = out.splitlines()
    assert code == 2
    assert len(lines) < 120
    assert "shots.csv row 1502" in lines[1]
    assert lines[-2] == "and 1,900 more; `check --all` lists them"
    assert lines[-1] == (
        "1 of 2,001 rows is wrong; 2,000 jobs, no history yet, 62 MiB; "
        "1,999 of them take results of other jobs"
    )
    _, everything = check(studio, "--all")
    assert len(everything.splitlines()) == 2005
    assert len(facts(studio)["jobs"]) == 2001


@pytest.mark.slow
def test_very_many_wrong_rows_are_cut_short_too(studio: Studio):
    table(studio, ["b.png,"] * 300)
    (studio / "inbox/cut/a.png").unlink()
    code, out = check(studio)
    assert code == 2
    assert "and 200 more that are wrong; `check --all` lists them" in out
    assert out.splitlines()[-1] == "300 of 300 rows are wrong; nothing would run"


@pytest.mark.slow
def test_images_without_a_table_are_files(studio: Studio):
    for name in ("a.png", "b.png"):
        picture(studio / "inbox/cut" / name)
    code, out = check(studio)
    assert code == 0
    assert out.splitlines()[-1] == (
        "nothing is wrong with what waits; 1 model is missing; 2 jobs, no history yet, 1 MiB"
    )
    (studio / "inbox/cut/c.png").write_text("no picture")
    code, out = check(studio)
    assert code == 2
    assert out.splitlines()[-1] == "1 of 3 files is wrong; 2 jobs, no history yet, 1 MiB"


@pytest.mark.slow
def test_rows_and_files_together(studio: Studio):
    table(studio, ["a.png,", "a.png,"])
    (studio / "inbox/cut/c.png").write_text("no picture")
    assert check(studio)[1].splitlines()[-1].startswith("1 of 3 rows and files is wrong; 2 jobs")


def test_nothing_at_all(studio: Studio):
    code, out = check(studio)
    assert (code, out.splitlines()[-1]) == (0, "1 model is missing; nothing waits in the inboxes")


@pytest.mark.slow
def test_an_unknown_pipeline_does_not_run(studio: Studio):
    picture(studio / "inbox/cut/a.png")
    (studio / "inbox/cut/a.yaml").write_text("pipeline: cot")
    code, out = check(studio)
    assert code == 2
    assert "unknown_pipeline" in out
    assert out.splitlines()[-1] == "1 of 1 file is wrong; nothing would run"


@pytest.mark.slow
def test_what_is_not_understood_is_said_and_cut_short(studio: Studio):
    picture(studio / "inbox/cut/a.png")
    for number in range(300):
        (studio / f"inbox/cut/{number}.docx").write_text("x")
    (studio / "inbox/cut/sub").mkdir()
    code, out = check(studio)
    assert code == 0, "it is left alone, and nobody asked for it"
    assert out.count("left alone cut/") == 10
    assert "left alone and 291 more" in out
    assert out.splitlines()[-1].endswith("1 MiB; 301 entries left alone")
    ignored = {entry["file"]: entry["reason"] for entry in facts(studio)["ignored"]}
    assert len(ignored) == 301
    assert ignored["sub"] == "a subfolder, and this inbox is not recursive"
    assert check(studio, "--all")[1].count("left alone cut/") == 301


# --- weights ---


@pytest.mark.slow
def test_jobs_that_would_wait_for_weights_do_not_run(studio: Studio):
    picture(studio / "inbox/cut/a.png")
    code, out = check(studio)
    assert code == 0, "no job needs the weights that are missing"
    assert "model triposr: " in out
    assert "nothing is wrong with what waits; 1 model is missing; 1 job, no history yet" in out
    assert "nothing that lies in the inboxes needs it" in out
    picture(studio / "inbox/cut/b.png")
    (studio / "inbox/cut/b.yaml").write_text("pipeline: mesh")
    code, out = check(studio)
    assert code == 2
    assert "put config.yaml and model.ckpt of" in out
    assert "1 job would wait for it" in out
    assert "mesh (waits for the weights of triposr)" in out
    assert out.splitlines()[-1] == ("2 jobs, no history yet, 24 MiB; 1 job would wait for weights")
    assert [job["lacks"] for job in facts(studio)["jobs"]] == [[], ["triposr"]]
    (studio / "data/models/triposr-base").mkdir(parents=True)
    for name in ("config.yaml", "model.ckpt"):
        (studio / "data/models/triposr-base" / name).write_bytes(bytes(range(1, 256)))
    assert check(studio)[0] == 0


# --- other daemons, hours, pauses ---


@pytest.mark.slow
def test_a_daemon_that_works_here_is_named(studio: Studio):
    picture(studio / "inbox/cut/a.png")
    with hold_lock(studio / "data"):
        code, out = check(studio)
    assert code == 0, "that daemon does the jobs"
    assert f"note: a daemon works on {studio / 'data'} (process {os.getpid()} on " in out
    assert "another `watch` or `run` would not start" in out


def test_a_kept_inbox_of_another_daemon_is_told(studio: Studio):
    kept = CONFIG.replace("pipeline: cut}", "pipeline: cut, originals: keep}")
    (studio / "pipeline.yaml").write_text(kept)
    with hold_kept([("cut", studio / "inbox/cut")], studio / "elsewhere"):
        code, out = check(studio)
        assert code == 2
        assert f"process {os.getpid()}, data folder {studio / 'elsewhere'}" in out
        assert "give it `originals: archive`, or another folder" in out
        assert out.splitlines()[-1].startswith("1 inbox cannot be used")
    with hold_kept([("cut", studio / "inbox/cut")], studio / "data"):
        assert check(studio)[0] == 0, "that is this data folder's own daemon"
    assert check(studio)[0] == 0


def test_an_inbox_that_is_shared_is_told(studio: Studio):
    root = claim_root(studio / "inbox/cut", "0123456789ab")
    claims.make_claim_root(studio / "inbox/cut", "0123456789ab")
    owner = {"pid": 4711, "host": "other", "since": "2026-01-01T12:00:00Z", "data": "/srv/data"}
    (root / "owner.json").write_text(json.dumps(owner))
    code, out = check(studio)
    assert code == 0
    assert "note: inbox cut is watched by another daemon as well (process 4711 on other" in out
    long_ago = datetime.now().timestamp() - 3600
    os.utime(root / "owner.json", (long_ago, long_ago))
    assert "another daemon" not in check(studio)[1], "it is gone"


@pytest.mark.slow
def test_hours_and_pauses_are_told(studio: Studio):
    later = [datetime.now() + timedelta(hours=hours) for hours in (2, 3)]
    hours = "-".join(f"{time:%H:%M}" for time in later)
    (studio / "pipeline.yaml").write_text(
        CONFIG.replace("pipeline: cut}", f'pipeline: cut, hours: "{hours}"}}')
    )
    picture(studio / "inbox/cut/a.png")
    assert studio.call("pause")[0] == 0
    code, out = check(studio)
    assert code == 0
    assert f"note: inbox 'cut' rests until {later[0]:%Y-%m-%d %H:%M}; its hours are" in out
    assert f"note: the queue is paused since {datetime.now():%Y-%m-%d}" in out
    assert "`dna-pipeline resume` frees it" in out


# --- signatures ---


def test_a_certificate_that_cannot_sign_is_told(studio: Studio, tmp_path: Path):
    picture(studio / "inbox/cut/a.png")
    files = certificates.make(tmp_path)
    section = "c2pa: {certificate: studio.pem, key: studio.key}\n"
    (studio / "pipeline.yaml").write_text(CONFIG + section)
    assert check(studio)[0] == 0
    files.key.write_bytes(b"no key")
    code, out = check(studio)
    assert code == 2
    assert "c2pa cannot sign with" in out and "jobs wait until results can be signed" in out
    (said,) = facts(studio)["remarks"]
    assert (said["code"], said["stops"]) == ("signing_unavailable", True)
    files.key.unlink()
    code, out = check(studio)
    assert code == 2
    assert f"c2pa.key: {files.key} cannot be read" in out


# --- torch ---


@pytest.fixture
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("packages")


def install_torch(packages: Path, version: str, cuda: str) -> dict[str, str]:
    """A package that can only be looked at, and a driver's tool; the environment with both."""
    (packages / "torch").mkdir()
    (packages / "torch/__init__.py").write_text("raise RuntimeError('check loads no torch')")
    text = f"cuda: Optional[str] = {cuda}\nhip: Optional[str] = None\n"
    (packages / "torch/version.py").write_text(f"__version__ = {version!r}\n{text}")
    info = packages / f"torch-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n")
    (packages / "bin").mkdir()
    (packages / "bin/nvidia-smi").write_text("#!/bin/sh\n")
    (packages / "bin/nvidia-smi").chmod(0o755)
    paths = [str(packages), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "PATH": os.pathsep.join([str(packages / "bin"), os.environ["PATH"]]),
    }


@pytest.mark.slow
@pytest.mark.parametrize(("version", "cuda"), [("9.1.0+cpu", "None"), ("9.1.0", "None")])
def test_a_torch_for_the_cpu_beside_a_gpu_is_told(
    studio: Studio, packages: Path, version: str, cuda: str
):
    env = install_torch(packages, version, cuda)
    picture(studio / "inbox/cut/a.png")
    code, out = check_elsewhere(studio, env)
    assert code == 0, "it runs, though slowly"
    assert f"note: torch {version} is the build for the CPU, but this machine has an NVIDIA" in out
    assert "Install torch's build for CUDA" in out
    config = CONFIG + "runtime: {device: cuda}\n"
    (studio / "pipeline.yaml").write_text(config)
    code, out = check_elsewhere(studio, env)
    assert (code, "no job can run" in out) == (2, True)
    (studio / "pipeline.yaml").write_text(config.replace("cuda}", "cpu}"))
    code, out = check_elsewhere(studio, env)
    assert (code, "torch " in out) == (0, False)


@pytest.mark.slow
def test_a_torch_for_cuda_is_not_spoken_of(studio: Studio, packages: Path):
    code, out = check_elsewhere(studio, install_torch(packages, "9.1.0", "'12.8'"))
    assert (code, "torch 9" in out) == (0, False)


def test_missing_and_wrong_loras_are_named(studio: Studio):
    config = CONFIG.replace("models:\n", "models:\n  sd: {provider: diffusers, path: sd}\n")
    config = config.replace("  cut: [{remove_background: {}}]", "  cut: [{img2img: {model: sd}}]")
    (studio / "pipeline.yaml").write_text(config)
    folder = studio / "data/models/loras"
    folder.mkdir(parents=True)
    shapes = {"xl": (weight_files.KOHYA_XL, 2048), "clay": (weight_files.KOHYA, 768)}
    for name, (start, width) in shapes.items():
        tensors = {f"{start}lora_down.weight": (2, width)}
        weight_files.write_safetensors(folder / f"{name}.safetensors", tensors)
    prompts = {"a": "<lora:clya:1>", "b": "<lora:xl:1>", "c": "<lora:clay:1><lora:clya:1>"}
    for name, prompt in prompts.items():
        picture(studio / f"inbox/cut/{name}.png")
        (studio / f"inbox/cut/{name}.yaml").write_text(f"img2img: {{prompt: '{prompt}'}}\n")
    report = facts(studio)
    files = {one["name"]: one for one in report["extra_files"]}
    assert {name: one["jobs"] for name, one in files.items()} == {
        "lora:clay": 0, "lora:clya": 2, "lora:xl": 1,
    }  # fmt: skip
    assert files["lora:clay"]["missing"] is files["lora:clay"]["mismatch"] is None
    assert files["lora:clya"]["missing"].endswith("; did you mean 'clay'?")
    assert "is a LoRA for Stable Diffusion XL" in files["lora:xl"]["mismatch"]
    assert [(job["lacks"], job["mismatched"]) for job in report["jobs"]] == [
        (["sd", "lora:clya"], []), (["sd"], ["lora:xl"]), (["sd", "lora:clya"], []),
    ]  # fmt: skip
    code, out = check(studio)
    assert code == 2
    assert "lora:clya: 2 jobs would wait for it; LoRA 'clya' is not in " in out
    assert "lora:xl: 1 job would fail; " in out


# --- programs ---


@pytest.mark.slow
def test_json_keeps_its_keys_and_adds_some(studio: Studio):
    picture(studio / "inbox/cut/a.png")
    found = facts(studio)
    assert set(found) >= {"config", "models", "inboxes", "jobs", "waiting", "seconds", "disk_bytes"}
    assert found["counts"] == {
        "rows": 0, "files": 1, "jobs": 1, "wrong": 0, "skipped": 0, "lacking": 0,
        "mismatched": 0, "reusing": 0,
    }  # fmt: skip
    (job,) = found["jobs"]
    assert set(job) >= {
        "inbox", "file", "sidecar", "row", "column", "pipeline", "priority", "skipped", "error",
        "detail", "seconds", "disk_bytes",
    }  # fmt: skip
    assert found["would_all_run"] is True


def test_files_before_the_first_watch_are_listed_as_left_alone(studio: Studio):
    """Before it and after it; a file that was saved again is a job."""
    inboxes = "  - {path: inbox/cut, pipeline: cut, originals: keep, existing: ignore}\n"
    config = CONFIG.replace("  - {path: inbox/cut, pipeline: cut}\n", inboxes)
    (studio / "pipeline.yaml").write_text(config)
    image = studio / "inbox/cut/a.png"
    Image.new("RGB", (4, 4)).save(image)
    line = (
        "left alone cut/a.png: lay there before the first watch (existing: ignore); save it again "
        "to have it made"
    )
    before = check(studio)
    assert before[0] == 0
    assert line in before[1].splitlines()
    told = (
        "inbox cut: 1 file that lay there before the first watch is left alone (existing: ignore); "
        "save it again to have it made"
    )
    assert f"left alone: {told}" in studio.call("run")[1].splitlines()
    assert facts(studio)["jobs"] == []
    assert line in check(studio)[1].splitlines()
    assert told in studio.call("status")[1]
    Image.new("RGB", (5, 5)).save(image)
    assert [job["file"] for job in facts(studio)["jobs"]] == ["a.png"]
    assert told not in studio.call("status")[1]


def test_jobs_in_the_queue_are_counted(studio: Studio):
    Image.new("RGB", (20, 20)).save(studio / "a.png")
    assert studio.call("submit", "a.png", "--pipeline", "cut")[0] == 0
    assert check(studio)[1].splitlines()[-1] == (
        "1 model is missing; nothing waits in the inboxes; 1 job is in the queue "
        "(`dna-pipeline status`)"
    )
