"""Parts that all endpoints share: configuration, ledger and events; waits for the end of a job."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from starlette.concurrency import run_in_threadpool

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.config.schema import Config
from dna_pipeline.interfaces.web.texts import PathHider
from dna_pipeline.operations.serving.awaited import Presence
from dna_pipeline.operations.serving.board import Board
from dna_pipeline.operations.serving.drops import Drops
from dna_pipeline.operations.serving.feed import EventFeed, Follower
from dna_pipeline.operations.serving.readers import Readers
from dna_pipeline.operations.serving.submissions import Submissions

T = TypeVar("T")
Record = dict[str, Any]

FEED_READERS = 4
"""Most followers of events that read the ledger at once. Each takes a thread and a connection, and
hundreds may come together after a restart."""

SUBMITTERS = 8
"""Most submissions that are worked on at once. Each takes a thread and waits there for one of the
processes that decode, so uploads without a bound would leave no thread for other requests."""

END_KINDS = frozenset({"completed", "failed", "cancelled"})
"""Kinds of the events that end a job."""


class Site:
    """One data folder, as a server shows it. It holds no state of jobs: the ledger does."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.readers = Readers(config)
        self.submissions = Submissions(config)
        self.presence = Presence(config)
        self.feed = EventFeed(config, self.readers)
        self._feed_turns: CapacityLimiter | None = None
        self._submitters: CapacityLimiter | None = None
        self.drops = Drops(config, self.readers, self.submissions)
        self.board = Board(config)
        self.hide = PathHider(config)

    def close(self) -> None:
        """End the feed, and close all connections. May wait for files."""
        self.feed.close()
        self.readers.close()
        self.submissions.close()

    async def ask(self, question: Callable[..., T], *args: Any, **keys: Any) -> T:
        """Call an operation in a thread, since it may wait for the disk."""
        return await run_in_threadpool(partial(question, *args, **keys))

    async def submit(self, action: Callable[..., T], *args: Any, **keys: Any) -> T:
        """Call an operation that takes images in, in one of the threads for these alone."""
        if self._submitters is None:
            self._submitters = CapacityLimiter(SUBMITTERS)
        return await run_sync(partial(action, *args, **keys), limiter=self._submitters)

    async def events(
        self, job: str | None = None, after: int = 0, quiet_s: float = 15.0
    ) -> AsyncGenerator[list[Record]]:
        """Yield the events of one job or of all as they come, in portions, without end.

        A portion is emptied when the next one is asked for.

        Args:
            after: number of the event after which they begin.
            quiet_s: time without an event after which an empty portion is yielded.
        """
        loop, awake = asyncio.get_running_loop(), asyncio.Event()
        follower = self.feed.follow(
            partial(loop.call_soon_threadsafe, awake.set), job=job, after=after
        )
        try:
            while True:
                awake.clear()
                if events := await self._take(follower):
                    yield events
                    events.clear()  # else each idle stream would hold its last portion
                    continue
                try:
                    async with asyncio.timeout(quiet_s):
                        await awake.wait()
                except TimeoutError:
                    yield []
        finally:
            follower.close()

    async def _take(self, follower: Follower) -> list[Record]:
        if (kept := follower.take_kept()) is not None:
            return kept
        if self._feed_turns is None:
            self._feed_turns = CapacityLimiter(FEED_READERS)
        return await run_sync(follower.take, limiter=self._feed_turns)

    async def has_lost(self, job: str) -> bool:
        """True if a rebuilt ledger lacks a job, so that its end will never come; False while the
        ledger cannot be read."""
        with suppress(ConfigError):
            return await self.ask(self._is_missing, job)
        return False

    def _is_missing(self, job: str) -> bool:
        with self.readers.lend() as queries:
            return queries.find(job) is None

    async def ended(self, job: str, quiet_s: float = 1.0) -> AsyncGenerator[Record | None]:
        """Yield the job's event when it has ended, and None again and again until then.

        Between two of them the caller can look whether its client is still there, or whether the
        job is held.
        """
        async for events in self.events(job, quiet_s=quiet_s):
            for event in events:
                if event["kind"] in END_KINDS:
                    yield event
                    return
            yield None
