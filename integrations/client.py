"""Sends images to a pipeline and follows their jobs: through the folders of a `dna-pipeline watch`,
or by a `dna-pipeline serve` where no folder is shared.

One file, standard library only, Python 3.9 or newer: made to be copied beside a tool's own scripts.

    client = Client("/studio/outbox")     # or Client("https://studio:8000", token="…")
    drop = client.send("mesh", "chair.png", {"triposr": {"resolution": 192}})
    state = client.wait(drop, timeout_s=600, on_progress=lambda state: print(state.text))
    print(state.paths("mesh"))
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import io
import json
import os
import re
import secrets
import shutil
import socket
import ssl
import sys
import tempfile
import threading
import time
import unicodedata
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from glob import escape
from pathlib import Path
from typing import IO, Any, TypeVar, Union
from urllib.parse import quote, urlencode, urlsplit

Image = Union[str, "os.PathLike[str]", bytes, Callable[[Path], object]]
"""A file to copy, the bytes of a file, or a function that saves a file at the given path."""

TOKEN = "client_token"
"""Key in a sidecar's `meta` that identifies the drop in manifest.json and error.json."""

FRESH_S = 15.0
"""Age of status.json up to which the daemon is alive: a daemon writes it at least every 10 s."""
STALE_S = 60.0
"""Age of status.json from which no daemon is assumed. A daemon with a million jobs to count may
take longer than `FRESH_S`."""
CLOCKS_S = 60.0
"""Maximum difference between the clocks of this machine and of the file server."""

TIMEOUT_S = 60.0
WAITS_S = (0.3, 1.0, 3.0)

T = TypeVar("T")

# Characters that JSON allows without an escape, but YAML forbids or takes for the end of a line.
_NOT_IN_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_RESERVED = re.compile(r"(?i)con|prn|aux|nul|com\d|lpt\d")


@dataclass(frozen=True)
class Drop:
    """An image that was sent: its path, and the values that identify its job."""

    inbox: str
    path: Path
    token: str
    sha256: str
    sent_at: float
    """Seconds since 1970, by the clock of the inbox's file system, or by this machine's."""
    jobs: tuple[str, ...] = ()
    """Ids of its jobs, where it was sent to a server."""


@dataclass(frozen=True)
class State:
    """State of a drop.

    Attributes:
        kind: `waiting` (not claimed yet), `queued`, `running`, `completed` or `failed`.
        why: reason why it waits, or the running stage.
        fraction: finished part of the job, in [0, 1].
        eta_s: seconds left; None if unknown.
        folder: the result folder or failure folder; with a server, the folder on this machine that
            `paths` downloads to.
        manifest: manifest.json of the result.
        error: error.json of the failure: `code`, `message`, `detail`, `hint`, …
        job: id of its job; "" while that is unknown.
    """

    kind: str
    why: str = ""
    fraction: float = 0.0
    eta_s: float | None = None
    folder: Path | None = None
    manifest: dict[str, Any] = field(default_factory=dict[str, Any])
    error: dict[str, Any] = field(default_factory=dict[str, Any])
    job: str = ""

    @property
    def is_over(self) -> bool:
        return self.kind in ("completed", "failed")

    @property
    def text(self) -> str:
        """The state in one line, for people."""
        if self.kind == "failed":
            return f"failed: {self.error['code']}: {self.error['message']}"
        share = f" {self.fraction:.0%}" if self.kind == "running" else ""
        time_left = "" if self.eta_s is None else f", about {self.eta_s:.0f} s left"
        return f"{self.kind}{share}{': ' if self.why else ''}{self.why}{time_left}"

    def paths(self, role: str) -> list[Path]:
        """List the files of a role: image, matte, mesh, preview, turntable, texture, material or
        marks."""
        artifacts = self.manifest.get("artifacts", [])
        return [Path(self.folder or "", f["path"]) for f in artifacts if f["role"] == role]


class Client:
    """One outbox, and the inboxes that its daemon watches; or a server, which makes it a
    `ServerClient`.

    Args:
        place: the folder of status.json, or the folder of pipeline.yaml if it has the outbox; or
            the address of a server, such as `https://studio:8000`.
        inboxes: folders by name, for inboxes that have another path on this machine than for the
            daemon. A server needs none.
        token: what the server's `--token-file` holds.
        cafile: certificates that are trusted besides those of the system, for a server whose
            certificate an office has made itself.
        folder: where results of a server are downloaded to; default: a temporary folder.
        timeout_s: time for which a server may say nothing.
        waits_s: times between the tries of a request that does not reach its server.
    """

    def __new__(cls, place: str | os.PathLike[str], *_: Any, **__: Any) -> Client:
        """Make a client of the kind that fits the place."""
        is_address = isinstance(place, str) and place.startswith(("http://", "https://"))
        kind: Any = ServerClient if is_address and cls is Client else cls
        return super().__new__(kind)

    def __init__(
        self,
        place: str | os.PathLike[str],
        inboxes: Mapping[str, str | os.PathLike[str]] = {},
        *,
        token: str | None = None,
        cafile: str | os.PathLike[str] | None = None,
        folder: str | os.PathLike[str] | None = None,
        timeout_s: float = TIMEOUT_S,
        waits_s: Sequence[float] = WAITS_S,
    ) -> None:
        if token is not None or cafile is not None or folder is not None:
            raise ValueError("token, cafile and folder are for the address of a server")
        self.outbox = Path(place)
        if not (self.outbox / "status.json").exists() and (self.outbox / "outbox").is_dir():
            self.outbox /= "outbox"
        self._inboxes = {name: Path(path) for name, path in inboxes.items()}
        self._status: dict[str, Any] = {}
        self._changed_at = -STALE_S

    # --- the daemon ---

    def status(self) -> dict[str, Any]:
        """Read status.json; if it cannot be read now, give its last content."""
        with suppress(OSError, ValueError):
            status = json.loads((self.outbox / "status.json").read_bytes())
            if self._status and status["written_at"] != self._status["written_at"]:
                self._changed_at = time.monotonic()
            self._status = status
        return self._status

    def is_alive(self) -> bool:
        """True if a daemon runs, as far as status.json shows."""
        daemon = self.status().get("daemon")
        if daemon is None:
            return False
        written = datetime.fromisoformat(self._status["written_at"].replace("Z", "+00:00"))
        by_clock = abs((datetime.now(timezone.utc) - written).total_seconds())
        age_s = min(by_clock, time.monotonic() - self._changed_at)
        if FRESH_S < age_s < STALE_S and daemon["host"] == socket.gethostname():
            return _is_process(daemon["pid"])
        return age_s < STALE_S

    def inboxes(self) -> dict[str, Path]:
        """Give the inboxes' folders by name."""
        entries = self.status().get("inboxes", [])
        return {entry["name"]: Path(entry["path"]) for entry in entries} | self._inboxes

    # --- a drop ---

    def send(
        self,
        inbox: str,
        image: Image,
        sidecar: Mapping[str, Any] = {},
        *,
        name: str | None = None,
        suffix: str | None = None,
        unique: bool = True,
        mask: Image | None = None,
    ) -> Drop:
        """Put an image and its sidecar into an inbox; all is complete and durable on return.

        Args:
            inbox: name of the inbox.
            sidecar: keys and plain values, as in a sidecar's YAML.
            name: name for the result; default: the image file's name.
            suffix: ending of the image's name; default: the file's, else `.png`.
            unique: add a random part to the name. Otherwise a file of that name in the inbox is
                replaced, which suits inboxes with `originals: keep` and `latest`.
            mask: the image's mask, for an inbox whose pipeline has `mask: file`. If it is not a
                file with an ending of its own, it is written as PNG.

        Raises:
            OSError: the files could not be written; none is left behind.
            LookupError: there is no such inbox.
            ValueError, TypeError: the sidecar has values that YAML cannot hold.
        """
        folders = self.inboxes()
        if inbox not in folders:
            raise LookupError(f"no inbox is called {inbox!r}; there are: {', '.join(folders)}")
        folder, token = folders[inbox], secrets.token_hex(8)
        source = None if isinstance(image, bytes) or callable(image) else Path(image)
        stem = _safe_stem(name or (source.stem if source else "image"))
        suffix = suffix or (source.suffix if source else ".png")
        target = folder / f"{stem}-{token[:8]}{suffix}" if unique else folder / f"{stem}{suffix}"
        meta: Mapping[str, Any] = sidecar.get("meta") or {}
        values = {**sidecar, "meta": {**meta, TOKEN: token}}
        # Hidden names, so that no daemon looks at the files. The image has its true suffix, since
        # functions that save images choose the format by it.
        parts = folder / f".{token}{suffix}", folder / f".{token}.yaml"
        mask_file = (
            None if mask is None or isinstance(mask, bytes) or callable(mask) else Path(mask)
        )
        mask_suffix = mask_file.suffix if mask_file else ".png"
        mask_part = folder / f".{token}.mask{mask_suffix}"
        beside = None if mask is None else target.with_name(f"{target.name}.mask{mask_suffix}")
        try:
            if mask is not None:
                _fill(mask_part, mask)
            _fill(parts[1], to_yaml(values).encode())
            _fill(parts[0], image)
            sha256, sent_at = _sha256(parts[0]), parts[0].stat().st_mtime
            if beside is not None:
                mask_part.replace(beside)
            try:
                _replace_both(parts, target)
            except OSError:
                if beside is not None and unique:
                    beside.unlink()
                raise
        finally:
            for part in (*parts, mask_part):
                with suppress(FileNotFoundError):
                    part.unlink()
        _sync_folder(folder)
        return Drop(inbox, target, token, sha256, sent_at)

    def state(self, drop: Drop) -> State:
        """Give the current state of a drop."""
        alive, status = self.is_alive(), self._status
        for entry in status.get("recent", []):
            is_alike = (entry["inbox"], entry["name"]) == (drop.inbox, drop.path.name)
            if is_alike and (ended := self._ended(drop, self.outbox / entry["folder"])):
                return ended
        current = _current(status, drop) if alive else None
        return current or self.find_result(drop) or self._unknown(drop, alive)

    def find_result(self, drop: Drop) -> State | None:
        """Find the drop's result or failure, of any age; None if there is none yet."""
        stem = escape(drop.path.stem)
        # In this order: a result, a failure, a cancelled job, and a result or a cancelled row of a
        # batch. A batch's folder begins with the drop's name; its cancelled rows are files.
        patterns = ("{0}-*", "failed/{0}-*", "cancelled/{0}-*", "{0}*/{0}-*",
                    "{0}*/cancelled/{0}-*")  # fmt: skip
        for pattern in patterns:
            for place in (self.outbox / drop.inbox).glob(pattern.format(stem)):
                if ended := self._ended(drop, place):
                    return ended
        return None

    def wait(
        self,
        drop: Drop,
        timeout_s: float | None = None,
        on_progress: Callable[[State], object] | None = None,
        poll_s: float = 0.5,
    ) -> State:
        """Wait for the drop's end; call `on_progress` at each change. Raises TimeoutError."""
        until = None if timeout_s is None else time.monotonic() + timeout_s
        last: State | None = None
        while True:
            state = self._look(drop)
            if on_progress is not None and state != last:
                on_progress(state)
            if state.is_over:
                return state
            if until is not None and time.monotonic() > until:
                raise TimeoutError(f"{drop.path.name} after {timeout_s:g} s: {state.text}")
            last = state
            time.sleep(poll_s)

    def _look(self, drop: Drop) -> State:
        return self.state(drop)

    def latest(self, inbox: str, stem: str, suffix: str = ".glb", *, name: str = "") -> Path | None:
        """Find the newest result of that name, in an inbox with `latest: true`; None if none.

        The file is replaced a moment after the result itself has appeared.

        Args:
            name: name of the image, with its extension. Of `chair.png` and `chair.jpg` only one
                has `chair.glb`; the other has `chair.jpg.glb`.
        """
        folder = self.outbox / inbox / "latest"
        whole = folder / f"{stem}{Path(name).suffix}{suffix}"
        path = whole if whole.is_file() else folder / f"{stem}{suffix}"
        return path if path.is_file() else None

    def page(self, state: State) -> str | None:
        """Address of a job's page in a browser; None if no server runs, or while its job is
        unknown."""
        address = self.status().get("page")
        return f"{address}/results/{state.job}" if address and state.job else None

    def _ended(self, drop: Drop, place: Path) -> State | None:
        """Read a drop's end from a folder or a cancelled row's file; None if of another drop."""
        with suppress(OSError):
            if place.stat().st_mtime < drop.sent_at - CLOCKS_S:
                return None
        folder, row = (place.parent, place.name) if place.suffix == ".json" else (place, None)
        for kind, name, key in (
            ("completed", "manifest.json", "manifest"), ("failed", row or "error.json", "error"),
        ):  # fmt: skip
            with suppress(OSError, ValueError):
                manifest = json.loads((folder / name).read_bytes())
                if _is_of(drop, manifest):
                    done = 1.0 if kind == "completed" else 0.0
                    job = str(manifest["job"]["id"])
                    return State(kind, folder.name, done, folder=folder, job=job, **{key: manifest})
        return None

    def _unknown(self, drop: Drop, alive: bool) -> State:
        """Give the state of a drop that status.json does not list."""
        kind = "waiting" if drop.path.exists() else "queued"
        with suppress(OSError):
            if drop.token not in drop.path.with_name(f"{drop.path.name}.yaml").read_text("utf-8"):
                sentence = "Another image of this name was sent and took its place."
                return State("failed", error={"code": "replaced", "message": sentence})
        return State(kind, "" if alive else "no daemon runs")


class ServerError(ValueError):
    """A server refused a request, and says why.

    Attributes:
        code: stable name of the cause.
        message, detail, hint: as in error.json.
    """

    def __init__(self, problem: Mapping[str, Any]) -> None:
        self.code = str(problem.get("code") or "refused")
        self.message = str(problem.get("message") or "The server refused the request.")
        self.detail = str(problem.get("detail") or "")
        self.hint = str(problem.get("hint") or "")
        texts = (self.message, self.detail, self.hint)
        super().__init__(f"{' '.join(filter(None, texts))} ({self.code})")


@dataclass(frozen=True)
class ServerState(State):
    """State of a drop on a server; `paths` downloads files that are not on this machine yet."""

    files: tuple[Mapping[str, Any], ...] = ()
    client: ServerClient | None = field(default=None, repr=False, compare=False)

    def paths(self, role: str) -> list[Path]:
        """Download the files of a role, as far as they are not there yet, and list them. With a
        mesh come its material and its texture, which an .obj names. Raises `OSError`."""
        roles = {role, "material", "texture"} if role == "mesh" else {role}
        assert self.client is not None
        paths: list[Path] = []
        for file in self.files:
            if file["role"] in roles:
                path = self.client.download(file, self.folder or Path())
                paths += [path] if file["role"] == role else []
        return paths


_FINAL = (PermissionError, ssl.SSLCertVerificationError)
"""Errors of the way to a server that last until somebody mends them."""
_NO_PROGRESS: dict[str, Any] = {"stage": None, "step": None, "steps": None, "fraction": 0.0}


class ServerClient(Client):
    """A client of `dna-pipeline serve`. Threads may share it.

    A request whose connection was lost is sent again for a while. A drop that is sent again makes
    nothing new: the server knows it by its token.

    All methods raise `OSError` where the server cannot be reached, `PermissionError` where the
    token is wrong, and `ServerError` where it refuses a request.
    """

    def __init__(
        self,
        place: str | os.PathLike[str],
        inboxes: Mapping[str, str | os.PathLike[str]] = {},
        *,
        token: str | None = None,
        cafile: str | os.PathLike[str] | None = None,
        folder: str | os.PathLike[str] | None = None,
        timeout_s: float = TIMEOUT_S,
        waits_s: Sequence[float] = WAITS_S,
    ) -> None:
        self._token = token
        self._timeout_s = timeout_s
        self._waits_s = waits_s
        self._address = urlsplit(str(place).rstrip("/"))
        self._tls = None
        if self._address.scheme == "https":
            self._tls = ssl.create_default_context()
            if cafile is not None:
                self._tls.load_verify_locations(cafile)
        self._folder = None if folder is None else Path(folder)
        self._lock = threading.Lock()

    # --- the daemon ---

    def status(self) -> dict[str, Any]:
        """Read the server's status, with the keys of `GET /api/v1/status`."""
        return self._get("/status")

    def is_alive(self) -> bool:
        """True if the server answers and a daemon runs."""
        try:
            return bool(self.status()["has_daemon"])
        except (OSError, ValueError):
            return False

    def inboxes(self) -> dict[str, Path]:
        """Give the inboxes by name; they have no folders on this machine."""
        return {entry["name"]: Path(entry["name"]) for entry in self._get("/inboxes")["inboxes"]}

    # --- a drop ---

    def send(
        self,
        inbox: str,
        image: Image,
        sidecar: Mapping[str, Any] = {},
        *,
        name: str | None = None,
        suffix: str | None = None,
        unique: bool = True,
        mask: Image | None = None,
    ) -> Drop:
        """Send an image and its sidecar to an inbox of the server; it is queued on return.

        Args are those of `Client.send`; `unique=False` gives it the plain name, and replaces
        nothing that waits.

        Raises:
            LookupError: there is no such inbox.
            ServerError: the image or a value is wrong.
        """
        token = secrets.token_hex(8)
        source = None if isinstance(image, bytes) or callable(image) else Path(image)
        stem = _safe_stem(name or (source.stem if source else "image"))
        suffix = suffix or (source.suffix if source else ".png")
        file_name = f"{stem}-{token[:8]}{suffix}" if unique else f"{stem}{suffix}"
        meta: Mapping[str, Any] = sidecar.get("meta") or {}
        text = to_yaml({**sidecar, "meta": {**meta, TOKEN: token}})
        with ExitStack() as opened:
            form = _Form()
            form.add_text("client_token", token)
            form.add_text("sidecar", text)
            stream = opened.enter_context(_open_image(image, suffix))
            sha256 = _sha256_of(stream)
            form.add_file("image", file_name, stream)
            if mask is not None:
                form.add_file("mask", "mask.png", opened.enter_context(_open_image(mask, ".png")))
            answer = self._drop(f"/inboxes/{quote(inbox, safe='')}/drops", form, token)
        jobs = tuple(job["id"] for job in answer["jobs"])
        return Drop(inbox, Path(file_name), token, sha256, time.time(), jobs)

    def _drop(self, path: str, form: _Form, token: str) -> dict[str, Any]:
        """Post a drop. After a lost answer, ask first whether it has arrived."""

        def post(is_first: bool) -> dict[str, Any]:
            if not is_first:
                with suppress(ServerError):
                    return self._answer("GET", f"/drops/{token}")
            return self._answer("POST", path, form)

        try:
            return self._patiently(post)
        except ServerError as error:
            if error.code == "unknown_inbox":
                raise LookupError(error.message) from None
            raise

    def state(self, drop: Drop) -> State:
        """Give the current state of a drop."""
        job = self._job_of(drop)
        if job is None:
            return State("waiting", "the server does not know it")
        return self._state(job)

    def find_result(self, drop: Drop) -> State | None:
        """Find the drop's result or failure, of any age; None if there is none yet."""
        state = self.state(drop)
        return state if state.is_over else None

    def _look(self, drop: Drop) -> State:
        """Give the state as `wait` needs it, which goes on while the server is restarted."""
        try:
            return self.state(drop)
        except _FINAL:
            raise
        except OSError as error:
            return State("waiting", f"the server does not answer: {error}")

    def cancel(self, drop: Drop) -> None:
        """Cancel the drop's jobs: queued ones at once, running ones at their next step."""
        jobs = drop.jobs or [entry["id"] for entry in self._get(f"/drops/{drop.token}")["jobs"]]
        for job in jobs:
            try:
                self._answer("POST", f"/jobs/{job}/cancel")
            except ServerError as error:
                if error.code != "job_ended":
                    raise

    def latest(self, inbox: str, stem: str, suffix: str = ".glb", *, name: str = "") -> Path | None:
        """Find and download the newest result of that name; None if there is none."""
        query = {"inbox": inbox, "stem": stem, "status": "completed", "limit": 20}
        for entry in self._get(f"/jobs?{urlencode(query)}")["jobs"]:
            if name and entry["name"] != name:
                continue
            job = self._get(f"/jobs/{entry['id']}")
            for file in job["files"]:
                if file["path"].endswith(suffix) and file["stage"] is not None:
                    return self.download(file, self._folder_of(job))
        return None

    def page(self, state: State) -> str | None:
        """Address of a job's page in a browser; None while its job is unknown."""
        return f"{self._address.geturl()}/results/{state.job}" if state.job else None

    def download(self, file: Mapping[str, Any], folder: Path) -> Path:
        """Download a file of a job into a folder, unless it is there already; give its path.

        Args:
            file: an entry of `files`, as `GET /api/v1/jobs/{id}` gives it.

        Raises:
            OSError: it could not be had whole; no part of it is left under its name.
        """
        parts = file["path"].split("/")
        if any(part in ("", ".", "..") for part in parts):
            raise OSError(errno.EINVAL, "is no name of a file", file["path"])
        target = folder.joinpath(*parts)
        if target.is_file() and _is_whole(target, file):
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{secrets.token_hex(4)}.part")
        try:
            self._patiently(lambda _: self._fetch(file, part))
            if not _is_whole(part, file):
                raise OSError(errno.EIO, "is not what the server says it is", file["path"])
            part.replace(target)
        finally:
            with suppress(FileNotFoundError):
                part.unlink()
        return target

    def _fetch(self, file: Mapping[str, Any], part: Path) -> None:
        """Download bytes, behind those that have come before the connection was lost."""
        have = part.stat().st_size if part.exists() and file["sha256"] else 0
        headers = {"Range": f"bytes={have}-", "If-Range": f'"{file["sha256"]}"'} if have else {}
        path = file["url"].partition("/api/v1")[2]
        with self._open("GET", path, headers=headers) as answer:
            with part.open("ab" if answer.status == 206 else "wb") as writer:
                shutil.copyfileobj(answer, writer, 1 << 20)
            if answer.length:
                raise ConnectionError(f"{self._address.netloc}: the connection was lost")

    # --- jobs ---

    def _job_of(self, drop: Drop) -> dict[str, Any] | None:
        """Read the job of a drop; of several, the one that is furthest."""
        entries: Sequence[Mapping[str, Any]] = [{"id": job} for job in drop.jobs]
        if not entries:
            try:
                entries = self._get(f"/drops/{drop.token}")["jobs"]
            except ServerError:
                return None
        first = self._get(f"/jobs/{entries[0]['id']}")
        if len(entries) == 1 or first["batch"] is None:
            return first
        for status in ("completed", "running", "queued"):
            query = urlencode({"batch": first["batch"], "status": status, "limit": 1})
            if jobs := self._get(f"/jobs?{query}")["jobs"]:
                return self._get(f"/jobs/{jobs[0]['id']}")
        return first

    def _state(self, job: dict[str, Any]) -> State:
        kind: str = job["status"]
        if kind in ("failed", "cancelled"):
            return ServerState(
                "failed", job["folder_name"] or "", error=job["error"],
                folder=self._folder_of(job), files=tuple(job["files"]), client=self,
                job=job["id"],
            )  # fmt: skip
        if kind == "completed":
            manifest = next(file for file in job["files"] if file["role"] == "manifest")
            path = self.download(manifest, self._folder_of(job))
            return ServerState(
                kind, self._folder_of(job).name, 1.0, folder=self._folder_of(job),
                manifest=json.loads(path.read_bytes()), files=tuple(job["files"]), client=self,
                job=job["id"],
            )  # fmt: skip
        if kind == "running":
            progress: dict[str, Any] = job["progress"] or _NO_PROGRESS
            step = f" {progress['step']}/{progress['steps']}" if progress["steps"] else ""
            why = f"{progress['stage'] or 'starting'}{step}"
            return State(kind, why, progress["fraction"], job=job["id"])
        return State("queued", job["hold"]["detail"] if job["hold"] else "", job=job["id"])

    def _folder_of(self, job: Mapping[str, Any]) -> Path:
        """Give the folder of a job's downloads, named as its folder in the outbox."""
        with self._lock:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="dna-pipeline-"))
        name = (job["folder_name"] or job["id"]).rpartition("/")[2]
        return self._folder / (name if job["id"][:8] in name else f"{name}-{job['id'][:8]}")

    # --- requests ---

    def _patiently(self, action: Callable[[bool], T]) -> T:
        """Try an action again while the server cannot be reached; it is told if it is the first
        try."""
        for number, wait_s in enumerate(self._waits_s):
            try:
                return action(number == 0)
            except _FINAL:
                raise
            except OSError:
                time.sleep(wait_s)
        return action(not self._waits_s)

    def _get(self, path: str) -> dict[str, Any]:
        return self._patiently(lambda _: self._answer("GET", path))

    def _answer(self, method: str, path: str, form: _Form | None = None) -> dict[str, Any]:
        """Send a request once and read its answer. Raises `OSError` and `ServerError`."""
        with self._open(method, path, form) as answer:
            try:
                return json.loads(answer.read())
            except (http.client.HTTPException, ValueError) as error:
                raise ConnectionError(f"{self._address.netloc}: the answer is cut off") from error

    def _open(
        self, method: str, path: str, form: _Form | None = None, headers: Mapping[str, str] = {}
    ) -> http.client.HTTPResponse:
        """Send a request, and give the answer if it is one of success. Raises as `_answer`."""
        # Each request has a connection of its own: one that is kept may be closed by the server at
        # the very moment in which it is used again.
        sent = {"Connection": "close", "Accept": "application/json, */*", **headers}
        if self._token is not None:
            sent["Authorization"] = f"Bearer {self._token}"
        if form is not None:
            sent.update(form.headers())
        connection = self._connection()
        try:
            answer = self._request(connection, method, path, form, sent)
        except http.client.HTTPException as error:
            connection.close()
            raise ConnectionError(f"{self._address.netloc}: {error!r}") from error
        except OSError:
            connection.close()
            raise
        if answer.status >= 300:
            with answer:
                raise _error_of(answer, self._address.netloc)
        return answer

    def _request(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        form: _Form | None,
        headers: Mapping[str, str],
    ) -> http.client.HTTPResponse:
        target = f"{self._address.path}/api/v1{path}"
        try:
            connection.request(method, target, None if form is None else form.read(), headers)
        except (BrokenPipeError, ConnectionResetError):
            if form is None:
                raise
            # A server that refuses an upload answers before all of it was sent.
            with suppress(OSError, http.client.HTTPException):
                return connection.getresponse()
            raise
        return connection.getresponse()

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self._address.hostname or "", self._address.port
        if self._tls is None:
            return http.client.HTTPConnection(host, port, timeout=self._timeout_s)
        return http.client.HTTPSConnection(host, port, timeout=self._timeout_s, context=self._tls)


class _Form:
    """The body of a form with files, which are read from the disk while they are sent."""

    def __init__(self) -> None:
        self._boundary = secrets.token_hex(16)
        self._parts: list[tuple[bytes, IO[bytes]]] = []

    def add_text(self, name: str, text: str) -> None:
        self._add(f'name="{name}"', io.BytesIO(text.encode()))

    def add_file(self, name: str, file_name: str, stream: IO[bytes]) -> None:
        kind = "Content-Type: application/octet-stream"
        self._add(f'name="{name}"; filename="{file_name}"\r\n{kind}', stream)

    def headers(self) -> dict[str, str]:
        sizes = (len(head) + stream.seek(0, os.SEEK_END) + 2 for head, stream in self._parts)
        return {
            "Content-Type": f"multipart/form-data; boundary={self._boundary}",
            "Content-Length": str(sum(sizes) + len(self._end())),
        }

    def read(self) -> Iterator[bytes]:
        """Read the body from its beginning."""
        for head, stream in self._parts:
            yield head
            stream.seek(0)
            while chunk := stream.read(1 << 18):
                yield chunk
            yield b"\r\n"
        yield self._end()

    def _add(self, disposition: str, stream: IO[bytes]) -> None:
        head = f"--{self._boundary}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n"
        self._parts.append((head.encode(), stream))

    def _end(self) -> bytes:
        return f"--{self._boundary}--\r\n".encode()


def _error_of(answer: http.client.HTTPResponse, host: str) -> Exception:
    """Make the error of an answer: of the way to the server, or of the request."""
    problem: dict[str, Any] = {}
    with suppress(OSError, ValueError, TypeError, http.client.HTTPException):
        problem = dict(json.loads(answer.read(1 << 20)))
    text = str(problem.get("detail") or problem.get("message") or answer.reason)
    if answer.status in (401, 403):
        return PermissionError(errno.EACCES, f"{text} (HTTP {answer.status})", host)
    if answer.status in (429, 502, 503, 504):
        return ConnectionError(f"{host}: {text} (HTTP {answer.status})")
    if "code" not in problem:
        if place := answer.getheader("Location"):
            text = f"it is at {place} now"
        return ServerError({"message": f"{host} answers {answer.status}.", "detail": text})
    return ServerError(problem)


@contextmanager
def _open_image(image: Image, suffix: str) -> Generator[IO[bytes], None, None]:
    """Open an image to read, as `Client.send` gets it."""
    if isinstance(image, bytes):
        yield io.BytesIO(image)
    elif not callable(image):
        with Path(image).open("rb") as file:
            yield file
    else:
        with tempfile.TemporaryDirectory(prefix="dna-pipeline-") as folder:
            path = Path(folder, f"image{suffix}")
            image(path)
            with path.open("rb") as file:
                yield file


def _is_whole(path: Path, file: Mapping[str, Any]) -> bool:
    """True if a file has the bytes that the server says; those of a report are not known."""
    return file["sha256"] is None or _sha256(path) == file["sha256"]


def to_yaml(values: Mapping[str, Any]) -> str:
    """Write a mapping of plain values as JSON that is valid YAML 1.2 too."""
    text = json.dumps(values, ensure_ascii=False, allow_nan=False, indent=1)
    return _NOT_IN_YAML.sub(lambda match: f"\\u{ord(match[0]):04x}", text) + "\n"


def _current(status: Mapping[str, Any], drop: Drop) -> State | None:
    """Give the state of an unfinished drop by status.json; None if it does not list the drop."""
    running = status.get("running")
    if running and (running["inbox"], running["name"]) == (drop.inbox, drop.path.name):
        step = f" {running['step']}/{running['steps']}" if running["steps"] else ""
        why = f"{running['stage'] or 'starting'}{step}"
        job = str(running.get("job", ""))
        return State("running", why, running["fraction"], running["eta_s"], job=job)
    for entry in status.get("queued", []):
        if (entry["inbox"], entry["name"]) == (drop.inbox, drop.path.name):
            return State("queued", entry["detail"] or _pause(status), job=str(entry.get("job", "")))
    names = (drop.path.name, f"{drop.path.name}.yaml", None)
    reason_of = {
        e["file"]: e["reason"] for e in status.get("waiting", []) if e["inbox"] == drop.inbox
    }
    reasons = (reason_of[name] for name in names if name in reason_of)
    why = next(reasons, None) if drop.path.exists() else None
    return None if why is None else State("waiting", why)


def _pause(status: Mapping[str, Any]) -> str:
    """Give the reason for which the whole queue is paused; "" if it is not."""
    return next((h["detail"] for h in status["holds"] if h["jobs"] is None), "")


def _is_of(drop: Drop, manifest: Mapping[str, Any]) -> bool:
    token = manifest["job"]["meta"].get(TOKEN)
    if token is not None:
        return token == drop.token
    # Without a token, the sidecar could not be read, so compare name and bytes of the image.
    original = manifest["input"]
    return original["name"] == drop.path.name and original["sha256"] in (drop.sha256, None)


def _safe_stem(name: str) -> str:
    """Make a name that every file system accepts and that the daemon does not change."""
    text = re.sub(r"[^\w-]+", "_", unicodedata.normalize("NFC", name)).strip("_")
    text = text.encode()[:96].decode("utf-8", "ignore") or "image"
    return f"{text}_" if _RESERVED.fullmatch(text) else text


def _fill(path: Path, content: Image) -> None:
    """Write a file durably."""
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif callable(content):
        content(path)
    else:
        shutil.copyfile(content, path)
    with path.open("r+b") as file:
        _flush(file.fileno())


def _flush(descriptor: int) -> None:
    """Make an open file or folder durable; on macOS, fsync leaves it in the drive's own cache."""
    if sys.platform == "darwin":
        import fcntl

        try:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
        except OSError as error:
            # SMB, NTFS, WebDAV and ZFS do not support this call, so fall back to fsync.
            if error.errno not in (errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTTY):
                raise
    os.fsync(descriptor)


def _replace_both(parts: tuple[Path, Path], target: Path) -> None:
    """Move an image and its sidecar into place. On `OSError`, the inbox is as before."""
    sidecar = target.with_name(f"{target.name}.yaml")
    before = sidecar.read_bytes() if sidecar.exists() else None
    parts[1].replace(sidecar)
    try:
        parts[0].replace(target)
    except OSError:
        with suppress(OSError):
            sidecar.replace(parts[1])
            if before is not None:
                _fill(parts[1], before)
                parts[1].replace(sidecar)
        raise


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return _sha256_of(file)


def _sha256_of(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()


def _sync_folder(folder: Path) -> None:
    """Make renames in the folder durable, if the system has a call for that."""
    if os.name != "nt":
        descriptor = os.open(folder, os.O_RDONLY)
        with suppress(OSError):  # some network file systems refuse
            _flush(descriptor)
        os.close(descriptor)


def _is_process(pid: int) -> bool:
    """True if the process exists on this machine. On Windows always True, since `os.kill` would end
    the process there."""
    if os.name == "nt":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
