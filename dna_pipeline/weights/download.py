"""Fetches one file over HTTP, from the byte that an earlier attempt reached.

The pinned hash decides which bytes are right, not an ETag: a mirror with another ETag has the same
file, and a download may begin on one host and end on another. If the hash of a file that came in
several parts is wrong, it is fetched once more from its first byte, since an old part may be bad.
"""

from __future__ import annotations

import email.utils
import os
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from dna_pipeline.base.errors import TransferFailed
from dna_pipeline.base.quantities import duration
from dna_pipeline.weights import network_settings
from dna_pipeline.weights.partial import PartialFile
from dna_pipeline.weights.pins import PinnedFile, Source
from dna_pipeline.weights.progress import Progress

if TYPE_CHECKING:
    import httpx2

MAX_FAILURES = 6
"""Failed requests in a row after which a file is given up."""

PROGRESS_BYTES = 1 << 16
"""Least number of bytes of a request that was cut off for it not to count as a failure."""

MAX_WAIT_S = 600
"""Longest wait that a server may ask for."""

MAX_SMALL_BYTES = 4 << 20
"""Largest file that may differ from its pin, if the user allows it."""

_RETRIED_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
_HASH = re.compile(r'"?([0-9a-f]{64})"?')
_NUMBER = re.compile(r"[0-9]{1,18}")
"""A number in a header. `str.isdigit` allows signs such as `²`, which are no numbers for `int`."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A pinned file and the source that it is fetched from.

    Attributes:
        name: for people, with the name of its model.
        accepts_changed: a small file may differ from its pin.
    """

    file: PinnedFile
    source: Source
    name: str
    accepts_changed: bool = False

    @property
    def may_differ(self) -> bool:
        return self.accepts_changed and not self.file.is_weights

    @property
    def max_bytes(self) -> int:
        return MAX_SMALL_BYTES if self.may_differ else self.file.bytes


class _Interrupted(Exception):
    """A request that failed, and may succeed if it is repeated after `wait_s` seconds."""

    def __init__(self, why: str, wait_s: float | None = None) -> None:
        super().__init__(why)
        self.wait_s = wait_s


def make_client() -> httpx2.Client:
    """A client with the system's certificates (or `$SSL_CERT_FILE`) and proxies (`$HTTPS_PROXY`).

    Redirects are followed; the library sends no `Authorization` to another host.

    Raises:
        TransferFailed: a variable of the environment names no certificates, or a proxy of an
            unknown kind.
    """
    import httpx2

    from dna_pipeline import __version__

    network_settings.check_certificates()
    try:
        return httpx2.Client(
            follow_redirects=True,
            max_redirects=10,
            timeout=httpx2.Timeout(60, connect=20),
            headers={"User-Agent": f"dna-pipeline/{__version__}", "Accept-Encoding": "identity"},
        )
    except (ImportError, ValueError, httpx2.InvalidURL) as error:
        raise TransferFailed(network_settings.proxy_fault(error)) from None


@dataclass(slots=True)
class Downloader:
    """Fetches files, one after another.

    Attributes:
        sleep: waits so many seconds; replaced by tests.
    """

    client: httpx2.Client
    progress: Progress
    env: Mapping[str, str] = field(default_factory=lambda: os.environ)
    sleep: Callable[[float], None] = time.sleep

    def fetch(self, remote: RemoteFile, part: Path) -> str:
        """Fetch a file to `part`, durable on return. Returns its SHA-256.

        Bytes that `part` holds already are not fetched again. Wrong bytes are removed.

        Raises:
            TransferFailed: the server cannot be reached, refuses, or gives other bytes.
            OSError: the disk is full, or fails; the bytes that came stay.
        """
        with PartialFile(part, self.progress) as partial:
            if partial.bytes > remote.file.bytes or remote.may_differ:
                partial.clear()
            was_resumed = partial.bytes > 0
            self._complete(remote, partial)
            if not _is_right(remote, partial) and was_resumed:
                self.progress.remark(f"{remote.name}: the earlier part was wrong; begins anew")
                partial.clear()
                self._complete(remote, partial)
            if _is_right(remote, partial):
                partial.sync()
                return partial.sha256
            received, size = partial.sha256, partial.bytes
            partial.clear()
        part.unlink()
        raise TransferFailed(_mismatch(remote, received, size))

    def _complete(self, remote: RemoteFile, partial: PartialFile) -> None:
        """Repeat requests until the file has its size."""
        failures = 0
        while not _is_whole(remote, partial):
            before = partial.bytes
            try:
                self._request(remote, partial)
                return
            except _Interrupted as error:
                has_progress = partial.bytes - before >= PROGRESS_BYTES
                failures = 0 if has_progress else failures + 1
                if failures >= MAX_FAILURES:
                    raise TransferFailed(
                        f"{remote.name}: {error}. {self._way_out(remote)}"
                    ) from None
                self._wait(remote, error, failures)

    def _wait(self, remote: RemoteFile, error: _Interrupted, failures: int) -> None:
        """Wait as long as the server asks; else twice as long after each failure in a row."""
        seconds = error.wait_s
        if seconds is None:
            seconds = 2.0 ** (failures - 1) if failures else 0.0
        later = f"tries again in {duration(seconds)}" if seconds else "goes on"
        self.progress.remark(f"{remote.name}: {error}; {later}")
        if seconds:
            self.sleep(seconds)

    def _request(self, remote: RemoteFile, partial: PartialFile) -> None:
        """Fetch the rest of the file by one request. Raises `_Interrupted` or `TransferFailed`."""
        import httpx2

        network_settings.check_endpoint(remote.source, self.env)
        url = remote.source.url(remote.file.remote, self.env)
        headers = self._authorization(remote)
        if partial.bytes:
            headers["Range"] = f"bytes={partial.bytes}-"
        try:
            with self.client.stream("GET", url, headers=headers) as response:
                _check_status(response, remote, partial)
                _check_announced(response, remote)
                _append(response, remote, partial)
        except (httpx2.TransportError, httpx2.TooManyRedirects, httpx2.DecodingError) as error:
            _raise_if_lasting(error, remote, self.env)
            raise _Interrupted(_why(error, remote, self.env)) from None
        except (httpx2.InvalidURL, UnicodeError) as error:
            raise TransferFailed(_no_address(error, remote, self.env)) from None
        if partial.bytes < remote.file.bytes and not remote.may_differ:
            raise _Interrupted("the connection ended early")

    def _authorization(self, remote: RemoteFile) -> dict[str, str]:
        if not remote.source.is_hub:
            return {}
        token = network_settings.read_token(self.env)
        return {"Authorization": f"Bearer {token}"} if token else {}

    def _way_out(self, remote: RemoteFile) -> str:
        proxy = _proxy(remote, self.env)
        return (
            "What came is kept, and the next pull goes on there. "
            f"{f'Check {proxy[0]}' if proxy else 'Behind a proxy set HTTPS_PROXY'}; "
            f"{network_settings.variable_of(remote.source)} names a mirror; "
            "`models pull --from FOLDER` takes files that you have, `models import` an archive "
            "from a machine with a network"
        )


def _is_whole(remote: RemoteFile, partial: PartialFile) -> bool:
    return partial.bytes == remote.file.bytes


def _is_right(remote: RemoteFile, partial: PartialFile) -> bool:
    return partial.sha256 == remote.file.sha256 or (remote.may_differ and partial.bytes > 0)


def _check_status(response: httpx2.Response, remote: RemoteFile, partial: PartialFile) -> None:
    """Raise unless the response brings the file, or the part of it that was asked for."""
    status, host = response.status_code, response.url.host
    if status == 200 or (status == 206 and _begin_of(response) == partial.bytes):
        return
    if status == 206:
        raise _Interrupted(f"{host} sent another part of the file than was asked for")
    if status == 416:
        raise TransferFailed(f"{remote.name}: {host} has a shorter file than the published one")
    if status in _RETRIED_STATUSES:
        raise _Interrupted(f"{host} answers {status}", _retry_after(response, remote))
    if status in (401, 403):
        raise TransferFailed(
            f"{remote.name}: {host} refuses it ({status}). If the repository asks for an account, "
            "put its access token into the variable HF_TOKEN"
        )
    raise TransferFailed(
        f"{remote.name}: {host} answers {status} to {_shown(response.url)}. If the "
        "file was moved, fetch it by hand and use `models pull --from FOLDER`"
    )


def _begin_of(response: httpx2.Response) -> int | None:
    match = re.match(r"bytes ([0-9]{1,18})-", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def _check_announced(response: httpx2.Response, remote: RemoteFile) -> None:
    """Raise if the headers say that another file comes, before its bytes are fetched."""
    for answer in (*response.history, response):
        match = _HASH.fullmatch(answer.headers.get("X-Linked-Etag", ""))
        if match and match[1] != remote.file.sha256 and not remote.may_differ:
            raise TransferFailed(_mismatch(remote, match[1], None))
    if response.status_code == 206:
        total = response.headers.get("Content-Range", "").rpartition("/")[2]
    else:
        encoded = "Content-Encoding" in response.headers
        total = "" if encoded else response.headers.get("Content-Length", "")
    if not _NUMBER.fullmatch(total) or int(total) == remote.file.bytes:
        return
    if not (remote.may_differ and int(total) <= remote.max_bytes):
        raise TransferFailed(_mismatch(remote, None, int(total)))


def _append(response: httpx2.Response, remote: RemoteFile, partial: PartialFile) -> None:
    """Add the bytes of a response. Raises `TransferFailed` if they are more than the file's."""
    for chunk in _new_bytes(response, partial.bytes):
        if (size := partial.bytes + len(chunk)) > remote.max_bytes:
            partial.clear()
            raise TransferFailed(_mismatch(remote, None, size))
        partial.append(chunk)


def _new_bytes(response: httpx2.Response, count: int) -> Iterator[bytes]:
    """The bytes after the first `count`. A server that gives no parts is read from the start."""
    skipped = count if response.status_code == 200 else 0
    for chunk in response.iter_bytes():
        new = chunk[skipped:]
        skipped = max(skipped - len(chunk), 0)
        if new:
            yield new


def _retry_after(response: httpx2.Response, remote: RemoteFile) -> float | None:
    """Seconds that the server asks to wait; None if it says nothing. Raises `TransferFailed`."""
    text = response.headers.get("Retry-After", "").strip()
    if not text:
        return None
    seconds = float(text) if _NUMBER.fullmatch(text) else _seconds_until(text)
    if seconds is not None and seconds > MAX_WAIT_S:
        raise TransferFailed(
            f"{remote.name}: {response.url.host} asks to wait {duration(seconds)}; pull again "
            "then, what came is kept"
        )
    return seconds


def _seconds_until(text: str) -> float | None:
    try:
        when = email.utils.parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max((when - datetime.now(UTC)).total_seconds(), 0.0)


def _raise_if_lasting(error: Exception, remote: RemoteFile, env: Mapping[str, str]) -> None:
    """Raise `TransferFailed` for a failure that each repetition would meet again."""
    import httpx2

    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        raise TransferFailed(_untrusted(remote, env, error)) from None
    if isinstance(error, httpx2.UnsupportedProtocol) or "location header" in text:
        raise TransferFailed(_no_address(error, remote, env)) from None
    if isinstance(error, httpx2.LocalProtocolError):
        raise TransferFailed(
            f"{remote.name}: no request can be made from the variables of the environment; check "
            f"{network_settings.variable_of(remote.source)} and {network_settings.TOKEN_VARIABLE}"
        ) from None
    if isinstance(error, httpx2.ProxyError) and text.startswith("4"):
        raise TransferFailed(
            f"{_why(error, remote, env)}. The proxy refuses; check its address, user and password"
        ) from None


def _no_address(error: Exception, remote: RemoteFile, env: Mapping[str, str]) -> str:
    """Sentence about an address that the endpoint, its redirect or the proxy has wrong."""
    variable = network_settings.variable_of(remote.source)
    proxy = _proxy(remote, env)
    others = f", and the proxy of {proxy[0]}" if proxy else ""
    return (
        f"{_why(error, remote, env)}. The address, or the one that it redirects to, is no address "
        f"of a web server; check {variable}{others}"
    )


def _why(error: Exception, remote: RemoteFile, env: Mapping[str, str]) -> str:
    what = " ".join(str(error).split()) or type(error).__name__
    if _is_unknown_name(error):
        what = f"no address is known for that name, as on a machine without a network ({what})"
    proxy = _proxy(remote, env)
    through = f" through the proxy {proxy[1]} ({proxy[0]})" if proxy else ""
    return f"{remote.source.endpoint(env)}{through}: {what}"


def _is_unknown_name(error: BaseException | None) -> bool:
    """True if the look-up of a server's name failed, which libraries raise as errors of theirs."""
    while error is not None and not isinstance(error, socket.gaierror):
        error = error.__cause__ or error.__context__
    return error is not None


def _proxy(remote: RemoteFile, env: Mapping[str, str]) -> tuple[str, str] | None:
    """The proxy in the way of the request, as `network_settings.proxy_for` gives it."""
    scheme, _, rest = remote.source.endpoint(env).partition("://")
    return network_settings.proxy_for(scheme.lower(), rest.partition("/")[0])


def _shown(url: httpx2.URL) -> str:
    """An address without its password and its query, which may be a signature."""
    return f"{url.scheme}://{url.netloc.decode('ascii', 'replace')}{url.path}"


def _untrusted(remote: RemoteFile, env: Mapping[str, str], error: Exception) -> str:
    return (
        f"{_why(error, remote, env)}. If a proxy here reads encrypted traffic, put its certificate "
        "into the system's store, or into a file that the variable SSL_CERT_FILE names"
    )


def _mismatch(remote: RemoteFile, sha256: str | None, size: int | None) -> str:
    """Sentence about a file that is not the published one."""
    file = remote.file
    received = [f"SHA-256 {sha256}"] if sha256 else []
    received += [f"{size:,} bytes"] if size is not None and size != file.bytes else []
    text = (
        f"{remote.name} from {remote.source.repository} is not the published file: expected "
        f"SHA-256 {file.sha256}, {file.bytes:,} bytes; received {', '.join(received)}. "
        "None of these bytes was kept"
    )
    if file.is_weights:
        return text
    return f"{text}. It holds no weights: `--accept-changed` takes it as it is"
