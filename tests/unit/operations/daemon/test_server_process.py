"""The server beside the daemon; small programs take its place."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest
import structlog

from dna_pipeline.base import ipc
from dna_pipeline.operations.daemon import server_process as module
from dna_pipeline.operations.daemon.server_process import ServerProcess, ServerState

LIMIT_S = 20.0

WORKS = """
import json, sys
told = json.loads(sys.stdin.readline())
print(json.dumps({"url": "http://here:1", "warnings": [told["host"]]}), flush=True)
sys.stdin.read()
"""
REFUSES = """
import json
print(json.dumps({"problem": "port 8000 is in use"}), flush=True)
"""
DIES = "import os; os.abort()"
CHATTERS = "print('what is this', flush=True); import time; time.sleep(60)"
STAYS = """
import json, time
print(json.dumps({"url": "http://here:1"}), flush=True)
time.sleep(60)
"""


class Starter:
    """Starts a program each time; the last one again and again."""

    def __init__(self, *programs: str | Exception) -> None:
        self._programs = [*programs]
        self.started: list[subprocess.Popen[bytes]] = []
        self.calls = 0

    def __call__(self, module: str) -> subprocess.Popen[bytes]:
        self.calls += 1
        program = self._programs.pop(0) if len(self._programs) > 1 else self._programs[0]
        if isinstance(program, Exception):
            raise program
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        command = [sys.executable, "-S", "-E", "-c", program]
        process = subprocess.Popen(command, **pipes, **ipc.SESSION)
        self.started.append(process)
        return process


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


Run = Callable[..., tuple[ServerProcess, Starter]]


@pytest.fixture
def run() -> Iterator[Run]:
    made: list[tuple[ServerProcess, Starter]] = []

    def start(*programs: str | Exception, pause_s: float = 0.01) -> tuple[ServerProcess, Starter]:
        starter = Starter(*programs)
        server = ServerProcess("the.module", {"host": "here"}, starter, pause_s)
        made.append((server, starter))
        server.start()
        return server, starter

    yield start
    for server, starter in made:
        server.close()
        for process in starter.started:
            process.kill()
            process.wait()


def test_it_says_where_it_listens_and_ends_with_its_pipe(run: Run):
    with structlog.testing.capture_logs() as logs:
        server, starter = run(WORKS)
        until(lambda: server.state.url is not None)
        assert server.state == ServerState("http://here:1")
        server.close()
    assert starter.started[0].wait(0) == 0
    assert {"event": "server.warned", "what": "here", "log_level": "warning"} in logs
    assert not [entry for entry in logs if entry["log_level"] == "error"]
    assert starter.calls == 1


def test_one_that_dies_is_started_again(run: Run):
    server, starter = run(DIES, WORKS)
    until(lambda: server.state.url is not None)
    starter.started[1].kill()
    until(lambda: len(starter.started) == 3 and server.state.url is not None)
    assert server.state.problem is None


def test_why_it_does_not_run_is_told_once(run: Run):
    with structlog.testing.capture_logs() as logs:
        server, starter = run(REFUSES)
        until(lambda: starter.calls >= 3)
        assert server.state == ServerState(None, "port 8000 is in use")
    errors = [entry["why"] for entry in logs if entry["event"] == "server.not_running"]
    assert errors == ["port 8000 is in use"]


def test_one_that_cannot_be_started_ends_nothing(run: Run):
    server, starter = run(OSError(12, "Cannot allocate memory"), RuntimeError("odd"), WORKS)
    until(lambda: server.state.url is not None)
    assert starter.calls == 3


def test_the_way_it_died_is_told(run: Run):
    server, _ = run(DIES, pause_s=30)
    until(lambda: server.state.problem is not None)
    assert server.state.problem == "the server ended by SIGABRT"


def test_one_that_talks_nonsense_is_ended(run: Run):
    server, starter = run(CHATTERS, pause_s=30)
    until(lambda: server.state.problem is not None)
    assert "no JSON" in (server.state.problem or "")
    assert starter.started[0].wait(LIMIT_S) != 0


def test_pauses_grow(run: Run, monkeypatch: pytest.MonkeyPatch):
    waits: list[float] = []
    server = ServerProcess("m", {}, Starter(RuntimeError("no")), 3.0)

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        return len(waits) == 7

    monkeypatch.setattr(server._stop, "wait", wait)
    server._run()
    assert waits == [3.0, 6.0, 12.0, 24.0, 48.0, 60.0, 60.0]


def test_one_that_does_not_end_is_killed(run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "END_S", 0.05)
    server, starter = run(STAYS)
    until(lambda: server.state.url is not None)
    server.close()
    assert starter.started[0].wait(LIMIT_S) < 0


def test_the_end_does_not_wait_for_a_pause(run: Run):
    server, starter = run(REFUSES, pause_s=3000)
    until(lambda: server.state.problem is not None)
    server.close()
    assert not server._thread.is_alive()
    assert starter.calls == 1


def test_its_state_is_a_field_of_the_status():
    assert json.loads(json.dumps(ServerState("http://a:1").to_dict())) == {
        "url": "http://a:1", "problem": None,
    }  # fmt: skip
