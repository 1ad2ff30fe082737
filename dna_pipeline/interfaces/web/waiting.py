"""Requests that wait for the end of a job.

A job is cancelled only if its sender is told that it will not be done: where it is held, or where
no daemon runs. A client that goes away while it waits changes nothing. Nobody can tell a killed
client from a broken line, and the job of a killed server goes on too; its result is in the outbox
and in the ledger.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from dna_pipeline.interfaces.web.site import END_KINDS, Record, Site
from dna_pipeline.operations.serving import awaited
from dna_pipeline.operations.serving.awaited import NO_DAEMON, Obstacle

HOLD_GRACE_S = 3.0
"""Time that a hold has to end by itself. The daemon reviews all holds every two seconds."""
DAEMON_GRACE_S = 30.0
"""Time that a daemon that ended meanwhile has to come back, as after an update or a crash."""
RETRY_AFTER_S = {"paused": 60, "weights_missing": 60, "device_unavailable": 60, NO_DAEMON: 10}
OTHER_RETRY_AFTER_S = 30
LOOK_S = 1.0
"""Time between two looks at the job, its hold, the daemon and the client."""

IsGone = Callable[[], Awaitable[bool]]


class JobFailed(Exception):
    """The job failed or was cancelled.

    Attributes:
        job: its id.
        code: `cancelled`, or that of the failure.
        message: the sentence that belongs to the code.
        detail: the facts of this case.
        hint: a further way to correct this case; "" if there is none.
    """

    def __init__(self, job: str, error: Record) -> None:
        self.job = job
        self.code: str = error.get("code") or "stage_failed"
        self.message: str = error.get("message") or ""
        self.detail: str = error.get("detail") or ""
        self.hint: str = error.get("hint") or ""
        super().__init__(self.detail or self.message)


class Held(Exception):
    """The job does not go on. It will not be done, unless `goes_on`.

    Attributes:
        code: that of the hold, or `daemon_not_running`.
        detail: a sentence for people.
        retry_after_s: seconds after which the client may try again.
        job: the job's id; None if there is none.
        goes_on: the job is computed, and only waits to be put into the outbox.
    """

    def __init__(
        self, obstacle: Obstacle, job: str | None = None, *, goes_on: bool = False
    ) -> None:
        self.code = obstacle.code
        self.detail = obstacle.detail
        self.retry_after_s = RETRY_AFTER_S.get(obstacle.code, OTHER_RETRY_AFTER_S)
        self.job = job
        self.goes_on = goes_on
        super().__init__(f"{self.detail} ({self.code})")


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A completed job, whose files are in the outbox.

    Attributes:
        job: as `operations/history.py: read_job` gives it.
    """

    job: dict[str, Any]


async def require_open(site: Site, pipeline: str) -> None:
    """Raise `Held` if a job of this pipeline would not run if it were queued now.

    For before an image is queued, so that nothing has to be withdrawn.
    """
    obstacle = await site.ask(awaited.obstacle_of_pipeline, site.readers, site.presence, pipeline)
    if obstacle is not None:
        raise Held(obstacle)


async def result_of(site: Site, job: str, is_gone: IsGone | None = None) -> Ended:
    """Wait for the end of a job.

    The wait outlasts a daemon that is replaced by another one within `DAEMON_GRACE_S`.

    Args:
        job: its whole id.
        is_gone: tells whether the client has gone away; asked about once a second.

    Raises:
        JobFailed: it failed or was cancelled.
        Held: it does not go on, and is withdrawn; see `Held.goes_on` for the exception.
        ClientGone: the client has gone away. The job goes on.
    """
    async with aclosing(follow(site, job, is_gone)) as portions:
        async for _ in portions:
            pass
    return await outcome(site, job)


async def follow(
    site: Site, job: str, is_gone: IsGone | None = None
) -> AsyncGenerator[list[Record]]:
    """Yield the events of a job in portions until it has ended; an empty one each second without.

    Raises:
        Held, ClientGone: as `result_of` does.
    """
    waited, looked_at = Waited(), -LOOK_S
    async with aclosing(site.events(job, quiet_s=LOOK_S)) as portions:
        async for events in portions:
            yield events
            if any(event["kind"] in END_KINDS for event in events):
                return
            if events and time.monotonic() - looked_at < LOOK_S:
                continue
            looked_at = time.monotonic()
            if await _has_ended(site, job, waited):
                return
            if is_gone is not None and await is_gone():
                raise ClientGone


async def outcome(site: Site, job: str) -> Ended:
    """Read how a job ended. Raises `JobFailed` if it did not go well."""
    row = await site.ask(_read, site, job)
    if row["status"] in ("failed", "cancelled"):
        raise JobFailed(job, row["error"] or {})
    return Ended(row)


class Waited:
    """Measures how long the same obstacle has been in the way."""

    def __init__(self) -> None:
        self._code: str | None = None
        self._since = 0.0

    def is_too_long(self, obstacle: Obstacle | None) -> bool:
        """True if the obstacle has stood for as long as it may."""
        now = time.monotonic()
        if obstacle is None or obstacle.code != self._code:
            self._code, self._since = obstacle and obstacle.code, now
        if obstacle is None:
            return False
        grace_s = DAEMON_GRACE_S if obstacle.code == NO_DAEMON else HOLD_GRACE_S
        return now - self._since >= grace_s


async def _has_ended(site: Site, job: str, waited: Waited) -> bool:
    """True if the job has ended. Raises `Held` if it does not go on for too long."""
    standing = await site.ask(awaited.standing, site.readers, site.presence, job)
    if standing.has_ended:
        return True
    obstacle = standing.obstacle
    if obstacle is None or not waited.is_too_long(obstacle):
        return False
    if await site.ask(awaited.withdraw, site.submissions, job, obstacle):
        raise Held(obstacle, job)
    if obstacle.code != NO_DAEMON and standing.status != "running":
        return False  # it has started meanwhile
    raise Held(obstacle, job, goes_on=True)


def _read(site: Site, job: str) -> Record:
    with site.readers.lend() as queries:
        return queries.job(job)
