"""Who may come in."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from starlette.datastructures import Headers

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.config.file_parts import ServeSpec
from dna_pipeline.interfaces.web.access import (
    LOGIN_S,
    Access,
    is_readable_by_others,
    may_hold_token,
    read_token,
)
from tests.asgi import make_scope

TOKEN = "a-token-of-sixteen-signs"


def permits(access: Access, path: str = "/api/health", **facts: Any) -> bool:
    scope = make_scope(path, **facts)
    headers = Headers(scope=scope)
    return access.permits(scope, headers, access.client_of(scope, headers))


def make(token: str | None = None, *, is_loopback: bool = True, **keys: Any) -> Access:
    return Access(token, ServeSpec(**keys), is_loopback=is_loopback)


def basic(text: str | bytes) -> list[tuple[str, str]]:
    data = text.encode() if isinstance(text, str) else text
    return [("authorization", f"Basic {base64.b64encode(data).decode()}")]


# --- networks ---


def test_on_loopback_without_a_token_every_program_may_come_in():
    assert permits(make())
    assert permits(make(), client="::1")


def test_elsewhere_without_a_token_only_the_networks_may():
    access = make(is_loopback=False, networks=["192.168.1.0/24", "fd00::/8"])
    assert permits(access, client="192.168.1.7")
    assert permits(access, client="::ffff:192.168.1.7")
    assert permits(access, client="fd00::7")
    assert not permits(access, client="192.168.2.7")
    assert not permits(access, client="127.0.0.1")
    assert not permits(access, client="")
    assert not permits(access, client="192.168.1.7.example")


def test_a_network_needs_no_token_where_there_is_one():
    access = make(TOKEN, networks=["10.0.0.0/8"])
    assert permits(access, client="10.1.2.3")
    assert not permits(access, client="127.0.0.1")


# --- tokens ---


@pytest.mark.parametrize(
    "headers",
    [
        [("authorization", f"Bearer {TOKEN}")],
        [("authorization", f"bearer  {TOKEN} ")],
        basic(f"anyone:{TOKEN}"),
        basic(f":{TOKEN}"),
    ],
)
def test_the_token_lets_in(headers: list[tuple[str, str]]):
    assert permits(make(TOKEN), headers=headers)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("authorization", "Bearer")],
        [("authorization", "Bearer ")],
        [("authorization", f"Bearer {TOKEN}x")],
        [("authorization", f"Bearer {TOKEN[:-1]}")],
        [("authorization", f"Bearer {TOKEN.upper()}")],
        [("authorization", f"Token {TOKEN}")],
        [("authorization", TOKEN)],
        [("authorization", "Bearer " + "x" * 60_000)],
        [("authorization", "Bearer \xe4\xf6\xfc\xdf")],
        [("authorization", "Basic !!!")],
        [("authorization", f"Basic {TOKEN}")],
        basic(TOKEN),
        basic(f"{TOKEN}:"),
        basic(b"\xff\xfe:\xff"),
        [("x-token", TOKEN)],
        [("cookie", f"dna_login_8000={TOKEN}")],
        [("cookie", f"token={TOKEN}")],
    ],
)
def test_anything_else_does_not(headers: list[tuple[str, str]]):
    assert not permits(make(TOKEN), headers=headers)


@pytest.mark.parametrize(
    ("path", "method", "may"),
    [
        ("/data/output/a.png", "GET", True),
        ("/data/output/a.png", "HEAD", True),
        ("/data/output/", "GET", False),
        ("/api/jobs/1a2b/events", "GET", True),
        ("/api/v1/events", "GET", True),
        ("/api/v1/jobs/1a2b/files/a.glb", "GET", True),
        ("/api/v1/jobs", "GET", False),
        ("/api/jobs/1a2b/cancel", "POST", False),
        ("/data/output/a.png", "DELETE", False),
        ("/docs", "GET", False),
    ],
)
def test_an_address_holds_the_token_for_streams_and_files_alone(path: str, method: str, may: bool):
    assert may_hold_token(make_scope(path, method=method)) == may
    access = make(TOKEN)
    assert permits(access, path, method=method, query=f"a=b&token={TOKEN}") == may
    assert not permits(access, path, method=method, query="token=wrong-and-quite-long")


def test_without_a_token_none_lets_in():
    access = make(is_loopback=False, networks=["10.0.0.0/8"])
    for text in ("", "None", "none"):
        assert not permits(access, headers=[("authorization", f"Bearer {text}")])
        assert not access.is_token(text)


# --- logins ---


def log_in(access: Access, scheme: str = "http", port: int = 8000) -> str:
    cookie = access.login_cookie(make_scope(server=("127.0.0.1", port)), scheme)
    return cookie.partition(";")[0]


def test_a_login_lets_in_and_holds_no_token():
    access = make(TOKEN)
    cookie = log_in(access)
    assert TOKEN not in cookie
    assert permits(access, headers=[("cookie", f"other=1; {cookie}; x=2")])


def test_a_login_is_for_this_server_and_only_as_long_as_its_token():
    cookie = log_in(make(TOKEN))
    assert not permits(make("another-token-of-signs"), headers=[("cookie", cookie)])
    assert not permits(make(TOKEN), headers=[("cookie", cookie)], server=("127.0.0.1", 8001))
    assert not permits(make(is_loopback=False), headers=[("cookie", cookie)])


def test_a_login_ends():
    now = [1e9]
    access = Access(TOKEN, ServeSpec(), is_loopback=True, now=lambda: now[0])
    headers = [("cookie", log_in(access))]
    now[0] += LOGIN_S
    assert permits(access, headers=headers)
    now[0] += 1
    assert not permits(access, headers=headers)


@pytest.mark.parametrize("change", ["ffffffff.", "zz.", ".", "-1.", "\xe4."])
def test_the_time_of_a_login_cannot_be_changed(change: str):
    name, _, value = log_in(make(TOKEN)).partition("=")
    forged = f"{name}={change}{value.partition('.')[2]}"
    assert not permits(make(TOKEN), headers=[("cookie", forged)])


def test_the_cookie_is_for_this_site_alone():
    scope = make_scope()
    plain = make(TOKEN).login_cookie(scope, "http")
    assert plain.endswith("; Path=/; HttpOnly; SameSite=Strict")
    assert make(TOKEN).login_cookie(scope, "https").endswith("; SameSite=Strict; Secure")
    assert "Max-Age=0;" in make(TOKEN).logout_cookie(scope, "http")


# --- proxies ---


def client(proxies: list[str], peer: str, *headers: tuple[str, str]) -> tuple[str, str]:
    access, scope = make(proxies=proxies), make_scope(client=peer, headers=headers)
    found = access.client_of(scope, Headers(scope=scope))
    return str(found.address), found.scheme


def test_only_a_proxy_says_for_whom_it_asks():
    said = (("x-forwarded-for", "203.0.113.9"), ("x-forwarded-proto", "https"))
    assert client(["127.0.0.1"], "127.0.0.1", *said) == ("203.0.113.9", "https")
    assert client(["10.0.0.0/8"], "127.0.0.1", *said) == ("127.0.0.1", "http")


@pytest.mark.parametrize(
    ("named", "address"),
    [
        ("10.9.9.9, 203.0.113.9", "203.0.113.9"),
        ("192.168.1.5, 203.0.113.9, 127.0.0.1", "203.0.113.9"),
        ("203.0.113.9:4711", "203.0.113.9"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("192.168.1.5, unknown", "None"),
        ("192.168.1.5, ", "192.168.1.5"),
        ("", "127.0.0.1"),
    ],
)
def test_the_last_address_that_is_no_proxy_counts(named: str, address: str):
    assert client(["127.0.0.1"], "127.0.0.1", ("x-forwarded-for", named))[0] == address


def test_the_scheme_is_one_of_two():
    assert client(["127.0.0.1"], "127.0.0.1", ("x-forwarded-proto", "gopher"))[1] == "http"


def test_behind_a_proxy_loopback_is_no_free_way_in():
    access = make(proxies=["127.0.0.1"])
    assert permits(access)
    assert not permits(access, headers=[("x-forwarded-for", "203.0.113.9")])


# --- where the token is from ---


def test_the_first_line_of_a_file_is_the_token(tmp_path: Path):
    file = tmp_path / "token"
    file.write_text(f"  {TOKEN}\r\nmore\n")
    assert read_token(file, {"DNA_SERVE_TOKEN": "x" * 20}) == TOKEN


def test_else_the_variable_is():
    assert read_token(None, {"DNA_SERVE_TOKEN": TOKEN}) == TOKEN
    assert read_token(None, {"DNA_SERVE_TOKEN": ""}) is None
    assert read_token(None, {}) is None


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "at least 16"),
        (b"short\n", "at least 16"),
        (b"two words are no token\n", "no blanks"),
        ("schlüssel-mit-umlaut\n".encode(), "beyond ASCII"),
        (b"\xff\xfe\x00" * 10, "it is no text"),
    ],
)
def test_a_bad_token_is_refused(tmp_path: Path, content: bytes, says: str):
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=says) as caught:
        read_token(file)
    assert "openssl rand" in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"token-file .*none: cannot be read: No such file"):
        read_token(tmp_path / "none")


def test_a_file_that_all_may_read_is_noticed(tmp_path: Path):
    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(0o640)
    assert not is_readable_by_others(file)
    file.chmod(0o644)
    assert is_readable_by_others(file)
