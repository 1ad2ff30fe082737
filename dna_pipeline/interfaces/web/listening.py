"""Sockets to listen on, certificates, and the address that people type."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from dna_pipeline.base.errors import ConfigError

BACKLOG = 2048
MOST_FILES = 8192
"""Number of open files to ask the system for. Each connection is one, and the default is often
1024."""
RESERVED_FILES = 200
"""Files that are open beside connections: the ledger, uploads, results."""

_EVERYWHERE = ("0.0.0.0", "::")


@dataclass(frozen=True, slots=True)
class Listening:
    """Sockets that are bound, on one port.

    Attributes:
        host: as people named it.
        is_loopback: True if no other machine reaches them.
    """

    host: str
    port: int
    sockets: list[socket.socket]
    is_loopback: bool

    def url(self, *, is_https: bool) -> str:
        """The address for a browser."""
        name = socket.gethostname() if self.host in _EVERYWHERE else self.host
        shown = f"[{name}]" if ":" in name else name
        return f"{'https' if is_https else 'http'}://{shown}:{self.port}"

    def close(self) -> None:
        for each in self.sockets:
            each.close()


def resolve(host: str, port: int) -> list[tuple[socket.AddressFamily, str]]:
    """The addresses that a name stands for. Raises `ConfigError` if it is none of this machine."""
    if not host:
        raise ConfigError("--host: should be an address; 0.0.0.0 stands for all of this machine")
    try:
        entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise ConfigError(f"--host {host}: is no known name or address") from None
    unique = dict.fromkeys((family, str(address[0])) for family, _, _, _, address in entries)
    return [pair for pair in unique if pair[0] in (socket.AF_INET, socket.AF_INET6)]


def is_loopback(addresses: list[tuple[socket.AddressFamily, str]]) -> bool:
    return all(ip_address(address.partition("%")[0]).is_loopback for _, address in addresses)


def listen(host: str, port: int, addresses: list[tuple[socket.AddressFamily, str]]) -> Listening:
    """Bind sockets on the addresses of a name. Raises `ConfigError`, which says what to do."""
    sockets: list[socket.socket] = []
    number = port
    try:
        for family, address in addresses:
            bound = _bind(family, address, number)
            if bound is None:  # such as ::1 of localhost, in a container without IPv6
                continue
            sockets.append(bound)
            number = bound.getsockname()[1]
        if not sockets:
            raise ConfigError(f"--host {host}: is no address of this machine; 0.0.0.0 is all")
    except OSError as error:
        for each in sockets:
            each.close()
        raise ConfigError(_why(error, host, number)) from None
    return Listening(host, number, sockets, is_loopback(addresses))


def _bind(family: socket.AddressFamily, address: str, port: int) -> socket.socket | None:
    """A bound socket; None if this machine lacks the address. Raises OSError."""
    try:
        # The protocol is named, since asyncio sets TCP_NODELAY only for sockets that name it.
        # Without that, the second part of each answer waits 40 ms for the client's receipt.
        bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError:
        return None
    try:
        if os.name == "nt":
            # Elsewhere it lets a port be taken again soon, there from a program that has it.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)  # type: ignore[attr-defined]
        else:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address != "::"))
        bound.bind((address, port))
        bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRNOTAVAIL:
            return None
        raise
    return bound


def _why(error: OSError, host: str, port: int) -> str:
    place = f"port {port} of {host}"
    if error.errno == errno.EADDRINUSE or getattr(error, "winerror", 0) == 10048:
        return f"{place} is in use by another program; --port takes another, or 0 for any free one"
    if error.errno == errno.EACCES:
        return f"{place}: this user may not listen there; ports above 1023 are free for all"
    return f"{place}: cannot listen there: {error.strerror}"


def raise_file_limit() -> int:
    """Allow this process as many open files as may be needed; give the number of connections that
    fit."""
    if os.name != "posix":
        return MOST_FILES - RESERVED_FILES
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(MOST_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
    files = MOST_FILES if soft == resource.RLIM_INFINITY else min(soft, MOST_FILES)
    return max(files - RESERVED_FILES, RESERVED_FILES)


class Certificate:
    """The certificate of https, read again when its file has changed.

    Raises:
        ConfigError: a file is missing, or the two do not belong together.
    """

    def __init__(self, certificate: Path, key: Path | None) -> None:
        self._files = (certificate, key)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._loaded_state = self._state()
        self._load(self.context)

    def give(self, *_: object) -> ssl.SSLContext:
        """The context, as uvicorn asks for it."""
        return self.context

    def refresh(self) -> bool:
        """Take over a renewed certificate for new connections; True if there was one.

        Raises:
            ConfigError: the new one cannot be used; the one before stays.
        """
        if (state := self._state()) == self._loaded_state:
            return False
        self._loaded_state = state
        # Into a context of its own first: half of a pair that is being written spoils none.
        self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        self._load(self.context)
        return True

    def _state(self) -> list[tuple[int, int, int] | None]:
        return [_state_of(file) for file in self._files if file is not None]

    def _load(self, context: ssl.SSLContext) -> None:
        certificate, key = self._files
        for name, file in (("certificate", certificate), ("key", key)):
            if file is not None and not os.access(file, os.R_OK):
                why = "cannot be read" if file.exists() else "there is no such file"
                raise ConfigError(f"serve.{name}: {file}: {why}")
        try:
            # Else a key with a password would have OpenSSL ask for it on the terminal.
            context.load_cert_chain(certificate, key, password=_no_password)
        except _Encrypted:
            text = "is protected by a password; the server needs one without"
            raise ConfigError(f"serve.key: {key or certificate}: {text}") from None
        except (ssl.SSLError, OSError) as error:
            raise ConfigError(_ssl_text(error, certificate, key)) from None


class _Encrypted(Exception):
    pass


def _no_password() -> str:
    raise _Encrypted


def _ssl_text(error: Exception, certificate: Path, key: Path | None) -> str:
    reason = getattr(error, "reason", None)
    if reason == "KEY_VALUES_MISMATCH":
        return f"serve.key: {key}: does not belong to the certificate {certificate}"
    pair = "the file with certificate and key" if key is None else f"it or its key {key}"
    why = (
        "is not in PEM format, or empty" if reason in (None, "NO_START_LINE", "PEM_LIB") else reason
    )
    return f"serve.certificate: {certificate}: {pair} {why}"


def _state_of(file: Path) -> tuple[int, int, int] | None:
    with suppress(OSError):
        status = file.stat()
        return status.st_ino, status.st_mtime_ns, status.st_size
    return None
