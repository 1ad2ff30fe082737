"""`/metrics`: numbers of queue and results for Prometheus, without a daemon too."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import PlainTextResponse

from dna_pipeline.interfaces.web.site import Site
from dna_pipeline.operations.serving.metrics import LedgerMetrics

MEDIA_TYPE = "text/plain; version=0.0.4"


def make_router(site: Site) -> APIRouter:
    """Make the route of the metrics."""
    router = APIRouter()
    metrics = LedgerMetrics(site.config)

    @router.get("/metrics", tags=["service"], summary="Metrics", response_class=PlainTextResponse)
    async def read() -> PlainTextResponse:
        """Numbers of queue and results in the text format of Prometheus."""
        return PlainTextResponse(await site.ask(metrics.text), media_type=MEDIA_TYPE)

    _ = read
    return router
