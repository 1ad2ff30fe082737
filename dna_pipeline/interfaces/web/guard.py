"""Stands before the application: lets requests in, keeps bodies and streams within bounds, and adds
headers to answers.

It knows paths and headers alone, and nothing of jobs. Written for ASGI itself, since middleware
that wraps requests and responses would hold streams back.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

import structlog
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dna_pipeline.interfaces.web.access import Access, Client
from dna_pipeline.interfaces.web.names import SAFE_METHODS, ServerNames

log = structlog.get_logger()

BODY_WAIT_S = 30.0
"""Time that a body may stand still."""
MOST_STREAMS = 2000
"""Most event streams that are open at once."""
STREAM_RETRY_S = 30
DISCARDED_BYTES = 8 << 20
"""Most bytes of a refused body that are read nevertheless, so that its sender hears why."""
END_GRACE_S = 2.0
"""Time that requests have to end by themselves when the server ends."""

OPEN_PATHS = frozenset({"/login", "/login.css"})
"""Paths for those who have not come in yet."""
OPEN_BYTES = 16 << 10
"""Largest body that they may send."""

MIB = 1 << 20

_CONTROL = re.compile(r"[\x00-\x1f\x7f\\]")

_CSP = (
    "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
_CORS_HEADERS = ("Authorization", "Content-Type", "If-None-Match", "Last-Event-ID", "Range")
_CORS_EXPOSED = (
    "Accept-Ranges", "Content-Disposition", "Content-Length", "Content-Range", "ETag", "Location",
    "Retry-After",
)  # fmt: skip


class Refusal(HTTPException):
    """A request that is not passed on, or not to its end."""


class Guard:
    """The application with all that is checked before it.

    Args:
        app: the application.
        max_body_mib: largest body of a request.
    """

    def __init__(
        self,
        app: ASGIApp,
        access: Access,
        names: ServerNames,
        *,
        max_body_mib: int,
        most_streams: int = MOST_STREAMS,
        body_wait_s: float = BODY_WAIT_S,
    ) -> None:
        self.access = access
        self.names = names
        self.max_body_mib = max_body_mib
        self.most_streams = most_streams
        self.body_wait_s = body_wait_s
        self.streams = 0
        """Number of open event streams."""
        self.exchanges: set[_Exchange] = set()
        self.is_ending = False
        self._app = app
        self._own_headers = _own_headers(is_shared=bool(names.origins))
        self.cors = _cors(self.admit, names) if names.origins else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await _Exchange(self, scope, receive, send).run()
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._app(scope, receive, send)

    def end(self, grace_s: float = END_GRACE_S) -> None:
        """End all event streams now, and what else is open after a while. Called by the event
        loop."""
        self.is_ending = True
        for exchange in list(self.exchanges):
            if exchange.is_stream:
                exchange.end()
        asyncio.get_running_loop().call_later(grace_s, self._end_all)

    def _end_all(self) -> None:
        for exchange in list(self.exchanges):
            exchange.end()

    # --- the checks ---

    def check_form(self, scope: Scope, headers: Headers) -> str:
        """Check what is the same for all senders: size, name and path; give the header `Host`."""
        length = headers.get("content-length")
        if length is not None and (not length.isdecimal() or not length.isascii()):
            raise Refusal(400, "the header Content-Length is no number")
        if length is not None and int(length[:20]) > self.max_bytes(scope):
            raise self.too_large(scope)
        host = self.names.host_of(headers)
        if host is None:
            raise Refusal(400, "the header Host is missing or malformed")
        if not self.names.is_ours(host, scope):
            raise Refusal(
                421,
                "this server does not go by that name; if it should, add the name to serve.hosts "
                "in pipeline.yaml",
            )
        if not _is_plain_path(scope["path"]):
            raise Refusal(400, "there is no such path")
        return host

    async def admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check who sends the request, and pass it on to the application."""
        headers = Headers(scope=scope)
        client: Client = scope["dna.client"]
        if scope["method"] not in SAFE_METHODS and not self.names.may_send(
            headers, scope["dna.host"]
        ):
            raise Refusal(
                403,
                "a page of another origin sent this; the environment variable "
                "DNA_CORS_ALLOW_ORIGINS names those that may",
            )
        if scope["path"] not in OPEN_PATHS and not self.access.permits(scope, headers, client):
            raise self._unknown(scope, headers)
        await self._app(scope, receive, send)

    def _unknown(self, scope: Scope, headers: Headers) -> Refusal:
        """The answer to a sender that may not come in."""
        if not self.access.has_token:
            text = "this address may not use the server; serve.networks in pipeline.yaml says which"
            return Refusal(403, text)
        is_page = scope["method"] == "GET" and "text/html" in headers.get("accept", "")
        if is_page:
            query = scope["query_string"].decode("latin-1")
            there = f"{scope['path']}?{query}" if query else scope["path"]
            return Refusal(303, "log in", {"location": f"/login?next={quote(there, safe='')}"})
        # To scripts of pages no Basic, or the browser would ask people for a name and a password.
        ways = ["Bearer"] if "sec-fetch-mode" in headers else ["Bearer", "Basic"]
        challenge = ", ".join(f'{way} realm="dna-pipeline"' for way in ways)
        text = "a token is needed: `Authorization: Bearer …`, or Basic with it as the password"
        return Refusal(401, text, {"www-authenticate": challenge})

    def max_bytes(self, scope: Scope) -> int:
        """Largest body of such a request."""
        return OPEN_BYTES if scope["path"] in OPEN_PATHS else self.max_body_mib * MIB

    def too_large(self, scope: Scope) -> Refusal:
        """The answer to a body that is larger."""
        if scope["path"] in OPEN_PATHS:
            return Refusal(413, "the body is too large")
        return Refusal(
            413,
            f"the body is larger than {self.max_body_mib} MiB, the most that serve.max_upload_mib "
            "in pipeline.yaml allows",
        )

    def add_headers(self, message: Message) -> Message:
        """Add the headers that an answer lacks."""
        sent = list(message.get("headers", ()))
        names = {name.lower() for name, _ in sent}
        sent += [(name, value) for name, value in self._own_headers if name not in names]
        return {**message, "headers": sent}


class _Exchange:
    """One request with its answer."""

    __slots__ = (
        "_body_has_ended", "_bytes", "_client", "_guard", "_is_complete", "_is_ended", "_receive",
        "_received", "_refusal", "_scope", "_send", "_started", "_status", "_task", "is_stream",
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
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the answer, unless the guard gives its own."""
        if self._refusal is not None and not self._status:
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
        body = json.dumps({"detail": refusal.detail}).encode()
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


def _is_plain_path(path: str) -> bool:
    """False for a path that leads up, or holds what no name here has."""
    if not path.startswith("/") or _CONTROL.search(path):
        return False
    return ".." not in path.split("/")


def _is_event_stream(name: bytes, value: bytes) -> bool:
    return name.lower() == b"content-type" and value.startswith(b"text/event-stream")


def _own_headers(*, is_shared: bool) -> list[tuple[bytes, bytes]]:
    """Headers of each answer that does not set them itself.

    `Referrer-Policy` is not `no-referrer`: browsers would send `Origin: null` with forms then.
    """
    headers = {
        "x-content-type-options": "nosniff",
        "content-security-policy": _CSP,
        "referrer-policy": "same-origin",
        "cross-origin-resource-policy": "cross-origin" if is_shared else "same-origin",
        "cache-control": "no-store",
    }
    return [(name.encode(), value.encode()) for name, value in headers.items()]


def _cors(app: ASGIApp, names: ServerNames) -> CORSMiddleware:
    methods = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
    return CORSMiddleware(
        app,
        allow_origins=_as_origins(names.origins),
        allow_methods=methods,
        allow_headers=_CORS_HEADERS,
        allow_credentials="*" not in names.origins,
        allow_private_network=True,
        expose_headers=_CORS_EXPOSED,
    )


def _as_origins(origins: Iterable[str]) -> list[str]:
    return ["*"] if "*" in origins else sorted(origins)
