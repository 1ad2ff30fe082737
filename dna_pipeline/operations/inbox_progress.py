"""Progress of each inbox: how many of its jobs have ended since it last had none to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

QueueCounts = Mapping[str, Mapping[str, int]]
"""Number of jobs by status, and within each status by inbox."""

OPEN = ("queued", "running")


@dataclass(slots=True)
class _Round:
    """Jobs of one inbox, from the first that came while it had none to do, to the last.

    Attributes:
        ended_before: number of its jobs that had ended when the round began.
        ended: number of its jobs that have ended by now.
        to_do: number of its jobs that are queued or running.
    """

    ended_before: int
    ended: int
    to_do: int


class InboxProgress:
    """Counts the jobs of rounds, one round for each inbox.

    A round that is over stays as it is until the next job comes. Jobs that ended before the first
    call of `step` belong to none.
    """

    def __init__(self) -> None:
        self._rounds: dict[str, _Round] = {}

    def step(self, queue: QueueCounts, inboxes: Iterable[str]) -> dict[str, dict[str, int]]:
        """Count anew; give `done` and `total` of each inbox.

        Args:
            inboxes: those that are listed even without a job.
        """
        with_jobs = (name for status in OPEN for name in queue.get(status, ()))
        return {name: self._step(name, queue) for name in dict.fromkeys([*inboxes, *with_jobs])}

    def _step(self, inbox: str, queue: QueueCounts) -> dict[str, int]:
        to_do = sum(counts.get(inbox, 0) for status, counts in queue.items() if status in OPEN)
        ended = sum(counts.get(inbox, 0) for status, counts in queue.items() if status not in OPEN)
        current = self._rounds.setdefault(inbox, _Round(ended, ended, to_do))
        if not current.to_do and to_do:
            current.ended_before = current.ended
        # A retry queues a job that had ended, so fewer may have ended than before.
        current.ended_before = min(current.ended_before, ended)
        current.ended, current.to_do = ended, to_do
        done = ended - current.ended_before
        return {"done": done, "total": done + to_do}
