"""Sends images to a running `dna-pipeline watch` and follows their jobs, through its folders alone.

One file, standard library only, Python 3.9 or newer: made to be copied beside a tool's own scripts.

    client = Client("/studio/outbox")
    drop = client.send("mesh", "chair.png", {"triposr": {"resolution": 192}})
    state = client.wait(drop, timeout_s=600, on_progress=lambda state: print(state.text))
    print(state.paths("mesh"))
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import sys
import time
import unicodedata
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from glob import escape
from pathlib import Path
from typing import Any, Union

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
    """Seconds since 1970, by the clock of the inbox's file system."""


@dataclass(frozen=True)
class State:
    """State of a drop.

    Attributes:
        kind: `waiting` (not claimed yet), `queued`, `running`, `completed` or `failed`.
        why: reason why it waits, or the running stage.
        fraction: finished part of the job, in [0, 1].
        eta_s: seconds left; None if unknown.
        folder: the result folder or failure folder.
        manifest: manifest.json of the result.
        error: error.json of the failure: `code`, `message`, `detail`, `hint`, …
    """

    kind: str
    why: str = ""
    fraction: float = 0.0
    eta_s: float | None = None
    folder: Path | None = None
    manifest: dict[str, Any] = field(default_factory=dict[str, Any])
    error: dict[str, Any] = field(default_factory=dict[str, Any])

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
    """One outbox, and the inboxes that its daemon watches.

    Args:
        outbox: the folder of status.json, or the folder of pipeline.yaml if it has the outbox.
        inboxes: folders by name, for inboxes that have another path on this machine than for the
            daemon.
    """

    def __init__(
        self, outbox: str | os.PathLike[str], inboxes: Mapping[str, str | os.PathLike[str]] = {}
    ) -> None:
        self.outbox = Path(outbox)
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
            state = self.state(drop)
            if on_progress is not None and state != last:
                on_progress(state)
            if state.is_over:
                return state
            if until is not None and time.monotonic() > until:
                raise TimeoutError(f"{drop.path.name} after {timeout_s:g} s: {state.text}")
            last = state
            time.sleep(poll_s)

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
                    return State(kind, folder.name, done, folder=folder, **{key: manifest})
        return None

    def _unknown(self, drop: Drop, alive: bool) -> State:
        """Give the state of a drop that status.json does not list."""
        kind = "waiting" if drop.path.exists() else "queued"
        with suppress(OSError):
            if drop.token not in drop.path.with_name(f"{drop.path.name}.yaml").read_text("utf-8"):
                sentence = "Another image of this name was sent and took its place."
                return State("failed", error={"code": "replaced", "message": sentence})
        return State(kind, "" if alive else "no daemon runs")


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
        return State("running", why, running["fraction"], running["eta_s"])
    for entry in status.get("queued", []):
        if (entry["inbox"], entry["name"]) == (drop.inbox, drop.path.name):
            return State("queued", entry["detail"] or _pause(status))
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
    digest = hashlib.sha256()
    with path.open("rb") as file:
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
