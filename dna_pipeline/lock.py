"""One daemon a data folder."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from dna_pipeline.artifact import write_bytes
from dna_pipeline.errors import Locked
from dna_pipeline.ledger.tables import format_time, utcnow

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
        facts = {"pid": os.getpid(), "host": socket.gethostname(), "since": format_time(utcnow())}
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
    if not (data / "daemon.lock").exists():
        return False
    lock = FileLock(data / "daemon.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def _describe(facts: dict[str, Any] | None) -> str:
    if facts is None:
        return "it did not say which"
    return f"process {facts['pid']} on {facts['host']}, since {facts['since']}"
