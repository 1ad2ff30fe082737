"""Daemon and queue, models, pipelines and inboxes."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from functools import cache
from typing import Any

from fastapi import APIRouter, Response

from dna_pipeline import __version__
from dna_pipeline.interfaces.web.site import Site
from dna_pipeline.interfaces.web.texts import hide_in
from dna_pipeline.interfaces.web.v1 import models
from dna_pipeline.interfaces.web.v1.errors import ROOT, Tags, answers
from dna_pipeline.interfaces.web.v1.shapes import Shapes, job_url, json_answer
from dna_pipeline.operations import control
from dna_pipeline.operations.overview import Overview
from dna_pipeline.operations.serving.board import list_pipelines

_QUEUE: Tags = ["queue"]
_SETUP: Tags = ["set-up"]


def add_routes(router: APIRouter, site: Site) -> None:
    """Add the routes of what is no job."""
    shapes = Shapes(site.hide)

    @router.get(
        "/status",
        tags=_QUEUE,
        operation_id="get_status",
        response_model=models.SiteStatus,
        responses=answers(),
    )
    def get_status() -> Response:
        """Show the state of daemon and queue."""
        return json_answer(_status(site, shapes, site.board.overview()))

    @router.get("/holds", tags=_QUEUE, operation_id="list_holds", responses=answers())
    def list_holds() -> models.QueueHolds:
        """Say why jobs wait for more than their turn."""
        with site.readers.lend() as queries:
            return models.QueueHolds(holds=shapes.holds(queries.holds()))

    @router.post("/queue/pause", tags=_QUEUE, operation_id="pause_queue", responses=answers())
    def pause_queue() -> models.QueueState:
        """Let no further job start until the queue is resumed; a running one goes on."""
        control.pause(site.config, None)
        site.board.forget()
        return models.QueueState(is_paused=True)

    @router.post("/queue/resume", tags=_QUEUE, operation_id="resume_queue", responses=answers())
    def resume_queue() -> models.QueueState:
        """Let the queue go on, and the pipelines and batches that failures have paused."""
        control.resume(site.config, None)
        site.board.forget()
        return models.QueueState(is_paused=False)

    @router.get("/models", tags=_SETUP, operation_id="list_models", responses=answers())
    def list_models() -> models.Models:
        """List the models that jobs may name, with LoRA, embeddings and wildcards."""
        return models.Models(models=[_model(site, row) for row in site.board.models()])

    @cache
    def pipelines() -> models.Pipelines:
        shown = hide_in(list_pipelines(site.config), site.hide.below_folders)
        return models.Pipelines.model_validate({"pipelines": shown})

    @router.get("/pipelines", tags=_SETUP, operation_id="list_pipelines", responses=answers())
    def show_pipelines() -> models.Pipelines:
        """List the pipelines, with a JSON Schema of the parameters of each stage."""
        return pipelines()

    @router.get("/inboxes", tags=_SETUP, operation_id="list_inboxes", responses=answers())
    def list_inboxes() -> models.Inboxes:
        """List the inboxes that images can be sent to."""
        return models.Inboxes(
            inboxes=[
                models.Inbox(
                    name=inbox.name, pipeline=inbox.pipeline, priority=inbox.priority,
                    sidecar_required=inbox.sidecar_required,
                    hours=None if inbox.hours is None else str(inbox.hours),
                    defaults=hide_in(dict(inbox.defaults), site.hide.below_folders),
                    url=f"{ROOT}/inboxes/{inbox.name}/drops",
                )
                for inbox in site.config.inboxes
            ]
        )  # fmt: skip


def _status(site: Site, shapes: Shapes, overview: Overview) -> models.SiteStatus:
    holds = shapes.holds(asdict(hold) for hold in overview.holds)
    return models.SiteStatus(
        has_daemon=overview.has_daemon,
        device=models.Device(**asdict(overview.device)),
        queue=site.board.fields()["queue"],
        runnable=overview.runnable,
        queue_eta_s=overview.queue_eta_s,
        jobs_per_hour=overview.jobs_per_hour,
        is_paused=any(hold.jobs is None for hold in holds),
        running=[_running(asdict(job)) for job in overview.running],
        workers=[_worker(site, asdict(worker)) for worker in overview.workers],
        holds=holds,
        waiting=[
            models.Waiting(inbox=file.inbox, file=file.file, reason=site.hide(file.reason))
            for file in overview.waiting
        ],
        waiting_total=overview.waiting_total,
        recent=[_ended(site, asdict(job)) for job in overview.ended],
        remarks=[site.hide(text) for text in overview.remarks],
        inboxes=[inbox.name for inbox in site.config.inboxes],
        pipelines=list(site.config.pipelines),
        version=__version__,
    )


def _worker(site: Site, worker: dict[str, Any]) -> models.Worker:
    problem: str | None = worker["problem"]
    hidden = None if problem is None else site.hide(problem)
    return models.Worker.model_validate(worker | {"problem": hidden})


def _running(job: dict[str, Any]) -> models.RunningJob:
    fields = {key: value for key, value in job.items() if key != "attempt"}
    return models.RunningJob(url=job_url(job["job"]), **fields)


def _ended(site: Site, job: dict[str, Any]) -> models.Ended:
    keys = ("job", "inbox", "name", "status", "code", "warnings")
    at: str | None = job["finished_at"]
    return models.Ended(
        **{key: job[key] for key in keys},
        url=job_url(job["job"]),
        message=site.hide(job["message"]),
        finished_at=None if at is None else datetime.fromisoformat(at),
    )


def _model(site: Site, row: dict[str, Any]) -> models.Model:
    keys = ("kind", "name", "provider", "bytes", "license", "pipelines", "fits", "trigger_words")
    fields: dict[str, Any] = {key: row[key] for key in keys}
    fields |= {key: row[key] and site.hide(row[key]) for key in ("missing", "mismatch")}
    return models.Model(**fields, is_present=row["present"])
