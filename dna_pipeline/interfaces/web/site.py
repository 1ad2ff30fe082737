"""Parts that all endpoints share: configuration, ledger and events; waits for the end of a job."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool

from dna_pipeline.config.schema import Config
from dna_pipeline.operations.serving.awaited import Presence
from dna_pipeline.operations.serving.drops import Drops
from dna_pipeline.operations.serving.feed import EventFeed, Follower
from dna_pipeline.operations.serving.readers import Readers
from dna_pipeline.operations.serving.submissions import Submissions

T = TypeVar("T")
Record = dict[str, Any]

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
        self.drops = Drops(config, self.readers, self.submissions)

    def close(self) -> None:
        """End the feed, and close all connections. May wait for files."""
        self.feed.close()
        self.readers.close()
        self.submissions.close()

    async def ask(self, question: Callable[..., T], *args: Any, **keys: Any) -> T:
        """Call an operation in a thread, since it may wait for the disk."""
        return await run_in_threadpool(partial(question, *args, **keys))

    async def events(
        self, job: str | None = None, after: int = 0, quiet_s: float = 15.0
    ) -> AsyncGenerator[list[Record]]:
        """Yield the events of one job or of all as they come, in portions, without end.

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
                    continue
                try:
                    async with asyncio.timeout(quiet_s):
                        await awake.wait()
                except TimeoutError:
                    yield []
        finally:
            follower.close()

    async def _take(self, follower: Follower) -> list[Record]:
        kept = follower.take_kept()
        return await self.ask(follower.take) if kept is None else kept

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
