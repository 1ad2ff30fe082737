"""All inboxes of a configuration: who is looked at when, and what is taken in at once."""

from __future__ import annotations

import threading
import time
from typing import Any

from dna_pipeline.base.reachability import Look, look_directly
from dna_pipeline.config.schema import Config
from dna_pipeline.intake.discovery.probe import Prober
from dna_pipeline.intake.inbox_intake import InboxIntake
from dna_pipeline.intake.planning import job_rows
from dna_pipeline.intake.recovery import ClaimCleanup, OrphanRecovery
from dna_pipeline.ledger import drops
from dna_pipeline.ledger.store import Ledger


class IntakeService:
    """All inboxes, stepped in turn by one thread."""

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        cleanup: ClaimCleanup,
        look: Look = look_directly,
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._look = look
        self._cleanup = cleanup
        self._prober = Prober(look)
        self._hints: set[str] = set()
        self._lock = threading.Lock()
        self.is_quiet = False
        """Whether, as of the last step, nothing will be taken in soon unless something comes."""
        self.inboxes = [
            InboxIntake(config, inbox, ledger, self._prober, cleanup, look)
            for inbox in config.inboxes
        ]

    def recover(self) -> None:
        """Finish or undo what the last daemon was taking in."""
        names = {gate.inbox.name for gate in self.inboxes}
        orphans = OrphanRecovery(self._ledger, self._cleanup, self._look)
        for drop in self._ledger.transact(drops.claiming_drops):
            if drop.inbox not in names:
                orphans.give_back(drop)
        now = time.monotonic()
        for gate in self.inboxes:
            if gate.is_reachable(now):
                gate.recovery.run(now)

    def hint(self, name: str) -> None:
        """Called from any thread: that inbox is worth a look."""
        with self._lock:
            self._hints.add(name)

    def step(self) -> int:
        """Step every inbox once; how many drops were dealt with."""
        with self._lock:
            hints, self._hints = self._hints, set()
        taken = 0
        for gate in self.inboxes:
            now = time.monotonic()
            if gate.inbox.name in hints:
                gate.finder.request_scan(now)
            if now >= gate.next_at:
                taken += self._step_one(gate, now)
        self.is_quiet = self._looks_quiet()
        return taken

    def _step_one(self, gate: InboxIntake, now: float) -> int:
        """One inbox's trouble is not another's."""
        try:
            return gate.step(now) if gate.is_reachable(now) else 0
        except Exception as error:
            gate.fail(error, now)
            return 0

    def seconds_to_next(self) -> float:
        """How long nothing is due unless a hint comes."""
        soonest = min((gate.next_at for gate in self.inboxes), default=float("inf"))
        return max(0.0, soonest - time.monotonic())

    def _looks_quiet(self) -> bool:
        return all(
            (gate.has_looked or gate.finder.problem) and not gate.is_busy() for gate in self.inboxes
        )

    def waiting(self) -> list[dict[str, Any]]:
        """The files that are not taken in yet, and why."""
        found: list[dict[str, Any]] = []
        for gate in self.inboxes:
            name = gate.inbox.name
            if gate.finder.problem:
                found.append({"inbox": name, "file": None, "reason": gate.finder.problem})
            entries = [(w.path, w.reason) for w in gate.finder.waiting]
            entries += list(gate.finder.ignored.items())
            found += [
                {"inbox": name, "file": job_rows.printable(path), "reason": reason}
                for path, reason in entries
            ]
        return found

    def close(self) -> None:
        """End the decoder; what is half taken in waits for the next start."""
        self._prober.close()
