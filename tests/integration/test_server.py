"""The server on real sockets: how it begins and ends, and what slow clients can do to it."""

from __future__ import annotations

import logging
import socket
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import httpx2
import pytest
import structlog
from cryptography.hazmat.primitives import serialization
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from dna_pipeline.base import logs
from dna_pipeline.base.errors import ConfigError
from dna_pipeline.config.loader import load_config
from dna_pipeline.config.schema import Config
from dna_pipeline.interfaces.web import connection, editions
from dna_pipeline.interfaces.web import server as module
from dna_pipeline.interfaces.web.server import Options, Server
from dna_pipeline.interfaces.web.site import Site
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.operations.daemon import config_watch
from dna_pipeline.operations.serving.addresses import running
from tests import certificates
from tests.ledgers import lay_out
from tests.serving import PIPELINE_YAML, add_events

pytestmark = pytest.mark.slow

TOKEN = "a-token-of-sixteen-signs"
LIMIT_S = 20.0
ALL = Options(port=0)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    file = tmp_path / "pipeline.yaml"
    file.write_text(PIPELINE_YAML)
    return load_config(file, {})


@pytest.fixture
def ledger(config: Config) -> Iterator[Ledger]:
    lay_out(config.ledger_path)
    with closing(Ledger(config.ledger_path)) as ledger:
        yield ledger


@pytest.fixture(autouse=True)
def with_more_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the application a stream of events, a large answer, and one that says the pipelines."""
    real = editions.make_app

    def make_app(site: Site, *arguments: Any) -> FastAPI:
        app = real(site, *arguments)

        async def lines() -> Any:
            async for events in site.events():
                yield "".join(f"data: {event['id']}\n\n" for event in events)

        @app.get("/api/test/events")
        def events() -> Response:
            return StreamingResponse(lines(), media_type="text/event-stream")

        @app.get("/large")
        def large() -> Response:
            return Response(b"x" * (32 << 20))

        @app.get("/pipelines")
        def pipelines() -> Response:
            return PlainTextResponse(" ".join(site.config.pipelines))

        @app.post("/large")
        async def take(request: Request) -> Response:
            async with request.form() as form:
                file = form["image"].file
                return PlainTextResponse(str(Path(f"/proc/self/fd/{file.fileno()}").readlink()))

        return app

    monkeypatch.setattr(editions, "make_app", make_app)


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Starts a server in a thread of this process."""
    running: list[tuple[Server, threading.Thread]] = []

    def start(config: Config, options: Options = ALL) -> Server:
        server, started = Server(config, options), threading.Event()
        thread = threading.Thread(target=server.run, args=(started.set,))
        thread.start()
        running.append((server, thread))
        assert started.wait(LIMIT_S)
        return server

    yield start
    for server, _ in running:
        server.stop()
    for _, thread in running:
        thread.join(LIMIT_S)
        assert not thread.is_alive()


def port_of(server: Server) -> int:
    return int(server.url.rpartition(":")[2])


def connect(server: Server) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port_of(server)), LIMIT_S)
    made.settimeout(LIMIT_S)
    return made


def read_all(connected: socket.socket) -> bytes:
    """What comes until the other side ends the connection."""
    parts: list[bytes] = []
    try:
        while part := connected.recv(1 << 16):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def request(path: str, *headers: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1", *headers, "", ""]
    return "\r\n".join(lines).encode()


# --- the begin ---


def test_it_answers_where_it_says(serve: Callable[..., Server], config: Config):
    server = serve(config)
    assert server.url.startswith("http://127.0.0.1:")
    assert port_of(server) > 0
    assert httpx2.get(f"{server.url}/docs").status_code == 200


def test_the_data_folder_says_where_it_is(
    serve: Callable[..., Server], config: Config, monkeypatch: pytest.MonkeyPatch
):
    plain = serve(config)
    monkeypatch.setenv("DNA_SERVE_TOKEN", TOKEN)
    other = serve(config)
    servers = running(config.data)
    assert [(each.url, each.has_token) for each in servers] == [
        (other.url, True), (plain.url, False),
    ]  # fmt: skip
    entries = list(config.data.glob("server.*"))
    assert len(entries) == 4
    assert not any(TOKEN.encode() in entry.read_bytes() for entry in entries)
    other.stop()
    until(lambda: [each.url for each in running(config.data)] == [plain.url])


def test_a_port_that_is_taken_is_a_sentence(config: Config):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"port {port} of 127.0.0.1 is in use .* --port"):
            Server(config, Options(port=port))


@pytest.mark.parametrize(
    ("host", "says"),
    [
        ("", "0.0.0.0 stands for all"),
        ("no such name", "no known name or address"),
        ("a..b", "no known name or address"),
        ("203.0.113.1", "no address of this machine"),
    ],
)
def test_an_address_that_is_none_is_a_sentence(
    config: Config, host: str, says: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DNA_SERVE_TOKEN", TOKEN)
    with pytest.raises(ConfigError, match=f"--host.*{says}"):
        Server(config, Options(host=host, port=0))


def test_no_other_machine_is_let_in_unasked(config: Config):
    with pytest.raises(ConfigError, match="set a token") as caught:
        Server(config, Options(host="0.0.0.0", port=0))
    assert "networks: [192.168.1.0/24]" in str(caught.value)


def test_with_a_token_it_listens_everywhere(
    serve: Callable[..., Server], config: Config, tmp_path: Path
):
    file = tmp_path / "token"
    file.write_text(TOKEN)
    server = serve(config, Options(host="0.0.0.0", port=0, token_file=file))
    here = f"http://127.0.0.1:{port_of(server)}"
    assert server.url == f"http://{socket.gethostname()}:{port_of(server)}"
    assert httpx2.get(f"{here}/pipelines").status_code == 401
    bearer = {"authorization": f"Bearer {TOKEN}"}
    assert httpx2.get(f"{here}/pipelines", headers=bearer).text == "cut"
    assert [f"chmod 600 {file}" in warning for warning in server.warnings] == [True]


# --- the end ---


def test_it_ends_soon_with_hundreds_of_open_streams(
    serve: Callable[..., Server], config: Config, ledger: Ledger
):
    server = serve(config)
    with ExitStack() as stack:
        streams = [stack.enter_context(closing(connect(server))) for _ in range(400)]
        for stream in streams:
            stream.sendall(request("/api/test/events"))
        guard = server._server._editions._current.guard
        until(lambda: guard.streams == 400)
        add_events(ledger, "a")
        for stream in streams:
            until_text(stream, b"data: 1")
        server.stop()
        ends = [read_all(stream) for stream in streams]
    assert {end[-5:] for end in ends} == {b"0\r\n\r\n"}  # each was ended, and none cut off
    assert guard.streams == 0


def until_text(stream: socket.socket, text: bytes) -> None:
    seen = b""
    while text not in seen:
        part = stream.recv(1 << 12)
        assert part, "the stream has ended"
        seen += part


# --- slow clients ---


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /pipelines HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ",
        request("/pipelines") + b"GET /pip",
        b"POST /pipelines HTTP/1.1\r\nHost: evil\r\nContent-Length: 100\r\n\r\nx",
    ],
)
def test_a_request_that_does_not_come_is_given_up(
    serve: Callable[..., Server], config: Config, monkeypatch: pytest.MonkeyPatch, sent: bytes
):
    monkeypatch.setattr(connection, "REQUEST_S", 0.2)
    server = serve(config)
    with closing(connect(server)) as slow:
        slow.sendall(sent)
        assert read_all(slow).count(b"HTTP/1.1 ") == sent.count(b"\r\n\r\n")


def test_an_idle_connection_is_kept_and_then_ended(
    serve: Callable[..., Server], config: Config, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(connection, "REQUEST_S", 0.2)
    monkeypatch.setattr(connection, "IDLE_S", 1.0)
    server = serve(config)
    with closing(connect(server)) as client:
        for _ in range(3):
            client.sendall(request("/pipelines"))
            until_text(client, b"cut")
            client.settimeout(0.3)  # longer than a request may take
            with pytest.raises(TimeoutError):
                client.recv(1)
            client.settimeout(LIMIT_S)
        assert read_all(client) == b""


def test_a_client_that_takes_nothing_is_given_up(
    serve: Callable[..., Server], config: Config, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(connection, "TAKE_S", 0.2)
    server = serve(config)
    with closing(connect(server)) as slow:
        slow.sendall(request("/large"))
        state = server._server.server_state
        until(lambda: bool(state.connections))
        until(lambda: not state.connections and not state.tasks)
        assert len(read_all(slow)) < 32 << 20


def test_a_client_that_takes_it_slowly_gets_all(
    serve: Callable[..., Server], config: Config, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(connection, "TAKE_S", 2.0)
    server = serve(config)
    with closing(connect(server)) as slow:
        slow.sendall(request("/large", "Connection: close"))
        assert len(read_all(slow)) > 32 << 20


def test_a_refused_upload_hears_why(serve: Callable[..., Server], config: Config):
    server = serve(config)
    with closing(connect(server)) as client:
        client.sendall(
            b"POST /pipelines HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 3000000\r\n\r\n"
        )
        client.sendall(b"x" * 3_000_000)
        client.sendall(request("/pipelines", "Connection: close"))
        answers = read_all(client)
    assert answers.startswith(b"HTTP/1.1 421 ")
    assert b"HTTP/1.1 200 OK" in answers  # on the same connection


# --- TLS ---


@pytest.fixture
def https(config: Config, tmp_path: Path) -> Config:
    files = certificates.make(tmp_path)
    config.file.write_text(
        f"{PIPELINE_YAML}serve: {{certificate: {files.certificate}, key: {files.key}}}\n"
    )
    return load_config(config.file, {})


def fingerprint(server: Server) -> bytes:
    """The certificate that a client sees."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with context.wrap_socket(connect(server)) as connected:
        certificate = connected.getpeercert(binary_form=True)
    assert certificate
    return certificate


def test_a_renewed_certificate_is_taken_over(
    serve: Callable[..., Server],
    https: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(module, "FOLLOW_TICKS", 1)
    server = serve(https)
    assert server.url.startswith("https://127.0.0.1:")
    answer = httpx2.get(f"{server.url}/pipelines", verify=False)
    assert answer.text == "cut"
    before = fingerprint(server)
    certificates.make(tmp_path)
    until(lambda: fingerprint(server) != before)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda cert, key: cert.unlink(), "serve.certificate: .*there is no such file"),
        (lambda cert, key: key.unlink(), "serve.key: .*there is no such file"),
        (lambda cert, key: cert.write_text("no certificate"), "not in PEM format"),
        (lambda cert, key: cert.write_text(""), "not in PEM format"),
        (lambda cert, key: key.write_text("no key"), "not in PEM format"),
        (lambda cert, key: certificates.make(cert.parent).certificate.replace(cert), ""),
        (lambda cert, key: encrypt(key), "protected by a password"),
    ],
)
def test_a_certificate_that_cannot_be_used_is_a_sentence(
    https: Config, change: Callable[[Path, Path], object], says: str
):
    certificate, key = https.serve.certificate, https.serve.key
    assert certificate and key
    old = key.read_bytes()
    change(certificate, key)
    if not says:
        key.write_bytes(old)
        says = "serve.key: .*does not belong to the certificate"
    with pytest.raises(ConfigError, match=says):
        Server(https, ALL)


def encrypt(file: Path) -> None:
    key = serialization.load_pem_private_key(file.read_bytes(), None)
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )


# --- edits of pipeline.yaml ---


def test_an_edit_is_taken_over_and_cuts_off_nobody(
    serve: Callable[..., Server], config: Config, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(config_watch, "LOOK_S", 0.02)
    monkeypatch.setattr(config_watch, "SETTLE_S", 0.05)
    monkeypatch.setattr(config_watch, "INVALID_SETTLE_S", 0.05)
    monkeypatch.setattr(module, "FOLLOW_TICKS", 1)
    server = serve(config)
    with closing(connect(server)) as stream:
        stream.sendall(request("/api/test/events"))
        add_events(ledger, "a")
        until_text(stream, b"data: 1\n")

        config.file.write_text(PIPELINE_YAML.replace("cut", "trim"))
        until(lambda: httpx2.get(f"{server.url}/pipelines").text == "trim")
        config.file.write_text("version: 1\npipelines: nonsense\n")
        until(lambda: bool(server._server._problem))
        assert httpx2.get(f"{server.url}/pipelines").text == "trim"
        config.file.write_text(PIPELINE_YAML.replace("cut", "crop"))
        until(lambda: httpx2.get(f"{server.url}/pipelines").text == "crop")

        add_events(ledger, "a")
        until_text(stream, b"data: 2\n")
        assert len(server._server._editions._before) == 1
    until(lambda: not server._server._editions._before)


def test_an_edit_that_would_let_nobody_in_is_not_taken_over(
    serve: Callable[..., Server], config: Config, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(config_watch, "LOOK_S", 0.02)
    monkeypatch.setattr(config_watch, "SETTLE_S", 0.05)
    monkeypatch.setattr(module, "FOLLOW_TICKS", 1)
    config.file.write_text(f"{PIPELINE_YAML}serve: {{networks: [127.0.0.0/8]}}\n")
    server = serve(load_config(config.file, {}), Options(host="0.0.0.0", port=0))
    here = f"http://127.0.0.1:{port_of(server)}/pipelines"
    assert httpx2.get(here).status_code == 200
    config.file.write_text(PIPELINE_YAML)
    until(lambda: "set a token" in server._server._problem)
    assert httpx2.get(here).status_code == 200


# --- the log ---


def test_the_log_has_no_tokens(
    serve: Callable[..., Server], config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("DNA_SERVE_TOKEN", TOKEN)
    root = logging.getLogger()
    before, level = root.handlers, root.level
    try:
        logs.configure(tmp_path, console=False, file=logs.server_log_file(tmp_path))
        server = serve(config)
        with httpx2.Client(base_url=server.url) as client:
            client.get(f"/api/x/events?token={TOKEN}")
            client.get("/pipelines", headers={"authorization": f"Bearer {TOKEN}"})
            client.post("/login", data={"token": TOKEN})
            client.get(f"/large?token={TOKEN}")
        with closing(connect(server)) as broken:
            broken.sendall(f"GET /?token={TOKEN} NONSENSE\r\n\r\n".encode())
            read_all(broken)
        text = (tmp_path / "serve.log").read_text()
    finally:
        for handler in root.handlers:
            handler.close()
        structlog.reset_defaults()
        root.handlers = before
        root.setLevel(level)
    assert text.count("request.answered") == 4
    assert TOKEN not in text


# --- requests that no client sends ---


ODD = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET\r\n\r\n",
    b"GET /pipelines\r\n\r\n",
    b"GET /pipelines HTTP/1.1\r\n\r\n",
    b"GET /pipelines HTTP/1.0\r\n\r\n",
    b"GET /pipelines HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n",
    b"GET /pipelines HTTP/1.1\r\nHost: 127.0.0.1 evil.example\r\n\r\n",
    b"GET http://evil.example/pipelines HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    b"GET http://127.0.0.1/pipelines HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"TRACE /pipelines HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET /docs/..%2f..%2fdocs_page.py HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET /docs/swagger-ui/LICENSE.txt HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET /docs//etc/passwd HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET /docs/%00 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET /docs/\xff HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET /docs HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
    b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"POST /docs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: x\r\n\r\n",
    b"POST /docs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
    b"POST /docs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    b"POST /docs HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: gzip\r\n\r\n",
    b"POST /docs HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST /docs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999999\r\n\r\n",
    b"GET /docs HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: 127.0.0.1\r\n\r\n",
    b"GET /docs HTTP/1.1\r\nHost: 127.0.0.1\r\n Folded: x\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]  # fmt: skip


def test_each_odd_request_is_refused(serve: Callable[..., Server], config: Config, tmp_path: Path):
    server = serve(config)
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    for sent in ODD:
        with closing(connect(server)) as client:
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
            answer = read_all(client)
        assert not answer or answer.startswith(b"HTTP/1.1 4"), (sent[:80], answer[:200])
    assert httpx2.get(f"{server.url}/pipelines").text == "cut"
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.skipif(sys.platform != "linux", reason="looks at the open file by /proc")
def test_a_large_upload_lies_in_the_data_folder_until_it_is_read(
    serve: Callable[..., Server], config: Config
) -> None:
    usual = tempfile.gettempdir()
    server = serve(config)
    assert tempfile.gettempdir() == usual, "others find each other's locks there"
    said = httpx2.post(f"{server.url}/large", files={"image": b"x" * (2 << 20)}, timeout=LIMIT_S)
    assert said.text.startswith(f"{config.data}/uploads/")
    assert list((config.data / "uploads").iterdir()) == []
