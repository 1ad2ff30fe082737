"""How the real daemon stops: soon, whatever its worker is at, and at once when told twice."""

import json
import os
import signal
import time

import pytest
from conftest import Studio, alive, put_act

from tests.fork_server import Process, children_of

pytestmark = pytest.mark.slow


def perform(studio: Studio, act: str) -> tuple[Process, int]:
    """Start a daemon and wait until its worker is at the job; the daemon and the worker's id."""
    put_act(studio, "a", act)
    daemon = studio.start()
    studio.wait(lambda: is_running(studio))
    (worker,) = children_of(daemon.pid, "dna_pipeline.execution.worker.process")
    return daemon, worker.pid


def is_running(studio: Studio) -> bool:
    path = studio.outbox / "status.json"
    running = json.loads(path.read_bytes())["running"] if path.exists() else None
    return bool(running) and running["phase"] == "running"


@pytest.mark.parametrize("act", ["{deed: hog}", "{steps: 600, seconds: 0.1}"])
def test_one_signal_stops_within_ten_seconds(stage: Studio, act: str):
    daemon, worker = perform(stage, act)
    began = time.monotonic()
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(30) == 0
    assert time.monotonic() - began < 10
    assert not alive(worker)
    (job,) = stage.jobs()
    assert (job["status"], job["attempt"]) == ("queued", 0), "the stop costs the job nothing"


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_stops_at_once(stage: Studio, second: signal.Signals):
    daemon, worker = perform(stage, "{deed: hog}")
    daemon.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert daemon.poll() is None
    daemon.send_signal(second)
    assert daemon.wait(2) == -second
    os.kill(worker, signal.SIGKILL)  # it holds its interpreter's lock, and would see it later
