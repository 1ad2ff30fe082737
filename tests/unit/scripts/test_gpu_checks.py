"""What the checks of a GPU make of results, machines and packages."""

from __future__ import annotations

import os
import sys
import time
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import load_script

check_gpu = load_script("check_gpu")
report = load_script("gpu_checks.report")
setting = load_script("gpu_checks.setting")
wheels = load_script("gpu_checks.wheels")
golden = load_script("gpu_checks.golden")
psnr = load_script("psnr")
measuring = load_script("gpu_checks.measuring")
drawing = load_script("gpu_checks.drawing")


@pytest.fixture
def on_cpu(tmp_path: Path) -> Any:
    return setting.Setting(torch.device("cpu"), True, tmp_path)


@pytest.fixture
def on_cuda(tmp_path: Path) -> Any:
    return setting.Setting(torch.device("cuda:0"), True, tmp_path)


# --- outcomes ------------------------------------------------------------------------------------


def raising(error: Exception) -> Any:
    def check(_: Any) -> dict[str, Any]:
        raise error

    return check


def missing(module: str) -> Exception:
    return ModuleNotFoundError(f"No module named {module!r}", name=module)


@pytest.mark.parametrize(
    ("error", "outcome", "why"),
    [
        (report.Skipped("no card"), "skipped", "no card"),
        (report.Failed("too dark"), "failed", "too dark"),
        (ValueError("odd"), "failed", "ValueError: odd"),
        (missing("moderngl"), "skipped", "this Python has no module moderngl; see --pack"),
        (missing("dna_pipeline.base.nothing"), "failed", "No module named"),
    ],
)
def test_outcomes(on_cpu: Any, error: Exception, outcome: str, why: str) -> None:
    checks = [("first", raising(error)), ("second", lambda _: {"error": 0.125})]
    first, second = report.run_checks(checks, on_cpu, 60)
    assert first.outcome == outcome
    assert first.why.startswith(why)
    assert f"{outcome}: {why}" in first.line()
    assert second.line().split() == ["second", "passed", "error", "0.125"]
    counts = report.as_json({}, [first, second])["counts"]
    assert counts == {"passed": 1, "failed": 0, "skipped": 0} | {outcome: 1}


def test_after_the_limit_the_others_are_skipped(on_cpu: Any) -> None:
    (only,) = report.run_checks([("late", lambda _: {})], on_cpu, -1)
    assert (only.outcome, only.why) == ("skipped", "the limit of -1 s had passed")


def test_one_failure_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checks = [("good", lambda _: {}), ("bad", raising(report.Failed("too dark")))]
    monkeypatch.setattr(check_gpu, "checks_of", lambda _: checks)
    monkeypatch.setattr(check_gpu, "extend_path", lambda *_: None)
    monkeypatch.setattr("sys.argv", ["check_gpu.py", "--device", "cpu", "--only", "correctness"])
    assert check_gpu.main() == 1
    assert capsys.readouterr().out.splitlines()[-1] == "1 passed, 1 failed, 0 skipped, on cpu"


def test_errors_beyond_the_limit_and_no_numbers_fail() -> None:
    assert golden.require(0.5, 0.5, "it") == 0.5
    for error in (0.6, float("nan"), float("inf")):
        with pytest.raises(report.Failed, match="it are off"):
            golden.require(error, 0.5, "it")


def test_peak_signal_to_noise() -> None:
    picture = np.full((4, 4, 3), 100, np.uint8)
    assert psnr.psnr_db(picture, picture) == float("inf")
    assert psnr.psnr_db(picture, picture + 255 // 10) == pytest.approx(20, abs=0.2)
    assert psnr.psnr_db(np.array([0.1]), np.array([0.0]), 1) == pytest.approx(20)


def test_no_opengl(monkeypatch: pytest.MonkeyPatch, on_cpu: Any) -> None:
    monkeypatch.setenv("DNA_OPENGL", "off")
    with pytest.raises(report.Skipped, match="no OpenGL: DNA_OPENGL is off"):
        drawing.turntable(on_cpu)


# --- load of the GPU -----------------------------------------------------------------------------


def nvidia_smi(folder: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> None:
    """A program of that name which writes lines and waits."""
    program = folder / "nvidia-smi"
    text = "\n".join(lines)
    program.write_text(f"#!{sys.executable}\nimport time\nprint({text!r}, flush=True)\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def local(at: datetime) -> str:
    return at.astimezone().strftime("%Y/%m/%d %H:%M:%S.%f")[:-3]


def sample(on: Any, until: Path | None = None) -> list[Any]:
    with measuring.sampled(on) as samples:
        deadline = datetime.now(UTC) + timedelta(seconds=60)
        while until and not until.exists() and datetime.now(UTC) < deadline:
            time.sleep(0.01)
    return samples


def test_a_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_cuda: Any) -> None:
    start = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    rows = [(0, 100, 900), (1, 40, 700), (2, 20, 800), (9, 100, 900)]
    lines = [f"{local(start + timedelta(seconds=s))}, {load}, {mib}" for s, load, mib in rows]
    nvidia_smi(tmp_path, monkeypatch, lines)
    program = tmp_path / "nvidia-smi"
    ready = tmp_path / "ready"
    program.write_text(f"{program.read_text()}open({str(ready)!r}, 'w')\ntime.sleep(600)\n")
    samples = sample(on_cuda, ready)
    assert len(samples) == 4
    one, three = (start + timedelta(seconds=s) for s in (1, 3))
    summary = measuring.summary(samples, one, three)
    assert summary == {"samples": 2, "idle_share": 0.7, "used_mib": 800}
    with pytest.raises(report.Failed, match="none of 4 samples"):
        measuring.summary(samples, three, three)


def test_a_card_that_tells_no_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_cuda: Any
) -> None:
    nvidia_smi(tmp_path, monkeypatch, ["[N/A]"])
    ready = tmp_path / "ready"
    program = tmp_path / "nvidia-smi"
    program.write_text(f"{program.read_text()}open({str(ready)!r}, 'w')\n")
    with pytest.raises(report.Skipped, match="nvidia-smi tells no load here"):
        sample(on_cuda, ready)


def test_nothing_to_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_cpu: Any, on_cuda: Any
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(report.Skipped, match="no nvidia-smi"):
        sample(on_cuda)
    with pytest.raises(report.Skipped, match="no accelerator here"):
        sample(on_cpu)


# --- packages ------------------------------------------------------------------------------------


def wheel(folder: Path, name: str) -> Path:
    """A wheel of a module that says where it comes from."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", "origin = 'wheel'\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def test_wheels_are_installed_beside_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    wheel(tmp_path / "wheels", "dna_travelling")
    wheels.unpack(tmp_path / "wheels", tmp_path / "site")
    import dna_travelling  # pyright: ignore[reportMissingImports]

    assert dna_travelling.origin == "wheel"
    assert os.environ["PYTHONPATH"] == f"{tmp_path / 'site'}{os.pathsep}elsewhere"


def test_a_folder_without_wheels(tmp_path: Path) -> None:
    with pytest.raises(wheels.WheelsError, match="there are no wheels in"):
        wheels.unpack(tmp_path, tmp_path / "site")


def pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *also: str) -> list[Path]:
    """Packs from a folder instead of an index."""
    monkeypatch.setattr(wheels, "NAMES", ("dna_first",))
    for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS"):
        monkeypatch.setenv(name, str(tmp_path / "index") if "LINKS" in name else "1")
    wheel(tmp_path / "index", "dna_first")
    wheel(tmp_path / "index", "dna_second")
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("dna-first==1.0\nDNA.Second==1.0\ndna_absent==1.0\n")
    return wheels.pack(tmp_path / "packed", constraints, "3.12", list(also))


def test_packing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = pack(tmp_path, monkeypatch, "dna_second")
    names = ["dna_first-1.0-py3-none-any.whl", "dna_second-1.0-py3-none-any.whl"]
    assert [path.name for path in packed] == names
    with pytest.raises(wheels.WheelsError, match="is not empty"):
        pack(tmp_path, monkeypatch)


def test_a_package_that_cannot_be_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(wheels.WheelsError, match="has no version of dna_unknown"):
        pack(tmp_path, monkeypatch, "dna_unknown")
    with pytest.raises(wheels.WheelsError, match="No matching distribution"):
        pack(tmp_path, monkeypatch, "dna_absent")


def test_too_many_wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "MOST_BYTES", 100)
    with pytest.raises(wheels.WheelsError, match="are too many"):
        pack(tmp_path, monkeypatch)


def test_all_packages_to_carry_have_a_version() -> None:
    text = check_gpu.CONSTRAINTS.read_text("utf-8").lower().replace("_", "-")
    for name in wheels.NAMES:
        assert f"\n{name.lower().replace('_', '-')}==" in f"\n{text}"
