"""A receiver that fails, is away and is killed, and a daemon that is killed meanwhile."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from conftest import Studio, put_act
from PIL import Image

from tests.fork_server import Process

pytestmark = pytest.mark.slow

JOBS = 8
WATCH = ("tests.e2e.quick_watch", "watch")
NOTIFY = """
notify:
  - {{name: hook, url: "http://127.0.0.1:{port}/x", events: [job.completed, queue.ended]}}
"""


class Hook:
    """A receiver on loopback that takes what `answer` says, and can be away.

    Attributes:
        taken: ids that it has taken, in order.
        answer: gives the status for an id; an exception breaks the connection.
    """

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.bodies: dict[str, set[str]] = {}
        self.answer: Callable[[str], int] = lambda _: 200
        self._server: ThreadingHTTPServer | None = None
        self.port = 0

    def open(self) -> None:
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                number = self.headers["webhook-id"]
                hook.bodies.setdefault(number, set()).add(json.loads(body)["data"]["line"])
                status = hook.answer(number)
                if status == 200:
                    hook.taken.append(number)
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            allow_reuse_address = True
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                pass  # the daemon was killed in the middle of a request

        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    monkeypatch.setenv("NO_PROXY", "*")
    hook = Hook()
    hook.open()
    yield hook
    hook.close()


@contextmanager
def watching(stage: Studio) -> Iterator[Process]:
    daemon = stage.start(*WATCH)
    try:
        yield daemon
    finally:
        daemon.terminate()
        assert daemon.wait(60) == 0


def drop_all(stage: Studio, port: int) -> None:
    put_act(stage, "0", "{deed: copy}")
    for number in range(1, JOBS):
        Image.new("RGB", (64, 64), "red").save(stage.inbox("act") / f"{number}.png")
    with (stage.root / "pipeline.yaml").open("a") as file:
        file.write(NOTIFY.format(port=port))


def ended_jobs(stage: Studio) -> list[str]:
    """Ids of the messages that the receiver should get of jobs, in order."""
    events = [json.loads(line) for line in stage.cli("events", "--json").stdout.splitlines()]
    return [f"_{event['id']}" for event in events if event["kind"] == "completed"]


def distinct(taken: list[str]) -> list[str]:
    return list(dict.fromkeys(taken))


def test_every_message_comes_in_order_whoever_is_killed(stage: Studio, hook: Hook):
    drop_all(stage, hook.port)
    kills: list[str] = []
    attempts: list[str] = []
    daemon = stage.start(*WATCH)

    def answer(number: str) -> int:
        attempts.append(number)
        if len(attempts) <= 2:
            return 500
        if len(distinct(hook.taken)) == 4 and not kills:
            kills.append(number)
            daemon.kill()  # it has sent this message, and cannot record that
        return 200

    hook.answer = answer
    stage.wait(lambda: len(hook.taken) >= 2)
    hook.close()  # away for a while, and the connection is broken
    stage.ended(4)
    hook.open()
    stage.wait(lambda: kills)
    daemon.wait(60)
    with watching(stage):
        stage.wait(lambda: len(distinct(hook.taken)) > JOBS)
        expected = ended_jobs(stage)
    taken = distinct(hook.taken)
    assert attempts[:3] == [taken[0]] * 3
    assert [number[number.rindex("_") :] for number in taken if "dropped" not in number][
        : len(expected)
    ] == expected
    assert kills[0] in hook.taken
    assert all(len(lines) == 1 for lines in hook.bodies.values()), "the same over all attempts"
    (receiver,) = stage.facts("status")["receivers"]
    assert (receiver["behind"], receiver["problem"]) == (0, None)


def test_a_receiver_that_is_broken_holds_up_no_job(stage: Studio, hook: Hook):
    drop_all(stage, hook.port)
    hook.close()
    with watching(stage):
        stage.ended(JOBS)
        problem = stage.wait(lambda: stage.facts("status")["receivers"][0]["problem"])
        assert "cannot be reached" in problem
        assert "receiver hook lacks" in stage.cli("status").stdout
    assert "notify" in stage.cli("doctor").stdout


def test_a_run_sends_before_it_ends(stage: Studio, hook: Hook):
    drop_all(stage, hook.port)
    assert stage.cli("run").returncode == 0, "the first run begins with what happens from then on"
    assert len(hook.taken) == JOBS + 1
    assert any("the queue is at rest: 8 completed" in text for text in hook.bodies[hook.taken[-1]])


def test_notify_test(stage: Studio, hook: Hook):
    drop_all(stage, hook.port)
    done = stage.cli("notify", "test")
    assert done.returncode == 0
    assert done.stdout == f"hook (http://127.0.0.1:{hook.port}): took the message\n"
    hook.answer = lambda _: 503
    (fact,) = stage.facts("notify", "test", "hook")
    assert fact["problem"] == "it answered 503 Service Unavailable"
    assert stage.cli("notify", "test").returncode == 1
    other = stage.cli("notify", "test", "nobody")
    assert other.returncode == 2
    assert "no receiver is called 'nobody'; there are: hook" in other.stderr
