"""One message to one receiver: commands, webhooks on loopback, and secrets that stay secret."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from dna_pipeline.config.receivers import ReceiverConfig, Secret
from dna_pipeline.operations.daemon.notifications import sending
from dna_pipeline.operations.daemon.notifications.messages import Message
from dna_pipeline.operations.daemon.notifications.sending import secret_problem, send

MESSAGE = Message("msg_1", "test", datetime(2026, 11, 29, tzinfo=UTC), "--help.png: completed", {})
WRITE = (
    "import json, sys; open(sys.argv[1], 'w').write(json.dumps([sys.argv[2:], sys.stdin.read()]))"
)


class Hook(BaseHTTPRequestHandler):
    """Answers with what the path says, and remembers what came."""

    came: ClassVar[list[tuple[str, dict[str, str], bytes]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.came.append((self.path, dict(self.headers), body))
        status, _, header = self.path.strip("/").partition("/")
        self.send_response(int(status))
        if header:
            name, _, value = header.partition("=")
            self.send_header(name, value)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("NO_PROXY", "*")
    Hook.came.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def python(*arguments: str) -> ReceiverConfig:
    return ReceiverConfig("p", (sys.executable, "-c", *arguments))


def test_a_command_gets_arguments_and_json(tmp_path: Path):
    assert send(python(WRITE, str(tmp_path / "got"), "{type}", "{line}"), MESSAGE).problem == ""
    arguments, text = json.loads((tmp_path / "got").read_text())
    # A name of a file must not be an option of the program.
    assert arguments == ["test", " --help.png: completed"]
    assert json.loads(text)["data"]["line"] == MESSAGE.line


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("raise SystemExit(3)", "ended with 3"),
        ("import sys; sys.exit('no \\x1b[31mbus')", "ended with 1: no bus"),
    ],
)
def test_a_command_that_fails_says_so(code: str, expected: str):
    assert send(python(code), MESSAGE).problem.endswith(expected)


def test_a_command_that_is_not_there():
    outcome = send(ReceiverConfig("p", ("/no/such/program",)), MESSAGE)
    assert outcome.problem == "/no/such/program: No such file or directory"


def test_a_command_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sending, "LIMIT_S", 0.2)
    assert "did not end within" in send(python("import time; time.sleep(60)"), MESSAGE).problem


def test_a_webhook_takes_a_message(hook: str):
    assert send(ReceiverConfig("w", url=f"{hook}/204"), MESSAGE).problem == ""
    ((_, headers, body),) = Hook.came
    assert json.loads(body)["type"] == "test"
    assert headers["webhook-id"] == "msg_1"


@pytest.mark.parametrize(
    ("path", "problem", "retry_after_s", "is_gone"),
    [
        ("500", "it answered 500 Internal Server Error", None, False),
        ("429/retry-after=120", "it answered 429 Too Many Requests", 120.0, False),
        ("410", "it answered 410 Gone: it wants no more messages", None, True),
    ],
)
def test_other_answers(
    hook: str, path: str, problem: str, retry_after_s: float | None, is_gone: bool
):
    outcome = send(ReceiverConfig("w", url=f"{hook}/{path}"), MESSAGE)
    assert (outcome.problem, outcome.retry_after_s) == (problem, retry_after_s)
    assert outcome.is_gone == is_gone


def test_a_redirect_is_not_followed(hook: str):
    outcome = send(ReceiverConfig("w", url=f"{hook}/302/location={hook}/204"), MESSAGE)
    assert "redirects are not followed" in outcome.problem
    assert len(Hook.came) == 1


def test_a_webhook_that_does_not_answer(monkeypatch: pytest.MonkeyPatch):
    import socket

    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(sending, "LIMIT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/SECRET"
        problem = send(ReceiverConfig("w", url=url), MESSAGE).problem
    assert problem == "it did not answer within 0.2 s"


def test_an_address_never_shows(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NO_PROXY", "*")
    receiver = ReceiverConfig("w", url="http://127.0.0.1:1/services/SECRET")
    problem = send(receiver, MESSAGE).problem
    assert problem.startswith("it cannot be reached")
    for text in (problem, repr(receiver), receiver.place, receiver.fingerprint):
        assert "SECRET" not in text


def test_address_and_secret_are_read_where_they_are(
    hook: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "url").write_text(f"{hook}/204\n")
    monkeypatch.setenv("HOOK_KEY", "whsec_YWFh")
    receiver = ReceiverConfig("w", url=Secret(file=tmp_path / "url"), secret=Secret("HOOK_KEY"))
    assert secret_problem(receiver) is None
    assert send(receiver, MESSAGE).problem == ""
    assert Hook.came[0][1]["webhook-signature"].startswith("v1,")


@pytest.mark.parametrize(
    ("place", "content", "expected"),
    [
        (Secret(env="NO_SUCH_VARIABLE"), None, "$NO_SUCH_VARIABLE is not set for the daemon"),
        (Secret(file=Path("x")), None, "x cannot be read: No such file or directory"),
        (Secret(file=Path("x")), "\n", "x is empty"),
        (Secret(file=Path("x")), "SECRET", "the secret cannot sign: it should be `whsec_`"),
    ],
)
def test_a_secret_that_cannot_be_used(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: Secret,
    content: str | None,
    expected: str,
):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("x").write_text(content)
    problem = send(ReceiverConfig("w", url="http://127.0.0.1:1/", secret=place), MESSAGE).problem
    assert expected in problem
    assert "SECRET" not in problem
