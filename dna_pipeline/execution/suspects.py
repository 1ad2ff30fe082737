"""Jobs that run alone, since one of them may have ended a worker that had several."""

from __future__ import annotations

from collections.abc import Iterable


class Suspects:
    """Remembers which jobs were in a worker together, or beside a task, when it ended for a reason
    that is not known.

    None of them is charged with that end. Each runs alone from then on, so that a second end names
    the job that causes it. What is remembered goes with the daemon: after a restart, a worker may
    end once more with several jobs, of which again none is charged.
    """

    def __init__(self) -> None:
        self._groups: list[set[str]] = []

    def __contains__(self, job: str) -> bool:
        return any(job in group for group in self._groups)

    def add(self, jobs: Iterable[str]) -> None:
        """Note that a worker ended while it had these jobs."""
        self._groups.append(set(jobs))

    def convict(self, job: str) -> None:
        """Note that a worker ended while it had this job alone: the others that were with it before
        are free, and it goes on running alone."""
        self._groups = [group for group in self._groups if job not in group]
        self.add([job])

    def clear(self, job: str) -> None:
        """Note that a job ended, and no worker with it."""
        self._groups = [left for group in self._groups if (left := group - {job})]
