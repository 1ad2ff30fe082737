"""Runs a program for its output, within a time limit; command lines."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from dna_pipeline.base import ipc

END_WAIT_S = 1.0
"""Time to wait for the end of a program that was killed."""


@dataclass(frozen=True, slots=True)
class Output:
    """The output of a program that has ended; `code` as `Popen.returncode`."""

    code: int
    text: str
    errors: str


def run(command: Sequence[str], limit_s: float, stdin: bytes = b"") -> Output:
    """Run a program to its end, and give its output.

    A program that exceeds the limit is killed with all that it started. A program in a system call
    that never returns cannot be killed; it is left alone then.

    Raises:
        OSError: it cannot be started.
        TimeoutError: it did not end in time.
    """
    pipe = subprocess.PIPE
    process = subprocess.Popen[bytes](command, stdin=pipe, stdout=pipe, stderr=pipe, **ipc.SESSION)
    try:
        text, errors = process.communicate(stdin, limit_s)
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"it did not end within {limit_s:g} s") from None
    finally:
        if process.returncode is None:
            _kill(process)
    return Output(process.wait(), _decoded(text), _decoded(errors))


def windows_command_line(arguments: Sequence[str]) -> str:
    """Join arguments to one line, as programs on Windows take it apart again."""
    return subprocess.list2cmdline(arguments)


def _kill(process: subprocess.Popen[bytes]) -> None:
    if sys.platform != "win32":
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
    ipc.end(process, END_WAIT_S)
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with suppress(OSError):
                stream.close()


def _decoded(data: bytes) -> str:
    return data.decode("utf-8", "replace")
