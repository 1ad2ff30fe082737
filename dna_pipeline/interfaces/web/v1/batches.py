"""Batches: lists, one of them, and requests for all of its jobs."""

from __future__ import annotations

from fastapi import APIRouter

from dna_pipeline.base.layout import is_id
from dna_pipeline.interfaces.web.site import Site
from dna_pipeline.interfaces.web.v1 import models
from dna_pipeline.interfaces.web.v1.errors import Tags, answers, not_found
from dna_pipeline.interfaces.web.v1.jobs import BatchId, Before, Limit
from dna_pipeline.interfaces.web.v1.shapes import Shapes
from dna_pipeline.operations import control

_TAGS: Tags = ["batches"]


def add_routes(router: APIRouter, site: Site) -> None:
    """Add the routes of batches."""
    shapes = Shapes(site.hide)

    def read(batch_id: str) -> models.Batch:
        with site.readers.lend() as queries:
            row = queries.counted_batch(batch_id) if is_id(batch_id) else None
        if row is None:
            raise not_found("batch", batch_id)
        return shapes.batch(row)

    @router.get("/batches", tags=_TAGS, operation_id="list_batches", responses=answers())
    def list_batches(limit: Limit = 50, before: Before = None) -> models.Batches:
        """List batches, the newest first."""
        with site.readers.lend() as queries:
            rows = queries.batch_page(before=before, limit=limit + 1)
        rest, rows = rows[limit:], rows[:limit]
        shown = [shapes.batch(row) for row in rows]
        return models.Batches(batches=shown, next=rows[-1]["seq"] if rest else None)

    @router.get("/batches/{batch_id}", tags=_TAGS, operation_id="get_batch", responses=answers(404))
    def get_batch(batch_id: BatchId) -> models.Batch:
        """Show one batch; `GET /api/v1/jobs?batch=…` lists its jobs."""
        return read(batch_id)

    @router.post(
        "/batches/{batch_id}/cancel",
        tags=_TAGS,
        operation_id="cancel_batch",
        responses=answers(404),
    )
    def cancel_batch(batch_id: BatchId) -> models.Cancelled:
        """Cancel all jobs of a batch that have not ended."""
        read(batch_id)
        before = control.cancel(site.config, [], batch_id)
        site.board.forget()
        open_ = [job for job, status in before.items() if status in ("queued", "running")]
        return models.Cancelled(cancelled=open_)

    @router.post(
        "/batches/{batch_id}/pause",
        tags=_TAGS,
        operation_id="pause_batch",
        responses=answers(404),
    )
    def pause_batch(batch_id: BatchId) -> models.Batch:
        """Hold the jobs of a batch that have not started, until it is resumed."""
        read(batch_id)
        control.pause(site.config, batch_id)
        site.board.forget()
        return read(batch_id)

    @router.post(
        "/batches/{batch_id}/resume",
        tags=_TAGS,
        operation_id="resume_batch",
        responses=answers(404),
    )
    def resume_batch(batch_id: BatchId) -> models.Batch:
        """Let the jobs of a paused batch go on."""
        read(batch_id)
        control.resume(site.config, batch_id)
        site.board.forget()
        return read(batch_id)
