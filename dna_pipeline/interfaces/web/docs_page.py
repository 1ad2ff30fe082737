"""`/docs`: the API as a page, from files of this package alone."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, HTTPException
from starlette.responses import FileResponse

ASSETS = Path(__file__).parent / "assets"

_TYPES = {
    "docs.css": "text/css",
    "docs.js": "text/javascript",
    "swagger-ui/favicon-32x32.png": "image/png",
    "swagger-ui/swagger-ui-bundle.js": "text/javascript",
    "swagger-ui/swagger-ui.css": "text/css",
}
"""The files of the page. Types are named, since those of a system may be wrong."""


def make_router() -> APIRouter:
    """Make the routes of the page and its files."""
    router = APIRouter(include_in_schema=False)

    @router.get("/docs")
    def page() -> FileResponse:
        return asset("docs.html", "text/html")

    @router.get("/docs/{name:path}")
    def file(name: str) -> FileResponse:
        if name not in _TYPES:
            raise HTTPException(404, "there is no such file")
        return asset(name, _TYPES[name])

    _ = (page, file)
    return router


def asset(name: str, media_type: str) -> FileResponse:
    """Answer with a file of this package, which a browser keeps and asks for again."""
    return FileResponse(ASSETS / name, media_type=media_type, headers={"cache-control": "no-cache"})
