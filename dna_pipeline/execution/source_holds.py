"""Holds jobs whose sources cannot be reached, and releases them when they can.

The sources of an inbox's jobs lie in claims below one folder, their *root*. That is
`<inbox>/.dna/<ledger>`, or `<data>/claims` for copies. One look at the root serves all its jobs,
outside any transaction; single claims are looked at only for jobs that are about to run.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

import structlog

from dna_pipeline.base import claim_folders
from dna_pipeline.base.errors import InboxUnavailable
from dna_pipeline.base.periodic import Throttle
from dna_pipeline.base.reachability import Look
from dna_pipeline.execution.conditions import Obstacle
from dna_pipeline.ledger import holds
from dna_pipeline.ledger.queries import Queries
from dna_pipeline.ledger.queue import Runnable
from dna_pipeline.ledger.store import Ledger

log = structlog.get_logger()

RETRY_S = 5.0
CLAIMS_PER_REVIEW = 500
"""Most single claims that are looked at in one call."""

MAX_NAMES = 1000
"""Most names of a root that are read to find a claim of this ledger."""


class SourceHolds:
    """Holds and releases jobs by root; remembers which roots and which single claims are missing.

    Only the daemon holds jobs for their sources, so its memory is complete, except for jobs that an
    earlier daemon left held: those are read from the ledger once.

    Attributes:
        retry: says when the sources are to be looked for again.
        has_missing_claims: a claim was missing although its root was there, or vanished while its
            job ran. The caller that finds out what became of such jobs sets this back.
    """

    def __init__(self, ledger: Ledger, look: Look) -> None:
        self._ledger = ledger
        self._look = look
        self.retry = Throttle(RETRY_S)
        self._roots: set[Path] = set()
        self._missing_claims: dict[str, Path] = {}
        """Claims that are missing although their root is there, by drop id."""
        self._has_read = False
        self.has_missing_claims = False

    def obstacle(self, job: Runnable) -> Obstacle | None:
        """The reason why the job's source cannot be reached, and how to hold the jobs that it
        concerns; None if the source can be reached."""
        claim = Path(job.claim)
        root = claim.parent
        if (why := claim_folders.unreachable_reason(claim, self._look)) is None:
            return None
        self.has_missing_claims |= self._look(root).is_there
        if self._has_own_claims(root):
            return self._hold_missing_claims(job, claim, why)
        self._roots.add(root)
        # Also by its id, in case its path does not match the root as the ledger compares them.
        return Obstacle(InboxUnavailable.code, why, {"claim": [root], "drop_id": [job.drop_id]})

    def note_hold(self, job_id: str) -> None:
        """Remember the root of a job that the dispatcher or the publisher held for its source, so
        that `review` can release it."""
        if (claim := self._ledger.transact(lambda s: holds.claim_of(s, job_id))) is not None:
            self._roots.add(claim.parent)
            self.has_missing_claims = True

    def review(self) -> None:
        """Release the jobs whose sources can be reached again."""
        if not self._has_read:
            # With a million jobs this takes seconds. The separate read-only connection lets others
            # write meanwhile.
            with closing(Queries(self._ledger.path)) as queries:
                self._roots |= queries.held_roots(InboxUnavailable.code)
            self._has_read = True
        for root in sorted(self._roots):
            if self._has_own_claims(root):
                self._release("claim", [root])
                self._roots.discard(root)
                log.info("inbox.reachable", root=str(root))
        self._review_claims()

    def _has_own_claims(self, root: Path) -> bool:
        """True if claims of this ledger lie in that folder.

        That the folder exists proves nothing: people and programs, this one included, may have
        created it in the empty mount point while nothing was mounted there.
        """
        if not self._look(root).is_there:
            return False
        try:
            with os.scandir(root) as entries:
                names = [entry.name for entry in islice(entries, MAX_NAMES)]
        except OSError:
            return False
        return self._ledger.transact(lambda s: holds.owns_any(s, names))

    def _hold_missing_claims(self, job: Runnable, claim: Path, why: str) -> Obstacle:
        """An obstacle that holds the job, and the jobs after it whose claims are missing from the
        same root."""
        following = self._ledger.transact(lambda s: holds.next_claims(s, CLAIMS_PER_REVIEW))
        beside = {drop: other for drop, other in following.items() if other.parent == claim.parent}
        missing = {
            drop: other
            for drop, other in beside.items()
            if claim_folders.unavailable_reason(other) is not None
        }
        missing[job.drop_id] = claim
        self._missing_claims |= missing
        return Obstacle(InboxUnavailable.code, why, {"drop_id": missing})

    def _review_claims(self) -> None:
        """Look for some of the missing claims, and release the jobs of those that are back. The
        others have their turn at the next review."""
        some = dict(islice(self._missing_claims.items(), CLAIMS_PER_REVIEW))
        reachable: list[str] = []
        for drop, claim in some.items():
            del self._missing_claims[drop]
            if claim_folders.unreachable_reason(claim, self._look) is None:
                reachable.append(drop)
            else:
                self._missing_claims[drop] = claim  # at the end, behind the others
        if reachable:
            self._release("drop_id", reachable)

    def _release(self, column: holds.Column, values: Sequence[str | Path]) -> None:
        """Release jobs, to run or to be published."""
        code = InboxUnavailable.code
        self._ledger.transact(lambda s: holds.release(s, code, column, values))
