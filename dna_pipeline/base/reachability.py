"""Helper processes that test whether folders can be reached, so that a dead mount cannot block us.

A call on a mount whose server or disk is gone may never return. Its thread cannot be ended, and
keeps its locks and transactions; a process can be ended. The daemon therefore lets a helper look
at a folder first, and touches the folder itself only after an answer. A mount that goes away
between the answer and the use still blocks; the helper reduces that risk from hours to
milliseconds.
"""

from __future__ import annotations

import errno
import os
import queue
import shutil
import stat
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from dna_pipeline.base import filesystem, ipc

LIMIT_S = 3.0
"""Time in which a folder has to answer. A disk that must spin up is late once, and answers the next
question in time."""

START_LIMIT_S = 20.0
"""Time in which a helper has to start, on a busy machine."""

RETRY_S = 5.0
"""Time after which a silent folder is asked again; doubled for each further helper that hangs on
it and cannot be killed."""

MAX_STUCK = 8
"""Largest number of helpers that may hang on one folder; after that no more are started for it."""

REAP_S = 0.2
"""Time to wait for the end of a helper that was killed."""

State = Literal["there", "missing", "silent"]


@dataclass(frozen=True, slots=True)
class Reach:
    """The answer to the question whether a folder can be reached.

    Attributes:
        state: `there`; `missing` if the system says that the folder does not exist or cannot be
            read; `silent` if the system does not answer.
        why: the reason if the folder is not there, in the system's words or ours.
        device, inode: identity of the folder; they change when a mount comes or goes.
        is_empty: the folder has no entries, as the mount point of a disk that is not mounted.
    """

    state: State
    why: str = ""
    device: int = 0
    inode: int = 0
    is_empty: bool = False

    @property
    def is_there(self) -> bool:
        return self.state == "there"

    @property
    def is_silent(self) -> bool:
        return self.state == "silent"


Look = Callable[[Path], Reach]
"""Function that tests whether a folder can be reached: `FolderProbe.look` or `look_directly`."""

SILENT = Reach("silent", "does not answer: is its server or disk gone?")


def look_directly(folder: Path) -> Reach:
    """Test a folder in this process, which blocks until the folder answers."""
    try:
        status = folder.stat()
        if not stat.S_ISDIR(status.st_mode):
            return Reach("missing", "is no folder")
        # A network file system may answer `stat` from its cache; `disk_usage` asks the server.
        with suppress(OSError):
            shutil.disk_usage(folder)
        with os.scandir(folder) as entries:
            is_empty = next(entries, None) is None
    except OSError as error:
        return Reach("missing", error.strerror or str(error))
    return Reach("there", "", status.st_dev, status.st_ino, is_empty)


def require_answer(look: Look, folder: Path) -> None:
    """Raise TimeoutError if the folder does not answer."""
    if (reach := look(folder)).is_silent:
        raise TimeoutError(errno.ETIMEDOUT, reach.why, str(folder))


@contextmanager
def brief_looks() -> Generator[Look]:
    """Yield a `Look` for commands. It starts a helper only for folders that may not answer."""
    probe = FolderProbe()

    def look(folder: Path) -> Reach:
        return probe.look(folder) if filesystem.may_hang(folder) else look_directly(folder)

    try:
        yield look
    finally:
        probe.close()


@dataclass(slots=True)
class _Folder:
    """State of one folder.

    Attributes:
        pending: the helper whose answer about the folder is still due.
        retry_at: earliest time of the next question; a monotonic time, like `asked_at`.
        stuck: killed helpers that have not ended, because their call does not return.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    pending: _Helper | None = None
    asked_at: float = 0.0
    is_silent: bool = False
    retry_at: float = 0.0
    stuck: list[_Helper] = field(default_factory=list["_Helper"])


class FolderProbe:
    """Tests folders by helper processes. Safe to use from any thread.

    One helper serves all folders that answer, plus one for each thread that asks at the same time.
    A folder that does not answer within `limit_s` is `silent`. Its helper is killed, but its end is
    not awaited, since a process in an uninterruptible sleep does not end. From then on `look` does
    not wait for that folder: it is asked again every few seconds, and a later call of `look`
    returns the answer.

    No answer is stored: a job that fails during an unmount must not be judged by an answer from
    before the unmount.

    Args:
        module: module that a helper runs, as `python -m`; it answers as this module's `main` does.
    """

    def __init__(
        self, limit_s: float = LIMIT_S, module: str = "dna_pipeline.base.reachability"
    ) -> None:
        self.limit_s = limit_s
        self._module = module
        self._lock = threading.Lock()
        self._folders: dict[Path, _Folder] = {}
        self._idle: list[_Helper] = []
        self._is_closed = False

    def look(self, folder: Path) -> Reach:
        """Test whether a folder can be reached; takes at most `limit_s` with a started helper."""
        with self._lock:
            state = self._folders.setdefault(folder, _Folder())
        with state.lock:
            return self._look(folder, state)

    def close(self) -> None:
        """End all helpers. Those that cannot be killed end when their mount answers or goes."""
        with self._lock:
            self._is_closed = True
            helpers, self._idle = self._idle, []
            for state in self._folders.values():
                helpers += filter(None, [state.pending])
        for helper in helpers:
            helper.reap()

    def _look(self, folder: Path, state: _Folder) -> Reach:
        if state.pending is None and not self._ask(folder, state):
            return SILENT
        assert state.pending is not None
        try:
            answer = self._answer(state.pending, state)
        except queue.Empty:
            if self._left_s(state) <= 0:
                self._give_up(state)
            return SILENT
        helper, state.pending = state.pending, None
        if answer is None:  # the helper was killed or ran out of memory; the folder is unknown
            helper.reap()
            return self._fall_silent(state)
        state.is_silent = False
        self._put_back(helper)
        return answer

    def _answer(self, helper: _Helper, state: _Folder) -> Reach | None:
        """Wait for an answer, unless the folder is silent. Raises `queue.Empty` if none comes."""
        if not state.is_silent:
            helper.ready.wait(max(self._left_s(state), 0.0))
        wait_s = 0.0 if state.is_silent else max(self._left_s(state), 0.0)
        return helper.answers.get(timeout=wait_s)

    def _ask(self, folder: Path, state: _Folder) -> bool:
        """Send the question; False if it is too early for a retry, or if there is no helper."""
        stuck = [helper for helper in state.stuck if not helper.has_ended()]
        if len(stuck) < len(state.stuck):  # a blocked call has returned: the mount has changed
            state.stuck, state.retry_at = stuck, 0.0
        if time.monotonic() < state.retry_at or len(stuck) >= MAX_STUCK:
            return False
        helper = self._take()
        if helper is None or not helper.ask(folder):
            self._fall_silent(state)
            return False
        state.pending, state.asked_at = helper, time.monotonic()
        return True

    def _left_s(self, state: _Folder) -> float:
        """Seconds until the answer about that folder is overdue."""
        assert state.pending is not None
        helper, now = state.pending, time.monotonic()
        if not helper.ready.is_set():
            return state.asked_at + START_LIMIT_S - now
        return max(state.asked_at, helper.ready_at) + self.limit_s - now

    def _give_up(self, state: _Folder) -> None:
        assert state.pending is not None
        helper, state.pending = state.pending, None
        helper.reap()
        if not helper.has_ended():
            state.stuck.append(helper)
        self._fall_silent(state)

    @staticmethod
    def _fall_silent(state: _Folder) -> Reach:
        state.is_silent = True
        state.retry_at = time.monotonic() + RETRY_S * 2 ** max(len(state.stuck) - 1, 0)
        return SILENT

    def _take(self) -> _Helper | None:
        """An idle helper, or a new one; None if no process can be started."""
        with self._lock:
            while self._idle:
                helper = self._idle.pop()
                if not helper.has_ended():
                    return helper
            if self._is_closed:
                return None
        try:
            return _Helper(self._module)
        except OSError:
            return None

    def _put_back(self, helper: _Helper) -> None:
        with self._lock:
            if not self._is_closed:
                self._idle.append(helper)
                return
        helper.reap()


class _Helper:
    """A process that tests one folder at a time. Raises OSError if it cannot be started.

    Attributes:
        answers: its answers in order; None after its end.
        ready: set when it has started or ended.
    """

    def __init__(self, module: str) -> None:
        from dna_pipeline.base.logs import (
            relay,  # imported here, since the helper process itself must start quickly
        )

        self._process = ipc.spawn(module)
        ipc.follow_stderr(self._process, relay)
        assert self._process.stdin
        self._writer = ipc.LineWriter(self._process.stdin)
        self.answers: queue.SimpleQueue[Reach | None] = queue.SimpleQueue()
        self.ready = threading.Event()
        self.ready_at = 0.0
        threading.Thread(target=self._read, name="folder-answers", daemon=True).start()

    def ask(self, folder: Path) -> bool:
        """Send a question; False if the process has ended."""
        try:
            self._writer.send({"folder": str(folder)})
        except (OSError, ValueError):
            return False
        return True

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def reap(self) -> None:
        """Kill the process. If its call blocks, the process ends later, when that call returns."""
        ipc.end(self._process, REAP_S)
        self._writer.close()

    def _read(self) -> None:
        assert self._process.stdout
        try:
            with self._process.stdout, suppress(ipc.PipeError, TypeError):
                for message in ipc.messages(self._process.stdout):
                    if self.ready.is_set():
                        self.answers.put(Reach(**message))
                    self._note_ready()
        finally:
            self.answers.put(None)
            self._note_ready()

    def _note_ready(self) -> None:
        if not self.ready.is_set():
            self.ready_at = time.monotonic()
            self.ready.set()


def main() -> None:
    """Entry point of a helper: report that it is ready, then answer until its input ends."""
    inbound, out = ipc.claim_stdio()
    out.send({"ready": True})
    for message in ipc.messages(inbound):
        out.send(asdict(look_directly(Path(message["folder"]))))


if __name__ == "__main__":
    main()
