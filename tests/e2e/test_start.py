"""The program as people start it: new interpreters for the daemon and for each of its children.

Most other tests fork their processes, see `tests.fork_server`.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from conftest import Studio, alive, product_shot, put_act

pytestmark = pytest.mark.slow

CHILDREN = {"dna_pipeline.execution.worker.process", "dna_pipeline.base.reachability"}


def start_new(studio: Studio, *arguments: str) -> subprocess.Popen[bytes]:
    with (studio.root / "watch.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "dna_pipeline", *arguments],
            cwd=studio.root, stdout=log, stderr=log,
        )  # fmt: skip


def test_a_photograph_becomes_a_cut_out(studio: Studio):
    product_shot().save(studio.inbox("mesh") / "vase.png")
    (studio.inbox("mesh") / "vase.yaml").write_text("pipeline: cut")
    assert start_new(studio, "run").wait(120) == 0, (studio.root / "watch.log").read_text()
    assert [job["status"] for job in studio.jobs()] == ["completed"]
    assert start_new(studio, "verify").wait(60) == 0
    assert studio.leftovers() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_children_of_a_daemon_end_with_it(stage: Studio, number: signal.Signals):
    put_act(stage, "long", "{steps: 600, seconds: 0.1}")
    daemon = start_new(stage, "watch")
    stage.wait(lambda: set(children(daemon.pid)) >= CHILDREN)
    found = children(daemon.pid)
    os.kill(daemon.pid, number)
    assert daemon.wait(30) == (0 if number == signal.SIGTERM else -number)
    stage.wait(lambda: not any(alive(pid) for pid in found.values()), 20)


def children(pid: int) -> dict[str, int]:
    """The daemon's children by the modules that they run."""
    found: dict[str, int] = {}
    for child in psutil.Process(pid).children():
        try:
            found[Path(child.cmdline()[-1]).name] = child.pid
        except (psutil.Error, IndexError):
            continue
    return found
