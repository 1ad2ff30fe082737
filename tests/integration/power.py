"""What a disk may hold after the power went: built from what the program had made durable.

Only fsync makes anything durable: that of a file its bytes, that of a folder the names in it. What
was not covered may be there or not. Of all the states in between, two extremes are built after
every step: `least`, where nothing is there that nobody asked for (a name that was not synced is
missing or still the old one, bytes that were not synced are gone), and `most`, where all names
have reached the disk and of the bytes that were not synced only half. A folder that was synced has
lost a name even if the folder that gained it was not. SQLite's commits count as durable
(`synchronous=FULL`).
"""

from __future__ import annotations

import os
import shutil
import stat
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dna_pipeline.ledger.sqlite import open_reader, sqlite_module
from tests.integration.conftest import STEPS

LEDGER = "ledger.db"


@dataclass(frozen=True)
class Node:
    """A file's bytes, or None for a folder; its time of change."""

    inode: int
    data: bytes | None
    mtime_ns: int


State = dict[str, Node]
"""What lies on the disk, by path below the root; folders before what is in them."""


@dataclass
class Disk:
    """Follows the changes below `root`. `states` are all that a power loss could have left."""

    root: Path
    states: dict[str, State] = field(default_factory=dict[str, State])
    _names: dict[int, dict[str, int]] = field(default_factory=dict[int, dict[str, int]])
    _bytes: dict[int, bytes] = field(default_factory=dict[int, bytes])
    _seen: dict[int, int] = field(default_factory=dict[int, int])
    _known: set[int] = field(default_factory=set[int])
    _steps: int = 0
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def begin(self, volatile: Callable[[Path], bool]) -> None:
        """All that lies there is durable, but the bytes of `volatile` files."""
        for path in [self.root, *sorted(self.root.rglob("*"))]:
            self._keep(path)
            if path.is_dir():
                self._sync(path.stat().st_ino, path)
            elif not volatile(path):
                self._bytes[path.stat().st_ino] = path.read_bytes()

    def _keep(self, path: Path) -> None:
        """An inode that is held open is not given to another file."""
        with suppress(FileNotFoundError):
            if (inode := path.lstat().st_ino) not in self._seen:
                self._seen[inode] = os.open(path, os.O_PATH | os.O_NOFOLLOW)

    def _sync(self, inode: int, path: Path) -> None:
        if path.is_dir():
            with os.scandir(path) as entries:
                now = {entry.name: entry.inode() for entry in entries}
            self._names[inode] = now
        else:
            self._bytes[inode] = path.read_bytes()

    def fsync(self, fd: int) -> None:
        """Called after each fsync."""
        path = Path(f"/proc/self/fd/{fd}").readlink()
        if path.is_relative_to(self.root):
            with self._lock:
                self._keep(path)
                self._sync(os.fstat(fd).st_ino, Path(f"/proc/self/fd/{fd}"))

    def step(self, name: str) -> None:
        """Called between any two steps: the power may go here."""
        with self._lock:
            for folder, folders, files in os.walk(self.root):
                for inner in [*folders, *files]:
                    self._keep(Path(folder, inner))
            self._steps += 1
            for kind in ("least", "most"):
                state: State = {}
                self._walk(self.root.stat().st_ino, "", kind, state)
                state = self._without_old_names(state) | self._ledger()
                if (key := hash(tuple(state.items()))) not in self._known:
                    self._known.add(key)
                    self.states[f"{self._steps} {kind} {name}"] = state

    def _without_old_names(self, state: State) -> State:
        """A rename is one step: where the new name is durable, the old one is gone."""
        number = Counter(node.inode for node in state.values())
        return {
            name: node
            for name, node in state.items()
            if node.data is None or number[node.inode] == 1 or self._is_live(name, node.inode)
        }

    def _is_live(self, name: str, inode: int) -> bool:
        path = self.root / name
        return path.exists() and path.stat().st_ino == inode

    def _walk(self, inode: int, path: str, kind: str, state: State) -> None:
        for name, child in sorted(self._entries(inode, kind).items()):
            if name.startswith(LEDGER):
                continue
            status = Path(f"/proc/self/fd/{self._seen[child]}").stat()
            inner = f"{path}{name}"
            if stat.S_ISDIR(status.st_mode):
                state[inner] = Node(child, None, 0)
                self._walk(child, f"{inner}/", kind, state)
            else:
                state[inner] = Node(child, self._content(child, kind), status.st_mtime_ns)

    def _entries(self, inode: int, kind: str) -> dict[str, int]:
        durable = self._names.get(inode, {})
        if kind == "least":
            return {name: child for name, child in durable.items() if child in self._seen}
        with suppress(OSError), os.scandir(f"/proc/self/fd/{self._seen[inode]}/.") as entries:
            return {entry.name: entry.inode() for entry in entries}
        return {}

    def _content(self, inode: int, kind: str) -> bytes:
        if inode in self._bytes:
            return self._bytes[inode]
        if kind == "least":
            return b""
        with Path(f"/proc/self/fd/{self._seen[inode]}").open("rb") as file:
            data = file.read()
        return data[: len(data) // 2]

    def _ledger(self) -> State:
        """What is committed, as one file; its folder is there since it is."""
        (path,) = self.root.rglob(LEDGER)
        copy = self.root.with_name("copy.db")
        copy.write_bytes(b"")  # into a database, SQLite would write how often it was copied into
        reader, writer = open_reader(path), sqlite_module().connect(copy)
        try:
            reader.backup(writer)
        finally:
            reader.close()
            writer.close()
        return {str(path.relative_to(self.root)): Node(0, copy.read_bytes(), 0)}

    def build(self, state: State) -> None:
        """Put that state into the root's place."""
        for path in self.root.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        made: dict[int, Path] = {}
        for name, node in state.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if node.data is None:
                path.mkdir(exist_ok=True)
            elif node.inode in made:
                path.hardlink_to(made[node.inode])
            else:
                path.write_bytes(node.data)
                os.utime(path, ns=(node.mtime_ns, node.mtime_ns))
                made[node.inode or -1] = path

    def close(self) -> None:
        for fd in self._seen.values():
            os.close(fd)


@contextmanager
def followed(root: Path, volatile: Callable[[Path], bool] = lambda _: False) -> Iterator[Disk]:
    """Follow every change that happens meanwhile below `root`, in this process."""
    disk = Disk(root)
    disk.begin(volatile)
    real = os.fsync

    def fsync(fd: Any) -> None:
        real(fd)
        disk.fsync(fd if isinstance(fd, int) else fd.fileno())

    def wrapped(name: str, step: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            disk.step(f"before {name}")
            try:
                return step(*args, **kwargs)
            finally:
                disk.step(f"after {name}")

        return run

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        for owner, name in STEPS:
            patch.setattr(owner, name, wrapped(name, getattr(owner, name)))
        yield disk
    disk.close()
