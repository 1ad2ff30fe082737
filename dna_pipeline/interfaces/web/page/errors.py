"""Errors as pages: people get a sentence and a way on, the page's script a plain text."""

from __future__ import annotations

from fastapi import Request, Response
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse

from dna_pipeline.interfaces.web import routes
from dna_pipeline.interfaces.web.page.rendering import is_part, page
from dna_pipeline.interfaces.web.site import Site
from dna_pipeline.operations.lookup import sentence

UNKNOWN = "There is no such page; perhaps the address is not complete."
UNREADABLE = "The address or the form has a value that cannot be meant."

_TITLES = {404: "Not here", 503: "Not at the moment"}
_OTHER_TITLE = "That did not work"
_PROGRAMS = ("/api", "/sdapi", "/controlnet", "/data", "/metrics", "/openapi.json")
"""Paths that programs use, whose errors are in the shape of their API."""


def error_page(status: int, text: str) -> Response:
    """Answer with a page that says what is wrong.

    Args:
        text: a sentence; it must name no path of the server.
    """
    title = _TITLES.get(status, _OTHER_TITLE)
    return page("missing.html", status=status, title=title, text=text, here="")


def wants_page(request: Request) -> bool:
    """True for a browser that shows the answer to a person, and False for programs."""
    path = request.url.path
    is_for_programs = any(path == root or path.startswith(f"{root}/") for root in _PROGRAMS)
    return not is_for_programs and "text/html" in request.headers.get("accept", "")


async def answer_unrouted(request: Request, error: HTTPException) -> Response:
    """Answer for a path or a method that no route has."""
    if not wants_page(request):
        return await http_exception_handler(request, error)
    return error_page(error.status_code, UNKNOWN)


def route_class(site: Site) -> type[APIRoute]:
    """A class of routes that show all foreseen errors to the person who looks."""

    def answer_of(request: Request, error: Exception) -> Response | None:
        if (answer := _status_and_text(error)) is None:
            return None
        status, text = answer
        return _answer(request, status, site.hide(text))

    return routes.route_class(answer_of)


def _status_and_text(error: Exception) -> tuple[int, str] | None:
    """Status and sentence for an error; None for one that nobody has foreseen."""
    if isinstance(error, RequestValidationError):
        return 422, UNREADABLE
    if isinstance(error, HTTPException):
        return error.status_code, str(error.detail)
    if (text := sentence(error)) is None:
        return None
    return 503, text


def _answer(request: Request, status: int, text: str) -> Response:
    return PlainTextResponse(text, status) if is_part(request) else error_page(status, text)
