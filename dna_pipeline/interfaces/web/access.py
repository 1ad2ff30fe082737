"""Rules of who may come in: tokens, logins by cookie, networks, and whom proxies speak for.

| listens on | token | `serve.networks` | who may come in |
|---|---|---|---|
| loopback | none | any | every program of this machine |
| loopback | set | any | who has the token, and these networks |
| elsewhere | set | any | who has the token, and these networks |
| elsewhere | none | set | these networks |
| elsewhere | none | none | nobody: the server does not start |

A page of an origin that nobody has named, which only `*` lets in, needs the token in any case: a
browser in one of the networks may show pages of strangers.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from urllib.parse import parse_qsl

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.types import Scope

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.config.file_parts import ServeSpec

TOKEN_VARIABLE = "DNA_SERVE_TOKEN"
LEAST_TOKEN_CHARS = 16
LOGIN_S = 30 * 86400
"""Time after which a browser has to log in again."""

_MEND = "`openssl rand -hex 24` makes one"

_IN_QUERY = re.compile(r"/data/output/.|/api/.*/(?:events|files)(?:/|$)|/api/v1/events$")
"""Paths of event streams and files, whose address may hold the token: a browser can give neither
`EventSource` nor `<img>` a header."""

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Client:
    """The sender of a request.

    Attributes:
        address: None if it is not known.
        scheme: `http` or `https`, as the sender has it.
    """

    address: Address | None
    scheme: str


class Access:
    """Knows who may come in.

    Args:
        token: None: none is set.
        is_loopback: True if the server listens on loopback addresses alone.
        now: gives the Unix time.
    """

    def __init__(
        self,
        token: str | None,
        spec: ServeSpec,
        *,
        is_loopback: bool,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._secret = None if token is None else token.encode()
        self._digest = b"" if self._secret is None else _digest(self._secret)
        self._networks = _networks(spec.networks)
        self._proxies = _networks(spec.proxies)
        self._is_loopback = is_loopback
        self._now = now

    @property
    def has_token(self) -> bool:
        return self._secret is not None

    # --- where a request comes from ---

    def client_of(self, scope: Scope, headers: Headers) -> Client:
        """The sender of a request: the peer, or the one that a trusted proxy names.

        Each proxy appends the address of its own peer to `X-Forwarded-For`, so the last one that is
        no proxy's is true, and those before it may be made up.
        """
        peer = scope.get("client")
        address, scheme = _address(peer[0] if peer else ""), scope["scheme"]
        if not _lies_in(address, self._proxies):
            return Client(address, scheme)
        named = ",".join(headers.getlist("x-forwarded-for")).split(",")
        for entry in reversed([entry.strip() for entry in named if entry.strip()]):
            address = _address(_without_port(entry))
            if not _lies_in(address, self._proxies):
                break
        said = headers.get("x-forwarded-proto", "").rpartition(",")[2].strip().lower()
        return Client(address, said if said in ("http", "https") else scheme)

    # --- whether it may come in ---

    def permits(
        self, scope: Scope, headers: Headers, client: Client, *, needs_token: bool = False
    ) -> bool:
        """True if the sender may come in: by its address, the token, or a login.

        Args:
            needs_token: True if the address alone is not enough.
        """
        if not needs_token and self._is_let_in_by_address(client.address):
            return True
        if self._secret is None:
            return False
        return self._has_token(scope, headers) or self._is_logged_in(scope, headers)

    def _is_let_in_by_address(self, address: Address | None) -> bool:
        if self._secret is None and self._is_loopback and _is_loopback(address):
            return True
        return _lies_in(address, self._networks)

    def is_token(self, text: str) -> bool:
        """True if it is the token; takes the same time for each text that is not."""
        return self._secret is not None and self._matches(text.encode("utf-8", "replace"))

    def _has_token(self, scope: Scope, headers: Headers) -> bool:
        return any(map(self._matches, (*_in_headers(headers), *_in_query(scope))))

    def _matches(self, secret: bytes) -> bool:
        # Of hashes, so that the length of the token stays hidden too.
        return hmac.compare_digest(_digest(secret), self._digest)

    # --- logins ---

    def login_cookie(self, scope: Scope, scheme: str) -> str:
        """The header `Set-Cookie` of a login. It holds the time and a keyed hash, not the token."""
        began = f"{int(self._now()):x}"
        value = f"{began}.{self._mac(began)}"
        return f"{cookie_name(scope)}={value}; Max-Age={LOGIN_S}{_flags(scheme)}"

    def logout_cookie(self, scope: Scope, scheme: str) -> str:
        """The header `Set-Cookie` that ends a login."""
        return f"{cookie_name(scope)}=; Max-Age=0{_flags(scheme)}"

    def _is_logged_in(self, scope: Scope, headers: Headers) -> bool:
        cookies = cookie_parser("; ".join(headers.getlist("cookie")))
        began, _, mac = cookies.get(cookie_name(scope), "").partition(".")
        sent, ours = mac.encode("utf-8", "replace"), self._mac(began).encode()
        if not hmac.compare_digest(sent, ours):
            return False
        return 0 <= self._now() - int(began, 16) <= LOGIN_S

    def _mac(self, began: str) -> str:
        assert self._secret is not None
        text = f"login to dna-pipeline {began}".encode("utf-8", "replace")
        return hmac.new(self._secret, text, hashlib.sha256).hexdigest()


def read_token(file: Path | None, env: Mapping[str, str] = os.environ) -> str | None:
    """Read the token from the first line of a file, else from `$DNA_SERVE_TOKEN`; None if neither.

    Raises:
        ConfigError: it cannot be read, or is none that is hard to guess and fits into a header.
    """
    if file is None:
        token, place = env.get(TOKEN_VARIABLE), f"${TOKEN_VARIABLE}"
        if not token:
            return None
    else:
        place = f"--token-file {file}"
        try:
            with file.open(encoding="utf-8") as opened:
                token = opened.readline(4096).strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no text"
            raise ConfigError(f"{place}: cannot be read: {why}; {_MEND}") from None
    if len(token) < LEAST_TOKEN_CHARS:
        least = f"a token needs at least {LEAST_TOKEN_CHARS} letters and digits"
        raise ConfigError(f"{place}: {least}; {_MEND}")
    if not re.fullmatch(r"[!-~]+", token):
        raise ConfigError(f"{place}: a token has no blanks and no letters beyond ASCII; {_MEND}")
    return token


def is_readable_by_others(file: Path) -> bool:
    """True if every user of this machine may read the file."""
    return os.name == "posix" and bool(file.stat().st_mode & 0o004)


def cookie_name(scope: Scope) -> str:
    """Name of the cookie of a login. All ports of a host share their cookies."""
    server = scope.get("server")
    return f"dna_login_{server[1] if server else 0}"


def may_hold_token(scope: Scope) -> bool:
    """True for a request whose address may hold the token."""
    return scope["method"] in ("GET", "HEAD") and bool(_IN_QUERY.match(scope["path"]))


def _flags(scheme: str) -> str:
    secure = "; Secure" if scheme == "https" else ""
    return f"; Path=/; HttpOnly; SameSite=Strict{secure}"


def _in_headers(headers: Headers) -> Iterator[bytes]:
    """The tokens of the headers `Authorization`: that of Bearer, and the password of Basic."""
    for value in headers.getlist("authorization"):
        scheme, _, rest = value.partition(" ")
        if scheme.lower() == "bearer":
            yield rest.strip().encode("latin-1")
        elif scheme.lower() == "basic":
            with suppress(binascii.Error, ValueError):
                yield base64.b64decode(rest.strip(), validate=True).partition(b":")[2]


def _in_query(scope: Scope) -> Iterator[bytes]:
    if may_hold_token(scope):
        for name, value in parse_qsl(scope.get("query_string", b"").decode("latin-1")):
            if name == "token":
                yield value.encode("utf-8", "replace")


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()


def _networks(texts: Iterable[str]) -> tuple[Network, ...]:
    return tuple(ip_network(text) for text in texts)


def _without_port(entry: str) -> str:
    """An address of `X-Forwarded-For`: `192.0.2.1`, `192.0.2.1:4711`, `2001:db8::1`,
    `[2001:db8::1]:4711`."""
    if entry.startswith("["):
        return entry[1:].partition("]")[0]
    return entry.partition(":")[0] if entry.count(":") == 1 else entry


def _address(text: str) -> Address | None:
    """An address as networks are compared with: one of IPv4 although it came over IPv6."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _lies_in(address: Address | None, networks: Iterable[Network]) -> bool:
    return address is not None and any(address in network for network in networks)


def _is_loopback(address: Address | None) -> bool:
    return address is not None and address.is_loopback
