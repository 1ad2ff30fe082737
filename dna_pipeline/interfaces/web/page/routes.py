"""The routes of the page."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException
from starlette.responses import FileResponse

from dna_pipeline.interfaces.web.page.errors import route_class
from dna_pipeline.interfaces.web.page.rendering import ASSETS, asset
from dna_pipeline.interfaces.web.page.views import (
    drop,
    failure,
    gallery,
    models,
    queue,
    result,
)
from dna_pipeline.interfaces.web.site import Site
from dna_pipeline.operations.serving.result_view import VIEWER, viewer_script

_NAMES = frozenset(path.relative_to(ASSETS).as_posix() for path in ASSETS.rglob("*.*"))


def make_router(site: Site) -> APIRouter:
    """Make all routes of the page."""
    router = APIRouter(include_in_schema=False, route_class=route_class(site))
    router.include_router(queue.make_router(site))
    router.include_router(gallery.make_router(site))
    router.include_router(result.make_router(site))
    router.include_router(drop.make_router(site))
    router.include_router(failure.make_router(site))
    router.include_router(models.make_router(site))

    @router.get("/assets/{version}/{name:path}")
    def file(version: str, name: str) -> FileResponse:  # noqa: ARG001  # makes a new address
        if name == VIEWER:
            return asset(name, viewer_script())
        if name not in _NAMES:
            raise HTTPException(404, "there is no such file")
        return asset(name)

    _ = file
    return router
