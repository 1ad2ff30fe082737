"""The gallery of results, and the small pictures in it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.interfaces.web import files
from dna_pipeline.interfaces.web.page.errors import route_class
from dna_pipeline.interfaces.web.page.rendering import asset, is_part, page
from dna_pipeline.interfaces.web.site import Site
from dna_pipeline.operations.serving import gallery, thumbnails
from dna_pipeline.operations.serving.gallery import ENDED, PAGE, Filters, GalleryPage, WrongFilter
from dna_pipeline.operations.serving.result_files import NoSuchFile
from dna_pipeline.operations.serving.result_view import SHOWN_TYPES
from dna_pipeline.operations.serving.thumbnails import Thumbnail, ThumbnailRequests

MOST_SHOWN = 600
"""Most results that are shown at once, when somebody comes back to a place far below."""
MAX_ORIGINAL_BYTES = 4 << 20
"""Largest picture that stands in for its own thumbnail."""
_FOR_EVER = {"cache-control": "public, max-age=31536000, immutable"}
_UNTIL_THEN = {"cache-control": "no-cache"}


def filters_of(values: Mapping[str, str]) -> Filters:
    """The filters that an address names."""
    names = ("inbox", "batch", "status", "day", "offset", "q")
    return Filters(**{name: values.get(name, "").strip()[:500] for name in names})


def address(filters: Filters, path: str = "/results", **more: str | int) -> str:
    """The address of a view with these filters."""
    query = urlencode(filters.query | {name: str(value) for name, value in more.items() if value})
    return f"{path}?{query}" if query else path


def make_router(site: Site) -> APIRouter:
    """Make the routes of the view."""
    router = APIRouter(route_class=route_class(site))
    requests = ThumbnailRequests(site.config, site.submissions)

    @router.get("/results")
    def view(request: Request, after: str = "", shown: int = 0, start: str = "") -> HTMLResponse:
        """Answer with the gallery, or with its next cells alone if the page's script asks.

        `after` is the place where they begin; `start` that where the page began which they are
        added to, and `shown` the number of cells that it has then.
        """
        filters = filters_of(request.query_params)
        only_cells = is_part(request)
        number = PAGE if only_cells else min(max(shown, PAGE), MOST_SHOWN)
        try:
            chosen = gallery.read_page(site.readers, filters, after, number)
        except WrongFilter as error:
            empty = GalleryPage((), "", {})
            values = _values(filters, empty) | _choices(site)
            return page("gallery.html", status=400, problem=str(error), **values)
        if only_cells:
            # Whoever comes back to this address sees as much as now, and so the same place.
            headers = {"hx-replace-url": address(filters, after=start, shown=shown)}
            values = _values(filters, chosen, start, shown)
            response = page("parts/cells.html", headers=headers, **values)
        else:
            values = _values(filters, chosen, after, number) | _choices(site)
            response = page("gallery.html", problem=None, **values)
        response.background = BackgroundTask(_ask, requests, chosen.pictures)
        return response

    @router.get("/thumbnails/{job}")
    async def thumbnail(
        request: Request, job: str, v: Annotated[str, Query(max_length=64)] = ""
    ) -> Response:
        """Answer with a result's thumbnail or, until it is there, with what stands in for it."""
        path = await site.ask(thumbnails.kept, site.config, v)
        if path is not None:  # of a picture of that very hash, so it stays
            return FileResponse(path, media_type=thumbnails.MEDIA_TYPE, headers=_FOR_EVER)
        chosen = None
        with suppress(ConfigError):
            chosen = await site.ask(thumbnails.find, site.config, site.readers, job)
        if chosen is None:
            return _icon("picture")
        if chosen.path is not None:
            media_type = thumbnails.MEDIA_TYPE
            return FileResponse(chosen.path, media_type=media_type, headers=_UNTIL_THEN)
        response = await _stand_in(site, request, job, chosen)
        if chosen.sha256:
            response.background = BackgroundTask(_ask, requests, {chosen.sha256: chosen.place})
        return response

    _ = (view, thumbnail)
    return router


def _values(
    filters: Filters, chosen: GalleryPage, start: str = "", shown: int = PAGE
) -> dict[str, Any]:
    more = more_here = ""
    if chosen.after:
        total = min(shown + PAGE, MOST_SHOWN)
        more = address(filters, after=chosen.after)
        more_here = address(filters, after=chosen.after, start=start, shown=total)
    return {
        "filters": filters, "cells": chosen.cells, "more": more, "more_here": more_here,
        "query": urlencode(filters.query), "here": "results",
    }  # fmt: skip


def _choices(site: Site) -> dict[str, Any]:
    names = {inbox.name for inbox in site.config.inboxes} | set(gallery.inboxes(site.readers))
    return {"inboxes": sorted(names), "statuses": ENDED}


def _ask(requests: ThumbnailRequests, pictures: Mapping[str, str]) -> None:
    """Ask for thumbnails; a gallery without them is a gallery still."""
    with suppress(ConfigError, OSError):
        requests.ask(pictures)


async def _stand_in(site: Site, request: Request, job: str, chosen: Thumbnail) -> Response:
    """The picture itself if it is small enough, or else an icon."""
    if not chosen.sha256:
        return _icon(chosen.kind)
    try:
        file = await files.look_up(site, job, role=chosen.role, path=chosen.name)
        if file.media_type not in SHOWN_TYPES or file.bytes > MAX_ORIGINAL_BYTES:
            return _icon(chosen.kind)
        response = await files.respond(site, request, file)
    except NoSuchFile:
        return _icon(chosen.kind)
    response.headers.update(_UNTIL_THEN)
    return response


def _icon(kind: str) -> Response:
    response = asset(f"icons/{kind}.svg")
    response.headers.update(_UNTIL_THEN)
    return response
