"""Drops: images that clients send."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, File, Form, Path, Response, UploadFile

from dna_pipeline.interfaces.web.site import Site
from dna_pipeline.interfaces.web.v1 import models
from dna_pipeline.interfaces.web.v1.errors import Answers, Tags, answers, not_found
from dna_pipeline.interfaces.web.v1.shapes import Shapes, job_url
from dna_pipeline.operations.serving.drops import (
    DropRequest,
    PlannedDrop,
    QueuedDrop,
    Upload,
)

MOST_SHOWN = 1000
_TOKEN = "^[A-Za-z0-9._~-]{1,128}$"
_TAGS: Tags = ["drops"]

_ERRORS = answers(404, 408, 409, 413)
_ANSWERS: Answers = {
    **_ERRORS,
    200: {"model": models.DropPlan, "description": "With `dry_run`: what would be made."},
}

Images = Annotated[
    list[UploadFile],
    File(min_length=1, description="one image, or several that get the same settings"),
]
Mask = Annotated[UploadFile | None, File(description="the mask of the one image")]
Sidecar = Annotated[
    str,
    Form(description="YAML or JSON with the keys of a sidecar; `matrix` and `count` make a batch"),
]
PipelineName = Annotated[str | None, Form(description="takes the place of the sidecar's")]
Token = Annotated[
    str | None,
    Form(
        pattern=_TOKEN,
        description="drawn anew for each drop; a request that is sent again with the same token "
        "makes nothing new",
    ),
]
DryRun = Annotated[bool, Form(description="check, and say what would be made; queue nothing")]


def add_routes(router: APIRouter, site: Site) -> None:
    """Add the routes of drops."""
    shapes = Shapes(site.hide)

    def answer(
        request: DropRequest, response: Response, *, dry_run: bool
    ) -> models.Drop | Response:
        if dry_run:
            plan = _plan(shapes, site.drops.check(request))
            return Response(plan.model_dump_json(), media_type="application/json")
        drop = site.drops.queue(request)
        site.board.forget()
        if len(drop.jobs) == 1:
            response.headers["location"] = job_url(drop.jobs[0].id)
        return _drop(drop)

    @router.post(
        "/drops",
        status_code=201,
        tags=_TAGS,
        operation_id="drop",
        response_model=models.Drop,
        responses=_ANSWERS,
    )
    async def drop(
        response: Response,
        image: Images,
        mask: Mask = None,
        sidecar: Sidecar = "",
        pipeline: PipelineName = None,
        client_token: Token = None,
        dry_run: DryRun = False,
    ) -> models.Drop | Response:
        """Queue images, with the pipeline that `pipeline` or the sidecar names, or else the first
        one. All of them are queued, or none; images and jobs are durable before the answer."""
        request = DropRequest(
            _uploads(image), mask and mask.file, sidecar, pipeline, None, client_token
        )
        return await site.submit(answer, request, response, dry_run=dry_run)

    @router.post(
        "/inboxes/{name}/drops",
        status_code=201,
        tags=_TAGS,
        operation_id="drop_into_inbox",
        response_model=models.Drop,
        responses=_ANSWERS,
    )
    async def drop_into_inbox(
        response: Response,
        name: Annotated[str, Path(description="name of the inbox")],
        image: Images,
        mask: Mask = None,
        sidecar: Sidecar = "",
        pipeline: PipelineName = None,
        client_token: Token = None,
        dry_run: DryRun = False,
    ) -> models.Drop | Response:
        """Queue images under the name of an inbox, with its pipeline, its defaults and its hours.
        They never lie in its folder; the originals come into the folders of the results."""
        request = DropRequest(
            _uploads(image), mask and mask.file, sidecar, pipeline, name, client_token
        )
        return await site.submit(answer, request, response, dry_run=dry_run)

    @router.get(
        "/drops/{client_token}", tags=_TAGS, operation_id="find_drop", responses=answers(404)
    )
    def find_drop(client_token: Annotated[str, Path(pattern=_TOKEN)]) -> models.Drop:
        """Find what a drop with this token has made, as after an answer that was lost."""
        if (earlier := site.drops.find(client_token)) is None:
            raise not_found("drop", client_token)
        return _drop(earlier)


def _uploads(images: Sequence[UploadFile]) -> list[Upload]:
    return [Upload(image.filename or "image.png", image.file) for image in images]


def _drop(drop: QueuedDrop) -> models.Drop:
    shown = [
        models.DropJob(id=job.id, name=job.name, batch=job.batch, url=job_url(job.id))
        for job in drop.jobs
    ]
    batches = dict.fromkeys(job.batch for job in drop.jobs if job.batch is not None)
    return models.Drop(jobs=shown, batches=list(batches), is_new=drop.is_new)


def _plan(shapes: Shapes, plan: PlannedDrop) -> models.DropPlan:
    seconds = [job.seconds for job in plan.jobs if job.seconds is not None]
    return models.DropPlan(
        jobs=[shapes.planned(job) for job in plan.jobs[:MOST_SHOWN]],
        total=len(plan.jobs),
        seconds=round(sum(seconds), 1) if len(seconds) == len(plan.jobs) else None,
        queue_seconds=plan.queue_s,
    )
