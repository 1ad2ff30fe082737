"""Locks: one daemon for a data folder, and one for an inbox that keeps its files."""

from __future__ import annotations

import errno
import getpass
import json
import os
import platform
import stat
import tempfile
import threading
from collections.abc import Generator, Iterable, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from dna_pipeline.base.clock import to_second
from dna_pipeline.base.errors import Locked
from dna_pipeline.base.files import read_json, write_bytes
from dna_pipeline.base.reachability import Look, Reach
from dna_pipeline.base.times import format_time, utcnow

LOCK_WAIT_S = 1.0
"""Wait for a lock, in seconds. `is_held` holds the lock for a moment too, but never that long."""


@contextmanager
def hold_lock(data: Path) -> Generator[None]:
    """Hold the data folder's lock while the block runs. Raises `Locked`, which names the holder."""
    data.mkdir(parents=True, exist_ok=True)
    lock = FileLock(data / "daemon.lock")
    try:
        lock.acquire(timeout=LOCK_WAIT_S, poll_interval=0.05)
    except Timeout:
        raise Locked(
            f"{data} is held by another daemon: {daemon_words(holder(data))}. It "
            "already works on these inboxes; stop it first"
        ) from None
    try:
        daemon = {"pid": os.getpid(), "host": platform.node(), "since": format_time(utcnow())}
        write_bytes(data / "daemon.json", json.dumps(daemon).encode())
        yield
    finally:
        lock.release()


def holder(data: Path) -> dict[str, Any] | None:
    """Read the entry of the daemon that last held the folder: pid, host, since."""
    return read_json(data / "daemon.json")


def is_held(data: Path) -> bool:
    """True if a daemon holds the data folder now."""
    return (data / "daemon.lock").exists() and _is_locked(data / "daemon.lock")


def _is_locked(path: Path) -> bool:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def daemon_words(daemon: Mapping[str, Any] | None) -> str:
    """Describe a daemon by its own entry: process, host and start, as far as it gives them."""
    if daemon is None or "pid" not in daemon:
        return "it did not say which"
    text = f"process {daemon['pid']}"
    if host := daemon.get("host"):
        text += f" on {host}"
    try:
        return f"{text}, since {to_second(datetime.fromisoformat(daemon['since']))}"
    except (KeyError, TypeError, ValueError):
        return text


def shared_dir() -> Path:
    """Make the folder in which daemons of one person on one machine find each other's locks.

    Raises PermissionError if the folder belongs to somebody else.
    """
    who = os.getuid() if hasattr(os, "getuid") else getpass.getuser()
    folder = Path(tempfile.gettempdir()) / f"dna-pipeline-{who}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or (hasattr(os, "getuid") and status.st_uid != os.getuid()):
        raise PermissionError(errno.EPERM, "belongs to someone else", str(folder))
    return folder


@contextmanager
def hold_kept(inboxes: Iterable[tuple[str, Path]], data: Path) -> Generator[None]:
    """Hold the locks of inboxes that keep their files, by device and inode, while the block runs.

    A daemon writes nothing into such an inbox, so a second daemon cannot see it there. The locks
    are files outside the inbox: they work between daemons of one person on one machine. An inbox
    whose lock cannot be made is not locked, and no error is raised.

    Raises:
        Locked: a daemon on another data folder watches one of these inboxes.
    """
    with ExitStack() as locks:
        for name, path in inboxes:
            try:
                place = _kept_lock(path)
            except OSError:
                continue
            _hold_kept(locks, place, f"inbox {name} ({path})", data)
        yield


class KeptInboxes:
    """The locks of `hold_kept`, for inboxes that are reconfigured or unreachable for a while.

    Args:
        data: the daemon's data folder.
        look: tests whether a folder can be reached; an inbox that cannot be is locked later.
    """

    def __init__(self, data: Path, look: Look) -> None:
        self._data = data
        self._look = look
        self._names: dict[Path, str] = {}
        self._held: dict[Path, ExitStack] = {}
        self._changing = threading.Lock()

    def hold(self, inboxes: Iterable[tuple[str, Path]]) -> None:
        """Hold the locks of those of these inboxes that can be reached, and release all others.

        Raises:
            Locked: a daemon on another data folder watches one of them; the locks are as before.
        """
        names = {path: name for name, path in inboxes}
        reached = [path for path in names if path not in self._held and self._look(path).is_there]
        with self._changing, ExitStack() as new:
            added = {
                path: new.enter_context(ExitStack()) for path in reached if path not in self._held
            }
            for path, stack in added.items():
                stack.enter_context(hold_kept([(names[path], path)], self._data))
            new.pop_all()
            for path in self._held.keys() - names.keys():
                self._held.pop(path).close()
            self._held |= added
            self._names = names

    def look(self, folder: Path) -> Reach:
        """Test whether a folder can be reached. An inbox that is not locked yet is locked now.

        An inbox that another daemon has locked meanwhile is reported as `silent`, with that as the
        reason: intake takes nothing from it and asks again later. Safe to call from any thread.
        """
        reach = self._look(folder)
        if not reach.is_there or folder not in self._names or folder in self._held:
            return reach
        with self._changing, ExitStack() as lock:
            if (name := self._names.get(folder)) is None or folder in self._held:
                return reach
            try:
                lock.enter_context(hold_kept([(name, folder)], self._data))
            except Locked as reason:
                return Reach("silent", str(reason))
            self._held[folder] = lock.pop_all()
        return reach

    def close(self) -> None:
        self.hold(())


def keeper(inbox: Path, data: Path) -> str | None:
    """Describe the daemon on another data folder that holds the inbox by `hold_kept`; None if none.

    Only looks, and makes no file. Gives None also if the lock cannot be read.
    """
    try:
        place = _kept_lock(inbox)
    except OSError:
        return None
    if not place.with_suffix(".lock").exists() or not _is_locked(place.with_suffix(".lock")):
        return None
    info = read_json(place.with_suffix(".json")) or {}
    return None if info.get("data") == str(data) else _conflict_text(info)


def _kept_lock(inbox: Path) -> Path:
    """Give the path of an inbox's lock and its holder's entry, without ending. Raises OSError."""
    status = inbox.stat()
    return shared_dir() / f"keep-{status.st_dev:x}-{status.st_ino:x}"


def _hold_kept(locks: ExitStack, place: Path, inbox: str, data: Path) -> None:
    # One thread may acquire the lock and another release it.
    lock = FileLock(place.with_suffix(".lock"), thread_local=False)
    info_file = place.with_suffix(".json")
    try:
        lock.acquire(timeout=LOCK_WAIT_S, poll_interval=0.05)
    except Timeout:
        raise Locked(
            f"{inbox} keeps its originals and is watched by another daemon already: "
            f"{_conflict_text(read_json(info_file) or {})}; each would do every file. "
            "Give it `originals: archive`, or another folder"
        ) from None
    except OSError:
        return
    locks.callback(lock.release)
    write_bytes(info_file, json.dumps({"pid": os.getpid(), "data": str(data)}).encode())


def _conflict_text(info: dict[str, Any]) -> str:
    if not {"pid", "data"} <= info.keys():
        return "it did not say which"
    return f"process {info['pid']}, data folder {info['data']}"
