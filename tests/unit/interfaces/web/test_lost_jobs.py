"""Requests and streams that wait for a job that a rebuilt ledger lacks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import closing
from typing import Any

import pytest

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.config.schema import Config
from dna_pipeline.interfaces.web import waiting
from dna_pipeline.interfaces.web.old_api import streams
from dna_pipeline.interfaces.web.site import Site
from dna_pipeline.interfaces.web.v1 import events
from tests.ledgers import lay_out
from tests.request_queue import RequestQueue


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(streams, "QUIET_S", 0.05)
    monkeypatch.setattr(waiting, "LOOK_S", 0.05)


def queue_job(config: Config) -> str:
    with closing(RequestQueue(config, "api")) as jobs:
        return jobs.add({})


def rebuild_without_jobs(config: Config) -> None:
    """As `repair` does: another file takes the ledger's place."""
    new = config.ledger_path.with_name("new.db")
    lay_out(new)
    for end in ("-wal", "-shm"):
        config.ledger_path.with_name(config.ledger_path.name + end).unlink(missing_ok=True)
    new.replace(config.ledger_path)


async def v1_frames(site: Site, job: str) -> AsyncGenerator[Any]:
    async for frame in events._job_frames(site, events.Frames(site.hide), job, 0):
        yield frame


async def old_frames(site: Site, job: str) -> AsyncGenerator[Any]:
    async for text in streams.job_events(site, {"id": job, "status": "queued"}, 0):
        yield text


@pytest.mark.parametrize("frames", [v1_frames, old_frames])
def test_the_stream_of_a_job_ends_once_the_ledger_lacks_it(site: Site, config: Config, frames: Any):
    job = queue_job(config)

    async def follow() -> int:
        async with asyncio.timeout(20):
            number = 0
            async for _ in frames(site, job):
                number += 1
                if number == 5:  # it goes on while the job waits
                    rebuild_without_jobs(config)
            return number

    assert asyncio.run(follow()) >= 5


def test_a_stream_goes_on_while_the_ledger_is_being_replaced(site: Site, config: Config):
    job = queue_job(config)
    assert not asyncio.run(site.has_lost(job))
    config.ledger_path.rename(config.ledger_path.with_name("damaged"))
    assert not asyncio.run(site.has_lost(job))


def test_a_request_that_waits_hears_that_its_job_is_lost(site: Site, config: Config):
    job = queue_job(config)
    rebuild_without_jobs(config)
    with pytest.raises(ConfigError, match="not in the ledger any more"):
        asyncio.run(waiting.result_of(site, job))
