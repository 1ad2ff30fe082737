"""Programs that are run for their output."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import psutil
import pytest

from dna_pipeline.base import programs


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_output_and_exit_status():
    code = "import sys; print(sys.stdin.read().upper()); print('hm', file=sys.stderr); sys.exit(3)"
    done = programs.run(python(code), 60, b"abc")
    assert (done.code, done.text.strip(), done.errors.strip()) == (3, "ABC", "hm")


def test_a_program_that_is_missing():
    with pytest.raises(FileNotFoundError):
        programs.run(["no-such-program-anywhere"], 60)


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_program_that_hangs_is_killed_with_what_it_started(tmp_path: Path):
    noted = tmp_path / "pids"
    code = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(noted)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        "time.sleep(600)\n"
    )
    with pytest.raises(TimeoutError, match="within 3 s"):
        programs.run(python(code), 3)
    deadline = time.monotonic() + 10
    pids = [int(pid) for pid in noted.read_text().split()]
    assert len(pids) == 2
    while any(map(is_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_alive, pids))
