"""The server as people start it, alone and beside the daemon, and what kills leave."""

import json
import os
import re
import signal
import socket
from contextlib import suppress

import httpx2
import pytest
from conftest import Studio, alive

from tests.fork_server import Process, children_of

pytestmark = pytest.mark.slow

CONFIG = """\
version: 1
models: {key: {provider: border_key}}
pipelines: {cut: [{remove_background: {model: key}}]}
inboxes: [{path: inbox, pipeline: cut, settle_seconds: 0.2, sidecar_wait_seconds: 0}]
"""
CHILD = "dna_pipeline.interfaces.web.child"


@pytest.fixture
def place(tmp_path) -> Studio:
    (tmp_path / "pipeline.yaml").write_text(CONFIG)
    (tmp_path / "inbox").mkdir()
    return Studio(tmp_path)


def start(place: Studio, *arguments: str) -> Process:
    return place.start("dna_pipeline.__main__", *arguments)


def server_field(place: Studio) -> dict[str, str | None]:
    with suppress(OSError):
        return json.loads((place.outbox / "status.json").read_bytes()).get("server") or {}
    return {}


def url_of(place: Studio) -> str:
    return place.wait(lambda: server_field(place).get("url"))


def answers(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/metrics", timeout=10).status_code == 200
    except httpx2.TransportError:
        return False


def test_serve_runs_without_a_daemon_and_ends_with_zero(place: Studio):
    server = start(place, "serve", "--port", "0")
    log = place.root / "watch.log"
    said = place.wait(lambda: re.search(r"serves on (\S+); (.*)", log.read_text()))
    assert said[2] == "no daemon runs, so jobs wait; `dna-pipeline watch` starts one"
    assert "dna_pipeline_up{" in httpx2.get(f"{said[1]}/metrics").text
    server.send_signal(signal.SIGTERM)
    assert server.wait(30) == 0
    assert log.read_text().count("\n") == 1
    assert not answers(said[1])


def test_a_folder_that_serve_has_begun_is_fit_for_the_daemon(place: Studio):
    server = start(place, "serve", "--port", "0")
    log = place.root / "watch.log"
    place.wait(lambda: "serves on" in log.read_text())
    server.kill()
    server.wait(10)
    with place.watch():
        place.wait(lambda: (place.outbox / "status.json").exists())


def test_the_daemon_shows_its_server_and_ends_it(place: Studio):
    daemon = start(place, "watch", "--serve", "--port", "0")
    url = url_of(place)
    assert 'dna_pipeline_up{version="0.1.0"} 1.0' in httpx2.get(f"{url}/metrics").text.replace(
        "} 1\n", "} 1.0\n"
    )
    assert f"server    {url}" in place.cli("status").stdout
    assert place.facts("status")["server"] == {"url": url, "problem": None}
    (child,) = children_of(daemon.pid, CHILD)
    daemon.terminate()
    assert daemon.wait(30) == 0
    assert not alive(child.pid)
    assert not answers(url)
    assert server_field(place) == {}


def test_it_ends_with_a_daemon_that_is_killed(place: Studio):
    daemon = start(place, "watch", "--serve", "--port", "0")
    url = url_of(place)
    (child,) = children_of(daemon.pid, CHILD)
    daemon.kill()
    daemon.wait(10)
    place.wait(lambda: not alive(child.pid))
    assert not answers(url)


def test_one_that_is_killed_is_started_again(place: Studio):
    daemon = start(place, "watch", "--serve", "--port", "0")
    url = url_of(place)
    (child,) = children_of(daemon.pid, CHILD)
    os.kill(child.pid, signal.SIGKILL)
    place.wait(lambda: server_field(place).get("url") not in (None, url))
    assert answers(url_of(place))
    assert daemon.poll() is None
    daemon.terminate()
    assert daemon.wait(30) == 0


def test_one_that_cannot_start_stops_no_job(place: Studio):
    from PIL import Image

    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        daemon = start(place, "watch", "--serve", "--port", str(port))
        problem = place.wait(lambda: server_field(place).get("problem"))
        assert problem == (
            f"port {port} of 127.0.0.1 is in use by another program; --port takes another, or 0 "
            "for any free one"
        )
        assert "the HTTP server does not run: port" in place.cli("status").stdout
        Image.new("RGB", (64, 64), "red").save(place.root / "inbox" / "a.png")
        place.ended(1)
    assert url_of(place).endswith(f":{port}"), "it comes once the port is free"
    daemon.terminate()
    assert daemon.wait(30) == 0
