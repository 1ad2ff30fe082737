"""Files of results."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from dna_pipeline.interfaces.web.files import send_file
from dna_pipeline.interfaces.web.site import Site
from dna_pipeline.interfaces.web.v1.errors import PROBLEM, Answers, Tags, answers
from dna_pipeline.interfaces.web.v1.jobs import JobId, read_job

_BYTES = {"schema": {"type": "string", "format": "binary"}}
_FILE: Answers = {
    200: {"description": "The file.", "content": {"*/*": _BYTES}},
    206: {"description": "A part of the file.", "content": {"*/*": _BYTES}},
    304: {"description": "The client has this very file."},
    416: {"description": "The file has no such part.", "content": PROBLEM},
}

_TAGS: Tags = ["files"]


def add_routes(router: APIRouter, site: Site) -> None:
    """Add the route of files."""

    @router.head("/jobs/{job_id}/files/{path:path}", include_in_schema=False)
    @router.get(
        "/jobs/{job_id}/files/{path:path}",
        tags=_TAGS,
        operation_id="get_file",
        response_class=Response,
        responses={**answers(404), **_FILE},
    )
    async def get_file(request: Request, job_id: JobId, path: str) -> Response:
        """Give a file of a job's folder, by its path there: an artifact, `manifest.json`,
        `error.json`, `ERROR.txt`, or what was dropped, below `source/`.

        `Range`, `If-Range` and `If-None-Match` are followed; the entity tag is the SHA-256 of the
        file.
        """
        await site.ask(read_job, site, job_id)
        return await send_file(site, request, job_id, path=path)
