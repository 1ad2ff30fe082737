"""The endpoints of the old API."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from dna_pipeline.interfaces.web import waiting
from dna_pipeline.interfaces.web.files import send_file
from dna_pipeline.interfaces.web.old_api import answers, loading, streams
from dna_pipeline.interfaces.web.old_api.errors import OldRoute, Refusal
from dna_pipeline.interfaces.web.old_api.fields import fields_of
from dna_pipeline.interfaces.web.old_api.requests import Accepted, submit
from dna_pipeline.interfaces.web.site import Record, Site
from dna_pipeline.operations.serving import jobs, old_names


def make_router(site: Site) -> APIRouter:
    """Make the routes of the old API for a site."""
    router = APIRouter(route_class=OldRoute, include_in_schema=False)
    _add_models(router, site)
    _add_waiting(router, site)
    _add_jobs(router, site)
    _add_files(router, site)
    return router


def _add_models(router: APIRouter, site: Site) -> None:
    @router.get("/api/health")
    async def health() -> Record:
        return await loading.health(site)

    @router.get("/api/model/info")
    async def model_info() -> Record:
        return await loading.info(site, "img2img")

    @router.get("/api/triposr/info")
    async def triposr_info() -> Record:
        return await loading.info(site, "triposr")

    @router.post("/api/model/load")
    async def load_model(request: Request) -> Record:
        async with fields_of(request, site) as fields:
            return await loading.load_model(site, fields, request.is_disconnected)

    @router.post("/api/triposr/load")
    async def load_triposr(request: Request) -> Record:
        async with fields_of(request, site) as fields:
            return await loading.load_triposr(site, fields, request.is_disconnected)


def _add_waiting(router: APIRouter, site: Site) -> None:
    async def result(request: Request, kind: str) -> Response:
        async with fields_of(request, site) as fields:
            accepted = await submit(site, kind, fields, waits=True)
        ended = await waiting.result_of(site, accepted.job, request.is_disconnected)
        return JSONResponse(await answers.result_answer(site, ended.job, kind, accepted.remarks))

    @router.post("/api/img2img")
    async def img2img(request: Request) -> Response:
        return await result(request, "img2img")

    @router.post("/api/img2img/base64")
    async def img2img_base64(request: Request) -> Response:
        return await result(request, "img2img")

    @router.post("/api/triposr")
    async def triposr(request: Request) -> Response:
        return await result(request, "triposr")

    @router.post("/api/img2img/stream")
    async def img2img_stream(request: Request) -> Response:
        async with fields_of(request, site) as fields:
            accepted = await submit(site, "img2img", fields, waits=True)
        return streams.stream(streams.img2img_events(site, accepted))


def _add_jobs(router: APIRouter, site: Site) -> None:
    async def queue(request: Request, kind: str) -> Record:
        async with fields_of(request, site) as fields:
            return _queued(await submit(site, kind, fields, waits=False))

    @router.post("/api/jobs/img2img")
    async def queue_img2img(request: Request) -> Record:
        return await queue(request, "img2img")

    @router.post("/api/jobs/triposr")
    async def queue_triposr(request: Request) -> Record:
        return await queue(request, "triposr")

    @router.get("/api/jobs/{job_id}")
    async def job_state(job_id: str) -> Response:
        job = await _read(site, job_id)
        return JSONResponse(await answers.job_answer(site, job))

    @router.get("/api/jobs/{job_id}/events")
    async def job_events(request: Request, job_id: str) -> Response:
        job = await _read(site, job_id)
        after = _number(request.headers.get("last-event-id"))
        if after and await site.ask(streams.is_read, site, job, after):
            return Response(status_code=204)  # tells an EventSource not to connect again
        return streams.stream(streams.job_events(site, job, after))

    @router.post("/api/jobs/{job_id}/cancel")
    async def cancel_job(job_id: str) -> Record:
        job = await site.ask(jobs.cancel, site.readers, site.submissions, job_id)
        if job is None:
            raise _no_job(job_id)
        body = {"job_id": job["id"], "status": job["status"]}
        return body | {"cancel_requested": job["cancel_requested"] or job["status"] == "cancelled"}


def _add_files(router: APIRouter, site: Site) -> None:
    @router.api_route("/data/output/{name}", methods=["GET", "HEAD"])
    async def output(request: Request, name: str) -> Response:
        job_id, path = await site.ask(_find_file, site, name)
        return await send_file(site, request, job_id, path=path)


def _queued(accepted: Accepted) -> Record:
    body: dict[str, Any] = {"job_id": accepted.job, "status": "queued"}
    return body | ({"warnings": accepted.remarks} if accepted.remarks else {})


async def _read(site: Site, name: str) -> Record:
    """Read a job. Raises `Refusal` if there is none."""
    if (job := await site.ask(jobs.read, site.readers, name)) is None:
        raise _no_job(name)
    return job


def _no_job(name: str) -> Refusal:
    return Refusal(404, f"there is no job {name[:32]!r}", "no_such_job")


def _find_file(site: Site, name: str) -> tuple[str, str]:
    with site.readers.lend() as queries:
        return old_names.find(queries, name)


def _number(text: str | None) -> int:
    """The number of an event; 0 for anything else."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else 0
