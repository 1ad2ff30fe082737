"""Stands before the application: lets requests in, keeps bodies and streams within bounds, and adds
headers to answers.

It knows paths and headers alone, and nothing of jobs. Written for ASGI itself, since middleware
that wraps requests and responses would hold streams back.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dna_pipeline.interfaces.web.access import Access, Client
from dna_pipeline.interfaces.web.exchange import Exchange, Refusal
from dna_pipeline.interfaces.web.names import SAFE_METHODS, ServerNames

BODY_WAIT_S = 30.0
"""Time that a body may stand still."""
MOST_STREAMS = 2000
"""Most event streams that are open at once."""
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
        self.exchanges: set[Exchange] = set()
        self.is_ending = False
        self._app = app
        self._own_headers = _own_headers(is_shared=bool(names.origins))
        self.cors = _cors(self.admit, names) if names.origins else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await Exchange(self, scope, receive, send).run()
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
        host: str = scope["dna.host"]
        if scope["method"] not in SAFE_METHODS and not self.names.may_send(headers, host):
            raise Refusal(
                403,
                "a page of another origin sent this; the environment variable "
                "DNA_CORS_ALLOW_ORIGINS names those that may",
            )
        needs_token = self.names.is_allowed_by_wildcard(headers, host)
        if scope["path"] not in OPEN_PATHS and not self.access.permits(
            scope, headers, client, needs_token=needs_token
        ):
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


def _is_plain_path(path: str) -> bool:
    """False for a path that leads up, or holds what no name here has."""
    if not path.startswith("/") or _CONTROL.search(path):
        return False
    return ".." not in path.split("/")


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
