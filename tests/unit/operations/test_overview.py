"""Typed values from a status."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from dna_pipeline.operations.overview import InboxState, make_overview
from tests.overviews import busy_status, running_job

CONFIG: Any = SimpleNamespace(
    outbox=Path("outbox"), inboxes=[SimpleNamespace(name="photos", path=Path("in/photos"))]
)


def test_a_status_of_an_older_version_lacks_fields():
    status = {"daemon": {"pid": 1}, "queue": {}, "holds": [], "recent": [], "waiting": []}
    overview = make_overview(CONFIG, status)
    assert overview.inboxes == (InboxState("photos", str(Path("in/photos"))),)
    assert (overview.jobs_per_hour, overview.running, overview.has_daemon) == (0, (), True)


def test_inboxes_that_are_not_configured_come_last():
    overview = make_overview(CONFIG, busy_status())
    assert [(inbox.name, inbox.done) for inbox in overview.inboxes] == [("photos", 2), ("night", 0)]
    (batch,) = overview.batches
    assert (batch.done, batch.total) == (2, 5)


def test_all_running_jobs_are_there_once():
    first, second = running_job(job="a"), running_job(job="b")
    workers = [{"jobs": [first]}, {"jobs": [second]}]
    status = busy_status() | {"running": first, "workers": workers}
    assert [job.job for job in make_overview(CONFIG, status).running] == ["a", "b"]
