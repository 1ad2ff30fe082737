"""Answers with the files of results: ranges, types, and nothing that a browser would run."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from hashlib import sha256
from io import BufferedReader
from typing import Any, TypeVar

import anyio
from anyio import CapacityLimiter
from anyio.lowlevel import RunVar
from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from dna_pipeline.interfaces.web.site import Site
from dna_pipeline.interfaces.web.texts import Hide, hide_in
from dna_pipeline.operations.serving.result_files import (
    ERROR_TEXT,
    REPORTS,
    ResultFile,
    find_file,
)

T = TypeVar("T")

INLINE = frozenset(
    {
        "application/json", "image/jpeg", "image/png", "image/webp", "model/gltf-binary",
        "video/mp4",
    }
)  # fmt: skip
"""Types that a browser may show by itself; it saves all others. None of these can hold a script."""

MOST_AT_ONCE = 16
"""Most files that are looked for at once. An outbox on a dead mount blocks that many threads, and
none of those that other requests need."""
MAX_REPORT_BYTES = 16 << 20
"""Size of a report from which it is sent as it is."""

_turns: RunVar[CapacityLimiter] = RunVar("result_file_turns")


async def send_file(
    site: Site, request: Request, job_id: str, *, role: str | None = None, path: str | None = None
) -> Response:
    """Answer with a file of a job, by its role or by its path in the job's folder.

    Raises:
        NoSuchFile: there is none; see `find_file`.
        ConfigError: there is no ledger, or it cannot be read.
    """
    return await respond(site, request, await look_up(site, job_id, role=role, path=path))


async def look_up(
    site: Site, job_id: str, *, role: str | None = None, path: str | None = None
) -> ResultFile:
    """Find a file of a job, as `find_file` does, in a thread of its own kind. Raises as that."""

    def find() -> ResultFile:
        with site.readers.lend() as queries:
            return find_file(site.config, queries, job_id, role=role, path=path)

    return await run_sync(find, limiter=_limiter())


async def respond(site: Site, request: Request, file: ResultFile) -> Response:
    """Answer a request for a file that was found, with its part that the request asks for.

    Raises:
        NoSuchFile: it went meanwhile.
    """
    if file.role in REPORTS and file.bytes <= MAX_REPORT_BYTES:
        data = await run_sync(_read_report, file, site.hide, limiter=_limiter())
        if data is not None:
            return _with_headers(Response(data, media_type=file.media_type), file, _tag(data))
    response = _FileResponse(file)
    if _is_unchanged(request, response.headers["etag"]):
        kept = {name: response.headers[name] for name in ("etag", "last-modified")}
        return Response(status_code=304, headers=kept)
    return response


def report_without_paths(site: Site, file: ResultFile) -> bytes | None:
    """The content of a report with the paths of the server shortened; None for other files, and for
    a report that names none. Reads the file."""
    if file.role not in REPORTS or file.bytes > MAX_REPORT_BYTES:
        return None
    return _read_report(file, site.hide)


async def in_file_thread(question: Callable[..., T], *args: Any) -> T:
    """Call what may wait for the outbox, without end if that is on a dead mount."""
    return await run_sync(partial(question, *args), limiter=_limiter())


def _limiter() -> CapacityLimiter:
    try:
        return _turns.get()
    except LookupError:
        _turns.set(limiter := CapacityLimiter(MOST_AT_ONCE))
        return limiter


def _read_report(file: ResultFile, hide: Hide) -> bytes | None:
    """Read a report and shorten the paths of the server in it; None if it names none."""
    data = file.read()
    if file.role == ERROR_TEXT:
        return _if_other(data, hide(data.decode("utf-8", "replace")).encode())
    try:
        report: Any = json.loads(data)
    except ValueError:
        return None
    if (short := hide_in(report, hide)) == report:
        return None
    return (json.dumps(short, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "replace")


def _if_other(before: bytes, after: bytes) -> bytes | None:
    return after if after != before else None


def _tag(data: bytes) -> str:
    return sha256(data).hexdigest()


def _is_unchanged(request: Request, tag: str) -> bool:
    """True if the client has these very bytes already."""
    named = request.headers.get("if-none-match", "").split(",")
    tags = [part.strip().removeprefix("W/") for part in named]
    return tag in tags or tags == ["*"]


def _with_headers(response: Response, file: ResultFile, tag: str) -> Response:
    """Add what keeps a browser from taking the file for something else."""
    if tag:
        response.headers["etag"] = f'"{tag}"'
    response.headers["x-content-type-options"] = "nosniff"
    response.headers["content-security-policy"] = "default-src 'none'; sandbox"
    response.headers.setdefault("content-disposition", _disposition(file))
    return response


def _disposition(file: ResultFile) -> str:
    """Say what to do with the file, and its name: a plain one, then the true one (RFC 6266)."""
    response = FileResponse(
        "", filename=file.name, content_disposition_type=_disposition_type(file)
    )
    return response.headers["content-disposition"]


def _disposition_type(file: ResultFile) -> str:
    return "inline" if file.media_type in INLINE else "attachment"


class _FileResponse(FileResponse):
    """A response from a file that is opened as `find_file` opens it, not by its path alone."""

    def __init__(self, file: ResultFile) -> None:
        super().__init__(
            file.path, media_type=file.media_type, filename=file.name, stat_result=file.stat,
            content_disposition_type=_disposition_type(file),
        )  # fmt: skip
        self._file = file
        _with_headers(self, file, file.sha256)

    @asynccontextmanager
    async def _open_file(self) -> AsyncGenerator[anyio.AsyncFile[bytes]]:
        opened = await run_sync(self._file.open, limiter=_limiter())
        with BufferedReader(opened) as reader:  # which gives as much as it is asked for
            yield anyio.wrap_file(reader)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file; a range that it does not have is answered as other errors are."""
        refusal: list[Message] = []

        async def forward(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] in _REFUSALS:
                refusal.append(message)
            elif not refusal:
                await send(message)

        await super().__call__(scope, receive, forward)
        if refusal:
            await self._refuse(refusal[0]["status"])(scope, receive, send)

    def _refuse(self, status: int) -> Response:
        body = {"code": "range_invalid", "message": _REFUSALS[status], "detail": "", "hint": ""}
        size = {"content-range": f"bytes */{self._file.bytes}"} if status == 416 else None
        return JSONResponse(body, status, size)


_REFUSALS = {
    400: "The header Range cannot be read; it should be like bytes=0-1023.",
    416: "The file has no bytes there; the header Content-Range says how many it has.",
}
