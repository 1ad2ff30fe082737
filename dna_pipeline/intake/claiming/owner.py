"""Owner of the claims in an inbox, and its heartbeat: a small file beside the claims.

`<inbox>/.dna/<ledger id>/owner.json` names the daemon; the file's time is that of its last
heartbeat. The file server sets that time, so no two clocks are compared.
"""

from __future__ import annotations

import json
import os
import platform
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from dna_pipeline.base.errors import DnaError
from dna_pipeline.base.files import read_json, remove_empty, write_bytes
from dna_pipeline.base.layout import claim_root
from dna_pipeline.base.reachability import Look, look_directly

NAME = "owner.json"
BEAT_S = 10.0
DEAD_AFTER_S = 60.0


def read(root: Path) -> dict[str, Any] | None:
    """Read the record that the owner of a claim root wrote of itself; None if there is none."""
    return read_json(root / NAME)


def data_of(root: Path) -> str | None:
    """Return the data folder of the daemon that owns a claim root; None if it is unknown."""
    data = (read(root) or {}).get("data")
    return data if isinstance(data, str) else None


def beat(inbox: Path, ledger_id: str, record: dict[str, Any]) -> None:
    """Show that this daemon lives. Raises OSError if the inbox is away or read-only."""
    try:
        os.utime(claim_root(inbox, ledger_id) / NAME)
    except FileNotFoundError:
        write(inbox, ledger_id, record)


def write(inbox: Path, ledger_id: str, record: dict[str, Any]) -> None:
    """Name this daemon as the owner. Raises OSError if the inbox is away or read-only."""
    # Imported here: `status` and `check` only read who owns claims, and start sooner without.
    from dna_pipeline.intake.claiming.claims import make_claim_root

    make_claim_root(inbox, ledger_id)
    write_bytes(claim_root(inbox, ledger_id) / NAME, json.dumps(record).encode())


def resign(inbox: Path, ledger_id: str) -> None:
    """Remove the owner's record if no claims are left that another daemon could take over."""
    root = claim_root(inbox, ledger_id)
    with suppress(OSError):
        if {entry.name for entry in root.iterdir()} == {NAME}:
            (root / NAME).unlink()
            remove_empty(root, inbox)


def record_of(ledger: Path, daemon: Mapping[str, Any]) -> dict[str, Any]:
    """The record of the daemon that works with a ledger.

    Args:
        ledger: the database, in the daemon's data folder.
        daemon: what the daemon says of itself: host, pid, since.
    """
    return {**daemon, "data": str(ledger.parent), "ledger_inode": _inode(ledger)}


def is_of(record: Mapping[str, Any], ledger: Path) -> bool:
    """True if a record was written by a daemon with this ledger, now or earlier.

    The database may be reached by another path, or from a machine of another name, as a container
    has at each start: so its inode tells as well as its path does.
    """
    if record.get("host") == platform.node() and record.get("data") == str(ledger.parent):
        return True
    return record.get("ledger_inode") is not None and record["ledger_inode"] == _inode(ledger)


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def silence_s(root: Path, now: float) -> float:
    """Return the seconds since the owner's last heartbeat; infinity if there never was one.

    Args:
        now: the file server's time.
    """
    try:
        return now - (root / NAME).stat().st_mtime
    except OSError:
        return float("inf")


def server_time(inbox: Path, ledger_id: str) -> float:
    """Give the current time by the clock of the file server that holds the inbox.

    Raises OSError if the inbox is away or read-only.
    """
    from dna_pipeline.intake.claiming.claims import make_claim_root

    probe = claim_root(inbox, ledger_id) / f".{os.getpid()}.tmp"
    make_claim_root(inbox, ledger_id)
    try:
        probe.touch()
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)
        remove_empty(probe.parent, inbox)


def is_alive(root: Path, now: float, is_held: Callable[[Path], bool]) -> bool:
    """True if the owner may still be at work.

    If the owner ran on this machine, the lock on its data folder decides. For an owner on another
    machine, or if that folder cannot be seen from here, only the time since its heartbeat counts.

    Args:
        is_held: says whether a process holds the lock of a data folder.
    """
    holds = holds_lock(read(root) or {}, is_held)
    return silence_s(root, now) <= DEAD_AFTER_S if holds is None else holds


def holds_lock(record: Mapping[str, Any], is_held: Callable[[Path], bool]) -> bool | None:
    """True if the daemon that a record names holds the lock of its data folder; None if that
    cannot be seen from here."""
    if record.get("host") == platform.node() and isinstance(record.get("data"), str):
        data = Path(record["data"])
        if (data / "daemon.lock").exists():
            return is_held(data)
    return None


class Heartbeat:
    """Shows in each inbox, from a thread of its own, that this daemon lives.

    Args:
        record: names this daemon in the file; it holds `host` and `data`, the data folder.
        look: says whether an inbox answers; one that does not must not block the others' heartbeat.
    """

    def __init__(
        self,
        inboxes: Iterable[Path],
        ledger_id: str,
        record: dict[str, Any],
        look: Look = look_directly,
    ) -> None:
        self._inboxes = list(inboxes)
        self._ledger_id = ledger_id
        self._record = record
        self._look = look
        self._named: set[Path] = set()
        """Inboxes in which this daemon's record lies. An earlier one may name another place."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        self._beat()
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(1.0)
        for inbox in self._inboxes:
            if self._look(inbox).is_there:
                resign(inbox, self._ledger_id)

    def _run(self) -> None:
        while not self._stop.wait(BEAT_S):
            self._beat()

    def _beat(self) -> None:
        for inbox in self._inboxes:
            if self._look(inbox).is_silent:
                continue
            # An inbox that is away or read-only holds no claims of ours either.
            with suppress(OSError, DnaError):
                show = beat if inbox in self._named else write
                show(inbox, self._ledger_id, self._record)
                self._named.add(inbox)
