"""The names by which browsers may address the server, and the pages that may send to it.

A page of a stranger can make a browser send requests to this machine. If it does so under the
stranger's own name, which its DNS has turned to an address of ours (DNS rebinding), the header
`Host` gives it away. If it sends them to our name, `Origin` or `Sec-Fetch-Site` do. Programs send
neither of these two, and need none.
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Any, cast

from starlette.datastructures import Headers
from starlette.types import Scope

from dna_pipeline.base.errors import ConfigError

ORIGINS_VARIABLE = "DNA_CORS_ALLOW_ORIGINS"

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing here."""

_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?P<port>:\d{1,5})?")
_ORIGIN = re.compile(r"(?P<scheme>https?)://(?P<host>[^/?#@\s]+)")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class ServerNames:
    """The names of this server, and the origins of others that may use it.

    Args:
        listens_on: the address that it was told to listen on.
        hosts: further names, of `serve.hosts`.
        origins: as `read_origins` gives them.
    """

    def __init__(
        self, listens_on: str, hosts: Iterable[str] = (), origins: Iterable[str] = ()
    ) -> None:
        self.origins = frozenset(origins)
        own = socket.gethostname().lower()
        short = own.partition(".")[0]
        names = {"localhost", listens_on, own, short, f"{short}.local", *hosts}
        self._names = {_plain(name) for name in names} - {""}

    def host_of(self, headers: Headers) -> str | None:
        """The header `Host`, with its port; None if it is missing, double or malformed."""
        sent = headers.getlist("host")
        return sent[0].lower() if len(sent) == 1 and _HOST.fullmatch(sent[0]) else None

    def is_ours(self, host: str, scope: Scope) -> bool:
        """True if a valid `Host` is a name of this server, or the address that was connected to."""
        name = _plain(host)
        if name in self._names:
            return True
        try:
            address = ip_address(name)
        except ValueError:
            return False
        server = scope.get("server")
        return address.is_loopback or (bool(server) and name == _plain(str(server[0])))

    def may_send(self, headers: Headers, host: str) -> bool:
        """True if a request that changes something comes from a program, from a page of this
        server, or from one of an origin that may.

        The scheme is not compared: a proxy may take https and give http.
        """
        return self._is_known(headers, host) or self.is_allowed_by_wildcard(headers, host)

    def is_allowed_by_wildcard(self, headers: Headers, host: str) -> bool:
        """True if the request comes from a page of another origin that nobody has named, so that
        `*` alone lets it in."""
        is_any = "*" in self.origins and "origin" in headers
        return is_any and not self._is_known(headers, host)

    def _is_known(self, headers: Headers, host: str) -> bool:
        """True for a program, a page of this server, and one of an origin that is named."""
        origin = headers.get("origin")
        if origin in self.origins:
            return True
        if (site := headers.get("sec-fetch-site")) is not None:
            return site in ("same-origin", "none")
        if origin is None:
            return True
        match = _ORIGIN.fullmatch(origin.lower())
        if match is None:
            return False
        port = _DEFAULT_PORTS[match["scheme"]]
        return match["host"].removesuffix(port) == host.removesuffix(port)


def read_origins(env: Mapping[str, str] = os.environ, *, has_token: bool = False) -> list[str]:
    """Read `$DNA_CORS_ALLOW_ORIGINS`: origins, as a JSON list or with commas between them.

    Raises:
        ConfigError: one is no origin, or is `*` without a token: every page that a browser shows
            could then use the server.
    """
    text = env.get(ORIGINS_VARIABLE, "").strip()
    origins = [origin.strip().rstrip("/") for origin in _list(text)]
    for origin in filter(None, origins):
        if origin == "*":
            if not has_token:
                raise ConfigError(
                    f"${ORIGINS_VARIABLE}: `*` lets every web page in; set a token "
                    "(--token-file), or name the origins"
                )
        elif not _ORIGIN.fullmatch(origin):
            raise ConfigError(
                f"${ORIGINS_VARIABLE}: {origin!r} is no origin like http://localhost:3000"
            )
    return [origin.lower() for origin in origins if origin]


def _list(text: str) -> list[str]:
    if not text.startswith("["):
        return text.split(",")
    try:
        value: Any = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"${ORIGINS_VARIABLE}: is no JSON list ({error})") from None
    if not all(isinstance(each, str) for each in value):
        raise ConfigError(f"${ORIGINS_VARIABLE}: should be a JSON list of texts")
    return cast(list[str], value)


def _plain(host: str) -> str:
    """A host as hosts are compared: without port, brackets and final dot."""
    name = host.lower().strip()
    if match := _HOST.fullmatch(name):
        name = match["name"]
    return name.strip("[]").rstrip(".")
