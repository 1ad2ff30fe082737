"""State of the models, and loading them before a job needs them."""

from __future__ import annotations

import asyncio
from typing import Any

from dna_pipeline import __version__
from dna_pipeline.interfaces.web.old_api.errors import Refusal
from dna_pipeline.interfaces.web.old_api.fields import Fields
from dna_pipeline.interfaces.web.site import Record, Site
from dna_pipeline.interfaces.web.waiting import ClientGone, Held, IsGone, Waited
from dna_pipeline.operations.serving import form_values, model_loads, pipelines
from dna_pipeline.operations.serving.awaited import NO_DAEMON, NO_DAEMON_DETAIL, Obstacle
from dna_pipeline.operations.serving.pipelines import NoPipeline
from dna_pipeline.operations.status import device_of

LOOK_S = 0.25
GONE_EVERY = 4
"""Looks at a request between two at the client that waits for it."""
NAMES = ("model_path", "model", "model_name", "name", "path")
"""Fields in which a client may name a model."""
HOLDS = frozenset({"device_unavailable", "disk_full", "weights_missing"})
"""Codes of what may be mended while the client waits."""


async def health(site: Site) -> Record:
    """`model_loaded`: the weights for pictures are there, and a daemon runs."""
    loaded, daemon = await site.ask(_is_loaded, site, "img2img")
    return {"status": "ok", "model_loaded": loaded, "daemon": daemon, "version": __version__}


async def info(site: Site, kind: str) -> Record:
    """Describe the model for pictures (`img2img`) or meshes (`triposr`)."""
    loaded, _ = await site.ask(_is_loaded, site, kind)
    return {
        "loaded": loaded,
        "model_name": _model_name(site, kind),
        "device": await site.ask(device_of, site.config),
    }


def _is_loaded(site: Site, kind: str) -> tuple[bool, bool]:
    """True if jobs of that kind find their weights and a daemon, and True if there is a daemon."""
    daemon = site.presence.is_here()
    try:
        pipeline = _pipeline(site, kind)
    except NoPipeline:
        return False, daemon
    return daemon and model_loads.missing_weights(site.config, pipeline) is None, daemon


def _pipeline(site: Site, kind: str) -> Any:
    find = pipelines.img2img_pipeline if kind == "img2img" else pipelines.mesh_pipeline
    return find(site.config)


def _model_name(site: Site, kind: str) -> str | None:
    """Name of the model of that stage; None if no pipeline has one."""
    try:
        stage = pipelines.last_stage(_pipeline(site, kind), kind)
    except NoPipeline:
        return None
    return None if stage is None else stage.params.get("model")


# --- loading ---


async def load_model(site: Site, fields: Fields, is_gone: IsGone) -> Record:
    """Load the configured model that a request names, and wait until it is.

    Raises:
        Refusal: no such model is configured, or it cannot be loaded.
        Held: no daemon runs.
    """
    text = next((str(fields[n]) for n in NAMES if not form_values.is_blank(fields.get(n))), "")
    model = await site.ask(model_loads.find_model, site.config, text)
    if model is None:
        names = ", ".join(site.config.models.declared) or "none"
        what = f"no model {text[:100]!r} is configured" if text else "name a model"
        raise Refusal(400, f"{what}; there are: {names}", "unknown_model")
    return _success(model, await _load(site, model, is_gone))


async def load_triposr(site: Site, fields: Fields, is_gone: IsGone) -> Record:
    """Load the model for meshes, and keep a `chunk_size` for the later requests that give none.

    Raises:
        WrongFields: the `chunk_size` cannot be used.
        NoPipeline: no pipeline makes meshes.
        Refusal, Held: as `load_model` does.
    """
    sent = {name: fields[name] for name in ("chunk_size",) if name in fields}
    size = form_values.parameters_of("triposr", sent).get("chunk_size")
    _pipeline(site, "triposr")
    model = _model_name(site, "triposr")
    if model is None:
        raise Refusal(400, "the pipeline for meshes names no model for triposr", "unknown_model")
    loaded = await _load(site, model, is_gone)
    if size is not None:
        await site.ask(model_loads.keep_chunk_size, site.submissions, size)
    else:
        size = await site.ask(model_loads.kept_chunk_size, site.readers)
    return {**_success(model, loaded), "chunk_size": size}


def _success(model: str, row: Record) -> Record:
    return {
        "status": "success",
        "message": f"model {model} is loaded",
        "model_name": model,
        "device": row["device"],
        "loaded": True,
        "seconds": row["seconds"],
    }


async def _load(site: Site, model: str, is_gone: IsGone) -> Record:
    """Ask the daemon to load a model, and wait for the end. Raises `Refusal` or `Held`."""
    if not await site.ask(site.presence.is_here):
        raise Held(Obstacle(NO_DAEMON, NO_DAEMON_DETAIL))
    number = await site.ask(model_loads.request, site.submissions, model)
    waited, looks = Waited(), 0
    while True:
        row = await site.ask(model_loads.state, site.readers, number)
        if row is None or row["state"] in ("done", "failed"):
            return _loaded(site, model, row)
        here = await site.ask(site.presence.is_here)
        obstacle = None if here else Obstacle(NO_DAEMON, NO_DAEMON_DETAIL)
        if obstacle is not None and waited.is_too_long(obstacle):
            await site.ask(model_loads.withdraw, site.submissions, number)
            raise Held(obstacle)
        looks += 1
        if looks % GONE_EVERY == 0 and await is_gone():
            raise ClientGone
        await asyncio.sleep(LOOK_S)


def _loaded(site: Site, model: str, row: Record | None) -> Record:
    """The request of a model that is loaded. Raises `Refusal` if it is not."""
    if row is not None and row["state"] == "done":
        return row
    error: Record = (row or {}).get("error") or {}
    code = error.get("code") or "stage_failed"
    why = " ".join(text for text in (error.get("message"), error.get("detail")) if text)
    text = site.hide(f"model {model!r} could not be loaded: {why or code}")
    raise Refusal(503 if code in HOLDS else 500, text, code)
