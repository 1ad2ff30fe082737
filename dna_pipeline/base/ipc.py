"""JSON lines between a parent and a child process.

The child's standard output carries only these lines: `claim_stdio` moves the real pipes to private
descriptors, so that libraries that print or read cannot disturb the messages.
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


class PipeError(ValueError):
    """The other side sent something that is no message."""


Message = dict[str, Any]

MESSAGE_BYTES = 32 << 20
"""Longest message. The longest real one, an order with a sidecar of plain text, is shorter."""

CHUNK_BYTES = 1 << 16
"""Most bytes that `line_batches` reads at once: all that a pipe holds."""

LINE_BYTES = 1 << 16
"""Longest piece of a line on standard error. A progress bar may never end its line, so longer
lines are read in pieces."""


class LineWriter:
    """Writes messages, one a line. A message stays whole even if several threads write."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._lock = threading.Lock()

    def send(self, message: Message) -> None:
        """Write a message. Raises OSError (BrokenPipeError, …) if the other side is gone."""
        self.write(encoded(message))

    def write(self, line: bytes) -> None:
        """Write one encoded message. Raises as `send` does."""
        with self._lock:
            self._file.write(line)
            self._file.flush()

    def close(self) -> None:
        with self._lock, suppress(OSError):  # the pipe may break with bytes still in the buffer
            self._file.close()


class QueuedWriter:
    """Writes messages in order on a thread of its own, so that no caller waits for the pipe.

    While the other side does not read, the pipe is full and a write to it blocks. Messages to a
    side that has ended are dropped; the thread that reads from that side notices its end.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._writer = LineWriter(file)
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="pipe-writer", daemon=True)
        _start(self._thread, file)

    def send(self, message: Message) -> None:
        """Queue a message."""
        self._lines.put(encoded(message))

    def close(self) -> None:
        """Close the pipe after all queued messages are written."""
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
    """Messages until the other side closes the pipe; a last line without its end is left out.

    Raises:
        PipeError: a line is too long, or no JSON object.
    """
    while line := file.readline(MESSAGE_BYTES + 1):
        if len(line) > MESSAGE_BYTES:
            raise PipeError(f"a line of more than {MESSAGE_BYTES >> 20} MiB")
        if not line.endswith(b"\n"):
            return
        yield parse(line)


def line_batches(file: IO[bytes]) -> Iterator[list[bytes]]:
    """Read lines in batches, each with all lines that arrived together, until the pipe is closed.

    For a reader that passes them to another thread: passing each line alone costs more than reading
    it. The last line is left out if it has no end.

    Raises:
        PipeError: a line is too long.
    """
    # The pieces of a line are joined once it is complete: joining at each read would take a time
    # that grows with the square of its length.
    pieces: list[bytes] = []
    size = 0
    while chunk := os.read(file.fileno(), CHUNK_BYTES):
        first, *rest = chunk.split(b"\n")
        pieces.append(first)
        size += len(first)
        if rest:
            yield [b"".join(pieces), *rest[:-1]]
            pieces, size = [rest[-1]], len(rest[-1])
        if size > MESSAGE_BYTES:
            raise PipeError(f"a line of more than {MESSAGE_BYTES >> 20} MiB")


def parse(line: bytes) -> Message:
    """Parse the message of a line. Raises PipeError if it is no JSON object."""
    try:
        message: object = json.loads(line, parse_constant=_no_number, parse_float=_finite)
    except (ValueError, RecursionError):
        raise PipeError(f"a line that is no JSON: {line[:80]!r}") from None
    if not isinstance(message, dict):
        raise PipeError(f"a line that is no JSON object: {line[:80]!r}")
    return cast(Message, message)


def _no_number(text: str) -> float:
    raise ValueError(text)  # the ledger and people's tools get JSON, which has no such number


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _no_number(text)


def claim_stdio() -> tuple[IO[bytes], LineWriter]:
    """In a child process: reserve standard input and output for messages.

    Afterwards all prints go to standard error, and all reads get an end of file. Children of this
    process do not inherit the pipes.
    """
    inbound = os.fdopen(os.dup(0), "rb")
    outbound = os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return inbound, LineWriter(outbound)


SESSION: dict[str, Any] = (
    {"creationflags": cast(Any, subprocess).CREATE_NEW_PROCESS_GROUP}
    if sys.platform == "win32"
    else {"start_new_session": True}
)
"""Options of a child process that the terminal's Ctrl-C does not reach."""


def spawn(module: str, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start `python -m module` with pipes on all three streams, safe from the terminal's Ctrl-C."""
    return subprocess.Popen[bytes](
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | (env or {}),
        **SESSION,
    )


def end(process: subprocess.Popen[bytes], wait_s: float) -> None:
    """Kill a child process.

    A child in a system call that never returns does not end. After `wait_s`, a thread waits for it.
    """
    process.kill()
    try:
        process.wait(wait_s)
    except subprocess.TimeoutExpired:
        threading.Thread(target=process.wait, name="abandoned-child", daemon=True).start()


def how_it_ended(code: int) -> str:
    """Return code of `Popen` in words."""
    if code >= 0:
        return f"ended with exit status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = " (often the sign of too little memory)" if name == "SIGKILL" else ""
    return f"ended by {name}{hint}"


def follow_stderr(process: subprocess.Popen[bytes], say: Callable[[str], None]) -> threading.Thread:
    """Pass each line that a child prints to `say`, on a thread of its own, until the child ends.

    The thread continues after any error with a line: a child whose pipe is full would block.
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
    """Start a thread that closes the pipe at its end; close the pipe now if it cannot start.

    Raises:
        RuntimeError: no thread can be started.
    """
    try:
        thread.start()
    except RuntimeError:
        pipe.close()
        raise
