"""Calls an ASGI application without a server, with any headers, as no client would send them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

Application = Callable[..., Awaitable[None]]
Headers = Iterable[tuple[str, str]]


@dataclass
class Answer:
    """What the application sent. Status 0: nothing."""

    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    is_complete: bool = False

    def header(self, name: str) -> str | None:
        found = [value for each, value in self.headers if each == name]
        assert len(found) <= 1, f"{name} twice"
        return found[0] if found else None

    @property
    def detail(self) -> str:
        return json.loads(self.body)["detail"]


def make_scope(
    path: str = "/",
    *,
    method: str = "GET",
    headers: Headers = (),
    query: str = "",
    client: str = "127.0.0.1",
    host: str | None = "127.0.0.1:8000",
    scheme: str = "http",
    server: tuple[str, int] = ("127.0.0.1", 8000),
) -> dict[str, Any]:
    own = [] if host is None else [("host", host)]
    return {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1",
        "method": method, "scheme": scheme, "path": path, "raw_path": path.encode(),
        "query_string": query.encode(), "root_path": "", "client": (client, 4711),
        "server": server,
        "headers": [(n.encode("latin-1"), v.encode("latin-1")) for n, v in [*own, *headers]],
        "state": {},
    }  # fmt: skip


async def ask(
    app: Application, path: str = "/", *, body: Iterable[bytes | None] = (b"",), **facts: Any
) -> Answer:
    """Send a request, and wait for the end of the answer.

    Args:
        body: its parts; None: nothing more comes, and the client stays.
    """
    answer, parts = Answer(), [*body]

    async def receive() -> MutableMapping[str, Any]:
        if not parts:
            await asyncio.Event().wait()
        part = parts.pop(0)
        if part is None:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            assert not answer.status, "two answers"
            answer.status = message["status"]
            answer.headers = [(n.decode(), v.decode("latin-1")) for n, v in message["headers"]]
        else:
            assert not answer.is_complete
            answer.body += message.get("body", b"")
            answer.is_complete = not message.get("more_body", False)

    await app(make_scope(path, **facts), receive, send)
    return answer


def call(app: Application, path: str = "/", **facts: Any) -> Answer:
    """`ask`, in an event loop of its own."""
    return asyncio.run(ask(app, path, **facts))
