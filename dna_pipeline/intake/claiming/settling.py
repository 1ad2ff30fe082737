"""Claims whose files were written to while they were claimed, or that a restart resumes.

A writer may go on after the rename, since its file keeps its inode. So the file settles inside the
claim.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from dna_pipeline.base.errors import JobError
from dna_pipeline.intake.claiming.claim import Claim, InputFile
from dna_pipeline.intake.claiming.companions import fault_of
from dna_pipeline.intake.claiming.single import SingleClaimer
from dna_pipeline.intake.discovery.completeness import incomplete_until
from dna_pipeline.intake.discovery.naming_files import IMAGE_WAIT_S
from dna_pipeline.intake.discovery.probe import Probed, Prober
from dna_pipeline.intake.discovery.scan import FileStat
from dna_pipeline.intake.planning.known_files import Stats


@dataclass(slots=True)
class _Times:
    """Times of a claim.

    Attributes:
        at: time of the next look at it.
        changed: time at which its last change was noticed.
        waits_since: time from which on it has been waiting for a companion; None if it is not.
    """

    at: float
    changed: float
    waits_since: float | None = None


class Settling:
    """Claims of one inbox that must not change for a while before they are hashed."""

    def __init__(self, settle_s: float, prober: Prober, claimer: SingleClaimer) -> None:
        self._settle_s = settle_s
        self._prober = prober
        self._claimer = claimer
        self._claims: dict[Claim, _Times] = {}

    @property
    def is_busy(self) -> bool:
        """True if a claim settles here, its inbox is not away, and it has its companions."""
        return any(claim.stats and not claim.is_waiting for claim in self._claims)

    @property
    def next_at(self) -> float:
        """Time of the next `step` that is due; infinity if no claim settles."""
        return min((times.at for times in self._claims.values()), default=float("inf"))

    @property
    def drops(self) -> set[str]:
        """Ids of the drops that settle here."""
        return {claim.row["id"] for claim in self._claims}

    def add(self, claim: Claim, now: float) -> None:
        """Let a claim settle from now on."""
        claim.stats = _stats(claim)
        waits_since = now if claim.is_waiting else None
        self._claims[claim] = _Times(now + self._settle_s, now, waits_since)

    def step(self, now: float) -> None:
        """Finish the claims that have settled."""
        due = [(claim, times) for claim, times in self._claims.items() if times.at <= now]
        still = [claim for claim, times in due if self._is_ready(claim, times, now)]
        changing = self._claimer.finish_settled(still)
        for claim in still:
            since = self._claims.pop(claim).waits_since
            if claim in changing:
                waits_since = (now if since is None else since) if claim.is_waiting else None
                claim.gives_up = waits_since is not None and now >= waits_since + IMAGE_WAIT_S
                self._claims[claim] = _Times(now + self._settle_s, now, waits_since)

    def _is_ready(self, claim: Claim, times: _Times, now: float) -> bool:
        """True if no file changed, and the image decodes or has failed to for long enough."""
        times.at = now + self._settle_s
        if (stats := _stats(claim)) != claim.stats:
            claim.stats, times.changed = stats, now
            return False
        if not claim.folder.is_dir():
            return False  # the inbox is away
        if claim.image is None or claim.error is not None or claim.image.name not in stats:
            return True
        for file in claim.pictures:
            if file.name in stats and not self._decode(claim, file, times, now):
                return False
        return True

    def _decode(self, claim: Claim, file: InputFile, times: _Times, now: float) -> bool:
        """Decode an image or a companion in a claim; False if it may still be written."""
        path = claim.place(file)
        answer = self._prober.probe(path)
        if incomplete_until(path, answer, times.changed, now) is not None:
            times.at = max(times.at, now + 0.5)
            return False
        if file.role != "image":
            if isinstance(answer, JobError):
                claim.error = claim.error or fault_of(file, answer).failure()
        elif isinstance(answer, Probed):
            claim.probed = answer
        else:
            claim.error = answer.failure()
        return True


def _stats(claim: Claim) -> Stats:
    """Return the files' status now, without files that someone took out of the claim."""
    stats: Stats = {}
    for file in claim.files:
        with suppress(FileNotFoundError):
            stats[file.name] = FileStat.of(claim.place(file).lstat())
    return stats
