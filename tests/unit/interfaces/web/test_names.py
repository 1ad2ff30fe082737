"""Names of the server, and pages that may send to it."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from starlette.datastructures import Headers

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.interfaces.web.names import ServerNames, read_origins
from tests.asgi import make_scope


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> ServerNames:
    monkeypatch.setattr(socket, "gethostname", lambda: "Render7.studio.example")
    origins = ["http://localhost:3000", "https://tools.example"]
    return ServerNames("192.168.1.5", ["DNA.example", "dna2.example:8443"], origins)


def host_is_ours(names: ServerNames, host: str | None, **facts: Any) -> bool:
    scope = make_scope(host=host, **facts)
    found = names.host_of(Headers(scope=scope))
    return found is not None and names.is_ours(found, scope)


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "localhost:8000", "LOCALHOST", "localhost.", "127.0.0.1:8000", "127.8.8.8",
        "[::1]:8000", "192.168.1.5:8000", "render7", "render7.local:8000",
        "render7.studio.example", "dna.example", "DNA.example:443", "dna2.example",
    ],
)  # fmt: skip
def test_a_name_of_ours_is_known(names: ServerNames, host: str):
    assert host_is_ours(names, host)


@pytest.mark.parametrize(
    "host",
    [
        None, "", " ", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example",
        "evil.example:8000", "dna.example.evil.example", "xdna.example", "10.0.0.1", "[::2]",
        "localhost:8000:1", "localhost:999999", "localhost/", "user@localhost", "local host",
        "localhost,evil.example", "[localhost]", "[::1", "\xe4.example", "*", "..", ".",
    ],
)  # fmt: skip
def test_other_names_are_not(names: ServerNames, host: str | None):
    assert not host_is_ours(names, host)


def test_two_names_are_none(names: ServerNames):
    assert not host_is_ours(names, "localhost", headers=[("host", "localhost")])


def test_the_address_that_was_connected_to_is_ours(names: ServerNames):
    here = ("10.0.0.1", 8000)
    assert host_is_ours(names, "10.0.0.1:8000", server=here)
    assert not host_is_ours(names, "10.0.0.2:8000", server=here)
    assert not host_is_ours(names, "evil.example", server=("evil.example", 8000))


def may_send(names: ServerNames, *headers: tuple[str, str], host: str = "localhost:8000") -> bool:
    return names.may_send(Headers(scope=make_scope(headers=headers, host=host)), host)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("origin", "http://localhost:8000")],
        [("origin", "https://localhost:8000")],
        [("origin", "HTTP://LocalHost:8000")],
        [("sec-fetch-site", "same-origin")],
        [("sec-fetch-site", "none")],
        [("sec-fetch-site", "same-origin"), ("origin", "null")],
        [("sec-fetch-site", "cross-site"), ("origin", "https://tools.example")],
        [("origin", "http://localhost:3000")],
    ],
)
def test_a_program_and_a_page_of_ours_may_send(names: ServerNames, headers: list[tuple[str, str]]):
    assert may_send(names, *headers)


@pytest.mark.parametrize(
    "headers",
    [
        [("origin", "null")],
        [("origin", "")],
        [("origin", "http://evil.example")],
        [("origin", "http://localhost")],
        [("origin", "http://localhost:8001")],
        [("origin", "http://localhost:8000.evil.example")],
        [("origin", "http://localhost:8000@evil.example")],
        [("origin", "file://")],
        [("origin", "chrome-extension://abc")],
        [("origin", "https://tools.example.evil.example")],
        [("sec-fetch-site", "cross-site")],
        [("sec-fetch-site", "same-site")],
        [("sec-fetch-site", "same-site"), ("origin", "http://localhost:8001")],
        [("sec-fetch-site", "")],
    ],
)
def test_a_page_of_others_may_not(names: ServerNames, headers: list[tuple[str, str]]):
    assert not may_send(names, *headers)


def test_the_usual_port_may_be_left_out(names: ServerNames):
    assert may_send(names, ("origin", "https://dna.example"), host="dna.example:443")
    assert may_send(names, ("origin", "https://dna.example:443"), host="dna.example")
    assert not may_send(names, ("origin", "https://dna.example:444"), host="dna.example")


# --- DNA_CORS_ALLOW_ORIGINS ---


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("", []),
        ("[]", []),
        ("http://localhost:3000", ["http://localhost:3000"]),
        ("http://a.example/, https://B.example ,", ["http://a.example", "https://b.example"]),
        ('["http://a.example", "https://b.example:8443"]',
         ["http://a.example", "https://b.example:8443"]),
    ],
)  # fmt: skip
def test_origins_are_a_list_of_json_or_with_commas(text: str, origins: list[str]):
    assert read_origins({"DNA_CORS_ALLOW_ORIGINS": text}) == origins


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("localhost:3000", "no origin like"),
        ("http://a.example/page", "no origin like"),
        ("[1]", "list of texts"),
        ("[oops", "no JSON list"),
        ("*", "set a token"),
        ('["*"]', "set a token"),
    ],
)
def test_what_is_no_origin_is_refused(text: str, says: str):
    with pytest.raises(ConfigError, match=says):
        read_origins({"DNA_CORS_ALLOW_ORIGINS": text})


def test_with_a_token_every_origin_may_be_let_in():
    assert read_origins({"DNA_CORS_ALLOW_ORIGINS": "*"}, has_token=True) == ["*"]
