"""JSON lines between a parent and a child process.

The child's standard output carries nothing but its lines: `claim_stdio` moves the real pipes to
private descriptors, so that libraries which print or read cannot disturb the talk.
"""

from __future__ import annotations

import json
import math
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import IO, Any, cast


class WireError(ValueError):
    """What came from the other side is no message."""


Message = dict[str, Any]

MESSAGE_BYTES = 32 << 20
"""More than the longest message that is meant: an order whose sidecar is all text."""

CHUNK_BYTES = 1 << 16
"""So much is read at once by `lines_at_once`: all that a pipe holds."""

LINE_BYTES = 1 << 16
"""Longer lines on standard error are taken in pieces: a progress bar may never end its line."""


class LineWriter:
    """Writes messages, one a line, whole even when several threads speak."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._lock = threading.Lock()

    def send(self, message: Message) -> None:
        """Raises OSError (BrokenPipeError, …) when the other side is gone."""
        self.write(encoded(message))

    def write(self, line: bytes) -> None:
        """Write one encoded message; raises as `send` does."""
        with self._lock:
            self._file.write(line)
            self._file.flush()

    def close(self) -> None:
        with self._lock, suppress(OSError):  # the pipe broke with bytes still in the buffer
            self._file.close()


class QueuedWriter:
    """Writes messages in their order on a thread of its own, so that no caller waits for the pipe.

    A pipe is full while the other side does not read, and whoever writes to it then stands still.
    What the other side can no longer take is dropped; its end is noticed by whoever reads from it.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._writer = LineWriter(file)
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="pipe-writer", daemon=True)
        _start(self._thread, file)

    def send(self, message: Message) -> None:
        """Add a message to what is to be written."""
        self._lines.put(encoded(message))

    def close(self) -> None:
        """Close the pipe once all that was sent before is written."""
        self._lines.put(None)

    def join(self, timeout_s: float) -> None:
        """Wait until the pipe is closed."""
        self._thread.join(timeout_s)

    def _write(self) -> None:
        with suppress(OSError, ValueError):  # the other side has ended
            while (line := self._lines.get()) is not None:
                self._writer.write(line)
        self._writer.close()


def encoded(message: Message) -> bytes:
    """A message as the line that carries it."""
    return json.dumps(message, separators=(",", ":"), default=str).encode() + b"\n"


def messages(file: IO[bytes]) -> Iterator[Message]:
    """Messages until the other side closes; a line cut off by its death is left out.

    Raises:
        WireError: a line is too long, or no JSON object.
    """
    while line := file.readline(MESSAGE_BYTES + 1):
        if len(line) > MESSAGE_BYTES:
            raise WireError(f"a line of more than {MESSAGE_BYTES >> 20} MiB")
        if not line.endswith(b"\n"):
            return
        yield parsed(line)


def lines_at_once(file: IO[bytes]) -> Iterator[list[bytes]]:
    """Lines until the other side closes, all that have come together; one cut off is left out.

    For a reader that hands them to another thread: to hand over each line by itself costs more than
    to read it.

    Raises:
        WireError: a line is too long.
    """
    start = b""
    while chunk := os.read(file.fileno(), CHUNK_BYTES):
        *lines, start = (start + chunk).split(b"\n")
        if lines:
            yield lines
        if len(start) > MESSAGE_BYTES:
            raise WireError(f"a line of more than {MESSAGE_BYTES >> 20} MiB")


def parsed(line: bytes) -> Message:
    """The message that a line carries. Raises WireError: it is no JSON object."""
    try:
        message: object = json.loads(line, parse_constant=_no_number, parse_float=_finite)
    except (ValueError, RecursionError):
        raise WireError(f"a line that is no JSON: {line[:80]!r}") from None
    if not isinstance(message, dict):
        raise WireError(f"a line that is no JSON object: {line[:80]!r}")
    return cast(Message, message)


def _no_number(text: str) -> float:
    raise ValueError(text)  # what goes on to the ledger and to people's tools is JSON


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _no_number(text)


def claim_stdio() -> tuple[IO[bytes], LineWriter]:
    """In a child: take standard input and output for messages, for this process alone.

    Afterwards whatever prints goes to standard error and whatever reads finds an end of file.
    """
    inbound = os.fdopen(os.dup(0), "rb")
    outbound = os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return inbound, LineWriter(outbound)


def spawn(module: str, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start `python -m module` with pipes on all three, out of reach of the terminal's Ctrl-C."""
    options: dict[str, Any] = (
        {"creationflags": cast(Any, subprocess).CREATE_NEW_PROCESS_GROUP}
        if sys.platform == "win32"
        else {"start_new_session": True}
    )
    return subprocess.Popen[bytes](
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | (env or {}),
        **options,
    )


def end(process: subprocess.Popen[bytes], wait_s: float) -> None:
    """Kill a child. One that does not end within `wait_s`, since a call of its never returns, is
    left to a thread that waits for it."""
    process.kill()
    try:
        process.wait(wait_s)
    except subprocess.TimeoutExpired:
        threading.Thread(target=process.wait, name="abandoned-child", daemon=True).start()


def how_it_ended(code: int) -> str:
    """A return code of `Popen` in words."""
    if code >= 0:
        return f"ended with exit status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = " (often the sign of too little memory)" if name == "SIGKILL" else ""
    return f"ended by {name}{hint}"


def follow_stderr(process: subprocess.Popen[bytes], say: Callable[[str], None]) -> threading.Thread:
    """Hand each line that a child prints to `say`, on a thread of its own, until it ends.

    The thread must outlive any trouble with a line: a child whose pipe is full stands still.
    """

    def read() -> None:
        assert process.stderr
        with process.stderr:
            while line := process.stderr.readline(LINE_BYTES):
                with suppress(Exception):
                    say(line.decode("utf-8", "replace").rstrip())

    assert process.stderr
    thread = threading.Thread(target=read, name=f"stderr-{process.pid}", daemon=True)
    _start(thread, process.stderr)
    return thread


def _start(thread: threading.Thread, pipe: IO[bytes]) -> None:
    """Start a thread that closes the pipe at its end; close it now if there is no thread to be had.

    Raises:
        RuntimeError: no thread can be started.
    """
    try:
        thread.start()
    except RuntimeError:
        pipe.close()
        raise
