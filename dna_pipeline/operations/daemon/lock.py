"""Locks: one daemon for a data folder, and one for an inbox that keeps its files."""

from __future__ import annotations

import errno
import getpass
import json
import os
import platform
import stat
import tempfile
from collections.abc import Generator, Iterable
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from dna_pipeline.base.clock import to_second
from dna_pipeline.base.errors import Locked
from dna_pipeline.base.files import write_bytes
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
        raise Locked(f"{data} is held by another daemon: {_describe(holder(data))}") from None
    try:
        daemon = {"pid": os.getpid(), "host": platform.node(), "since": format_time(utcnow())}
        write_bytes(data / "daemon.json", json.dumps(daemon).encode())
        yield
    finally:
        lock.release()


def holder(data: Path) -> dict[str, Any] | None:
    """Read the entry of the daemon that last held the folder: pid, host, since."""
    try:
        return json.loads((data / "daemon.json").read_bytes())
    except (OSError, ValueError):
        return None


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


def _describe(daemon: dict[str, Any] | None) -> str:
    if daemon is None:
        return "it did not say which"
    since = to_second(datetime.fromisoformat(daemon["since"]))
    return f"process {daemon['pid']} on {daemon['host']}, since {since}"


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
                status = path.stat()
                place = shared_dir() / f"keep-{status.st_dev:x}-{status.st_ino:x}"
            except OSError:
                continue
            _hold_kept(locks, place, f"inbox {name} ({path})", data)
        yield


def keeper(inbox: Path, data: Path) -> str | None:
    """Describe the daemon on another data folder that holds the inbox by `hold_kept`; None if none.

    Only looks, and makes no file. Gives None also if the lock cannot be read.
    """
    try:
        status = inbox.stat()
        place = shared_dir() / f"keep-{status.st_dev:x}-{status.st_ino:x}"
    except OSError:
        return None
    if not place.with_suffix(".lock").exists() or not _is_locked(place.with_suffix(".lock")):
        return None
    info_file = place.with_suffix(".json")
    with suppress(OSError, ValueError, KeyError, TypeError):
        if json.loads(info_file.read_bytes())["data"] == str(data):
            return None
    return _conflict_text(info_file)


def _hold_kept(locks: ExitStack, place: Path, inbox: str, data: Path) -> None:
    lock = FileLock(place.with_suffix(".lock"))
    info_file = place.with_suffix(".json")
    try:
        lock.acquire(timeout=LOCK_WAIT_S, poll_interval=0.05)
    except Timeout:
        raise Locked(
            f"{inbox} keeps its originals and is watched by another daemon already: "
            f"{_conflict_text(info_file)}; each would do every file. "
            "Give it `originals: archive`, or another folder"
        ) from None
    except OSError:
        return
    locks.callback(lock.release)
    write_bytes(info_file, json.dumps({"pid": os.getpid(), "data": str(data)}).encode())


def _conflict_text(path: Path) -> str:
    try:
        info = json.loads(path.read_bytes())
        return f"process {info['pid']}, data folder {info['data']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "it did not say which"
