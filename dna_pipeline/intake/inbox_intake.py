"""Intake of one inbox, step by step: from a look at its files to the jobs in the ledger."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import structlog

from dna_pipeline.base.errors import JobError
from dna_pipeline.base.naming import folder_of, name_of
from dna_pipeline.base.reachability import Look, look_directly
from dna_pipeline.base.times import utcnow
from dna_pipeline.config.companion_paths import paths_of_inbox
from dna_pipeline.config.schema import Config, Inbox
from dna_pipeline.intake.claiming import claims as claim
from dna_pipeline.intake.claiming.batch import BatchClaim, BatchClaimer, NotReady, is_long_wait
from dna_pipeline.intake.claiming.claimer import Claimer
from dna_pipeline.intake.claiming.late_sidecars import LateSidecars
from dna_pipeline.intake.claiming.recorder import Recorder
from dna_pipeline.intake.claiming.settling import Settling
from dna_pipeline.intake.claiming.single import SingleClaimer
from dna_pipeline.intake.discovery.candidates import Candidate, Waiting
from dna_pipeline.intake.discovery.probe import Prober
from dna_pipeline.intake.inbox_folders import missing_sentence
from dna_pipeline.intake.planning.finder import CandidateFinder
from dna_pipeline.intake.planning.known_files import KnownFiles, Version, rows_of
from dna_pipeline.intake.planning.planner import Planner
from dna_pipeline.intake.planning.ready_drops import ReadyDrop
from dna_pipeline.intake.recovery import ClaimCleanup, ClaimRecovery, UnreturnedFile
from dna_pipeline.ledger import drops, store
from dna_pipeline.ledger.store import Ledger

log = structlog.get_logger()

GROUP = 500
"""Largest number of drops that one pair of commits claims."""

FIRST_GROUP = 8
"""Size of the first group: small, so that work starts at once. Each later one is twice as large."""

FAILED_RETRY_S = 5.0
"""Pause after an error, or if a folder does not answer, in seconds."""

RETRY_S = 1.0
"""Pause before the next try of a batch that will be ready soon, in seconds."""


class InboxIntake:
    """Steps one inbox: look at its files, claim what is ready, recover what was cut off."""

    def __init__(
        self,
        config: Config,
        inbox: Inbox,
        ledger: Ledger,
        prober: Prober,
        cleanup: ClaimCleanup,
        look: Look = look_directly,
    ) -> None:
        self.inbox = inbox
        self._config = config
        self._ledger = ledger
        self._look_at = look
        self._is_silent = False
        self._known_files = KnownFiles(inbox.name, ledger)
        self.finder = CandidateFinder(
            inbox, prober, self._known_files, look, self._describe, paths_of_inbox(config, inbox)
        )
        planner = Planner(config, inbox, look)
        claimer = Claimer(config, inbox, ledger)
        recorder = Recorder(config, inbox, ledger, self._known_files)
        self.claimer = SingleClaimer(
            self.finder, planner, claimer, recorder, self._known_files, ledger
        )
        self._batch_claimer = BatchClaimer(
            config, ledger, self.finder, planner, claimer, recorder, self._known_files, prober, look
        )
        self._batch: BatchClaim | None = None
        self.late_sidecars = LateSidecars(ledger, self.finder, planner)
        self.settling = Settling(inbox.settle_s, prober, self.claimer)
        self._late_drops: list[ReadyDrop] = []
        self._group = FIRST_GROUP
        self._idle_until = 0.0
        self.recovery = ClaimRecovery(config, inbox, ledger, cleanup, self.settling, look)
        self._watched = f"watched:{inbox.name}"
        self._is_first_look = ledger.transact(lambda s: store.get_setting(s, self._watched)) is None
        self.has_looked = False

    def _describe(self, error: OSError) -> str:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            return f"cannot be looked at: {error.strerror}"
        was_watched = not self._is_first_look
        return missing_sentence(
            self._config, self.inbox, was_watched=was_watched, look=self._look_at
        )

    @property
    def next_at(self) -> float:
        """Monotonic time of the next `step` that is due."""
        if self.finder.pending or self._late_drops or self._batch:
            return self._idle_until
        times = (self.finder.next_at, self.settling.next_at, self.recovery.next_at)
        return max(self._idle_until, min(times))

    def is_busy(self) -> bool:
        """True if something in this inbox will be ready soon without anyone's help."""
        short = any(not waiting.is_long for waiting in self.finder.waiting)
        claiming = bool(self.finder.pending or self._late_drops or self._batch)
        return not self._is_silent and (claiming or self.settling.is_busy or short)

    def is_reachable(self, now: float) -> bool:
        """True if the inbox's disk answers, so that the inbox may be touched.

        If the disk is silent, `status` says so, and it is asked again after `FAILED_RETRY_S`.
        """
        reach = self._look_at(self.inbox.path)
        self._is_silent = reach.is_silent
        if reach.is_silent:
            self.finder.mark_unavailable(reach.why, now)
            self._idle_until = now + FAILED_RETRY_S
        return not reach.is_silent

    def step(self, now: float) -> int:
        """Do the work that is due, at most one group; return the number of its drops."""
        if self._batch is not None:
            batch = self._batch
            return self._advance(batch.candidate, lambda: self._batch_claimer.step(batch), now)
        self._recover(now)
        self.settling.step(now)
        if not self.finder.pending and now >= self.finder.next_at:
            self._look(now)
        return self._take_group(now) or self._begin_batch(now)

    def _recover(self, now: float) -> None:
        lacked_files = bool(self.recovery.unreturned)
        self.recovery.run(now)
        if lacked_files and not self.recovery.unreturned:
            self.finder.request_scan(now)

    def _look(self, now: float) -> None:
        self.finder.find(now)
        self.has_looked = True
        if self.finder.problem is not None:
            return
        if files := self.recovery.unreturned:
            self._wait_for(files)
        if self._is_first_look:
            self._first_look()
        self._group = FIRST_GROUP
        self._late_drops = self.late_sidecars.handle(now)
        self.late_sidecars.explain()

    def _wait_for(self, files: Sequence[UnreturnedFile]) -> None:
        """Take nothing in from the folders to which these files belong.

        An image there may have its sidecar among them, or be one of their batch, and would become a
        job with other parameters by itself.
        """
        held: dict[str, str] = {}
        for file in files:
            why = f"lies in {file.claim} until it can be given back: {file.why}"
            self.finder.waiting.append(Waiting(file.path, why, None, True, "writing"))
            name = name_of(file.path)
            held.setdefault(folder_of(file.path), f"waits for {name}, which cannot be given back")
        self.finder.hold(held)

    def _take_group(self, now: float) -> int:
        group, self._late_drops = self._late_drops, []
        while self.finder.pending and len(group) < self._group:
            if self.finder.pending[0].is_batch:
                break
            if (ready := self.finder.next_ready(now)) is not None:
                group.append(ready)
        self._group = min(2 * self._group, GROUP)
        if not group:
            return 0
        self.finder.probe_ahead(self._group)
        for item in self.claimer.claim(group):
            self.settling.add(item, now)
        return len(group)

    # --- job files and tables ---

    def _begin_batch(self, now: float) -> int:
        if (batch := self.finder.next_batch()) is None:
            return 0
        candidate, stats = batch
        if len(stats) != len(candidate.paths):
            return 1  # files of the batch were claimed or vanished in the meantime
        return self._advance(candidate, lambda: self._batch_claimer.start(candidate, stats), now)

    def _advance(
        self, candidate: Candidate, action: Callable[[], BatchClaim | None], now: float
    ) -> int:
        """Start the batch that is being claimed, or do one more step of it."""
        batch_file = candidate.table or candidate.sidecar or ""
        self._batch = None
        try:
            self._batch = action()
        except JobError as error:
            # No job can be made of the batch, so its file gets a job that fails with the reason.
            useless = Candidate(candidate.table, candidate.sidecar, error)
            self.finder.pending.appendleft(useless)
        except (NotReady, claim.ClaimError, OSError) as reason:
            is_long = is_long_wait(reason)
            if not isinstance(reason, NotReady):
                self.recovery.request()  # the next step returns files that could not be now
            log.info("batch.left", inbox=self.inbox.name, file=batch_file, why=str(reason))
            why = f"not taken in yet: {reason}"
            self.finder.waiting.append(Waiting(batch_file, why, None, is_long, "writing"))
            retry_s = FAILED_RETRY_S if is_long else RETRY_S
            self.finder.next_at = min(self.finder.next_at, now + retry_s)
        return 1

    def _first_look(self) -> None:
        """Remember that this inbox is watched and, with `existing: ignore`, the files in it."""
        versions: dict[str, Version] = {}
        if self.inbox.existing == "ignore":
            files = self.finder.files
            versions = {path: Version({path: stat}) for path, stat in files.items()}
            self.finder.pending.clear()

        def commit(session: Any) -> None:
            drops.remember_files(session, rows_of(self.inbox.name, versions))
            store.set_setting(session, self._watched, str(utcnow()))

        self._ledger.transact(commit)
        self._known_files.note(versions)
        self._is_first_look = False

    def fail(self, error: Exception, now: float) -> None:
        """Handle an error anywhere in `step`: begin anew soon, and recover the claims."""
        problem = f"could not take files in: {error}"
        if problem != self.finder.problem:
            log.error("inbox.failed", inbox=self.inbox.name, exc_info=error)
        self.finder.problem = problem
        self.finder.pending.clear()
        self._batch = None
        self.finder.request_scan(now)
        self._idle_until = now + FAILED_RETRY_S
        self.recovery.request()
