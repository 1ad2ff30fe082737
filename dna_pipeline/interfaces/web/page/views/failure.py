"""Failed jobs: what went wrong, their YAML to edit, check and retry; and cancelling of others."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Form, HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.interfaces.web.files import in_file_thread
from dna_pipeline.interfaces.web.page.errors import route_class
from dna_pipeline.interfaces.web.page.rendering import is_part, page
from dna_pipeline.interfaces.web.site import Site
from dna_pipeline.operations.lookup import explain
from dna_pipeline.operations.retry import RetryPlan
from dna_pipeline.operations.serving import failures, jobs

Record = dict[str, Any]


RETRYABLE = ("failed", "cancelled")
"""States of jobs that may be tried again."""


def make_router(site: Site) -> APIRouter:
    """Make the routes of the view."""
    router = APIRouter(route_class=route_class(site))

    # These read and remove files in the outbox, which may not answer.

    @router.get("/results/{job}/retry")
    async def view(job: str) -> HTMLResponse:
        return await in_file_thread(_view, site, job)

    @router.post("/results/{job}/retry")
    async def retry(
        request: Request, job: str, text: str = Form(""), action: str = Form("check")
    ) -> Response:
        return await in_file_thread(_retry, site, request, job, text, action)

    @router.post("/results/{job}/cancel")
    def cancel(request: Request, job: str) -> Response:
        row = _job(site, job)
        jobs.cancel(site.readers, site.submissions, row["id"])
        return _sent_to(request, row)

    _ = (view, retry, cancel)
    return router


def _view(site: Site, job: str) -> HTMLResponse:
    row = _job(site, job)
    return page("retry.html", here="results", job=row["id"], **failure_values(site, row))


def _retry(site: Site, request: Request, job: str, text: str, action: str) -> Response:
    row = _job(site, job)
    answer: Record = {}
    try:
        if action == "retry":
            failures.retry(site.config, site.submissions, row["id"], text)
            return _sent_to(request, row)
        plan = failures.check(site.config, site.submissions, row["id"], text)
        answer = {"plan": _in_words(plan)}
    except (ConfigError, OSError) as error:
        answer = {"problem": explain(row["name"], error)}
        if isinstance(error, OSError) and _job(site, job)["status"] not in RETRYABLE:
            # Its files were taken away meanwhile, by the retry.
            answer = {"problem": "someone else has tried this job again at the same time"}
    values = failure_values(site, _job(site, job), text=text, **answer)
    if is_part(request):  # htmx shows no answer with the status of an error
        return page("parts/failure.html", **values)
    status = 409 if "problem" in answer else 200
    return page("retry.html", status=status, here="results", job=row["id"], **values)


def failure_values(
    site: Site, job: Record, *, text: str | None = None, problem: str = "", plan: str = ""
) -> Record:
    """Collect what `parts/failure.html` shows of a job.

    Args:
        job: as `jobs.read` gives it.
        text: the sidecar as it is edited; None: as it is in the failure folder.
        problem: why the job was not retried.
        plan: what a retry would do.

    Returns:
        `failure`: None for a job that has neither failed nor been cancelled; `cancellable`.
    """
    hide = site.hide
    is_wrong = job["status"] in RETRYABLE
    cancellable = job["id"] if job["status"] in ("queued", "running") else None
    failure = _failure(job) if is_wrong or problem else None
    if failure is not None:
        if text is None and is_wrong:
            text, unread = _text(site, job)
            problem = problem or unread
        failure |= {"text": text or "", "problem": hide(problem), "plan": plan}
        failure |= {key: hide(failure[key]) for key in ("detail", "hint")}
    return {"failure": failure, "cancellable": cancellable, "has_asked": job["cancel_requested"]}


def _failure(job: Record) -> Record:
    error: Record = job["error"] or {}
    stages = {stage["id"] for stage in job["stages"]}
    return {
        "job": job["id"],
        "status": job["status"],
        "may_retry": job["status"] in RETRYABLE,
        "sentence": error.get("message") or f"The job is {job['status']}.",
        "detail": error.get("detail") or "",
        "hint": error.get("hint") or "",
        "code": error.get("code") or "",
        "replace": failures.file_to_replace(error.get("code") or ""),
        "is_retryable": bool(error.get("retryable")),
        "stage": job["stage"] if job["stage"] in stages else "",
        "attempts": job["attempt"],
    }


def _text(site: Site, job: Record) -> tuple[str, str]:
    """The sidecar, and a sentence if it cannot be edited."""
    try:
        return failures.sidecar_text(site.config, site.submissions, job["id"]), ""
    except (ConfigError, OSError) as error:
        return "", explain(job["name"], error)


def _in_words(plan: RetryPlan) -> str:
    stages = ", ".join(stage.id for stage in plan.spec.stages)
    kept = ", ".join(plan.stages)
    return f"It would run {stages}" + (f"; done already and kept: {kept}." if kept else ".")


def _job(site: Site, name: str) -> Record:
    job = jobs.read(site.readers, name)
    if job is None:
        raise HTTPException(404, "there is no such job")
    return job


def _sent_to(request: Request, job: Record) -> Response:
    """Go on to the job's own page."""
    address = f"/results/{job['id']}"
    if "hx-request" in request.headers:
        return Response(status_code=204, headers={"hx-redirect": address})
    return RedirectResponse(address, 303)
