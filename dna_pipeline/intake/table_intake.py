"""Intake of some rows of one table, for a command that does these rows and nothing else."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import structlog

from dna_pipeline.base.errors import ConfigError, JobError
from dna_pipeline.base.naming import printable
from dna_pipeline.base.reachability import Look, look_directly
from dna_pipeline.config.schema import Config
from dna_pipeline.intake.claiming import claims
from dna_pipeline.intake.claiming.batch import BatchClaim, BatchClaimer, NotReady, is_long_wait
from dna_pipeline.intake.claiming.claimer import Claimer
from dna_pipeline.intake.claiming.recorder import Recorder
from dna_pipeline.intake.claiming.rollback import names_of_copies
from dna_pipeline.intake.discovery.scan import FileStat
from dna_pipeline.intake.planning.finder import CandidateFinder
from dna_pipeline.intake.planning.known_files import KnownFiles
from dna_pipeline.intake.planning.planner import Planner
from dna_pipeline.intake.planning.table_rows import TableRows, find_rows
from dna_pipeline.intake.recovery import ClaimCleanup
from dna_pipeline.intake.service import IntakeService
from dna_pipeline.ledger import batches, drops
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.ledger.tables import Drop

log = structlog.get_logger()

RETRY_S = 1.0
PATIENT_S = 60.0
"""Time for which files that change meanwhile are tried again."""


class TableIntake(IntakeService):
    """Claims the rows as a batch of copies, in the place of all inboxes.

    Table and images stay where they lie, and nothing is written beside them: other hosts may do
    other rows of the same table at the same time.

    Attributes:
        batch: id of the rows' batch, once it was planned.
        jobs: the jobs on which the rows count, some of them of earlier calls; None until the ledger
            has them. Empty if no row was taken in.
        error: the reason why none was and none will be.
    """

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        cleanup: ClaimCleanup,
        chosen: TableRows,
        look: Look = look_directly,
    ) -> None:
        super().__init__(config, ledger, cleanup, look, inboxes=())
        self._chosen = chosen
        inbox = chosen.inbox
        finder = CandidateFinder(inbox, self._prober, KnownFiles("", ledger), look)
        self._claimer = BatchClaimer(
            config, ledger, finder, Planner(config, inbox, look), Claimer(config, inbox, ledger),
            Recorder(config, inbox, ledger), None, self._prober, look,
        )  # fmt: skip
        self._batch_claim: BatchClaim | None = None
        self._why = ""
        """Reason for which the rows are not taken in yet."""
        self._next_at = 0.0
        self._gives_up_at: float | None = None
        self.batch: str | None = None
        self.jobs: frozenset[str] | None = None
        self.error: JobError | ConfigError | None = None

    def recover(self) -> None:
        """Undo the copies of a call that was cut off. What the inboxes' own daemon left half done
        waits for that daemon."""
        for drop in self._ledger.transact(drops.claiming_drops):
            is_own = drop.batch is not None and drop.inbox == self._chosen.inbox.name
            if is_own and self._cleanup.is_copy(Path(drop.claim)):
                self._give_up(drop)
        self._ledger.transact(batches.forget_unclaimed)

    def _give_up(self, drop: Drop) -> None:
        # An absolute path stays absolute when it is joined to the inbox's.
        home = self._chosen.inbox.path
        originals = {home / path: FileStat(**stat) for path, stat in drop.stat.items()}
        copies = names_of_copies(drop.companions)
        self._cleanup.give_up_copy(Path(drop.claim), originals, copies)
        self._ledger.transact(lambda s: drops.forget_drops(s, [drop.id]))

    def step(self) -> int:
        """Do a little more; return 0 if there is nothing to do now."""
        now = time.monotonic()
        if self.is_quiet or now < self._next_at:
            return 0
        try:
            self._advance()
        except (JobError, ConfigError) as error:
            self._end(error)
        except (NotReady, claims.ClaimError, OSError) as reason:
            self._wait(reason, now)
        return 1

    def _advance(self) -> None:
        if self._batch_claim is None:
            self._batch_claim = self._claimer.start(*find_rows(self._chosen, self._look))
            self.batch = self._batch_claim and self._batch_claim.row["id"]
            return
        self._batch_claim = self._claimer.step(self._batch_claim)
        if self._batch_claim is None and (batch := self.batch) is not None:
            self.jobs = frozenset(self._ledger.transact(lambda s: batches.jobs_of_rows(s, batch)))
            self._why = ""
            self.is_quiet = True

    def _wait(self, reason: NotReady | claims.ClaimError | OSError, now: float) -> None:
        """Try again soon, or give up if the cause may last."""
        self._batch_claim = None
        self._why = f"not taken in: {reason}"
        log.info("batch.left", file=self._chosen.table, why=str(reason))
        self._next_at = now + RETRY_S
        self._gives_up_at = self._gives_up_at or now + PATIENT_S
        if is_long_wait(reason) or now >= self._gives_up_at:
            self._end(None)

    def _end(self, error: JobError | ConfigError | None) -> None:
        self.error, self.batch, self.jobs = error, None, frozenset()
        self.is_quiet = True

    def seconds_to_next(self) -> float:
        return float("inf") if self.is_quiet else max(self._next_at - time.monotonic(), 0.0)

    def waiting(self) -> list[dict[str, Any]]:
        """The table with the reason for which its rows are not taken in, if there is one."""
        if not self._why:
            return []
        file = printable(self._chosen.table)
        return [{"inbox": self._chosen.inbox.name, "file": file, "reason": self._why}]

    def short_waits(self) -> list[dict[str, Any]]:
        return [] if self.is_quiet else [each | {"seconds": None} for each in self.waiting()]
