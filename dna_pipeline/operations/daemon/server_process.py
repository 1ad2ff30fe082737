"""Keeps the HTTP server running beside the daemon, as a process of its own: `watch --serve`.

The server is told by its standard input what to serve, and ends when that pipe closes: so it ends
with the daemon, however that ends. It says by its standard output where it listens, or why it
cannot. Nothing about it ends, holds or slows a job.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import structlog

from dna_pipeline.base import ipc, logs

if TYPE_CHECKING:
    import subprocess

log = structlog.get_logger()

FIRST_PAUSE_S = 3.0
LONGEST_PAUSE_S = 60.0
"""Pauses before the server is started again; each is twice as long as the one before."""
STEADY_S = 60.0
"""Time after which a server counts as one that works, so that the pauses begin anew."""
END_S = 4.0
"""Time that the server has to end by itself."""

Start = Callable[[str], "subprocess.Popen[bytes]"]


@dataclass(frozen=True, slots=True)
class ServerState:
    """The state of the server, as `status` shows it.

    Attributes:
        url: its address for a browser; None while it does not answer.
        problem: why it does not run; it is started again.
    """

    url: str | None = None
    problem: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class ServerProcess:
    """The server of one daemon, on a thread of its own.

    Args:
        module: dotted name of the module that is the server.
        settings: what it is told.
        start: starts a module as a process; None: as `ipc.spawn` does.
    """

    def __init__(
        self,
        module: str,
        settings: Mapping[str, Any],
        start: Start | None = None,
        first_pause_s: float = FIRST_PAUSE_S,
    ) -> None:
        self._module = module
        self._settings = dict(settings)
        self._start_process = start or ipc.spawn
        self._first_pause_s = first_pause_s
        self._state = ServerState()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="server", daemon=True)

    @property
    def state(self) -> ServerState:
        return self._state

    def start(self) -> None:
        self._thread.start()

    def begin_end(self) -> None:
        """Have the server end. Returns at once."""
        self._stop.set()
        with self._lock:
            process = self._process
        if process is not None:
            _close_input(process)

    def close(self) -> None:
        """Wait for the server's end, and kill it if that takes too long."""
        self.begin_end()
        self._thread.join(END_S)
        with self._lock:
            process = self._process
        if process is not None and process.poll() is None:
            log.warning("server.killed", pid=process.pid)
            ipc.end(process, 1.0)
        self._thread.join(1.0)

    def _run(self) -> None:
        pause_s = self._first_pause_s
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                self._serve_once()
            except Exception as error:
                # Whatever it is, the daemon's jobs are not to suffer.
                self._note_problem(f"the server cannot be started: {error}")
            if time.monotonic() - began >= STEADY_S:
                pause_s = self._first_pause_s
            if self._stop.wait(pause_s):
                return
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _serve_once(self) -> None:
        """Run the server until it ends. Raises OSError if it cannot be started."""
        process = self._start_process(self._module)
        with self._lock:
            self._process = process
        assert process.stdin and process.stdout
        ipc.follow_stderr(process, logs.relay)
        problem = ""
        with suppress(OSError, ValueError):  # it has ended, or its pipe was closed to end it
            process.stdin.write(ipc.encoded(self._settings))
            process.stdin.flush()
        if self._stop.is_set():
            _close_input(process)
        try:
            with process.stdout:
                for message in ipc.messages(process.stdout):
                    problem = self._listen(message, process.pid) or problem
        except ipc.PipeError as error:
            problem = f"the server said {error}"
            process.kill()
        code = process.wait()
        _close_input(process)
        if not self._stop.is_set():
            self._note_problem(problem or f"the server {ipc.how_it_ended(code)}")

    def _listen(self, message: ipc.Message, pid: int) -> str:
        """Note where the server listens; give the reason if it says that it cannot."""
        if (url := message.get("url")) is not None:
            log.info("server.started", url=url, pid=pid)
            self._state = ServerState(url=str(url))
        for warning in message.get("warnings", ()):
            log.warning("server.warned", what=warning)
        return str(message.get("problem", ""))

    def _note_problem(self, problem: str) -> None:
        if problem != self._state.problem:
            log.error("server.not_running", why=problem)
        self._state = ServerState(problem=problem)


def _close_input(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        with suppress(OSError):
            process.stdin.close()
