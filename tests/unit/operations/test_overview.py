"""Typed values from a status."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from dna_pipeline.operations.overview import InboxState, make_overview
from tests.overviews import HASH, busy_status, running_job, two_workers

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


def test_workers_with_their_devices_and_models():
    overview = make_overview(CONFIG, two_workers())
    first, second = overview.workers
    assert (first.device, first.state) == ("cuda:0", "working")
    assert [model.name for model in first.models] == ["matte", "sd15"]
    assert (second.state, second.problem is None) == ("lost", False)
    assert overview.running[0].worker == "w1-1"
    assert overview.delay == (
        f"jobs with matte, sd15 come before {HASH[:8]} (anime), which starts after 4 min of them "
        "at most"
    )
    assert overview.remarks == (
        "cuda:1 is not used: cuda:1 was asked for, but torch sees no such device; the other "
        "devices go on",
    )


def test_an_only_worker_without_its_device_is_a_hold_and_no_remark():
    status = two_workers()
    status["workers"] = status["workers"][1:]
    assert make_overview(CONFIG, status).remarks == ()


def test_remarks_are_made_of_what_is_wrong_alone():
    receiver: dict[str, Any] = {"name": "a", "state": "active", "behind": 1, "attempts": 1}
    config = {"file": "p", "taken_over_at": "x", "problem": None, "pending": None}
    status = busy_status() | {"config": config, "receivers": [receiver | {"problem": None}]}
    assert make_overview(CONFIG, status).remarks == ()
    ended = receiver | {"state": "ended", "problem": "it answered 410 Gone"}
    status |= {"config": config | {"pending": "paths.data changed"}, "receivers": [ended]}
    assert make_overview(CONFIG, status).remarks == (
        "pipeline.yaml is not taken over yet: paths.data changed",
        "receiver a gets no more messages: it answered 410 Gone; change its entry in `notify:` to "
        "begin again",
    )


def test_models_have_the_worker_that_has_them():
    model = {"name": "sd", "state": "loaded", "device": "cuda:1", "since": "2026-11-29T16:55:31Z",
             "bytes": 2 << 30}  # fmt: skip
    loading = model | {"state": "loading", "bytes": None}
    workers = [
        {"worker": "a", "jobs": [], "models": [model]},
        {"worker": "b", "jobs": [], "models": [loading]}, {"worker": "c", "jobs": []},
    ]  # fmt: skip
    models = make_overview(CONFIG, busy_status() | {"workers": workers}).models
    assert [(each.worker, each.words) for each in models] == [
        ("a", "loaded on cuda:1, 2 GiB"), ("b", "loading on cuda:1"),
    ]  # fmt: skip
    assert make_overview(CONFIG, busy_status()).models == ()


def test_the_server_is_shown_or_why_it_does_not_run():
    shown = make_overview(
        CONFIG, busy_status() | {"server": {"url": "http://a:1", "problem": None}}
    )
    assert (shown.server, shown.remarks) == ("http://a:1", ())
    status = busy_status() | {"server": {"url": None, "problem": "port 8000 is in use"}}
    assert make_overview(CONFIG, status).server is None
    assert make_overview(CONFIG, status).remarks == (
        "the HTTP server does not run: port 8000 is in use; it is started again now and then",
    )
    assert make_overview(CONFIG, busy_status() | {"server": None}).server is None
