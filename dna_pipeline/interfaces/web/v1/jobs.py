"""Jobs: lists, one of them, and requests for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response

from dna_pipeline.base.layout import is_id
from dna_pipeline.interfaces.web.site import Site
from dna_pipeline.interfaces.web.v1 import models
from dna_pipeline.interfaces.web.v1.errors import ApiError, Tags, answers, not_found
from dna_pipeline.interfaces.web.v1.shapes import Shapes, json_answer
from dna_pipeline.operations import control
from dna_pipeline.operations.serving.submissions import NotRetried

MAX_SEQ = 2**63 - 1
# Of another form there is no job, which is answered with 404 like any other that is not there.
_ID = Path(description="32 hexadecimal digits", json_schema_extra={"pattern": "^[0-9a-f]{32}$"})
JobId = Annotated[str, _ID]
BatchId = Annotated[str, _ID]
Limit = Annotated[int, Query(ge=1, le=500, description="most entries of a page")]
Before = Annotated[int | None, Query(ge=0, le=MAX_SEQ, description="`next` of the page before")]
Stem = Annotated[
    str | None,
    Query(description="name of the image without its ending; of those directly in `inbox`"),
]
_TAGS: Tags = ["jobs"]


def add_routes(router: APIRouter, site: Site) -> None:
    """Add the routes of jobs."""
    shapes = Shapes(site.hide)

    @router.get(
        "/jobs",
        tags=_TAGS,
        operation_id="list_jobs",
        response_model=models.Jobs,
        responses=answers(),
    )
    def list_jobs(
        status: models.Status | None = None,
        inbox: str | None = None,
        batch: str | None = None,
        stem: Stem = None,
        limit: Limit = 50,
        before: Before = None,
    ) -> Response:
        """List jobs, the newest first."""
        if stem is not None and inbox is None:
            raise ApiError(422, "request_invalid", "`stem` needs an `inbox`, too.")
        with site.readers.lend() as queries:
            rows = queries.page(
                status=status,
                inbox=inbox,
                batch=batch,
                stem=stem,
                before=before,
                limit=limit + 1,
            )
            rest, rows = rows[limit:], rows[:limit]
            running = [row["id"] for row in rows if row["status"] == "running"]
            progress = queries.last_progress(running)
            done = [row["id"] for row in rows if row["status"] == "completed"]
            warnings = queries.warning_counts(done)
        shown = shapes.jobs(rows, progress, warnings)
        return json_answer(models.Jobs(jobs=shown, next=rows[-1]["seq"] if rest else None))

    @router.get("/jobs/{job_id}", tags=_TAGS, operation_id="get_job", responses=answers(404))
    def get_job(job_id: JobId) -> models.JobDetail:
        """Show all about one job."""
        return shapes.job(*read_job(site, job_id))

    @router.post(
        "/jobs/{job_id}/cancel", tags=_TAGS, operation_id="cancel_job",
        responses=answers(404, 409),
    )  # fmt: skip
    def cancel_job(job_id: JobId) -> models.JobDetail:
        """Cancel a job: a queued one at once, a running one at its next step."""
        job, _ = read_job(site, job_id)
        before = control.cancel(site.config, [job["id"]], None)[job["id"]]
        if before not in ("queued", "running"):
            raise ApiError(409, "job_ended", f"The job is {before} already.")
        site.board.forget()
        return shapes.job(*read_job(site, job_id))

    @router.post(
        "/jobs/{job_id}/retry", tags=_TAGS, operation_id="retry_job", responses=answers(404, 409)
    )
    def retry_job(job_id: JobId) -> models.JobDetail:
        """Queue a failed or cancelled job again, under its id. The files in its failure folder
        count as they are now; stages that had finished are not run again."""
        job, _ = read_job(site, job_id)
        try:
            site.submissions.retry(job["id"])
        except NotRetried as error:
            raise ApiError(
                409, "not_retried", "The job cannot be tried again.", site.hide(str(error))
            ) from None
        site.board.forget()
        return shapes.job(*read_job(site, job_id))


def read_job(site: Site, job_id: str) -> tuple[dict[str, Any], Mapping[str, Any] | None]:
    """Read a job with its drop, stages and files, and the data of its last event of progress.

    Raises:
        ApiError: there is none.
    """
    with site.readers.lend() as queries:
        if not is_id(job_id) or queries.find(job_id) != job_id:
            raise not_found("job", job_id)
        return queries.job(job_id), queries.last_progress([job_id]).get(job_id)
