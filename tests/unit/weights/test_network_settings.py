"""Variables of the environment that are wrong: a sentence at once, and no secret in it."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dna_pipeline.base.errors import TransferFailed
from dna_pipeline.weights.download import Downloader, RemoteFile, make_client
from dna_pipeline.weights.pins import PinnedFile, Source
from tests.hub import Answer, Hub, Silent, running_hub

DATA = b"weights" * 100
SOURCE = Source("o/r", "rev", True)
FILE = PinnedFile("w.bin", "w.bin", len(DATA), hashlib.sha256(DATA).hexdigest())
PROXIES = [f"{kind}_proxy" for kind in ("http", "https", "all", "no")]


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXIES, "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub({"/o/r/resolve/rev/w.bin": DATA}) as hub:
        yield hub


def fault(tmp_path: Path, env: dict[str, str]) -> tuple[str, list[float]]:
    """The sentence of a fetch that fails, and the waits before it."""
    waits: list[float] = []
    with pytest.raises(TransferFailed) as error, make_client() as client:
        downloader = Downloader(client, Silent(), env, waits.append)
        downloader.fetch(RemoteFile(FILE, SOURCE, "m"), tmp_path / "w.bin")
    return str(error.value), waits


@pytest.mark.parametrize(
    "endpoint",
    ["mirror.example", "ftp://mirror", "file:///x", "http:/mirror", "http://", "//x", "http://a b"],
)
def test_an_endpoint_that_is_no_web_address_is_named_at_once(tmp_path: Path, endpoint: str):
    text, waits = fault(tmp_path, {"HF_ENDPOINT": endpoint})
    assert text.startswith("HF_ENDPOINT is ")
    assert "must begin with https://" in text
    assert waits == []


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "ftp://x/y", "http://bad..host/", "http://x:port/"]
)
def test_a_redirect_that_cannot_be_followed_ends_at_once(hub: Hub, tmp_path: Path, location: str):
    hub.always = Answer(302, {"Location": location}, body=b"")
    text, waits = fault(tmp_path, hub.env)
    assert text.startswith(hub.url)
    assert "redirects to" in text and "HF_ENDPOINT" in text
    assert waits == []


@pytest.mark.parametrize("token", ["hf_sec\nret", "hf_sec ret", "hf_sec猫ret", "hf_sec\x00ret"])
def test_a_token_with_other_letters_is_refused_and_not_shown(hub: Hub, tmp_path: Path, token: str):
    text, waits = fault(tmp_path, {**hub.env, "HF_TOKEN": token})
    assert "HF_TOKEN" in text
    assert "sec" not in text and "ret" not in text
    assert (hub.requests, waits) == ([], [])


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://user:hidden@127.0.0.1:{port}",
        "user:hidden@x",
        "http://user:hid/hidden@x",
        "ftp://u:hidden@x",
    ],
)
def test_the_password_in_an_endpoint_is_not_shown(hub: Hub, tmp_path: Path, endpoint: str):
    hub.always = Answer(404)
    env = {"HF_ENDPOINT": endpoint.format(port=hub.port)}
    assert "hidden" not in fault(tmp_path, env)[0]
    assert "hidden" not in SOURCE.endpoint(env) + SOURCE.shown_url("w.bin", env)


def test_the_password_in_an_endpoint_is_sent(hub: Hub, tmp_path: Path):
    env = {"HF_ENDPOINT": hub.url.replace("//", "//user:hidden@")}
    with make_client() as client:
        Downloader(client, Silent(), env).fetch(RemoteFile(FILE, SOURCE, "m"), tmp_path / "w.bin")
    assert hub.requests[0].authorization == "Basic dXNlcjpoaWRkZW4="


@pytest.mark.parametrize("wait", ["²", "9" * 5000, "Mon, 01 Jan 2024 00:00:00 +99999999999999"])
def test_a_wait_that_is_no_time_is_as_if_none_was_said(hub: Hub, tmp_path: Path, wait: str):
    hub.always = Answer(503, {"Retry-After": wait.encode().decode("latin-1")})
    text, waits = fault(tmp_path, hub.env)
    assert "503" in text
    assert waits == [1, 2, 4, 8, 16]


@pytest.mark.parametrize("number", ["²", "9" * 5000])
def test_numbers_of_headers_are_plain_digits(hub: Hub, tmp_path: Path, number: str):
    length = f"bytes 0-{len(DATA) - 1}/{number}".encode().decode("latin-1")
    hub.always = Answer(206, {"Content-Range": length})
    with make_client() as client:
        Downloader(client, Silent(), hub.env).fetch(
            RemoteFile(FILE, SOURCE, "m"), tmp_path / "w.bin"
        )
    assert (tmp_path / "w.bin").read_bytes() == DATA


@pytest.mark.parametrize(
    ("proxy", "words"),
    [
        ("socks5://user:hidden@x:1", "is a SOCKS proxy"),
        ("gopher://user:hidden@x:1", "cannot be used"),
    ],
)
def test_a_proxy_of_another_kind_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proxy: str, words: str
):
    monkeypatch.setenv("ALL_PROXY", proxy)
    text, waits = fault(tmp_path, {})
    assert words in text and "ALL_PROXY" in text and "hidden" not in text
    assert waits == []


def test_a_dead_proxy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HTTP_PROXY", "http://user:hidden@127.0.0.1:9")
    text, _ = fault(tmp_path, {"HF_ENDPOINT": "http://mirror.invalid"})
    assert "through the proxy http://127.0.0.1:9 (HTTP_PROXY)" in text
    assert "Check HTTP_PROXY" in text
    assert "hidden" not in text


def test_a_proxy_that_refuses_is_not_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def refuse() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=refuse, daemon=True)
        thread.start()
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{server.getsockname()[1]}")
        text, waits = fault(tmp_path, {"HF_ENDPOINT": "https://mirror.invalid"})
        thread.join(10)
    assert "407" in text and "https_proxy" in text and "The proxy refuses" in text
    assert waits == []


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("none", "which is not there"),
        ("folder", "which is a folder"),
        ("text", "which holds no certificates"),
    ],
)
def test_certificates_that_are_none_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, words: str
):
    path = tmp_path / "certificates.pem"
    if kind == "folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("no PEM")
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    text, waits = fault(tmp_path, {})
    assert f"SSL_CERT_FILE names {path}, {words}" in text
    assert waits == []
