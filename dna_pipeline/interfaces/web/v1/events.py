"""Events of jobs as they come, as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response

from dna_pipeline.interfaces.web.event_stream import HEARTBEAT, EventStream, event_frame
from dna_pipeline.interfaces.web.site import END_KINDS, Site
from dna_pipeline.interfaces.web.texts import PathHider, hide_in
from dna_pipeline.interfaces.web.v1 import models
from dna_pipeline.interfaces.web.v1.errors import Answers, Tags, answers
from dna_pipeline.interfaces.web.v1.jobs import MAX_SEQ, JobId, read_job

Record = Mapping[str, Any]
_TAGS: Tags = ["events"]

HEARTBEAT_S = 15.0
MOST_KEPT = 64

_FRAME = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "pattern": "^[0-9]+$"},
        "event": {"type": "string"},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": models.Event.model_json_schema(),
        },
    },
    "required": ["id", "event", "data"],
}
_STREAM: Answers = {
    200: {
        "description": "Events as they come, each with its number as `id` and its kind as "
        "`event`; a comment comes every 15 seconds at least.",
        "content": {"text/event-stream": {"schema": _FRAME}},
    },
}
_ENDED: Answers = {204: {"description": "The job has ended, and no event is left."}}

LastEventId = Annotated[
    int | None,
    Header(ge=0, le=MAX_SEQ, description="number of the last event that the client has"),
]
After = Annotated[
    int | None,
    Query(ge=0, le=MAX_SEQ, description="as Last-Event-ID, for clients that send no headers"),
]


class Frames:
    """Writes events, each once for all streams that send it."""

    def __init__(self, hide: PathHider) -> None:
        self._hide = hide
        self._kept: dict[int, tuple[Record, bytes]] = {}

    def of(self, event: Record) -> bytes:
        """Give the frame of an event."""
        kept = self._kept.get(event["id"])
        if kept is not None and kept[0] is event:
            return kept[1]
        frame = event_frame(self.data(event), event=event["kind"], id=event["id"])
        self._kept[event["id"]] = (event, frame)
        while len(self._kept) > MOST_KEPT:
            del self._kept[next(iter(self._kept))]
        return frame

    def data(self, event: Record) -> dict[str, Any]:
        """Give the data of an event's frame."""
        return {
            "id": event["id"], "job": event["job_id"] or None, "at": event["at"].isoformat(),
            "kind": event["kind"], "data": hide_in(event["data"], self._hide),
        }  # fmt: skip


def add_routes(router: APIRouter, site: Site) -> None:
    """Add the streams."""
    frames = Frames(site.hide)

    @router.get(
        "/events",
        tags=_TAGS,
        operation_id="follow_events",
        status_code=200,
        response_class=Response,
        responses={**answers(), **_STREAM},
    )
    async def follow_events(last_event_id: LastEventId = None, after: After = None) -> Response:
        """Follow the events of all jobs, batches, holds and pauses: those behind `Last-Event-ID`,
        or else the ones from now on."""
        last = after if last_event_id is None else last_event_id
        if last is None:
            last = await site.ask(_newest, site)
        return EventStream(_all_frames(site, frames, last))

    @router.get(
        "/jobs/{job_id}/events",
        tags=_TAGS,
        operation_id="follow_job",
        status_code=200,
        response_class=Response,
        responses={**answers(404), **_STREAM, **_ENDED},
    )
    async def follow_job(
        job_id: JobId, last_event_id: LastEventId = None, after: After = None
    ) -> Response:
        """Follow the events of one job, from its first one or behind `Last-Event-ID`, up to its
        end. Then the stream ends; asked for once more, it answers 204, so that browsers do not
        connect again and again."""
        last = (after if last_event_id is None else last_event_id) or 0
        job, _ = await site.ask(read_job, site, job_id)
        if job["status"] in END_KINDS and not await site.ask(_rest, site, job_id, last):
            return Response(status_code=204)
        return EventStream(_job_frames(site, frames, job_id, last))


def _newest(site: Site) -> int:
    with site.readers.lend() as queries:
        return queries.last_event()


def _rest(site: Site, job_id: str, last: int) -> bool:
    with site.readers.lend() as queries:
        return bool(queries.events(job_id, last, 1))


async def _all_frames(site: Site, frames: Frames, after: int) -> AsyncGenerator[bytes]:
    yield HEARTBEAT  # so that the client sees at once that it is connected
    async with aclosing(site.events(after=after, quiet_s=HEARTBEAT_S)) as portions:
        async for events in portions:
            yield b"".join(map(frames.of, events)) or HEARTBEAT


async def _job_frames(site: Site, frames: Frames, job_id: str, after: int) -> AsyncGenerator[bytes]:
    yield HEARTBEAT
    async with aclosing(site.events(job_id, after=after, quiet_s=HEARTBEAT_S)) as portions:
        async for events in portions:
            yield b"".join(map(frames.of, events)) or HEARTBEAT
            if events and events[-1]["kind"] in END_KINDS:
                return
            if not events and await site.has_lost(job_id):
                return
