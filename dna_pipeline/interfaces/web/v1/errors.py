"""Errors of `/api/v1`, all in one shape."""

from __future__ import annotations

import errno
from collections.abc import Callable, Coroutine
from enum import Enum
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from dna_pipeline.interfaces.web import routes
from dna_pipeline.interfaces.web.site import Site
from dna_pipeline.interfaces.web.v1.models import Problem
from dna_pipeline.operations.lookup import sentence
from dna_pipeline.operations.serving.drops import NoSuchInbox, TokenReused
from dna_pipeline.operations.serving.result_files import NoSuchFile
from dna_pipeline.operations.submit import Refused

ROOT = "/api/v1"
"""Start of all paths of this API."""

Answers = dict[int | str, dict[str, Any]]
Tags = list[str | Enum]
Handler = Callable[[Request, HTTPException], Coroutine[Any, Any, Response]]

# By its name, since FastAPI would make a validator of the model for each error of each route.
PROBLEM = {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}

_MEANINGS = {
    400: "The request cannot be read.",
    401: "The token is missing or wrong.",
    403: "The request may not come from there.",
    404: "There is none of that name.",
    405: "This path has other methods.",
    408: "The body of the request stands still.",
    409: "That cannot be done in the present state.",
    413: "The request is larger than `serve.max_upload_mib` allows.",
    421: "The server does not go by that name.",
    422: "A value of the request is wrong.",
    503: "The ledger or a disk cannot be used at the moment, or too many streams are open.",
}
_ALWAYS = (400, 401, 403, 421, 422, 503)
_CODES = {
    400: "request_unreadable", 401: "token_missing", 403: "forbidden", 404: "not_found",
    405: "method_not_allowed", 413: "too_large", 415: "request_unreadable", 422: "request_invalid",
}  # fmt: skip
_FULL = (errno.ENOSPC, errno.EDQUOT)
RETRY_AFTER_S = 5


class ApiError(Exception):
    """An error with its answer."""

    def __init__(
        self, status: int, code: str, message: str, detail: str = "", hint: str = ""
    ) -> None:
        super().__init__(message)
        self.status = status
        self.problem = Problem(code=code, message=message, detail=detail, hint=hint)


def not_found(what: str, name: str) -> ApiError:
    """Error of a path that names something that is not there."""
    return ApiError(404, f"unknown_{what}", f"There is no {what} {name!r}.")


def answers(*statuses: int) -> Answers:
    """Declare the errors that a route answers with, besides those that each may have."""
    return {
        status: {"description": _MEANINGS[status], "content": PROBLEM}
        for status in sorted({*_ALWAYS, *statuses})
    }


def route_class(site: Site) -> type[APIRoute]:
    """A class of routes that put all foreseen errors into the shape of this API."""
    return routes.route_class(lambda _, error: answer_of(error, site))


def add_handlers(app: FastAPI, site: Site, others: Handler = http_exception_handler) -> None:
    """Put the errors of paths and methods that no route has into the shape of this API, too.

    Args:
        others: answers those of paths that are not below `ROOT`.
    """

    async def handle(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        path = request.url.path
        if path == ROOT or path.startswith(f"{ROOT}/"):
            return _of_http(error, site)
        return await others(request, error)

    app.add_exception_handler(HTTPException, handle)


def answer_of(error: Exception, site: Site) -> Response | None:
    """The answer for an error; None for one that nobody has foreseen."""
    if isinstance(error, ApiError):
        return _answer(error.status, error.problem, site)
    if isinstance(error, Refused):
        failure = error.error.failure()
        return _answer(422, Problem.model_validate(failure.to_dict()), site)
    if isinstance(error, RequestValidationError):
        return _answer(422, _invalid(error), site)
    if isinstance(error, HTTPException):
        return _of_http(error, site)
    for kind, status, code in _KINDS:
        if isinstance(error, kind):
            return _answer(status, Problem(code=code, message=str(error)), site)
    return _unavailable(error, site)


_KINDS: tuple[tuple[type[Exception], int, str], ...] = (
    (NoSuchFile, 404, "unknown_file"),
    (NoSuchInbox, 404, "unknown_inbox"),
    (TokenReused, 409, "token_reused"),
)


def _unavailable(error: Exception, site: Site) -> Response | None:
    """The answer for an error of the ledger or of a disk."""
    if (text := sentence(error)) is None:
        return None
    code = "ledger_unavailable"
    if isinstance(error, OSError):
        code = "disk_full" if error.errno in _FULL else "disk_unavailable"
    message = "The server cannot do this at the moment; try again later."
    return _answer(503, Problem(code=code, message=message, detail=text), site)


def _of_http(error: HTTPException, site: Site) -> Response:
    status = 400 if error.status_code == 415 else error.status_code
    code = _CODES.get(status, "request_invalid")
    message = _MEANINGS.get(status, "The request cannot be answered.")
    problem = Problem(code=code, message=message, detail=str(error.detail))
    answer = _answer(status, problem, site)
    answer.headers.update(error.headers or {})
    return answer


def _invalid(error: RequestValidationError) -> Problem:
    """Say what is wrong with which values of a request."""
    texts = [
        f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}"
        for each in error.errors()[:20]
    ]
    return Problem(code="request_invalid", message=_MEANINGS[422], detail="; ".join(texts))


def _answer(status: int, problem: Problem, site: Site) -> Response:
    shown = {name: site.hide(text) for name, text in problem.model_dump().items()}
    headers = {"retry-after": str(RETRY_AFTER_S)} if status == 503 else None
    return JSONResponse(shown, status, headers)
