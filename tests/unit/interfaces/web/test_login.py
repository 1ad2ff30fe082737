"""The page on which people give the token."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from fastapi import FastAPI

from dna_pipeline.config.file_parts import ServeSpec
from dna_pipeline.interfaces.web import login
from dna_pipeline.interfaces.web.access import Access
from dna_pipeline.interfaces.web.guard import Guard
from dna_pipeline.interfaces.web.names import ServerNames
from tests.asgi import Answer, call

TOKEN = "a-token-of-sixteen-signs"
PAGE = [("sec-fetch-site", "same-origin"), ("origin", "http://127.0.0.1:8000")]


@pytest.fixture
def guard() -> Guard:
    access = Access(TOKEN, ServeSpec(), is_loopback=True)
    app = FastAPI(docs_url=None)
    app.include_router(login.make_router(access))

    @app.get("/docs")
    def docs() -> str:
        return "in"

    return Guard(app, access, ServerNames("127.0.0.1"), max_body_mib=1)


def log_in(guard: Guard, token: str, headers: list[tuple[str, str]] = PAGE, **more: str) -> Answer:
    body = urlencode({"token": token, **more}).encode()
    form = [("content-type", "application/x-www-form-urlencoded")]
    return call(guard, "/login", method="POST", headers=[*form, *headers], body=[body])


def test_who_has_the_token_comes_in(guard: Guard):
    answer = log_in(guard, TOKEN, next="/docs?a=1")
    assert (answer.status, answer.header("location")) == (303, "/docs?a=1")
    cookie = (answer.header("set-cookie") or "").partition(";")[0]
    assert call(guard, "/docs").status == 401
    assert call(guard, "/docs", headers=[("cookie", cookie)]).body == b'"in"'


@pytest.mark.parametrize("token", ["", "wrong", TOKEN + " ", TOKEN.upper(), "é" * 20, "x" * 10_000])
def test_who_has_not_stays_out(guard: Guard, token: str):
    answer = log_in(guard, token)
    assert answer.status == 401
    assert answer.header("set-cookie") is None
    assert b"This is not the token." in answer.body


def test_a_page_of_others_cannot_log_anyone_in(guard: Guard):
    assert log_in(guard, TOKEN, [("origin", "http://evil.example")]).status == 403


@pytest.mark.parametrize(
    "target",
    ["//evil.example", "http://evil.example", "javascript:alert(1)", "evil", "/\\evil.example",
     "/a\nb", "\t//evil.example", "", "https:evil.example", "//["],
)  # fmt: skip
def test_nobody_is_led_elsewhere(guard: Guard, target: str):
    assert log_in(guard, TOKEN, next=target).header("location") == "/docs"


def test_the_page_quotes_what_it_was_given(guard: Guard):
    page = call(guard, "/login", query=urlencode({"next": '/"><script>alert(1)</script>'}))
    assert page.status == 200
    assert b"<script" not in page.body
    assert b"style=" not in page.body
    assert call(guard, "/login.css").status == 200


def test_a_logout_ends_it(guard: Guard):
    cookie = (log_in(guard, TOKEN).header("set-cookie") or "").partition(";")[0]
    answer = call(guard, "/logout", method="POST", headers=[*PAGE, ("cookie", cookie)])
    assert answer.status == 303
    assert "Max-Age=0" in (answer.header("set-cookie") or "")
