"""Commands whose caller closed a stream, or that Ctrl-C meets while they are imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
LIST = [sys.executable, "-m", "dna_pipeline", "models", "list", "--known"]
WRONG = [sys.executable, "-m", "dna_pipeline", "--config", "nowhere.yaml", "models", "list"]


def run_in_shell(command: list[str], closing: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", f'"$@" {closing}', "sh", *command],
        capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


@pytest.mark.skipif(os.name == "nt", reason="the shell of POSIX closes streams")
def test_a_closed_standard_output_is_no_fault():
    done = run_in_shell(LIST, ">&-")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(os.name == "nt", reason="the shell of POSIX closes streams")
def test_remarks_do_not_go_to_standard_output():
    done = run_in_shell(WRONG, "2>&-")
    assert (done.returncode, done.stdout) == (2, "")


def test_ctrl_c_during_the_import_leaves_no_traceback(tmp_path: Path):
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt\n")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = subprocess.run(LIST, capture_output=True, text=True, timeout=60, env=env)
    assert (done.returncode, done.stderr) == (130, "")
