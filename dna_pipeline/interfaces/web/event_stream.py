"""Streams of server-sent events, which end as soon as their client is gone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

HEARTBEAT = b": \n\n"
"""A comment. It keeps proxies from closing a stream in which nothing happens."""

_HEADERS = {"cache-control": "no-cache, no-transform"}


def event_frame(data: Any, *, event: str | None = None, id: int | None = None) -> bytes:  # noqa: A002
    """Write one event: its kind, its number and its data, as JSON."""
    lines = [f"id: {id}"] if id is not None else []
    lines += [f"event: {event}"] if event is not None else []
    # On one line, since JSON escapes the line breaks in texts.
    lines.append(f"data: {json.dumps(data, default=str)}")
    return ("\n".join(lines) + "\n\n").encode()


class EventStream(Response):
    """Sends what a generator yields, and closes that once the client is gone.

    Args:
        frames: written by `event_frame`; nothing is taken from it faster than the client reads.
    """

    media_type = "text/event-stream"

    def __init__(
        self, frames: AsyncGenerator[bytes], headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(None, headers={**_HEADERS, **(headers or {})})
        del self.headers["content-length"]
        self._frames = frames

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._frames):
            await send(
                {
                    "type": "http.response.start", "status": self.status_code,
                    "headers": self.raw_headers,
                }
            )  # fmt: skip
            tasks = {
                asyncio.ensure_future(self._send(send)),
                asyncio.ensure_future(_disconnected(receive)),
            }
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()

    async def _send(self, send: Send) -> None:
        async for frame in self._frames:
            await send({"type": "http.response.body", "body": frame, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
