"""The view of the queue: what runs, what waits and why, what came out last. It is live."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial

from fastapi import APIRouter
from starlette.responses import HTMLResponse, RedirectResponse, StreamingResponse

from dna_pipeline.interfaces.web.page.live import LiveState
from dna_pipeline.interfaces.web.page.rendering import page, render
from dna_pipeline.interfaces.web.site import Site
from dna_pipeline.operations import control


def make_router(site: Site) -> APIRouter:
    """Make the routes of the view."""
    router = APIRouter()
    live = LiveState(site, partial(render, "parts/state.html"))

    @router.get("/")
    def view() -> HTMLResponse:
        return page("queue.html", state_html=live.html(), here="queue")

    @router.get("/live")
    async def stream() -> StreamingResponse:
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(_events(live), media_type="text/event-stream", headers=headers)

    @router.post("/queue/pause")
    def pause() -> RedirectResponse:
        control.pause(site.config, None)
        return RedirectResponse("/", 303)

    @router.post("/queue/resume")
    def resume() -> RedirectResponse:
        control.resume(site.config, None)
        return RedirectResponse("/", 303)

    _ = (view, stream, pause, resume)
    return router


async def _events(live: LiveState) -> AsyncGenerator[str]:
    async for html in live.changes():
        if html:
            data = "\n".join(f"data: {line}" for line in html.splitlines())
            yield f"event: state\n{data}\n\n"
        else:
            yield ": still there\n\n"
