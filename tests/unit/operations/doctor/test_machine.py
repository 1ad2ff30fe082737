"""Facts about the machine, read from what programs print and files hold."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from dna_pipeline.operations.doctor import machine
from dna_pipeline.operations.doctor.facts import NvidiaDriver, Trial

SMI = """\
Mon Mar  1 12:00:00 2027
+-----------------------------------------------------------------------------------------+
| NVIDIA-SMI 550.54.14              Driver Version: 550.54.14      CUDA Version: 12.4     |
|-----------------------------------------+------------------------+----------------------+
"""
BROKEN = "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 1\n"


def test_what_nvidia_smi_prints():
    assert machine.read_smi(0, SMI) == NvidiaDriver("550.54.14", (12, 4))
    broken = NvidiaDriver(problem="Failed to initialize NVML: Driver/library version mismatch")
    assert machine.read_smi(18, BROKEN) == broken
    assert machine.read_smi(9, "").problem == "nvidia-smi ends with 9"
    assert machine.read_smi(0, "another text") == NvidiaDriver()


def test_graphics_cards(tmp_path: Path):
    devices = {"a": ("0x10de", "0x030000"), "b": ("0x1002", "0x040300"), "c": ("0x8086", "0x03")}
    for name, (vendor, kind) in devices.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "vendor").write_text(f"{vendor}\n")
        (tmp_path / name / "class").write_text(f"{kind}\n")
    (tmp_path / "empty").mkdir()
    assert machine.graphics_cards(tmp_path) == {"nvidia"}
    assert machine.graphics_cards(tmp_path / "nowhere") == frozenset()


@pytest.mark.parametrize(
    ("tz", "is_valid"),
    [
        ("", True),
        ("UTC", True),
        ("Europe/Berlin", True),
        (":Europe/Berlin", True),
        ("JST-9", True),
        ("Europe/Berln", False),
        ("Europe", False),
        ("/no/such/file", False),
    ],
)
def test_zones(tz: str, is_valid: bool):
    assert machine.is_tz_valid(tz) == is_valid


def test_tasks_run_a_few_at_once():
    at_once, most, lock = 0, 0, threading.Lock()
    together = threading.Barrier(machine.AT_ONCE)

    def task() -> int:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        together.wait(60)
        with lock:
            at_once -= 1
        return 5

    def fail() -> None:
        raise OSError("no processes left")

    tasks = {str(number): task for number in range(2 * machine.AT_ONCE)}
    results = machine.in_parallel({**tasks, "fails": fail})
    assert results.pop("fails") == Trial("the trial could not be done: no processes left")
    assert set(results.values()) == {5}
    assert most == machine.AT_ONCE


def test_memory_and_limits():
    free, total = machine.memory()
    assert 0 < free <= total
    assert machine.user_name() != ""
    limit = machine.open_files()
    assert limit is None or limit > 0
