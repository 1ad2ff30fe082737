"""All routes of `/api/v1`."""

from __future__ import annotations

from fastapi import APIRouter

from dna_pipeline.interfaces.web.site import Site
from dna_pipeline.interfaces.web.v1 import batches, drops, events, files, jobs, overview
from dna_pipeline.interfaces.web.v1.errors import ROOT, route_class


def make_router(site: Site) -> APIRouter:
    """Make the router of this API."""
    router = APIRouter(prefix=ROOT, route_class=route_class(site))
    for part in (drops, jobs, files, events, batches, overview):
        part.add_routes(router, site)
    return router
