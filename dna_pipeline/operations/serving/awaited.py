"""State of a job for which a request waits: whether it can go on, and whether it has ended."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass

from dna_pipeline.base.errors import ConfigError, Paused, RetryWait
from dna_pipeline.config.schema import Config
from dna_pipeline.ledger import requests
from dna_pipeline.operations.daemon.lock import is_held
from dna_pipeline.operations.serving.readers import Readers
from dna_pipeline.operations.serving.submissions import Submissions

NO_DAEMON = "daemon_not_running"
"""Code of the answer where no daemon runs. It is none of a job: without a daemon, none is held."""
NO_DAEMON_DETAIL = "no daemon runs on this data folder; start `dna-pipeline watch`"

LOOK_S = 0.5
"""Time for which the answer to whether a daemon runs is used again."""

_ENDS = ("failed", "cancelled", "completed")
_GOES_ON = (RetryWait.code,)
"""Holds that end by themselves within minutes, so that a request goes on waiting."""


class Presence:
    """Knows whether a daemon runs. Threads may share it.

    To find out, the daemon's lock is taken for a moment, so that two that look at once would each
    take the other for a daemon. Within a process one looks for all.
    """

    def __init__(self, config: Config) -> None:
        self._data = config.data
        self._lock = threading.Lock()
        self._looked_at: float | None = None
        self._is_here = False

    def is_here(self) -> bool:
        """True if a daemon holds the data folder, or did so half a second ago."""
        with self._lock:
            now = time.monotonic()
            if self._looked_at is None or now - self._looked_at >= LOOK_S:
                self._is_here = is_held(self._data)
                self._looked_at = now
            return self._is_here


@dataclass(frozen=True, slots=True)
class Obstacle:
    """A hold of a job, or the lack of a daemon, with its code and a sentence."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a job is.

    Attributes:
        has_ended: it failed, was cancelled, or is completed and its files are in the outbox.
        obstacle: why it does not go on at the moment; None if it does, or has ended.
    """

    status: str
    has_ended: bool
    obstacle: Obstacle | None


def standing(readers: Readers, presence: Presence, job: str) -> Standing:
    """Find out how far a job is. Raises `ConfigError` if the ledger cannot be read, or if it was
    rebuilt without the job."""
    with readers.lend() as queries:
        row = queries.standing(job)
    status: str = row["status"]
    if status in _ENDS:
        return Standing(status, True, None)
    if not presence.is_here():
        return Standing(status, False, Obstacle(NO_DAEMON, NO_DAEMON_DETAIL))
    if row["hold"] is not None and row["hold"] not in _GOES_ON:
        return Standing(status, False, Obstacle(row["hold"], row["hold_detail"] or ""))
    if status == "queued" and row["paused"] is not None:
        return Standing(status, False, Obstacle(Paused.code, row["paused"]))
    return Standing(status, False, None)


def obstacle_of_pipeline(readers: Readers, presence: Presence, pipeline: str) -> Obstacle | None:
    """Find out why a job of this pipeline would not run if it were queued now; None if it would.

    Known before are only the lack of a daemon, and pauses; the daemon looks at everything else
    when it is the job's turn. A daemon that has just started may still be making the ledger.
    """
    if not presence.is_here():
        return Obstacle(NO_DAEMON, NO_DAEMON_DETAIL)
    with suppress(ConfigError), readers.lend() as queries:
        if (why := queries.pause_of(pipeline)) is not None:
            return Obstacle(Paused.code, why)
    return None


def withdraw(submissions: Submissions, job: str, obstacle: Obstacle) -> bool:
    """Cancel a job whose sender is told that it will not be done.

    A job that has started meanwhile goes on, unless there is no daemon that it could go on in.

    Returns:
        True if it will not be done, False if it is or may be.
    """
    if obstacle.code == NO_DAEMON:
        before = submissions.transact(lambda s: requests.request_cancel(s, job))
        return before in ("queued", "running")
    return submissions.transact(lambda s: requests.withdraw(s, job))
