"""One request with its answer, as it goes through the guard."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import structlog
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from dna_pipeline.interfaces.web.access import Client

if TYPE_CHECKING:
    from dna_pipeline.interfaces.web.guard import Guard

log = structlog.get_logger()

STREAM_RETRY_S = 30
DISCARDED_BYTES = 8 << 20
"""Most bytes of a refused body that are read nevertheless, so that its sender hears why."""

_CODES = {
    303: "login_needed", 400: "request_unreadable", 401: "token_missing", 403: "forbidden",
    408: "body_stalled", 413: "too_large", 421: "unknown_host", 500: "server_failed",
    503: "server_busy",
}  # fmt: skip


class Refusal(HTTPException):
    """A request that is not passed on, or not to its end."""


class Exchange:
    """One request with its answer."""

    __slots__ = (
        "_body_has_ended", "_bytes", "_client", "_guard", "_is_complete", "_is_ended", "_is_gone",
        "_receive", "_received", "_refusal", "_scope", "_send", "_started", "_status", "_task",
        "is_stream",
    )  # fmt: skip

    def __init__(self, guard: Guard, scope: Scope, receive: Receive, send: Send) -> None:
        self._guard = guard
        self._scope = scope
        self._receive = receive
        self._send = send
        self._task: asyncio.Task[Any] | None = asyncio.current_task()
        self._started = time.monotonic()
        self._client: Client | None = None
        self._received = 0
        self._bytes = 0
        self._status = 0
        self._body_has_ended = False
        self._is_complete = False
        self._is_ended = False
        self._is_gone = False
        self._refusal: Refusal | None = None
        self.is_stream = False

    async def run(self) -> None:
        """Check the request, have it answered, and write a line of it to the log."""
        self._guard.exchanges.add(self)
        try:
            await self._pass_on()
            if self._refusal is not None and not self._status:
                await self._refuse(self._refusal)
            elif self._is_ended and self.is_stream and not self._is_complete:
                await self.send({"type": "http.response.body", "body": b""})
        finally:
            self._guard.exchanges.discard(self)
            self._guard.streams -= self.is_stream
            self._log()

    async def _pass_on(self) -> None:
        try:
            headers = Headers(scope=self._scope)
            self._client = client = self._guard.access.client_of(self._scope, headers)
            host = self._guard.check_form(self._scope, headers)
            address = "" if client.address is None else str(client.address)
            own = {"scheme": client.scheme, "client": (address, 0)}
            scope = {**self._scope, **own, "dna.client": client, "dna.host": host}
            enter = self._guard.cors or self._guard.admit
            await enter(scope, self.receive, self.send)
        except Refusal as refusal:
            self._refusal = self._refusal or refusal
        except asyncio.CancelledError:
            if not self._is_ended:
                raise
            assert self._task is not None
            self._task.uncancel()
            self._refusal = Refusal(503, "the server ends", {"retry-after": "10"})
        except ClientDisconnect:
            log.info("request.abandoned", method=self._scope["method"], path=self._path)
        except Exception:
            if self._refusal is None:
                log.exception("request.failed", method=self._scope["method"], path=self._path)
                self._refusal = Refusal(500, "the server failed; its log says why")

    def end(self) -> None:
        """Have the request end soon: with 503, or, if its answer has begun, with what was sent."""
        if self._task is not None and not self._is_ended:
            self._is_ended = True
            self._task.cancel()

    # --- what the application gets for `receive` and `send` ---

    async def receive(self) -> Message:
        """Give the next part of the body. Raises `Refusal` if it is too large or does not come."""
        if self._body_has_ended:
            return await self._receive()
        try:
            async with asyncio.timeout(self._guard.body_wait_s):
                message = await self._receive()
        except TimeoutError:
            text = f"the body did not move for {self._guard.body_wait_s:g} seconds"
            self._refusal = Refusal(408, text)
            raise self._refusal from None
        if message["type"] == "http.request":
            self._received += len(message.get("body", b""))
            self._body_has_ended = not message.get("more_body", False)
            if self._received > self._guard.max_bytes(self._scope):
                self._refusal = self._guard.too_large(self._scope)
                raise self._refusal
        else:
            self._is_gone = True
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the answer, unless the guard gives its own."""
        if self._is_gone or (self._refusal is not None and not self._status):
            return
        if message["type"] == "http.response.start":
            message = self._begun(message)
        elif message["type"] == "http.response.body":
            self._bytes += len(message.get("body", b""))
            self._is_complete = not message.get("more_body", False)
        await self._send(message)

    def _begun(self, message: Message) -> Message:
        """Note the beginning of an answer, and give it with all headers."""
        message = self._guard.add_headers(message)
        if any(_is_event_stream(*header) for header in message["headers"]):
            if self._guard.streams >= self._guard.most_streams:
                retry = {"retry-after": str(STREAM_RETRY_S)}
                self._refusal = Refusal(503, "too many event streams are open", retry)
                raise self._refusal
            self.is_stream = True
            self._guard.streams += 1
            message["headers"].append((b"x-accel-buffering", b"no"))  # nginx would hold events back
        self._status = message["status"]
        return message

    async def _refuse(self, refusal: Refusal) -> None:
        text = {"message": refusal.detail, "detail": refusal.detail, "hint": ""}
        body = json.dumps({"code": _CODES[refusal.status_code], **text}).encode()
        headers = {"content-type": "application/json", "content-length": str(len(body))}
        if not self._is_short():
            headers["connection"] = "close"
        headers |= refusal.headers or {}
        sent = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        start = {"type": "http.response.start", "status": refusal.status_code, "headers": sent}
        self._refusal = None
        if (cors := self._guard.cors) is None:
            await self.send(start)
        else:  # else the script of an allowed page could not read why
            await cors.send(start, self.send, Headers(scope=self._scope))
        await self.send({"type": "http.response.body", "body": body})

    def _is_short(self) -> bool:
        """True if so little of the body is to come that it may be read and dropped."""
        headers = Headers(scope=self._scope)
        length = headers.get("content-length", "0")
        is_declared = "transfer-encoding" not in headers and length.isdecimal()
        return self._body_has_ended or (is_declared and int(length[:20]) <= DISCARDED_BYTES)

    @property
    def _path(self) -> str:
        return self._scope["path"]

    def _log(self) -> None:
        """Write one line about the request. Its query may hold a token, and is left out."""
        address = None if self._client is None else self._client.address
        log.info(
            "request.answered",
            method=self._scope["method"],
            path=self._path,
            status=self._status or None,
            client=None if address is None else str(address),
            received=self._received,
            sent=self._bytes,
            seconds=round(time.monotonic() - self._started, 4),
        )


def _is_event_stream(name: bytes, value: bytes) -> bool:
    return name.lower() == b"content-type" and value.startswith(b"text/event-stream")
