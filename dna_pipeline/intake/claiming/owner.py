"""Who owns the claims in an inbox, and whether they live: a small file beside the claims.

`<inbox>/.dna/<ledger id>/owner.json` names the daemon; its time is when the daemon last showed
that it lives. The time is the file server's own, so no two clocks are compared.
"""

from __future__ import annotations

import json
import os
import platform
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from dna_pipeline.base.files import write_bytes
from dna_pipeline.base.reachability import Look, look_directly
from dna_pipeline.intake.claiming import claims

NAME = "owner.json"
BEAT_S = 10.0
DEAD_AFTER_S = 60.0


def read(root: Path) -> dict[str, Any] | None:
    """What the owner of that claim root said of itself; None where it said nothing."""
    try:
        facts: Any = json.loads((root / NAME).read_bytes())
    except (OSError, ValueError):
        return None
    return cast("dict[str, Any]", facts) if isinstance(facts, dict) else None


def data_of(root: Path) -> str | None:
    """The data folder of the daemon whose claims lie there."""
    facts = read(root)
    data = facts.get("data") if facts else None
    return data if isinstance(data, str) else None


def beat(inbox: Path, ledger_id: str, facts: dict[str, Any]) -> None:
    """Show that this daemon lives. Raises OSError where the inbox is away or read-only."""
    root = claims.claim_root(inbox, ledger_id)
    path = root / NAME
    try:
        os.utime(path)
    except FileNotFoundError:
        claims.make_claim_root(inbox, ledger_id)
        write_bytes(path, json.dumps(facts).encode())


def resign(inbox: Path, ledger_id: str) -> None:
    """Say nothing any more where nothing is left that could be taken over."""
    root = claims.claim_root(inbox, ledger_id)
    with suppress(OSError):
        if {entry.name for entry in root.iterdir()} == {NAME}:
            (root / NAME).unlink()
            root.rmdir()
            root.parent.rmdir()


def silence_s(root: Path, now: float) -> float:
    """Seconds since the owner showed itself; endless where it never did.

    Args:
        now: the file server's time.
    """
    try:
        return now - (root / NAME).stat().st_mtime
    except OSError:
        return float("inf")


def is_alive(root: Path, now: float, is_held: Callable[[Path], bool]) -> bool:
    """Whether the owner may still be at work.

    On this machine the lock on its data folder proves it either way; elsewhere, and where that
    folder cannot be seen from here, only its silence tells.
    """
    facts = read(root)
    if facts and facts.get("host") == platform.node() and isinstance(facts.get("data"), str):
        data = Path(facts["data"])
        if (data / "daemon.lock").exists():
            return is_held(data)
    return silence_s(root, now) <= DEAD_AFTER_S


class Heartbeat:
    """Shows in each inbox, from a thread of its own, that this daemon lives.

    Args:
        look: says whether an inbox can be reached: one that cannot must not silence the others.
    """

    def __init__(
        self,
        inboxes: Iterable[Path],
        ledger_id: str,
        facts: dict[str, Any],
        look: Look = look_directly,
    ) -> None:
        self._inboxes = list(inboxes)
        self._ledger_id = ledger_id
        self._facts = facts
        self._look = look
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
            with suppress(OSError, claims.ClaimError):
                beat(inbox, self._ledger_id, self._facts)
