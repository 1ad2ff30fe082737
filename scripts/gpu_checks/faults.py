"""A device that fails in the middle of a job, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from dna_pipeline.execution.worker.device import self_test
from gpu_checks.report import Check, Failed
from gpu_checks.setting import Setting

SCRIPTS = Path(__file__).resolve().parents[1]
LIMIT_S = 120


def fault(setting: Setting) -> dict[str, Any]:
    """A fault of the device ends the job without blame and condemns the process.

    On CUDA a kernel reads beyond the end of its data, which breaks that process's device for good.
    Elsewhere the error is raised by hand, with CUDA's text. The device must work in this process
    afterwards.
    """
    folder = setting.folder / "fault"
    device = setting.in_dtype("float32")
    command = [sys.executable, "-m", "gpu_checks.broken_device", device.name, str(folder)]
    done = subprocess.run(
        command, cwd=SCRIPTS, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    lines = done.stdout.splitlines()
    if not lines:
        raise Failed(f"the process ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    event = json.loads(lines[-1])
    if event["kind"] != "job_failed" or not event["poisoned"] or event["hold"]:
        raise Failed(f"not taken for a fault of the device: {event}")
    self_test(device)
    return {"fault": "real" if event["is_real"] else "injected", "code": event["code"]}


def known_sum(setting: Setting) -> dict[str, Any]:
    """The worker's own test of the device."""
    self_test(setting.in_dtype("float32"))
    return {}


CHECKS: tuple[tuple[str, Check], ...] = (
    ("device-self-test", known_sum),
    ("device-fault", fault),
)
