"""One daemon a data folder, and one for each inbox that keeps its files."""

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

ASKED_S = 1.0
"""Longer than it takes someone to ask `is_held`, which takes the lock for a moment."""


@contextmanager
def hold_lock(data: Path) -> Generator[None]:
    """Hold the data folder while the block runs. Raises `Locked`, which names the holder."""
    data.mkdir(parents=True, exist_ok=True)
    lock = FileLock(data / "daemon.lock")
    try:
        lock.acquire(timeout=ASKED_S, poll_interval=0.05)
    except Timeout:
        raise Locked(f"{data} is held by another daemon: {_describe(holder(data))}") from None
    try:
        facts = {"pid": os.getpid(), "host": platform.node(), "since": format_time(utcnow())}
        write_bytes(data / "daemon.json", json.dumps(facts).encode())
        yield
    finally:
        lock.release()


def holder(data: Path) -> dict[str, Any] | None:
    """What the daemon that last held the folder said of itself: pid, host, since."""
    try:
        return json.loads((data / "daemon.json").read_bytes())
    except (OSError, ValueError):
        return None


def is_held(data: Path) -> bool:
    """Whether a daemon holds the folder now."""
    return (data / "daemon.lock").exists() and _is_locked(data / "daemon.lock")


def _is_locked(path: Path) -> bool:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def _describe(facts: dict[str, Any] | None) -> str:
    if facts is None:
        return "it did not say which"
    since = to_second(datetime.fromisoformat(facts["since"]))
    return f"process {facts['pid']} on {facts['host']}, since {since}"


def shared_dir() -> Path:
    """Where daemons of one person on one machine find one another; only that person may look in."""
    who = os.getuid() if hasattr(os, "getuid") else getpass.getuser()
    folder = Path(tempfile.gettempdir()) / f"dna-pipeline-{who}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or (hasattr(os, "getuid") and status.st_uid != os.getuid()):
        raise PermissionError(errno.EPERM, "belongs to someone else", str(folder))
    return folder


@contextmanager
def hold_kept(inboxes: Iterable[tuple[str, Path]], data: Path) -> Generator[None]:
    """Be the only daemon that copies from these folders, by device and inode, while the block runs.

    A daemon writes nothing into an inbox that keeps its files, so a second one cannot see it there;
    it can where both run on one machine for one person. Nothing is refused where that is unknown.

    Raises:
        Locked: a daemon on another data folder watches one of them.
    """
    with ExitStack() as held:
        for name, path in inboxes:
            try:
                status = path.stat()
                place = shared_dir() / f"keep-{status.st_dev:x}-{status.st_ino:x}"
            except OSError:
                continue
            _hold_kept(held, place, f"inbox {name} ({path})", data)
        yield


def keeper(inbox: Path, data: Path) -> str | None:
    """Which daemon on another data folder holds that inbox, as `hold_kept` does; None if none does.

    Asks only, and makes no file. None also where that cannot be found out.
    """
    try:
        status = inbox.stat()
        place = shared_dir() / f"keep-{status.st_dev:x}-{status.st_ino:x}"
    except OSError:
        return None
    if not place.with_suffix(".lock").exists() or not _is_locked(place.with_suffix(".lock")):
        return None
    facts = place.with_suffix(".json")
    with suppress(OSError, ValueError, KeyError, TypeError):
        if json.loads(facts.read_bytes())["data"] == str(data):
            return None
    return _told(facts)


def _hold_kept(held: ExitStack, place: Path, inbox: str, data: Path) -> None:
    lock = FileLock(place.with_suffix(".lock"))
    facts = place.with_suffix(".json")
    try:
        lock.acquire(timeout=ASKED_S, poll_interval=0.05)
    except Timeout:
        raise Locked(
            f"{inbox} keeps its originals and is watched by another daemon already: "
            f"{_told(facts)}; each would do every file. Give it `originals: archive`, or another "
            "folder"
        ) from None
    except OSError:
        return
    held.callback(lock.release)
    write_bytes(facts, json.dumps({"pid": os.getpid(), "data": str(data)}).encode())


def _told(path: Path) -> str:
    try:
        facts = json.loads(path.read_bytes())
        return f"process {facts['pid']}, data folder {facts['data']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "it did not say which"
