"""The view of the queue: what runs, what waits and why, what came out last. It is live."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import Literal

from fastapi import APIRouter, HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.config.schema import Config
from dna_pipeline.interfaces.web.page.errors import route_class
from dna_pipeline.interfaces.web.page.live import LiveState
from dna_pipeline.interfaces.web.page.rendering import is_part, page, render
from dna_pipeline.interfaces.web.site import Site
from dna_pipeline.operations import control
from dna_pipeline.operations.serving import jobs


def make_router(site: Site) -> APIRouter:
    """Make the routes of the view."""
    router = APIRouter(route_class=route_class(site))
    live = LiveState(site, partial(render, "parts/state.html"))

    @router.get("/")
    def view() -> HTMLResponse:
        return page("queue.html", state_html=live.html(), here="queue")

    @router.get("/live")
    async def stream() -> StreamingResponse:
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(_events(live), media_type="text/event-stream", headers=headers)

    _add_changes(router, site, live)
    _ = (view, stream)
    return router


def _add_changes(router: APIRouter, site: Site, live: LiveState) -> None:
    """Add the routes of the buttons."""

    def changed(request: Request, problem: ConfigError | None = None) -> Response:
        """The state after a button was pressed: in place, or as the whole page."""
        live.forget()
        if is_part(request):
            if problem is None:
                return HTMLResponse(live.read_html(), headers={"cache-control": "no-store"})
            return Response(str(problem), 409, media_type="text/plain")
        if problem is not None:
            raise HTTPException(409, str(problem))
        return RedirectResponse("/", 303)

    @router.post("/queue/{change}")
    def queue(request: Request, change: Literal["pause", "resume"]) -> Response:
        _CHANGES[change](site.config, None)
        return changed(request)

    @router.post("/batches/{batch}/{change}")
    def batch(
        request: Request, batch: str, change: Literal["pause", "resume", "cancel"]
    ) -> Response:
        try:
            _CHANGES[change](site.config, batch)
        except ConfigError as error:
            return changed(request, error)
        return changed(request)

    @router.post("/jobs/{job}/cancel")
    def cancel(request: Request, job: str) -> Response:
        if jobs.cancel(site.readers, site.submissions, job) is None:
            return changed(request, ConfigError("there is no such job"))
        return changed(request)

    _ = (queue, batch, cancel)


_CHANGES: dict[str, Callable[[Config, str | None], object]] = {
    "pause": control.pause, "resume": control.resume,
    "cancel": lambda config, batch: control.cancel(config, (), batch),
}  # fmt: skip


async def _events(live: LiveState) -> AsyncGenerator[str]:
    async for html in live.changes():
        if html:
            data = "\n".join(f"data: {line}" for line in html.splitlines())
            yield f"event: state\n{data}\n\n"
        else:
            yield ": still there\n\n"
