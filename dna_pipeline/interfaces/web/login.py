"""The page on which people give the token once, so that their browser may come in afterwards."""

from __future__ import annotations

from html import escape
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse
from starlette.responses import Response

from dna_pipeline.interfaces.web.access import Access
from dna_pipeline.interfaces.web.docs_page import asset

START = "/docs"
"""The page that people see after a login, unless they came for another one."""

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Log in · dna-pipeline</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/login.css">
<main>
<h1>dna-pipeline</h1>
<form method="post" action="/login">
<label for="token">Token of this server</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<input name="next" type="hidden" value="{next}">
{problem}<button>Log in</button>
</form>
</main>
</html>
"""
_WRONG = '<p role="alert">This is not the token.</p>\n'


def make_router(access: Access) -> APIRouter:
    """Make the routes of logging in and out."""
    router = APIRouter(include_in_schema=False)

    @router.get("/login")
    def page(next: str = START) -> HTMLResponse:  # noqa: A002  # the name in the address
        return _page(next)

    @router.post("/login")
    def login(
        request: Request,
        token: Annotated[str, Form()] = "",
        next: Annotated[str, Form()] = START,  # noqa: A002
    ) -> Response:
        if not access.is_token(token):
            return _page(next, _WRONG, 401)
        response = RedirectResponse(_local(next), 303)
        response.headers["set-cookie"] = access.login_cookie(request.scope, request.url.scheme)
        return response

    @router.post("/logout")
    def logout(request: Request) -> Response:
        response = RedirectResponse("/login", 303)
        response.headers["set-cookie"] = access.logout_cookie(request.scope, request.url.scheme)
        return response

    @router.get("/login.css")
    def style() -> FileResponse:
        return asset("login.css", "text/css")

    # Annotations are texts here, so the router cannot see that these are used.
    _ = (page, login, logout, style)
    return router


def _page(target: str, problem: str = "", status: int = 200) -> HTMLResponse:
    return HTMLResponse(_PAGE.format(next=escape(_local(target)), problem=problem), status)


def _local(target: str) -> str:
    """A path of this server; the start for an address elsewhere, which a link could smuggle in."""
    is_local = target.startswith("/") and not target.startswith("//")
    return target if is_local and target.isprintable() and "\\" not in target else START
