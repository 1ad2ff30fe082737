"""`check_gpu.py` on a CPU, as it is called by hand: all that a CPU can show, in small sizes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[2] / "scripts" / "check_gpu.py"


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), "--small", *arguments],
        capture_output=True, text=True, timeout=250,
    )  # fmt: skip


def outcomes(report: dict[str, Any]) -> dict[str, set[str]]:
    """Names of the checks, by their outcomes."""
    result: dict[str, set[str]] = {}
    for check in report["checks"]:
        result.setdefault(check["outcome"], set()).add(check["name"])
    return result


def values(report: dict[str, Any], name: str) -> dict[str, Any]:
    return next(check["values"] for check in report["checks"] if check["name"] == name)


def test_correctness(opengl: None) -> None:
    done = call("--only", "correctness", "--device", "cpu", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["machine"]["device"] == "cpu"
    assert outcomes(report) == {
        "passed": {
            "triposr-float32", "triposr-bfloat16", "triposr-densities", "triposr-mesh",
            "triposr-two-runs", "img2img-two-runs", "memory-error", "memory-retry",
            "device-self-test", "device-fault", "egl-turntable",
        },
        "skipped": {"triposr-float16", "img2img-beside-cpu"},
    }  # fmt: skip
    assert report["counts"] == {"passed": 11, "failed": 0, "skipped": 2}
    assert all(check["why"] for check in report["checks"] if check["outcome"] == "skipped")
    assert values(report, "device-fault")["fault"] == "injected"


def test_figures() -> None:
    done = call("--only", "figures", "--device", "cpu", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert outcomes(report) == {
        "passed": {
            "forward-float32", "forward-bfloat16", "mesh-256", "mesh-512", "bake",
            "picture-to-glb", "sd15-512", "sd15-768", "queue",
        },
        "skipped": {
            "forward-float16", "sd15-512-compiled", "sd15-768-compiled", "queue-idle-share",
        },
    }  # fmt: skip
    for name in ("forward-float32", "mesh-256", "bake", "picture-to-glb"):
        assert values(report, name)["seconds"] > 0
    assert values(report, "sd15-512")["batch_1"]["pictures_per_s"] > 0
    assert values(report, "queue")["daemon_s_per_job"] > 0


def test_a_device_that_is_not_there() -> None:
    done = call("--device", "cuda:99")
    assert done.returncode == 2
    assert "cuda:99 was asked for" in done.stderr
    assert done.stdout == ""
