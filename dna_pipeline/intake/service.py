"""All inboxes of a configuration, stepped by turns."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import Any

from dna_pipeline.base.naming import printable
from dna_pipeline.base.reachability import Look, look_directly
from dna_pipeline.config.schema import Config, Inbox
from dna_pipeline.intake.discovery.probe import Prober
from dna_pipeline.intake.inbox_intake import InboxIntake
from dna_pipeline.intake.recovery import ClaimCleanup, give_back_orphan
from dna_pipeline.ledger import drops
from dna_pipeline.ledger.store import Ledger


class IntakeService:
    """Steps all inboxes in turn, from one thread.

    Args:
        inboxes: those to step; None for all of the configuration.
    """

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        cleanup: ClaimCleanup,
        look: Look = look_directly,
        inboxes: Iterable[Inbox] | None = None,
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._look = look
        self._cleanup = cleanup
        self._prober = Prober(look)
        self._hints: set[str] = set()
        self._lock = threading.Lock()
        self.is_quiet = False
        """True if, as of the last step, nothing will be claimed soon unless new files come."""
        self.inboxes = [
            InboxIntake(config, inbox, ledger, self._prober, cleanup, look)
            for inbox in (config.inboxes if inboxes is None else inboxes)
        ]

    def recover(self) -> None:
        """Finish or undo the claims that the last daemon left half done."""
        names = {intake.inbox.name for intake in self.inboxes}
        for drop in self._ledger.transact(drops.claiming_drops):
            if drop.inbox not in names:
                give_back_orphan(self._ledger, self._cleanup, self._look, drop)
        now = time.monotonic()
        for intake in self.inboxes:
            if intake.is_reachable(now):
                intake.recovery.run(now)

    def hint(self, name: str) -> None:
        """Ask for a look at an inbox, by name; may be called from any thread."""
        with self._lock:
            self._hints.add(name)

    def step(self) -> int:
        """Step every inbox once; return the number of drops that were handled."""
        with self._lock:
            hints, self._hints = self._hints, set()
        drops_handled = 0
        for intake in self.inboxes:
            now = time.monotonic()
            if intake.inbox.name in hints:
                intake.finder.request_scan(now)
            if now >= intake.next_at:
                drops_handled += self._step_one(intake, now)
        self.is_quiet = self._looks_quiet()
        return drops_handled

    def _step_one(self, intake: InboxIntake, now: float) -> int:
        """Step one inbox; any error stays with it, so that the others go on."""
        try:
            return intake.step(now) if intake.is_reachable(now) else 0
        except Exception as error:
            intake.fail(error, now)
            return 0

    def seconds_to_next(self) -> float:
        """Return the seconds until the next step is due, unless a hint comes earlier."""
        soonest = min((intake.next_at for intake in self.inboxes), default=float("inf"))
        return max(0.0, soonest - time.monotonic())

    def _looks_quiet(self) -> bool:
        return all(
            (intake.has_looked or intake.finder.problem) and not intake.is_busy()
            for intake in self.inboxes
        )

    def waiting(self) -> list[dict[str, Any]]:
        """List the files that are not claimed yet, with the reasons."""
        entries: list[dict[str, Any]] = []
        for intake in self.inboxes:
            name = intake.inbox.name
            if intake.finder.problem:
                entries.append({"inbox": name, "file": None, "reason": intake.finder.problem})
            reasons = [(w.path, w.reason) for w in intake.finder.waiting]
            reasons += list(intake.finder.ignored.items())
            entries += [
                {"inbox": name, "file": printable(path), "reason": reason}
                for path, reason in reasons
            ]
        return entries

    def short_waits(self) -> list[dict[str, Any]]:
        """List the files that will be claimed, or fail, soon without anyone's help.

        Returns:
            For each its `inbox`, `file` and `reason`, and `seconds`: how long it waits at most,
            if nothing changes; None if that is unknown.
        """
        now = time.monotonic()
        return [
            {
                "inbox": intake.inbox.name, "file": printable(wait.path),
                "reason": wait.reason,
                "seconds": None if wait.until is None else max(wait.until - now, 0.0),
            }
            for intake in self.inboxes
            for wait in intake.finder.waiting
            if not wait.is_long
        ]  # fmt: skip

    def close(self) -> None:
        """End the decoder; claims that are half done wait for the next start."""
        self._prober.close()
