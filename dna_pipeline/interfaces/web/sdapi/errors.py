"""Errors in the shape of this API: `error`, `detail`, `body`, `errors`."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import Response

from dna_pipeline.base.errors import ConfigError, DiskFull, JobError
from dna_pipeline.config.sentences import shown
from dna_pipeline.interfaces.web import routes
from dna_pipeline.interfaces.web.sdapi.answers import ErrorAnswer
from dna_pipeline.interfaces.web.sdapi.plain_json import Json
from dna_pipeline.interfaces.web.site import Site
from dna_pipeline.interfaces.web.waiting import ClientGone, Held, JobFailed
from dna_pipeline.operations.lookup import sentence
from dna_pipeline.operations.serving.pipelines import NoPipeline
from dna_pipeline.operations.serving.result_files import NoSuchFile
from dna_pipeline.operations.submit import Refused

RETRY_AFTER_S = 30
_FULL = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})
MOST_PROBLEMS = 5
NOT_DONE = "not_implemented"
OUT_OF_MEMORY = "OutOfMemoryError"
"""Code by which programs know that a smaller picture may succeed."""

RESPONSES: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorAnswer, "description": "the body cannot be read"},
    404: {"model": ErrorAnswer, "description": "a sampler, checkpoint or file is not there"},
    409: {"model": ErrorAnswer, "description": "cancelled"},
    422: {"model": ErrorAnswer, "description": "a wrong value, not done here, or the job failed"},
    503: {
        "model": ErrorAnswer,
        "description": "not now: the queue is held, or no daemon runs",
        "headers": {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds"}},
    },
}


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The entries of `RESPONSES` for these statuses, for the OpenAPI document."""
    return {status: RESPONSES[status] for status in statuses}


class Refusal(Exception):
    """A request that cannot be fulfilled as it is.

    Attributes:
        detail: a sentence for people.
        more: a longer one, where `detail` is a word that programs look for.
    """

    def __init__(
        self, detail: str, *, status: int = 422, code: str = "parameter_invalid", more: str = ""
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.more = more


def not_done(detail: str) -> Refusal:
    """The refusal of something that this product does not do."""
    return Refusal(detail, code=NOT_DONE)


def shaped(
    status: int, code: str, detail: str, more: str = "", headers: Mapping[str, str] | None = None
) -> Json:
    """An error as programs of this API read it."""
    body = {"error": code, "detail": detail, "body": "", "errors": more or detail}
    return Json(body, status, headers)


def route_class(site: Site) -> type[APIRoute]:
    """Make the class of routes whose errors have the shape of this API."""
    return routes.route_class(lambda _, error: answer_of(error, site.hide))


def answer_of(error: Exception, hide: Callable[[str], str]) -> Response | None:
    """The answer that an error comes to; None for one that nobody foresaw.

    Args:
        hide: shortens the paths of the server in a text.
    """
    match error:
        case Refusal():
            return shaped(error.status, error.code, error.detail, error.more)
        case RequestValidationError():
            return shaped(422, "parameter_invalid", _wrong_values(error))
        case HTTPException():
            text = str(error.detail)
            return shaped(error.status_code, "HTTPException", text, headers=error.headers)
        case Refused():
            return shaped(422, _code(error.error.code), hide(_of_job(error.error)))
        case JobFailed():
            status = 409 if error.code == "cancelled" else 422
            parts = (error.message, error.detail, error.hint)
            return shaped(status, _code(error.code), hide(_joined(*parts)))
        case Held():
            text = f"{error.detail}; try again later" if error.detail else "the queue is held"
            return _later(error.code, hide(text), error.retry_after_s)
        case ClientGone():
            return Response(status_code=499)  # nobody reads it
        case NoSuchFile():
            return shaped(404, "no_such_file", hide(str(error)))
        case _:
            return _of_surroundings(error, hide)


def _of_surroundings(error: Exception, hide: Callable[[str], str]) -> Response | None:
    """The answer to an error whose cause lies with the machine or its settings."""
    if isinstance(error, NoPipeline):
        return shaped(422, error.code, hide(str(error)))
    if (text := sentence(error)) is None:
        return None
    if isinstance(error, OSError) and error.errno in _FULL:
        return _later(DiskFull.code, hide(text), RETRY_AFTER_S)
    code = "unavailable" if isinstance(error, ConfigError) else "storage_unavailable"
    return _later(code, hide(text), RETRY_AFTER_S)


def _later(code: str, detail: str, after_s: int) -> Json:
    return shaped(503, code, detail, headers={"Retry-After": str(after_s)})


def _code(code: str) -> str:
    return OUT_OF_MEMORY if code == "out_of_memory" else code


def _of_job(error: JobError) -> str:
    return _joined(error.sentence, error.detail, error.hint)


def _joined(*parts: str) -> str:
    return " ".join(part.strip() for part in parts if part.strip())


def _wrong_values(error: RequestValidationError) -> str:
    problems = list(error.errors())
    texts = [_wrong_value(problem) for problem in problems[:MOST_PROBLEMS]]
    left = len(problems) - len(texts)
    return "; ".join(dict.fromkeys(texts)) + (f"; and {left} more" if left > 0 else "")


def _wrong_value(problem: Mapping[str, Any]) -> str:
    place = ".".join(str(part) for part in problem["loc"][1:2])
    text = str(problem["msg"]).replace("Input should", "should").partition(", unable to")[0]
    if problem["type"] == "json_invalid":
        return "the body is no JSON"
    if not place:
        return f"the body: {text}"
    return f"{place[:80]}: {text}, not {shown(problem.get('input'))}"
