"""Answers of endpoints that cannot do what they are asked: `{"detail": …}`, as FastAPI does."""

from __future__ import annotations

import errno
from typing import Any

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from dna_pipeline.base.errors import JobError
from dna_pipeline.interfaces.web.routes import route_class
from dna_pipeline.interfaces.web.site import Site
from dna_pipeline.interfaces.web.texts import Hide
from dna_pipeline.interfaces.web.waiting import ClientGone, Held, JobFailed
from dna_pipeline.operations.lookup import sentence
from dna_pipeline.operations.serving.form_values import WrongFields
from dna_pipeline.operations.serving.pipelines import NoPipeline
from dna_pipeline.operations.serving.result_files import NoSuchFile
from dna_pipeline.operations.submit import Refused

log = structlog.get_logger()

CLIENT_GONE = 499
"""Status for the log alone: nobody gets the answer."""
LEDGER_RETRY_AFTER_S = 5

IMAGE_CODES = frozenset({"image_unreadable", "image_too_small", "image_too_large"})
INPUT_CODES = frozenset(
    {
        "background_not_plain", "content_filtered", "empty_foreground", "empty_mesh",
        "mask_mismatch", "mask_missing", "mask_unreadable", "no_effective_steps",
        "parameter_invalid", "path_escapes_inbox", "sidecar_invalid", "unknown_model",
    }
)  # fmt: skip
"""Codes of failures that another image or other parameters would not have."""


class Refusal(Exception):
    """An answer other than a success.

    Attributes:
        detail: a sentence, or FastAPI's list of wrong fields.
        extra: further keys of the answer.
    """

    def __init__(
        self,
        status: int,
        detail: str | list[dict[str, Any]],
        code: str = "",
        *,
        headers: dict[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(str(detail))
        self.status = status
        self.detail = detail
        self.headers = headers
        self.extra = ({"code": code} if code else {}) | extra

    def body(self) -> dict[str, Any]:
        return {"detail": self.detail, **self.extra}


def field_refusal(name: str, text: str, kind: str = "value_error") -> Refusal:
    """The answer for a wrong field."""
    return Refusal(422, [_field(name, text, kind)], "parameter_invalid")


def _field(name: str, text: str, kind: str) -> dict[str, Any]:
    return {"type": kind, "loc": ["body", *([name] if name else [])], "msg": text}


def refusal_of(error: Exception, hide: Hide) -> Refusal | None:
    """The answer for an error, as far as it is known; None for one that nobody foresaw."""
    match error:
        case Refusal():
            return error
        case WrongFields():
            details = [_field(each.name, each.text, "value_error") for each in error.problems]
            return Refusal(422, details, "parameter_invalid")
        case Held():
            return _of_hold(error, hide)
        case JobFailed():
            return _of_failure(error, hide)
        case NoPipeline():
            return Refusal(400, str(error), error.code)
        case NoSuchFile():
            return Refusal(404, hide(str(error)), "no_such_file")
        case Refused():
            return _of_refused(error, hide)
        case ClientGone() | ClientDisconnect():
            return Refusal(CLIENT_GONE, "the client has gone away")
        case _:
            return _of_trouble(error, hide)


def _of_trouble(error: Exception, hide: Hide) -> Refusal | None:
    """The answer for an error of the server's disk or ledger."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _later("the disk of the data folder is full", "disk_full")
    if (text := sentence(error)) is None:
        return None
    # A sentence for the person at the server, which may name its files.
    log.error("request.failed", why=text)
    return _later(hide(text), "ledger_unavailable")


def _of_hold(error: Held, hide: Hide) -> Refusal:
    headers = {"Retry-After": str(error.retry_after_s)}
    return Refusal(503, hide(held_text(error)), error.code, headers=headers, job_id=error.job)


def held_text(error: Held) -> str:
    """A sentence about why a job does not go on, and what became of it."""
    reason = error.detail or f"the queue is held ({error.code})"
    if error.job is None:
        return reason
    what = "is done as soon as that has ended" if error.goes_on else "was withdrawn; send it again"
    return f"{reason}; job {error.job[:8]} {what}"


def _of_failure(error: JobFailed, hide: Hide) -> Refusal:
    if error.code in IMAGE_CODES:
        status = 400
    elif error.code in INPUT_CODES:
        status = 422
    else:
        status = 409 if error.code == "cancelled" else 500
    return Refusal(status, hide(failure_text(error)), error.code, job_id=error.job)


def failure_text(error: JobFailed) -> str:
    """The sentences about a failure: what to do, and what happened."""
    return " ".join(text for text in (error.message, error.detail, error.hint) if text)


def _of_refused(error: Refused, hide: Hide) -> Refusal:
    cause = error.error
    if cause.code in IMAGE_CODES:
        text = " ".join(part for part in (cause.sentence, cause.detail, cause.hint) if part)
        return Refusal(400, hide(text), cause.code)
    return Refusal(422, [_field("", hide(_without_place(cause)), "value_error")], cause.code)


def refused_field(error: Refused, name: str, hide: Hide) -> Refusal:
    """The answer for a field that was refused only when its job was planned."""
    return Refusal(
        422, [_field(name, hide(_without_place(error.error)), "value_error")], error.error.code
    )


def _without_place(cause: JobError) -> str:
    """Say what is wrong, without the key, which the place of a field says, and without the general
    sentence, which is for people with files."""
    detail = cause.detail.removeprefix(f"{cause.where}: ")
    return " ".join(part for part in (detail or cause.sentence, cause.hint) if part)


def _later(text: str, code: str) -> Refusal:
    headers = {"Retry-After": str(LEDGER_RETRY_AFTER_S)}
    return Refusal(503, text, code, headers=headers)


def response_of(refusal: Refusal) -> Response:
    return JSONResponse(encodable(refusal.body()), refusal.status, refusal.headers)


def encodable(value: Any) -> Any:
    """The value with characters that UTF-8 cannot hold written as escapes: clients may send them,
    and messages repeat them."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {encodable(key): encodable(each) for key, each in value.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, list):
        return [encodable(each) for each in value]  # pyright: ignore[reportUnknownVariableType]
    return value


def _answer_of(request: Request, error: Exception) -> Response | None:
    site: Site = request.app.state.site
    refusal = refusal_of(error, site.hide)
    return None if refusal is None else response_of(refusal)


OldRoute = route_class(_answer_of)
"""A route that answers known errors in the shape of the old API."""
