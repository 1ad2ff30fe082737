"""Threads of the server: submissions take none from other requests."""

from __future__ import annotations

import asyncio
import threading

from dna_pipeline.config.schema import Config
from dna_pipeline.interfaces.web.site import Site
from tests.integration.conftest import Site as Folders


def test_submissions_that_wait_leave_threads_for_other_requests(site: Folders):
    assert asyncio.run(answer_beside_submissions(site.config)) == "here"


async def answer_beside_submissions(config: Config) -> str:
    """Ask while many submissions wait, and let them end."""
    server, go_on = Site(config), threading.Event()
    try:
        waiting = [asyncio.create_task(server.submit(go_on.wait, 60)) for _ in range(100)]
        await asyncio.sleep(0)
        async with asyncio.timeout(20):
            answer = await server.ask(lambda: "here")
        go_on.set()
        assert all(await asyncio.gather(*waiting))
        return answer
    finally:
        go_on.set()
        server.close()
