"""The view of the models: which are there, which are missing and how to get them, and loading."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter, Form, HTTPException, Query
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.interfaces.web.page.errors import route_class
from dna_pipeline.interfaces.web.page.rendering import is_part, page
from dna_pipeline.interfaces.web.site import Site
from dna_pipeline.operations.models.listing import list_models
from dna_pipeline.operations.overview import WorkerModel
from dna_pipeline.operations.serving import model_loads

Record = dict[str, Any]

LoadNumber = Annotated[int | None, Query(ge=0, lt=2**63)]
"""Number of a request to load a model, as the ledger counts them."""


def make_router(site: Site) -> APIRouter:
    """Make the routes of the view."""
    router = APIRouter(route_class=route_class(site))
    hide = site.hide

    def part(load: Record | None) -> HTMLResponse:
        """The answer about one load, with the states of all models, which go to their cards."""
        states, names = _states(site), list(site.config.models)
        return page("parts/load_answer.html", load=load, hide=hide, states=states, names=names)

    @router.get("/models")
    def view(request: Request, load: LoadNumber = None) -> HTMLResponse:
        state = None if load is None else _load(site, load)
        if is_part(request):
            return part(state)
        rows = list_models(site.config)
        return page(
            "models.html", here="models", hide=hide, load=state,
            models=[row for row in rows if row["kind"] == "model"],
            extras=[row for row in rows if row["kind"] != "model"],
            has_daemon=site.presence.is_here(), states=_states(site),
        )  # fmt: skip

    @router.post("/models/load")
    def load(request: Request, model: str = Form()) -> Response:
        if model not in site.config.models:
            raise HTTPException(404, "pipeline.yaml has no such model")
        if not site.presence.is_here():
            raise HTTPException(409, "no daemon runs that could load it; `dna-pipeline watch`")
        number = model_loads.request(site.submissions, model)
        if is_part(request):
            return part(_load(site, number))
        return RedirectResponse(f"/models?load={number}", 303)

    _ = (view, load)
    return router


def _states(site: Site) -> dict[str, list[WorkerModel]]:
    """The models at workers, by their names; those of no worker are left out."""
    states: dict[str, list[WorkerModel]] = {}
    with suppress(ConfigError):
        for model in site.board.overview().models:
            states.setdefault(model.name, []).append(model)
    return states


def _load(site: Site, number: int) -> Record | None:
    """A request to load a model, and whether its end is still to come."""
    if not site.readers.has_ledger() or (state := model_loads.state(site.readers, number)) is None:
        return None
    is_open = state["state"] in ("requested", "taken")
    return state | {"id": number, "is_open": is_open and site.presence.is_here()}
