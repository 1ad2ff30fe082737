"""Streams of events (SSE): the progress of one job, and its end."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import structlog
from starlette.responses import StreamingResponse

from dna_pipeline.interfaces.web import waiting
from dna_pipeline.interfaces.web.old_api import answers
from dna_pipeline.interfaces.web.old_api.errors import Refusal, encodable, refusal_of
from dna_pipeline.interfaces.web.old_api.requests import Accepted
from dna_pipeline.interfaces.web.site import END_KINDS, Record, Site
from dna_pipeline.operations.serving import jobs

log = structlog.get_logger()

KINDS = frozenset({"queued", "started", "progress", *END_KINDS})
QUIET_S = 15.0
"""Time without an event after which a comment is sent, so that proxies keep the stream open."""
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}

STATUS = {"queued": "queued", "started": "running", "progress": "running"}
"""Status of a job after an event of that kind; else the kind itself."""


def stream(chunks: AsyncIterator[str]) -> StreamingResponse:
    return StreamingResponse(chunks, media_type="text/event-stream", headers=HEADERS)


def sse(event: str, data: Record, number: int | None = None) -> str:
    """One event, with its name also in the data, for clients that read the data alone."""
    head = "" if number is None else f"id: {number}\n"
    text = json.dumps(encodable({"event": event, **data}), ensure_ascii=False)
    return f"{head}event: {event}\ndata: {text}\n\n"


# --- POST /api/img2img/stream ---


async def img2img_events(site: Site, accepted: Accepted) -> AsyncGenerator[str]:
    """`progress` again and again, then `complete` with the picture, or `error`."""
    job, has_progress = accepted.job, False
    try:
        async with aclosing(waiting.follow(site, job)) as portions:
            async for events in portions:
                for event in events:
                    if event["kind"] == "progress":
                        has_progress = True
                        yield sse("progress", {"job_id": job, **progress_data(event["data"])})
                if not events:
                    yield ": waiting\n\n"
        ended = await waiting.outcome(site, job)
        if not has_progress:  # it was faster than one look at the ledger
            yield sse("progress", {"job_id": job, **progress_data(whole(ended.job))})
        body = await answers.result_answer(site, ended.job, "img2img", accepted.remarks)
        yield sse("complete", body)
    except Exception as error:
        refusal = refusal_of(error, site.hide)
        if refusal is None:
            log.exception("stream.failed", job=job)
            refusal = Refusal(500, "the server failed; its log says why", "server_error")
        text = refusal.detail if isinstance(refusal.detail, str) else str(error)
        yield sse("error", {"job_id": job, "error": text, "status": refusal.status,
                            **refusal.body()})  # fmt: skip


def progress_data(data: Record) -> Record:
    """The progress of a job, under each name by which clients may look for it."""
    fraction, step, steps = data.get("fraction", 0.0), data.get("step"), data.get("steps")
    return {
        "step": step, "steps": steps, "total": steps, "total_steps": steps,
        "progress": fraction, "fraction": fraction, "stage": data.get("stage"),
    }  # fmt: skip


def whole(job: Record) -> Record:
    """The progress of a job that is done."""
    stage = job["stages"][-1]
    params: Record = stage["params"]
    steps = max(1, int(params.get("steps", 1) * params.get("strength", 1.0)))
    return {"stage": stage["id"], "step": steps, "steps": steps, "fraction": 1.0}


# --- GET /api/jobs/{id}/events ---


async def job_events(site: Site, job: Record, after: int) -> AsyncGenerator[str]:
    """All events of a job from the beginning or after a number, until it has ended."""
    if job["status"] in END_KINDS:
        async for text in _past_events(site, job, after):
            yield text
        return
    job_id = job["id"]
    async with aclosing(site.events(job_id, after, QUIET_S)) as portions:
        async for events in portions:
            for event in events:
                if event["kind"] in KINDS:
                    yield sse(event["kind"], await _event_data(site, job_id, event), event["id"])
            if not events:
                yield ": waiting\n\n"
                if await site.has_lost(job_id):
                    return
            elif events[-1]["kind"] in END_KINDS and await _is_ended(site, job_id):
                return


async def _past_events(site: Site, job: Record, after: int) -> AsyncGenerator[str]:
    """The events of a job that has ended. Of one that ended long ago they are not kept, so its end
    is told from the job itself."""
    last = ""
    for event in await site.ask(jobs.events, site.readers, job["id"], after):
        if (last := event["kind"]) in KINDS:
            yield sse(last, await _event_data(site, job["id"], event), event["id"])
    if last not in END_KINDS:
        number = await site.ask(jobs.last_event, site.readers)
        yield sse(job["status"], await answers.job_answer(site, job), max(number, after))


def is_read(site: Site, job: Record, after: int) -> bool:
    """True if a client that got the events up to a number has them all, and the job has ended."""
    return job["status"] in END_KINDS and not jobs.events(site.readers, job["id"], after)


async def _is_ended(site: Site, job_id: str) -> bool:
    now = await site.ask(jobs.read, site.readers, job_id)
    return now is None or now["status"] in END_KINDS


async def _event_data(site: Site, job_id: str, event: Record) -> Record:
    kind: str = event["kind"]
    data: Record = {"job_id": job_id, "status": STATUS.get(kind, kind)}
    data["at"] = answers.time_text(event["at"])
    if kind == "progress":
        return data | progress_data(event["data"])
    if kind not in END_KINDS:
        return data
    job = await site.ask(jobs.read, site.readers, job_id)
    if job is None or job["status"] != kind:  # it was tried again since
        return data
    return data | await answers.job_answer(site, job)
