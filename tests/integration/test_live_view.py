"""The live view on a real terminal: a pseudo-terminal, of which this process is the other end."""

from __future__ import annotations

import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.cells import cell_len

from tests.integration.test_cli import CONFIG as CONFIG  # of `studio`
from tests.integration.test_cli import call, picture, submit

if sys.platform == "win32":
    pytest.skip("pseudo-terminals are POSIX's", allow_module_level=True)

import fcntl
import pty
import termios

pytestmark = pytest.mark.slow

ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
WAIT_S = 30.0


class Terminal:
    """A terminal of a given size and a command that runs in its foreground."""

    def __init__(self, folder: Path, *arguments: str, columns: int = 80, **variables: str) -> None:
        self.master, slave = pty.openpty()
        self.resize(columns, 30)
        self._slave = slave
        keep = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", _IN_FOREGROUND, "-m", "dna_pipeline", *arguments],
            cwd=folder, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            env=keep | {"TERM": "xterm-256color", "PYTHONUTF8": "1"} | variables,
        )  # fmt: skip
        self.text = ""
        os.set_blocking(self.master, False)

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self) -> str:
        """All that the command has written so far."""
        try:
            while data := os.read(self.master, 1 << 16):
                self.text += data.decode(errors="replace")
        except OSError:
            pass
        return self.text

    def wait_for(self, is_there: Callable[[str], object]) -> str:
        end = time.monotonic() + WAIT_S
        while not is_there(self.read()):
            assert time.monotonic() < end, self.text
            time.sleep(0.05)
        return self.text

    def type(self, letters: str) -> None:
        os.write(self.master, letters.encode())

    def has_echo(self) -> bool:
        return bool(termios.tcgetattr(self._slave)[3] & termios.ECHO)

    def end(self) -> int:
        """Wait for the command's end; its exit status."""
        deadline = time.monotonic() + WAIT_S
        while (status := self.process.poll()) is None:
            self.read()  # a full terminal would block it
            assert time.monotonic() < deadline, self.text
            time.sleep(0.05)
        self.read()
        return status

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self._slave)


# A shell makes the terminal the command's own before it starts it.
_IN_FOREGROUND = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@contextmanager
def terminal(
    folder: Path, *arguments: str, columns: int = 80, **variables: str
) -> Iterator[Terminal]:
    opened = Terminal(folder, *arguments, columns=columns, **variables)
    try:
        yield opened
    finally:
        opened.close()


def pictures(text: str) -> list[list[str]]:
    """The pictures that were drawn, as lines without styles."""
    shown = text.partition(ENTER)[2].partition(LEAVE)[0]
    parts = [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", part) for part in shown.split("\x1b[H")]
    return [part.replace("\r", "").split("\n") for part in parts if "dna-pipeline" in part]


def test_a_status_is_followed_resized_and_left(studio: Path):
    submit(studio, "箱.png")
    with terminal(studio, "status", "--watch") as screen:
        screen.wait_for(lambda text: "Ctrl-C leaves" in text)
        assert not screen.has_echo()
        screen.type("typed\n")
        screen.resize(140, 24)
        screen.wait_for(lambda text: len(pictures(text)[-1]) == 24)
        screen.type("\x03")
        assert screen.end() == 0
        assert screen.has_echo()
        text = screen.read()
    drawn = pictures(text)
    assert {len(lines) for lines in drawn} == {30, 24}
    for lines, columns in ((drawn[0], 80), (drawn[-1], 140)):
        assert {cell_len(line) for line in lines} == {columns}
        assert any("1 job waiting; `dna-pipeline watch` does them" in line for line in lines)
    assert "typed" not in text
    assert text.index(ENTER) < text.index(HIDE) < text.index(LEAVE)
    assert text.rindex(SHOW) > text.rindex(HIDE)
    assert "Traceback" not in text


def test_a_daemon_is_watched(studio: Path):
    with terminal(studio, "watch") as screen:
        screen.wait_for(lambda text: "put images into one of these folders" in text)
        picture(studio / "inbox/cut/box.png")
        screen.wait_for(lambda text: "cut/box-" in text)
        screen.type("\x03")
        assert screen.end() == 0
        text = screen.read()
        assert screen.has_echo()
    assert "daemon.started" not in text, "the log goes to its file"
    assert "daemon.started" in (studio / "data/logs/dna-pipeline.log").read_text()
    after = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text.partition(LEAVE)[2])
    assert "stopping at a safe point; Ctrl-C again ends at once" in after
    assert "1 completed" in after
    assert "✓ box.png  cut/box-" in after


def test_a_stopped_view_gives_the_terminal_back_until_it_goes_on(studio: Path):
    submit(studio)
    with terminal(studio, "status", "--watch") as screen:
        screen.wait_for(lambda text: "Ctrl-C leaves" in text)
        screen.type("\x1a")  # Ctrl-Z
        _, status = os.waitpid(screen.process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        screen.wait_for(lambda text: text.endswith(SHOW + LEAVE))
        assert screen.has_echo()
        os.kill(screen.process.pid, signal.SIGCONT)
        screen.wait_for(lambda text: text.count(ENTER) == 2)
        screen.type("\x03")
        assert screen.end() == 0
        assert screen.has_echo()


def test_without_colours_and_unicode(studio: Path):
    submit(studio, "箱.png")
    variables = {"NO_COLOR": "1", "PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}
    with terminal(studio, "status", "--watch", **variables) as screen:
        screen.wait_for(lambda text: "Ctrl-C leaves" in text)
        screen.type("\x03")
        assert screen.end() == 0
        text = screen.read()
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", text)
    assert {cell_len(line) for lines in pictures(text) for line in lines} == {80}
    assert "Traceback" not in text


def test_a_crash_gives_the_terminal_back_and_says_its_error(studio: Path):
    with terminal(studio, "watch", DNA_FAULT="attempt-committed=eio") as screen:
        screen.wait_for(lambda text: "put images into one of these folders" in text)
        picture(studio / "inbox/cut/box.png")
        assert screen.end() != 0
        assert screen.has_echo()
        after = screen.read().partition(LEAVE)[2]
    assert "dna-pipeline: <attempt-committed>: Input/output error" in after


def test_a_locked_data_folder_is_said_without_a_view(studio: Path):
    from dna_pipeline.operations.daemon.lock import hold_lock

    with hold_lock(studio / "data"), terminal(studio, "watch") as screen:
        assert screen.end() == 3
        text = screen.read()
    assert ENTER not in text
    assert "is held by another daemon" in text


@pytest.mark.parametrize("how", ["dumb", "plain"])
def test_terminals_that_cannot_or_should_not_show_it_get_the_log(studio: Path, how: str):
    arguments = ["--plain"] if how == "plain" else []
    variables = {"TERM": "dumb"} if how == "dumb" else {}
    with terminal(studio, "watch", *arguments, **variables) as screen:
        screen.wait_for(lambda text: "daemon.started" in text)
        screen.type("\x03")
        assert screen.end() == 0
        assert ENTER not in screen.read()


def test_pipes_get_the_log_and_lines(studio: Path):
    submit(studio)
    command = [sys.executable, "-m", "dna_pipeline"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": studio}
    with subprocess.Popen([*command, "status", "--watch", "--json"], **pipes) as follower:
        assert follower.stdout is not None
        line = json.loads(follower.stdout.readline())
        follower.send_signal(signal.SIGINT)
        rest, errors = follower.communicate(timeout=WAIT_S)
        assert follower.returncode == 0, errors
    assert line["queue"] == {"queued": {"submit": 1}}
    assert b"\x1b" not in rest + errors


def test_lists_fit_the_terminal(studio: Path):
    for number in range(3):
        submit(studio, f"{'長い名前' * 6}{number}.png")
    assert "長い名前" * 6 + "0.png" in call(studio, "jobs").stdout, "pipes get it all"
    for arguments in (
        ["jobs"],
        ["status"],
        ["events"],
        ["show", call(studio, "jobs").stdout.split()[7]],
    ):
        with terminal(studio, *arguments, columns=60) as screen:
            assert screen.end() == 0
            lines = screen.read().replace("\r", "").split("\n")
        assert len(lines) > 3
        for line in lines:
            assert cell_len(line) <= 60, line
