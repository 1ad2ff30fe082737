"""The addresses of the servers that run on a data folder, so that commands and daemon find them.

Each server holds a lock file and, beside it, writes its entry: `data/server.<hex>.lock` and
`data/server.<hex>.json`. The system releases the lock however the server ends, so an entry whose
lock is free is one of a dead server; whoever reads takes both files away. No entry holds a token.
"""

from __future__ import annotations

import json
import os
import platform
import secrets
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from dna_pipeline.base.files import read_json, write_bytes
from dna_pipeline.base.times import format_time, utcnow

_TRIES = 10


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """A server that runs.

    Attributes:
        url: its address for a browser, without an ending stroke.
        pid, host: its process, and the name of its machine.
        started: RFC 3339 in UTC.
        has_token: True if clients must send a token, and people log in.
    """

    url: str
    pid: int
    host: str
    started: str
    has_token: bool

    def result(self, job: str) -> str:
        """The address of a result's page.

        Args:
            job: the id, or its first eight or more characters.
        """
        return f"{self.url}/results/{job}"


@contextmanager
def announced(data: Path, url: str, *, has_token: bool) -> Generator[None]:
    """Announce a server on the data folder while the block runs.

    A data folder that cannot be written keeps no server from its work: that is logged.
    """
    try:
        place, lock = _take_place(data)
        entry = {
            "url": url, "pid": os.getpid(), "host": platform.node(),
            "started": format_time(utcnow()), "token": has_token,
        }  # fmt: skip
        write_bytes(place, json.dumps(entry).encode())
    except OSError as error:
        import structlog  # not above, since commands that only look load no logging

        structlog.get_logger().warning("server.not_announced", why=str(error))
        yield
        return
    try:
        yield
    finally:
        _remove(place, lock)


def running(data: Path) -> list[ServerAddress]:
    """List the servers that run on the data folder, those that started last first.

    Files of dead servers are removed. A server of another machine that listens on that machine's
    own loopback address is left out, since nobody here reaches it.
    """
    servers = filter(None, (_read(place) for place in _places(data) if _is_alive(place)))
    reachable = filter(_is_reachable, servers)
    return sorted(reachable, key=lambda server: server.started, reverse=True)


def newest(data: Path) -> ServerAddress | None:
    """The server that started last; None if none runs on the data folder."""
    return next(iter(running(data)), None)


def newest_url(data: Path) -> str | None:
    """The address of the server that started last, for a browser; None if none runs."""
    server = newest(data)
    return None if server is None else server.url


def _places(data: Path) -> Iterator[Path]:
    """The places of entries: each has an entry, a lock or both."""
    names = {path.with_suffix(".json") for path in data.glob("server.*.*") if _is_ours(path)}
    return iter(sorted(names))


def _is_ours(path: Path) -> bool:
    parts = path.name.split(".")
    is_hex = len(parts) == 3 and all(char in "0123456789abcdef" for char in parts[1])
    return is_hex and bool(parts[1]) and parts[2] in ("json", "lock")


def _lock_of(place: Path) -> FileLock:
    # uvicorn ends on another thread than that which started it, where a test runs it.
    return FileLock(place.with_suffix(".lock"), thread_local=False)


def _take_place(data: Path) -> tuple[Path, FileLock]:
    """Choose a place and lock it. Raises OSError."""
    data.mkdir(parents=True, exist_ok=True)
    for _ in range(_TRIES):
        place = data / f"server.{secrets.token_hex(4)}.json"
        lock = _lock_of(place)
        with suppress(Timeout):
            lock.acquire(timeout=0)
            # A reader may have taken the file for that of a dead server before it was locked.
            if place.with_suffix(".lock").exists():
                return place, lock
            lock.release()
    raise OSError(f"{data}: no file there could be locked")


def _is_alive(place: Path) -> bool:
    """True if a server holds the lock; the files of a dead one are removed."""
    lock = _lock_of(place)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:  # somebody else's folder: what cannot be locked is not known to live
        return False
    _remove(place, lock)
    return False


def _remove(place: Path, lock: FileLock) -> None:
    """Remove an entry and its lock, which is held. Windows removes no file that is open."""
    with suppress(OSError):
        place.unlink(missing_ok=True)
    if os.name == "nt":
        lock.release()
    with suppress(OSError):
        place.with_suffix(".lock").unlink(missing_ok=True)
    lock.release()


def _read(place: Path) -> ServerAddress | None:
    entry: dict[str, Any] = read_json(place) or {}
    try:
        url = str(entry["url"]).rstrip("/")
        if not url.startswith(("http://", "https://")):
            return None
        return ServerAddress(
            url, int(entry["pid"]), str(entry["host"]), str(entry["started"]), bool(entry["token"])
        )
    except (KeyError, TypeError, ValueError):
        return None


def _is_reachable(server: ServerAddress) -> bool:
    if server.host == platform.node():
        return True
    name = urlsplit(server.url).hostname or ""
    try:
        return not ip_address(name).is_loopback
    except ValueError:
        return name != "localhost"
