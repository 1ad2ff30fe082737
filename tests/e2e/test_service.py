"""The daemon under systemd's protocol: what the unit says is started, as systemd starts it."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import Studio, put_act

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux's"),
]

WATCHDOG_S = 2.0

# Stands before the daemon, and blocks its loop while a file is there.
HANGS = """
import pathlib, sys, time
from dna_pipeline.operations.daemon.loop import Daemon
tick = Daemon._tick
def hanging_tick(self):
    while pathlib.Path("hang").exists():
        time.sleep(0.05)
    tick(self)
Daemon._tick = hanging_tick
from dna_pipeline.__main__ import main
main()
"""


class Systemd:
    """Starts the command of a unit, listens to it, and aborts it if it is silent for too long."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.messages: list[str] = []
        self.starts = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(studio.root / "notify"))
        self._socket.settimeout(WATCHDOG_S)
        self._stopped = threading.Event()
        self._command = self._read_unit()
        self.process = self._start()
        self._thread = threading.Thread(target=self._supervise, daemon=True)
        self._thread.start()

    def _read_unit(self) -> list[str]:
        lines = self.studio.cli("service", "install", "--print").stdout.splitlines()
        (line,) = (line for line in lines if line.startswith("ExecStart="))
        words = shlex.split(line.partition("=")[2].replace("%%", "%").replace("$$", "$"))
        assert words[1:3] == ["-m", "dna_pipeline"]
        return [words[0], "-c", HANGS, *words[3:]]

    def _start(self) -> subprocess.Popen[bytes]:
        self.starts += 1
        env = os.environ | {
            "NOTIFY_SOCKET": str(self.studio.root / "notify"),
            "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6)),
        }
        with (self.studio.root / "watch.log").open("ab") as log:
            return subprocess.Popen(
                self._command, cwd=self.studio.root, env=env, stdout=log, stderr=log
            )

    def _supervise(self) -> None:
        hang = self.studio.root / "hang"
        is_ready = False
        while not self._stopped.is_set():
            try:
                message = self._socket.recv(4096).decode()
            except TimeoutError:
                # A machine that is busy enough makes any daemon silent for so short a time.
                if is_ready and hang.exists():
                    is_ready = False
                    self.process.send_signal(signal.SIGABRT)
                    self.process.wait()
                    hang.unlink()
                    self.process = self._start()
                continue
            self.messages.append(message)
            is_ready = is_ready or message == "READY=1"

    def stop(self) -> int:
        self.process.terminate()
        code = self.process.wait(60)
        self._stopped.set()
        self._thread.join()
        self._socket.close()
        return code


@contextmanager
def supervised(studio: Studio) -> Iterator[Systemd]:
    systemd = Systemd(studio)
    try:
        yield systemd
    finally:
        if systemd.process.poll() is None:
            systemd.process.kill()
            systemd.process.wait()


def test_a_start_and_an_end_are_told(stage: Studio):
    put_act(stage, "short", "{steps: 2, seconds: 0.01}")
    with supervised(stage) as systemd:
        stage.ended(1)
        stage.wait(lambda: systemd.messages.count("WATCHDOG=1") > 2)
        assert systemd.stop() == 0
    messages = systemd.messages
    assert messages[0] == "READY=1"
    assert "STOPPING=1" in messages[-2:], "the status is put together once more behind it"
    assert any(message.startswith("STATUS=") for message in messages)
    assert systemd.starts == 1


def test_a_loop_that_hangs_is_aborted_with_its_stacks_and_loses_nothing(stage: Studio):
    put_act(stage, "short", "{steps: 2, seconds: 0.01}")
    (stage.root / "hang").touch()
    with supervised(stage) as systemd:
        stage.wait(lambda: systemd.starts == 2)
        assert [job["status"] for job in stage.ended(1)] == ["completed"]
        assert systemd.stop() == 0
    log = (stage.root / "watch.log").read_text()
    assert "Fatal Python error: Aborted" in log
    assert "in hanging_tick" in log
    assert systemd.messages.count("READY=1") == 2


def with_socket(children: Path) -> list[str]:
    """The children that have the socket in their environment."""
    pids = children.read_text().split()
    return [p for p in pids if b"NOTIFY_SOCKET" in Path(f"/proc/{p}/environ").read_bytes()]


def test_children_do_not_get_the_socket(stage: Studio):
    put_act(stage, "long", "{steps: 600, seconds: 0.1}")
    with supervised(stage) as systemd:
        children = Path(f"/proc/{systemd.process.pid}/task/{systemd.process.pid}/children")
        # A child that has not begun its own program yet still shows the daemon's environment.
        stage.wait(lambda: children.read_text().split() and not with_socket(children), 20)
        assert systemd.stop() == 0
