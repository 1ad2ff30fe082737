"""One result: its pictures, film and mesh, how it was made, and its files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from dna_pipeline.interfaces.web.files import in_file_thread, send_file
from dna_pipeline.interfaces.web.page.archives import send_archive
from dna_pipeline.interfaces.web.page.errors import error_page, route_class
from dna_pipeline.interfaces.web.page.rendering import page
from dna_pipeline.interfaces.web.page.views.failure import failure_values
from dna_pipeline.interfaces.web.page.views.gallery import address, filters_of
from dna_pipeline.interfaces.web.site import Site
from dna_pipeline.interfaces.web.texts import hide_in
from dna_pipeline.operations.serving import gallery, result_view
from dna_pipeline.operations.serving.gallery import Filters, Neighbours, WrongFilter
from dna_pipeline.operations.serving.result_files import ListedFile, NoSuchFile
from dna_pipeline.operations.serving.result_view import ResultView

_NOT_IN_PATHS = re.compile(r"[\x00-\x1f\x7f\\]")

GONE = "This result is not here: it was removed, or the address is not complete."


def make_router(site: Site) -> APIRouter:
    """Make the routes of the view."""
    router = APIRouter(route_class=route_class(site))

    @router.get("/results/{job}")
    async def view(request: Request, job: str) -> Response:
        # For a failure it reads the YAML in the outbox, which may not answer.
        return await in_file_thread(_view, site, request, job)

    @router.get("/results/{job}/zip")
    async def archive(job: str) -> Response:
        shown = await site.ask(result_view.read, site.readers, job)
        if shown is None:
            return error_page(404, GONE)
        try:
            return await send_archive(site, shown.job["id"], shown.job["name"])
        except NoSuchFile as error:
            return error_page(404, f"{error}.")

    @router.get("/results/{job}/file")
    @router.get("/results/{job}/files/{path:path}")
    async def file(request: Request, job: str, path: str) -> Response:
        try:
            return await send_file(site, request, job, path=path)
        except NoSuchFile as error:
            return error_page(404, f"{error}.")

    _ = (view, archive, file)
    return router


def _view(site: Site, request: Request, job: str) -> Response:
    shown = result_view.read(site.readers, job)
    if shown is None:
        return error_page(404, GONE)
    filters = filters_of(request.query_params)
    if job != (whole := shown.job["id"]):
        return RedirectResponse(address(filters, f"/results/{whole}"), 307)
    return page("result.html", has_mesh=shown.mesh is not None, **_values(site, shown, filters))


def _values(site: Site, shown: ResultView, filters: Filters) -> dict[str, Any]:
    job, hide = shown.job, site.hide
    try:
        beside = gallery.neighbours(site.readers, filters, job["id"])
    except WrongFilter:
        filters, beside = Filters(), Neighbours(None, None)

    def link(job_id: str | None) -> str:
        return "" if job_id is None else address(filters, f"/results/{job_id}")

    return {
        "view": shown,
        "job": job,
        "stages": [(stage, hide_in(stage.params, hide)) for stage in shown.stages],
        "warnings": hide_in(shown.warnings, hide),
        "meta": hide_in(shown.meta, hide),
        "tags": hide_in(job["tags"], hide),
        "sidecar": hide(shown.sidecar),
        "addresses": _addresses(job["id"], shown.files),
        "newer": link(beside.newer),
        "older": link(beside.older),
        "gallery": address(filters),
        "query": urlencode(filters.query),
        "here": "results",
        **failure_values(site, job),
    }


def _addresses(job_id: str, files: Sequence[ListedFile]) -> dict[str, str]:
    """The addresses of a job's files, by their paths."""
    return {file.path: file_address(job_id, file.path) for file in files}


def file_address(job_id: str, path: str) -> str:
    """The address of a job's file.

    One whose path has characters that no address may have here, such as a backslash, is named in
    the query.
    """
    if _NOT_IN_PATHS.search(path):
        return f"/results/{job_id}/file?{urlencode({'path': path})}"
    return f"/results/{job_id}/files/{quote(path)}"
