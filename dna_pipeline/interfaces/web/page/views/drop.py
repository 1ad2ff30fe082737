"""The view on which images are dropped, with a form for the parameters of a pipeline's stages."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import HTMLResponse

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.config.schema import Pipeline
from dna_pipeline.interfaces.web.page.errors import route_class
from dna_pipeline.interfaces.web.page.rendering import is_part, page
from dna_pipeline.interfaces.web.site import Site
from dna_pipeline.operations.serving import jobs, stage_forms
from dna_pipeline.operations.serving.dropped_files import (
    DroppedFile,
    FormDrop,
    Outcome,
    drop,
    problems_by_field,
)
from dna_pipeline.operations.serving.form_values import WrongFields

MIB = 1 << 20
MOST_FIELDS = 500
MOST_FILES = 1000


@dataclass(slots=True)
class _Work:
    """Values of the form: texts and faults of its fields, the prompts that are to be empty, and
    what became of the files."""

    pipeline: Pipeline
    texts: Mapping[str, str] = field(default_factory=dict[str, str])
    emptied: frozenset[str] = frozenset()
    problems: Mapping[str, str] = field(default_factory=dict[str, str])
    outcomes: Sequence[Outcome] | None = None
    sentence: str = ""
    note: str = ""
    is_check: bool = False


def make_router(site: Site) -> APIRouter:
    """Make the routes of the view."""
    router = APIRouter(route_class=route_class(site))
    hide = site.hide

    def answer(request: Request, work: _Work, token: str = "", status: int = 200) -> HTMLResponse:
        values: dict[str, Any] = {
            "work": work,
            "stages": stage_forms.forms_of(site.config, work.pipeline),
            "pipelines": list(site.config.pipelines),
            "token": token or secrets.token_urlsafe(18),
            "hide": hide,
        }
        if is_part(request):  # htmx shows no answer with the status of an error
            return page("parts/drop_answer.html", **values)
        return page("drop.html", status=status, here="drop", **values)

    @router.get("/drop")
    def view(request: Request, pipeline: str = "") -> HTMLResponse:
        source = request.query_params.get("from", "")
        chosen = site.config.pipelines.get(pipeline) or next(iter(site.config.pipelines.values()))
        work = _Work(chosen)
        if pipeline and pipeline != chosen.name:
            work.note = f"pipeline.yaml has no pipeline {pipeline!r} any more."
        if source:
            work = _again(site, source, work)
        return answer(request, work)

    @router.post("/drop")
    async def send(request: Request) -> HTMLResponse:
        limit = site.config.serve.max_upload_mib * MIB
        async with request.form(
            max_files=MOST_FILES, max_fields=MOST_FIELDS, max_part_size=limit
        ) as form:
            work = await site.submit(_sent, site, form)
            token = _texts(form).get("token", "") if work.is_check or work.problems else ""
        is_wrong = bool(work.problems or work.sentence)
        return answer(request, work, token, 422 if is_wrong else 200)

    _ = (view, send)
    return router


def _again(site: Site, source: str, work: _Work) -> _Work:
    """Fill the form with the parameters of an earlier job."""
    job = jobs.read(site.readers, source)
    if job is None:
        work.note = "There is no such job any more, so the form is as the pipeline has it."
        return work
    pipeline = site.config.pipelines.get(job["pipeline"])
    if pipeline is None:
        work.note = f"pipeline.yaml has no pipeline {job['pipeline']!r} any more."
        return work
    texts = stage_forms.changes_of(pipeline, job["stages"])
    note = f"The fields are those of job {job['id'][:8]} ({job['name']})."
    return _Work(pipeline, texts, stage_forms.emptied_in(pipeline, texts), note=note)


def _sent(site: Site, form: FormData) -> _Work:
    """Check or queue what a form has sent."""
    texts = _texts(form)
    pipeline = site.config.pipelines.get(texts.get("pipeline", ""))
    is_check = texts.get("action") != "queue"
    if pipeline is None:
        first = next(iter(site.config.pipelines.values()))
        text = "pipeline.yaml has no such pipeline any more; choose another one."
        return _Work(first, sentence=text, is_check=True)
    work = _Work(pipeline, {k: v for k, v in texts.items() if "." in k and v}, is_check=is_check)
    work.emptied = frozenset(each for each in form.getlist("emptied") if isinstance(each, str))
    try:
        values = stage_forms.values_of(pipeline, work.texts, work.emptied)
    except WrongFields as error:
        work.problems = {each.name: each.text for each in error.problems}
        work.sentence = "Nothing was queued: some fields are wrong; see there."
        return work
    files = [
        DroppedFile(each.filename, each.file)
        for _, each in form.multi_items()
        if isinstance(each, UploadFile) and each.filename
    ]
    if not files:
        work.sentence = "Choose one image or more, or a folder, first."
        return work
    sidecar = stage_forms.to_yaml({"pipeline": pipeline.name, **values})
    request = FormDrop(files, sidecar, pipeline.name, texts.get("token", ""))
    try:
        work.outcomes = drop(site.drops, request, is_check=is_check)
    except ConfigError as error:
        work.sentence = str(error)
        return work
    names = frozenset(
        each.name
        for stage in stage_forms.forms_of(site.config, pipeline)
        for each in (*stage.common, *stage.others)
    )
    work.problems = dict(problems_by_field(work.outcomes, names))
    return work


def _texts(form: FormData) -> dict[str, str]:
    return {name: text for name, text in form.multi_items() if isinstance(text, str)}
