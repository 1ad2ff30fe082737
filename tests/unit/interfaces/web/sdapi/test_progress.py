"""Which jobs a program of this API sees, and which it cancels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from dna_pipeline.config.schema import Config
from dna_pipeline.interfaces.web.sdapi.generation import ORIGIN
from dna_pipeline.interfaces.web.sdapi.progress import interrupt, progress_of, skip
from dna_pipeline.interfaces.web.site import Site
from dna_pipeline.ledger import queue
from dna_pipeline.operations.serving.request_jobs import origin
from tests.request_queue import RequestQueue


@pytest.fixture
def jobs(config: Config) -> Iterator[RequestQueue]:
    with closing(RequestQueue(config, ORIGIN)) as jobs:
        yield jobs


def test_skip_cancels_the_first_picture_that_runs(site: Site, jobs: RequestQueue):
    """The worker has the next one already."""
    first, second, _ = (jobs.add(origin(ORIGIN, "r", number, 3)) for number in range(3))
    assert skip(site) == []
    for job in (first, second):
        assert jobs.start() == job
    assert skip(site) == [first]
    assert jobs.status(second) == ("running", False)


def test_what_waits_for_the_outbox_is_not_what_a_program_stops(site: Site, jobs: RequestQueue):
    computed = jobs.add(origin(ORIGIN, "a", 0, 1))
    jobs.start()
    jobs.ledger.transact(lambda s: queue.finish_computing(s, computed))
    assert progress_of(site).progress == 1.0
    assert interrupt(site) == skip(site) == []

    running, waiting = (jobs.add(origin(ORIGIN, "b", number, 2)) for number in range(2))
    jobs.start()
    assert progress_of(site).state.job_count == 2
    assert skip(site) == [running]
    assert interrupt(site) == [running, waiting]
    assert jobs.status(computed) == ("running", False)


def test_a_request_goes_on_with_its_next_picture_while_one_waits_for_the_outbox(
    site: Site, jobs: RequestQueue
):
    computed, waiting = (jobs.add(origin(ORIGIN, "r", number, 2)) for number in range(2))
    jobs.start()
    jobs.ledger.transact(lambda s: queue.finish_computing(s, computed))
    seen = progress_of(site)
    assert (seen.progress, seen.state.job_no, seen.textinfo) == (0.5, 1, "Waiting for its turn")
    assert skip(site) == []
    assert interrupt(site) == [waiting]
