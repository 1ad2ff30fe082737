"""Claims whose files were written to while they were claimed, or that a restart resumes.

A writer may go on after the rename, since its file keeps its inode. So the file settles inside the
claim.
"""

from __future__ import annotations

from dataclasses import dataclass

from dna_pipeline.intake.claiming.claimer import Claim
from dna_pipeline.intake.claiming.single import SingleClaimer
from dna_pipeline.intake.discovery.completeness import incomplete_until
from dna_pipeline.intake.discovery.probe import Probed, Prober
from dna_pipeline.intake.discovery.scan import FileStat
from dna_pipeline.intake.planning.known_files import Stats


@dataclass(slots=True, eq=False)
class _Entry:
    """A claim that settles.

    Attributes:
        at: time of the next look.
        since: time at which its last change was noticed.
    """

    claimed: Claim
    at: float
    since: float


class Settling:
    """Claims of one inbox that must not change for a while before they are hashed."""

    def __init__(self, settle_s: float, prober: Prober, claimer: SingleClaimer) -> None:
        self._settle_s = settle_s
        self._prober = prober
        self._claimer = claimer
        self._entries: list[_Entry] = []

    @property
    def is_busy(self) -> bool:
        """True if a claim settles here and its inbox is not away."""
        return any(entry.claimed.stats for entry in self._entries)

    @property
    def next_at(self) -> float:
        """Time of the next `step` that is due; infinity if no claim settles."""
        return min((entry.at for entry in self._entries), default=float("inf"))

    @property
    def drops(self) -> set[str]:
        """Ids of the drops that settle here."""
        return {entry.claimed.row["id"] for entry in self._entries}

    def add(self, item: Claim, now: float) -> None:
        """Let a claim settle from now on."""
        item.stats = _stats(item)
        self._entries.append(_Entry(item, now + self._settle_s, now))

    def step(self, now: float) -> None:
        """Finish the claims that have settled."""
        due = [entry for entry in self._entries if entry.at <= now]
        still = [entry for entry in due if self._is_ready(entry, now)]
        changing = self._claimer.finish_settled([entry.claimed for entry in still])
        done = {id(entry) for entry in still if entry.claimed not in changing}
        self._entries = [entry for entry in self._entries if id(entry) not in done]
        for entry in still:
            entry.at = entry.since = now + self._settle_s

    def _is_ready(self, entry: _Entry, now: float) -> bool:
        """True if no file changed, and the image decodes or has failed to for long enough."""
        item = entry.claimed
        entry.at = now + self._settle_s
        if (stats := _stats(item)) != item.stats:
            item.stats, entry.since = stats, now
            return False
        if not item.folder.is_dir():
            return False  # the inbox is away
        if item.image is None or item.error is not None or item.image.name not in stats:
            return True
        answer = self._prober.probe(item.image)
        if incomplete_until(item.image, answer, entry.since, now) is not None:
            entry.at = max(entry.at, now + 0.5)
            return False
        if isinstance(answer, Probed):
            item.probed = answer
        else:
            item.error = answer.failure()
        return True


def _stats(item: Claim) -> Stats:
    """Return the files' status now, without files that someone took out of the claim."""
    stats: Stats = {}
    for file in item.files:
        try:
            stats[file.name] = FileStat.of((item.folder / file.name).lstat())
        except FileNotFoundError:
            continue
    return stats
