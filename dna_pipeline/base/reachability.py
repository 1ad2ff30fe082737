"""Asks helper processes whether folders can be reached, so that a dead mount blocks none of us.

A call on a mount whose server or disk is gone may never return. The thread that made it cannot be
given up, and holds whatever lock or transaction it holds; a process can be given up. The daemon
therefore has a helper look at a folder first, and touches the folder itself only after an answer.
A mount that goes away between the answer and the use still blocks: this makes that a matter of
milliseconds, not of hours.
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
"""How long a folder may take to answer. A disk that has to spin up is slower than this once, and is
found to be there at the next question."""

START_LIMIT_S = 20.0
"""How long a helper may take to start, on a machine that is busy."""

RETRY_S = 5.0
"""When a silent folder is asked again; twice as late for each helper that cannot even be killed."""

MAX_STUCK = 8
"""So many helpers are left hanging on one folder before no more are started for it."""

REAP_S = 0.2
"""How long a helper that was killed is waited for."""

State = Literal["there", "missing", "silent"]


@dataclass(frozen=True, slots=True)
class Reach:
    """Whether a folder can be reached.

    Attributes:
        state: `there`; `missing` if the system says that there is no such folder, or that it cannot
            be read; `silent` if it says nothing at all.
        why: why it is not there, in the system's words or ours.
        device, inode: which folder it is; another one after a mount came or went.
        is_empty: nothing lies in it, as in the place of a disk that is not mounted.
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
"""Finds out whether a folder can be reached: `FolderProbe.look`, or `look_directly`."""

SILENT = Reach("silent", "does not answer: is its server or disk gone?")


def look_directly(folder: Path) -> Reach:
    """Look in this process, which stands still for as long as the folder does not answer."""
    try:
        status = folder.stat()
        if not stat.S_ISDIR(status.st_mode):
            return Reach("missing", "is no folder")
        # A network file system answers `stat` from its cache for a while; this asks the server.
        with suppress(OSError):
            shutil.disk_usage(folder)
        with os.scandir(folder) as entries:
            is_empty = next(entries, None) is None
    except OSError as error:
        return Reach("missing", error.strerror or str(error))
    return Reach("there", "", status.st_dev, status.st_ino, is_empty)


def require_answer(look: Look, folder: Path) -> None:
    """Raises TimeoutError: the folder does not answer."""
    if (reach := look(folder)).is_silent:
        raise TimeoutError(errno.ETIMEDOUT, reach.why, str(folder))


@contextmanager
def brief_looks() -> Generator[Look]:
    """Gives a `Look` for commands: a helper is started only for folders that may not answer."""
    probe = FolderProbe()

    def look(folder: Path) -> Reach:
        return probe.look(folder) if filesystem.may_hang(folder) else look_directly(folder)

    try:
        yield look
    finally:
        probe.close()


@dataclass(slots=True)
class _Folder:
    """State of one folder. `asked`: the helper whose answer for it is still due."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    asked: _Helper | None = None
    asked_at: float = 0.0
    is_silent: bool = False
    retry_at: float = 0.0
    stuck: list[_Helper] = field(default_factory=list["_Helper"])


class FolderProbe:
    """Looks at folders by helper processes. Safe to use from any thread.

    One helper serves all folders that answer, one more for each thread that asks at the same time.
    A folder that does not answer within `limit_s` is `silent`; its helper is killed and left: one
    in an uninterruptible sleep cannot be waited for. From then on `look` waits no more for that
    folder: it is asked again every few seconds, and the answer is taken when it is there.

    No answer is kept: a job that fails in the moment of an unmount must not be judged by an answer
    from before it.

    Args:
        module: what a helper runs, as `python -m`; it talks as this module's `main` does.
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
        """Whether that folder can be reached now; takes `limit_s` at most once it has a helper."""
        with self._lock:
            known = self._folders.setdefault(folder, _Folder())
        with known.lock:
            return self._look(folder, known)

    def close(self) -> None:
        """End all helpers; those that cannot be ended are left to end with their mount."""
        with self._lock:
            self._is_closed = True
            helpers, self._idle = self._idle, []
            for known in self._folders.values():
                helpers += filter(None, [known.asked])
        for helper in helpers:
            helper.reap()

    def _look(self, folder: Path, known: _Folder) -> Reach:
        if known.asked is None and not self._ask(folder, known):
            return SILENT
        assert known.asked is not None
        try:
            answer = self._answer(known.asked, known)
        except queue.Empty:
            if self._left_s(known) <= 0:
                self._give_up(known)
            return SILENT
        helper, known.asked = known.asked, None
        if answer is None:  # it was killed, or ran out of memory; nothing is known of the folder
            helper.reap()
            return self._fall_silent(known)
        known.is_silent = False
        self._put_back(helper)
        return answer

    def _answer(self, helper: _Helper, known: _Folder) -> Reach | None:
        """Wait for an answer, but not again for that of a silent folder. Raises `queue.Empty`."""
        if not known.is_silent:
            helper.ready.wait(max(self._left_s(known), 0.0))
        wait_s = 0.0 if known.is_silent else max(self._left_s(known), 0.0)
        return helper.answers.get(timeout=wait_s)

    def _ask(self, folder: Path, known: _Folder) -> bool:
        """Send the question; False where it is too early for that, or no helper can be had."""
        stuck = [helper for helper in known.stuck if not helper.has_ended()]
        if len(stuck) < len(known.stuck):  # its call has returned, so something has changed
            known.stuck, known.retry_at = stuck, 0.0
        if time.monotonic() < known.retry_at or len(stuck) >= MAX_STUCK:
            return False
        helper = self._take()
        if helper is None or not helper.ask(folder):
            self._fall_silent(known)
            return False
        known.asked, known.asked_at = helper, time.monotonic()
        return True

    def _left_s(self, known: _Folder) -> float:
        """Seconds until that folder's answer is overdue."""
        assert known.asked is not None
        helper, now = known.asked, time.monotonic()
        if not helper.ready.is_set():
            return known.asked_at + START_LIMIT_S - now
        return max(known.asked_at, helper.ready_at) + self.limit_s - now

    def _give_up(self, known: _Folder) -> None:
        assert known.asked is not None
        helper, known.asked = known.asked, None
        helper.reap()
        if not helper.has_ended():
            known.stuck.append(helper)
        self._fall_silent(known)

    @staticmethod
    def _fall_silent(known: _Folder) -> Reach:
        known.is_silent = True
        known.retry_at = time.monotonic() + RETRY_S * 2 ** max(len(known.stuck) - 1, 0)
        return SILENT

    def _take(self) -> _Helper | None:
        """A helper with nothing to do; None where no process can be started."""
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
    """A process that looks at one folder at a time. Raises OSError if it cannot be started.

    Attributes:
        answers: what it said, in order; None once it has ended.
        ready: set when it has started, or ended.
    """

    def __init__(self, module: str) -> None:
        from dna_pipeline.base.logs import (
            relay,  # not in the helper itself, which is to start quickly
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
        """Kill the process; one that does not end at once is left to end when its call returns."""
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
    """Entry point of a helper: says that it is ready, then answers until its input ends."""
    inbound, out = ipc.claim_stdio()
    out.send({"ready": True})
    for message in ipc.messages(inbound):
        out.send(asdict(look_directly(Path(message["folder"]))))


if __name__ == "__main__":
    main()
