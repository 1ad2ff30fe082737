"""Streams of events over a real connection."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from typing import Any
from urllib.parse import urlsplit

import pytest

from dna_pipeline.interfaces.web.v1 import events as module
from dna_pipeline.ledger import requests, store
from dna_pipeline.ledger.queries import Queries
from tests.integration.conftest import Site
from tests.web import server_of

pytestmark = pytest.mark.slow


@pytest.fixture
def server(site: Site) -> Iterator[str]:
    with server_of(site.config) as address:
        yield address


@contextmanager
def stream(server: str, path: str, **headers: str) -> Iterator[HTTPResponse]:
    connection = HTTPConnection(urlsplit(server).netloc, timeout=20)
    try:
        connection.request("GET", f"/api/v1{path}", headers=headers)
        yield connection.getresponse()
    finally:
        connection.close()


def frames(answer: HTTPResponse) -> Iterator[dict[str, Any]]:
    """The events of a stream; a comment is one without data."""
    fields: dict[str, Any] = {}
    while line := answer.readline().decode():
        if line == "\n":
            yield fields
            fields = {}
        else:
            name, _, value = line.rstrip("\n").partition(": ")
            fields[name] = json.loads(value) if name == "data" else value


def events(answer: HTTPResponse, number: int) -> list[dict[str, Any]]:
    found = (frame for frame in frames(answer) if "data" in frame)
    return [frame for _, frame in zip(range(number), found, strict=False)]


def drop(site: Site, name: str = "cat.png") -> str:
    site.put(name)
    site.settle()
    return site.jobs()[-1].id


def test_the_events_of_a_job_from_the_first_to_the_last(site: Site, server: str):
    job = drop(site)
    with stream(server, f"/jobs/{job}/events") as answer:
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["cache-control"] == "no-cache, no-transform"
        (first,) = events(answer, 1)
        assert first["event"] == "queued"
        assert first["data"] | {"at": ""} == {
            "id": int(first["id"]), "job": job, "at": "", "kind": "queued",
            "data": {"inbox": "in", "name": "cat.png", "pipeline": "cut"},
        }  # fmt: skip
        site.run_next()
        kinds = [frame["event"] for frame in frames(answer) if "data" in frame]
        assert kinds == ["started", "completed"]  # and then the stream has ended


def test_a_stream_that_was_cut_off_goes_on_where_it_was(site: Site, server: str):
    job = drop(site)
    with stream(server, f"/jobs/{job}/events") as answer:
        (first,) = events(answer, 1)
    site.run_next()
    with stream(server, f"/jobs/{job}/events", **{"Last-Event-ID": first["id"]}) as answer:
        missed = [frame for frame in frames(answer) if "data" in frame]
    assert [frame["event"] for frame in missed] == ["started", "completed"]
    last = missed[-1]["id"]
    with stream(server, f"/jobs/{job}/events", **{"Last-Event-ID": last}) as answer:
        assert (answer.status, answer.read()) == (204, b"")
    with stream(server, f"/jobs/{job}/events?after={first['id']}") as answer:
        assert len([frame for frame in frames(answer) if "data" in frame]) == 2


def test_the_events_of_all_jobs_from_now_on(site: Site, server: str):
    drop(site, "a.png")
    with stream(server, "/events") as answer:
        next(frames(answer))
        other = drop(site, "b.png")
        (event,) = events(answer, 1)
        assert (event["event"], event["data"]["job"]) == ("queued", other)


def test_events_of_the_whole_queue_have_no_job(site: Site, server: str):
    with stream(server, "/events?after=0") as answer:
        site.ledger.transact(lambda s: store.add_common_event(s, "pause_begun", {"why": "x"}))
        (event,) = events(answer, 1)
    assert (event["data"]["job"], event["data"]["kind"]) == (None, "pause_begun")


def test_many_events_come_in_order_and_once(site: Site, server: str):
    job = drop(site)
    with stream(server, "/events?after=0") as answer:

        def add(first: int) -> None:
            for number in range(first, first + 20):
                site.ledger.transact(
                    lambda s, n=number: store.add_event(s, job, "progress", {"step": n})
                )

        add(0)
        add(20)
        found = events(answer, 41)
    assert [int(frame["id"]) for frame in found] == sorted({int(f["id"]) for f in found})
    assert [frame["data"]["data"].get("step") for frame in found] == [None, *range(40)]


def test_a_cancelled_job_ends_its_stream(site: Site, server: str):
    job = drop(site)
    with stream(server, f"/jobs/{job}/events") as answer:
        events(answer, 1)
        site.ledger.transact(lambda s: requests.request_cancel(s, job))
        assert [frame["event"] for frame in frames(answer) if "data" in frame] == ["cancelled"]


def test_the_stream_of_a_job_that_has_ended_has_all_its_events(site: Site, server: str):
    job = drop(site)
    site.ledger.transact(lambda s: requests.request_cancel(s, job))
    site.publish()
    with stream(server, f"/jobs/{job}/events") as answer:
        kinds = [frame["event"] for frame in frames(answer) if "data" in frame]
    assert kinds == ["queued", "cancelled"]


def test_a_heartbeat(site: Site, server: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.05)
    with stream(server, "/events") as answer:
        lines = [answer.readline() for _ in range(6)]
    assert lines == [b": \n", b"\n"] * 3


@pytest.mark.parametrize("value", ["-1", "x", "1e3", str(2**63)])
def test_numbers_that_are_none(server: str, value: str):
    for path in ("/events", f"/jobs/{'0' * 32}/events"):
        with stream(server, path, **{"Last-Event-ID": value}) as answer:
            assert answer.status == 422
            assert json.loads(answer.read())["code"] == "request_invalid"


def test_a_client_that_is_gone_leaves_nothing(site: Site):
    sites: list[Any] = []
    with server_of(site.config, sites.append) as server:
        (web,) = sites
        for _ in range(5):
            with stream(server, "/events") as answer:
                answer.readline()
                until(lambda: web.feed.number > 0)
        until(lambda: web.feed.number == 0)
        assert not [t for t in threading.enumerate() if t.name == "feed" and not _ends(t)]


def test_one_look_at_the_ledger_serves_all(site: Site, monkeypatch: pytest.MonkeyPatch):
    looks: list[tuple[Any, ...]] = []
    real = Queries.events

    def counted(self: Queries, *args: Any, **keys: Any) -> Any:
        looks.append(args)
        return real(self, *args, **keys)

    monkeypatch.setattr(Queries, "events", counted)
    with server_of(site.config) as server:
        streams = [stream(server, "/events") for _ in range(20)]
        answers = [each.__enter__() for each in streams]
        for answer in answers:
            answer.readline()
        time.sleep(0.3)  # all of them have looked for what came before
        looks.clear()
        drop(site)
        for answer in answers:
            assert events(answer, 1)[0]["event"] == "queued"
        assert len(looks) <= 4
        for each in streams:
            each.__exit__(None, None, None)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _ends(thread: threading.Thread) -> bool:
    thread.join(5)
    return not thread.is_alive()
