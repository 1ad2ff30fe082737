"""What comes through to the application, and what its answers are given."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog
from fastapi import FastAPI, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from dna_pipeline.config.file_parts import ServeSpec
from dna_pipeline.interfaces.web.access import Access
from dna_pipeline.interfaces.web.guard import MIB, Guard
from dna_pipeline.interfaces.web.names import ServerNames
from tests.asgi import Answer, ask, call, make_scope

TOKEN = "a-token-of-sixteen-signs"
BEARER = ("authorization", f"Bearer {TOKEN}")


class Inner:
    """An application that says what it got."""

    def __init__(self) -> None:
        self.app = FastAPI()
        self.calls: list[dict[str, Any]] = []
        self.streams_ended = 0
        self.waiting = asyncio.Event()

        @self.app.api_route("/echo", methods=["GET", "POST", "PUT", "DELETE", "PATCH"])
        async def echo(request: Request) -> Response:
            self.calls.append({"client": request.client, "scheme": request.url.scheme})
            return JSONResponse({"bytes": len(await request.body())})

        @self.app.post("/json")
        async def parse(value: dict[str, Any]) -> dict[str, Any]:
            return value

        @self.app.get("/own")
        def own() -> Response:
            headers = {"cache-control": "max-age=60", "content-security-policy": "sandbox"}
            return Response("", headers=headers)

        @self.app.get("/fail")
        def fail() -> None:
            raise RuntimeError("at /srv/secret/place")

        @self.app.get("/wait")
        async def wait() -> None:
            self.waiting.set()
            await asyncio.Event().wait()

        @self.app.get("/api/jobs/1/events")
        def events() -> StreamingResponse:
            return StreamingResponse(self.events(), media_type="text/event-stream")

    async def events(self) -> AsyncIterator[str]:
        try:
            yield "data: 1\n\n"
            self.waiting.set()
            await asyncio.Event().wait()
        finally:
            self.streams_ended += 1

    def guard(
        self, token: str | None = None, origins: tuple[str, ...] = (), **options: Any
    ) -> Guard:
        spec = ServeSpec(networks=options.pop("networks", []), proxies=["10.0.0.1"])
        access = Access(token, spec, is_loopback=options.pop("is_loopback", True))
        names = ServerNames("127.0.0.1", [], origins)
        return Guard(self.app, access, names, **{"max_body_mib": 1} | options)


@pytest.fixture
def inner() -> Inner:
    return Inner()


def post(guard: Guard, path: str = "/echo", **facts: Any) -> Answer:
    return call(guard, path, method="POST", **facts)


# --- the order and the answers ---


def test_a_request_comes_through_with_its_body(inner: Inner):
    answer = post(inner.guard(), body=[b"abc", b"def"])
    assert (answer.status, answer.body) == (200, b'{"bytes":6}')


@pytest.mark.parametrize(
    ("facts", "status", "says"),
    [
        ({"headers": [("content-length", "1048577")]}, 413, "larger than 1 MiB"),
        ({"headers": [("content-length", "9" * 400)]}, 413, "larger than 1 MiB"),
        ({"headers": [("content-length", "-1")]}, 400, "no number"),
        ({"headers": [("content-length", "1e3")]}, 400, "no number"),
        ({"headers": [("content-length", "²")]}, 400, "no number"),
        ({"headers": [("content-length", "1048577")], "host": "evil.example"}, 413, "larger"),
        ({"host": "evil.example"}, 421, "serve.hosts"),
        ({"host": None}, 400, "Host"),
        ({"host": "a b"}, 400, "Host"),
        ({"host": "evil.example", "headers": [("origin", "http://evil.example")]}, 421, "name"),
        ({"headers": [("origin", "http://evil.example")]}, 403, "another origin"),
        ({"headers": [("sec-fetch-site", "cross-site")]}, 403, "another origin"),
        ({"headers": [("origin", "http://evil.example"), BEARER]}, 403, "another origin"),
        ({}, 401, "token"),
        ({"headers": [("authorization", "Bearer wrong")]}, 401, "token"),
    ],
)
def test_a_wrong_request_is_answered_and_goes_no_further(
    inner: Inner, facts: dict[str, Any], status: int, says: str
):
    answer = post(inner.guard(TOKEN), **facts)
    assert answer.status == status
    assert says in answer.detail
    assert answer.header("content-type") == "application/json"
    assert inner.calls == []


@pytest.mark.parametrize(
    "path",
    ["*", "echo", "/../echo", "/a/../echo", "/echo/..", "/echo\x00", "/a\nb", "/..\\echo", "",
     "http://evil.example/echo"],
)  # fmt: skip
def test_a_path_with_tricks_is_refused(inner: Inner, path: str):
    answer = call(inner.guard(), path)
    assert answer.status == 400
    assert answer.detail == "there is no such path"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "QUERY", "post", "X"])
def test_whatever_may_change_something_needs_an_origin(inner: Inner, method: str):
    headers = [("origin", "http://evil.example")]
    assert call(inner.guard(), "/echo", method=method, headers=headers).status == 403


def test_reading_needs_no_origin(inner: Inner):
    headers = [("origin", "http://evil.example"), ("sec-fetch-site", "cross-site")]
    answer = call(inner.guard(), "/echo", headers=headers)
    assert answer.status == 200
    assert answer.header("access-control-allow-origin") is None


def test_the_token_lets_in(inner: Inner):
    assert post(inner.guard(TOKEN), headers=[BEARER]).status == 200


def test_who_is_in_no_network_hears_of_no_token(inner: Inner):
    guard = inner.guard(is_loopback=False, networks=["192.168.1.0/24"])
    assert post(guard, client="192.168.1.9").status == 200
    answer = post(guard, client="192.168.2.9")
    assert (answer.status, answer.header("www-authenticate")) == (403, None)
    assert "serve.networks" in answer.detail


def test_a_program_hears_of_basic_and_a_script_of_a_page_does_not(inner: Inner):
    challenge = post(inner.guard(TOKEN)).header("www-authenticate")
    assert challenge == 'Bearer realm="dna-pipeline", Basic realm="dna-pipeline"'
    fetch = [("sec-fetch-mode", "cors"), ("sec-fetch-site", "same-origin")]
    challenge = post(inner.guard(TOKEN), headers=fetch).header("www-authenticate")
    assert challenge == 'Bearer realm="dna-pipeline"'


def test_people_are_led_to_the_login(inner: Inner):
    headers = [("accept", "text/html,*/*;q=0.8")]
    answer = call(inner.guard(TOKEN), "/echo", query="a=1&b=2", headers=headers)
    assert answer.status == 303
    assert answer.header("location") == "/login?next=%2Fecho%3Fa%3D1%26b%3D2"
    assert post(inner.guard(TOKEN), headers=headers).status == 401


def test_the_application_gets_the_true_client(inner: Inner):
    headers = [("x-forwarded-for", "10.7.7.7, 203.0.113.9"), ("x-forwarded-proto", "https")]
    guard = inner.guard(is_loopback=False, networks=["203.0.113.0/24"])
    assert post(guard, client="10.0.0.1", headers=headers).status == 200
    assert inner.calls == [{"client": ("203.0.113.9", 0), "scheme": "https"}]
    assert post(guard, client="10.0.0.2", headers=headers).status == 403


# --- bodies ---


def test_a_body_is_counted_too(inner: Inner):
    part = b"x" * (MIB // 2)
    assert post(inner.guard(), body=[part, part]).status == 200
    answer = post(inner.guard(), body=[part, part, b"x", part])
    assert answer.status == 413
    assert answer.header("connection") is None  # the end of it was declared to be near


def test_a_connection_ends_with_a_body_that_may_not(inner: Inner):
    chunked = [("transfer-encoding", "chunked")]
    part = b"x" * MIB
    answer = post(inner.guard(), body=[part, part, part], headers=chunked)
    assert (answer.status, answer.header("connection")) == (413, "close")
    large = [("content-length", str(1 << 30))]
    assert post(inner.guard(), headers=large).header("connection") == "close"
    small = [("content-length", "100"), ("sec-fetch-site", "cross-site")]
    assert post(inner.guard(), headers=small).header("connection") is None


@pytest.mark.parametrize("path", ["/echo", "/json"])
def test_a_body_that_does_not_move_is_given_up(inner: Inner, path: str):
    headers = [("content-type", "application/json"), ("content-length", "9")]
    guard = inner.guard(body_wait_s=0.01)
    answer = post(guard, path, body=[b"{", None], headers=headers)
    assert answer.status == 408
    assert "did not move for 0.01 seconds" in answer.detail


def test_who_has_not_come_in_may_send_little(inner: Inner):
    answer = post(inner.guard(TOKEN), "/login", body=[b"x" * 17_000])
    assert answer.status == 404  # there is no such page in this application, which reads nothing
    answer = post(inner.guard(TOKEN), "/login", headers=[("content-length", "17000")])
    assert answer.status == 413


# --- headers ---


def test_answers_are_given_what_keeps_browsers_careful(inner: Inner):
    answer = call(inner.guard(), "/echo")
    assert answer.header("x-content-type-options") == "nosniff"
    assert answer.header("cache-control") == "no-store"
    assert answer.header("referrer-policy") == "same-origin"
    assert answer.header("cross-origin-resource-policy") == "same-origin"
    policy = answer.header("content-security-policy") or ""
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy


def test_refusals_are_given_them_too(inner: Inner):
    assert call(inner.guard(TOKEN), "/echo").header("x-content-type-options") == "nosniff"


def test_what_the_application_sets_stays(inner: Inner):
    answer = call(inner.guard(), "/own")
    assert answer.header("cache-control") == "max-age=60"
    assert answer.header("content-security-policy") == "sandbox"


def test_a_failure_says_nothing_of_the_inside(inner: Inner):
    with structlog.testing.capture_logs() as logs:
        answer = call(inner.guard(), "/fail")
    assert answer.status == 500
    assert b"secret" not in answer.body
    assert [entry["event"] for entry in logs] == ["request.failed", "request.answered"]


# --- other origins ---


ORIGIN = "http://localhost:3000"


def test_a_page_of_an_allowed_origin_may_send_and_read(inner: Inner):
    guard = inner.guard(TOKEN, (ORIGIN,))
    page = [("origin", ORIGIN), ("sec-fetch-site", "same-site")]
    answer = post(guard, headers=[*page, BEARER])
    assert answer.status == 200
    assert answer.header("access-control-allow-origin") == ORIGIN
    assert answer.header("access-control-allow-credentials") == "true"
    assert answer.header("cross-origin-resource-policy") == "cross-origin"


def test_a_page_that_nobody_named_needs_the_token_in_every_network(inner: Inner):
    guard = inner.guard(TOKEN, ("*", "https://tools.example"), networks=["127.0.0.0/8"])
    page = [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")]
    assert post(guard, headers=page).status == 401
    assert call(guard, "/own", headers=page).status == 401
    assert post(guard, headers=[*page, BEARER]).status == 200
    assert post(guard, headers=[("origin", "https://tools.example")]).status == 200
    assert post(guard, headers=[]).status == 200  # a program


def test_it_can_read_why_it_was_refused(inner: Inner):
    answer = post(inner.guard(TOKEN, (ORIGIN,)), headers=[("origin", ORIGIN)])
    assert (answer.status, answer.header("access-control-allow-origin")) == (401, ORIGIN)


def test_a_browser_may_ask_first_without_a_token(inner: Inner):
    guard = inner.guard(TOKEN, (ORIGIN,))
    asks = [("access-control-request-method", "POST"),
            ("access-control-request-headers", "authorization, content-type")]  # fmt: skip
    answer = call(guard, "/echo", method="OPTIONS", headers=[("origin", ORIGIN), *asks])
    assert answer.status == 200
    assert "POST" in (answer.header("access-control-allow-methods") or "")
    evil = call(guard, "/echo", method="OPTIONS", headers=[("origin", "http://e.example"), *asks])
    assert (evil.status, evil.header("access-control-allow-origin")) == (400, None)
    assert inner.calls == []


def test_without_allowed_origins_nothing_is_shared(inner: Inner):
    headers = [("origin", ORIGIN), ("access-control-request-method", "POST")]
    answer = call(inner.guard(), "/echo", method="OPTIONS", headers=headers)
    assert (answer.status, answer.header("access-control-allow-origin")) == (405, None)


# --- streams, and the end ---


def test_event_streams_are_bounded(inner: Inner):
    async def scenario() -> None:
        guard = inner.guard(most_streams=2)
        path = "/api/jobs/1/events"
        open_streams = [asyncio.create_task(ask(guard, path, body=[b""])) for _ in range(2)]
        while guard.streams < 2:
            await asyncio.sleep(0)
        refused = await ask(guard, path)
        assert (refused.status, refused.header("retry-after")) == (503, "30")
        assert (await ask(guard, "/echo")).status == 200
        guard.end(grace_s=0)
        answers = await asyncio.gather(*open_streams)
        assert [(each.status, each.body, each.is_complete) for each in answers] == [
            (200, b"data: 1\n\n", True)
        ] * 2
        assert answers[0].header("x-accel-buffering") == "no"
        assert guard.streams == 0
        assert not guard.exchanges

    asyncio.run(scenario())


def test_requests_that_wait_are_told_of_the_end(inner: Inner):
    async def scenario() -> Answer:
        guard = inner.guard()
        waiting = asyncio.create_task(ask(guard, "/wait"))
        await inner.waiting.wait()
        guard.end(grace_s=0)
        return await waiting

    answer = asyncio.run(scenario())
    assert (answer.status, answer.header("retry-after")) == (503, "10")
    assert answer.detail == "the server ends"


def test_a_client_that_goes_away_ends_its_stream(inner: Inner):
    async def scenario() -> None:
        guard = inner.guard()
        task = asyncio.create_task(ask(guard, "/api/jobs/1/events", body=[b""]))
        await inner.waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert guard.streams == 0

    asyncio.run(scenario())


def test_websockets_are_closed(inner: Inner):
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    asyncio.run(inner.guard()({"type": "websocket", "path": "/"}, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]


# --- the log ---


def test_each_request_is_one_line_without_its_query(inner: Inner):
    with structlog.testing.capture_logs() as logs:
        call(
            inner.guard(TOKEN),
            "/api/jobs/1/x/events",
            query=f"token={TOKEN}",
            headers=[("referer", f"http://localhost/?token={TOKEN}"), BEARER],
        )
        post(inner.guard(TOKEN), headers=[("authorization", "Bearer attempt")])
    assert TOKEN not in json.dumps(logs)
    assert "attempt" not in json.dumps(logs)
    first, second = logs
    assert first["event"] == "request.answered"
    assert (first["method"], first["path"], first["status"]) == (
        "GET", "/api/jobs/1/x/events", 404,
    )  # fmt: skip
    assert (second["status"], second["client"]) == (401, "127.0.0.1")


def test_a_client_that_goes_away_while_it_sends_is_no_failure(inner: Inner):
    messages: list[Any] = [
        {"type": "http.request", "body": b"abc", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        raise AssertionError(message)

    with structlog.testing.capture_logs() as logs:
        asyncio.run(inner.guard()(make_scope("/echo", method="POST"), receive, send))
    assert [entry["event"] for entry in logs] == ["request.abandoned", "request.answered"]
    assert logs[1]["status"] is None
