"""Holds the jobs whose sources cannot be reached, and frees them when they can be.

The sources of an inbox's jobs lie in claims below one folder, its *root* (`<inbox>/.dna/<ledger>`;
`<data>/claims` for copies). The root is asked about, once for all its jobs and outside any
transaction; single claims are looked at only for jobs that are about to run.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import structlog

from dna_pipeline.base import claim_folders
from dna_pipeline.base.errors import InboxUnavailable
from dna_pipeline.base.reachability import Look
from dna_pipeline.ledger import source_holds
from dna_pipeline.ledger.engine import Transaction
from dna_pipeline.ledger.queries import Queries
from dna_pipeline.ledger.queue import Runnable
from dna_pipeline.ledger.store import Ledger

log = structlog.get_logger()

AT_ONCE = 500
"""So many single claims are looked at in one go."""

NAMES = 1000
"""So many names in a root show whether its claims are ours."""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Something outside the ledger that keeps a job from its turn.

    Attributes:
        why: a sentence for people.
        hold: holds the job, with all to which the same applies.
    """

    why: str
    hold: Callable[[Transaction], None]


class SourceHolds:
    """Holds and releases by root; remembers which roots and which single claims were missing.

    The daemon is the only one that holds jobs for their sources, so what is remembered is complete
    but for the jobs that an earlier daemon left held, which are read from the ledger once.

    Attributes:
        has_missed: a claim was missing although its folder was there, or went while its job ran.
            Whoever looks for what became of such jobs sets it back.
    """

    def __init__(self, ledger: Ledger, look: Look) -> None:
        self._ledger = ledger
        self._look = look
        self._roots: set[Path] = set()
        self._claims: dict[str, Path] = {}
        """Claims that are missing although their root is there, by drop."""
        self._has_read = False
        self.has_missing_claims = False

    def obstacle(self, job: Runnable) -> Obstacle | None:
        """What keeps the job from its source."""
        claim = Path(job.claim)
        root = claim.parent
        if (why := claim_folders.unreachable_reason(claim, self._look)) is None:
            return None
        self.has_missing_claims |= self._look(root).is_there
        if self._holds_ours(root):
            return self._missing_alone(job, claim, why)

        def hold_all(session: Transaction) -> None:
            number = source_holds.hold_below(session, root, why)
            source_holds.hold(session, [job.drop_id], why)  # whatever its path looks like
            log.warning("inbox.unreachable", root=str(root), jobs=number)

        self._roots.add(root)
        return Obstacle(why, hold_all)

    def note_hold(self, job_id: str) -> None:
        """A job was held for its source by someone else: let `review` release it."""
        if (claim := self._ledger.transact(lambda s: source_holds.claim_of(s, job_id))) is not None:
            self._roots.add(claim.parent)
            self.has_missing_claims = True

    def review(self) -> None:
        """Release the jobs whose sources can be reached again."""
        if not self._has_read:
            # Of a million jobs this takes seconds, during which others go on to write.
            with closing(Queries(self._ledger.path)) as views:
                self._roots |= views.held_roots(InboxUnavailable.code)
            self._has_read = True
        for root in sorted(self._roots):
            if self._holds_ours(root):
                self._ledger.transact(lambda s, r=root: source_holds.release_below(s, r))
                self._roots.discard(root)
                log.info("inbox.reachable", root=str(root))
        self._review_claims()

    def _holds_ours(self, root: Path) -> bool:
        """Whether claims of ours lie in that folder.

        An empty mount point may have a folder of that name too, since people and programs, we
        among them, may write into it while nothing is mounted there.
        """
        if not self._look(root).is_there:
            return False
        try:
            with os.scandir(root) as entries:
                names = [entry.name for entry in islice(entries, NAMES)]
        except OSError:
            return False
        return self._ledger.transact(lambda s: source_holds.owns_any(s, names))

    def _missing_alone(self, job: Runnable, claim: Path, why: str) -> Obstacle:
        """Hold the job, and those after it whose claims are missing from that root as well."""
        following = self._ledger.transact(lambda s: source_holds.next_claims(s, AT_ONCE))
        beside = {drop: other for drop, other in following.items() if other.parent == claim.parent}
        lost = {
            drop: other
            for drop, other in beside.items()
            if claim_folders.unavailable_reason(other) is not None
        }
        lost[job.drop_id] = claim
        self._claims |= lost
        return Obstacle(why, lambda session: source_holds.hold(session, lost, why))

    def _review_claims(self) -> None:
        """Look for some of the single claims; the others have their turn at the next review."""
        some = dict(islice(self._claims.items(), AT_ONCE))
        found: list[str] = []
        for drop, claim in some.items():
            del self._claims[drop]
            if claim_folders.unreachable_reason(claim, self._look) is None:
                found.append(drop)
            else:
                self._claims[drop] = claim  # behind the others
        if found:
            self._ledger.transact(lambda s: source_holds.release(s, found))
