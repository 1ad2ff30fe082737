"""Hints that an inbox is worth a scan. Events may be lost, late or doubled; the scan is the truth.

Each inbox is watched natively or by polling, or, where neither can be had, not at all: the
periodic scan finds everything anyway, only later.
"""

from __future__ import annotations

import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver, ObservedWatch
from watchdog.observers.polling import PollingEmitter

from dna_pipeline.base import filesystem
from dna_pipeline.base.reachability import Look, look_directly
from dna_pipeline.config.schema import Inbox
from dna_pipeline.intake.discovery.scan import is_noise

if sys.platform == "linux":
    from dna_pipeline.intake.discovery.inotify import InotifyObserver
else:
    InotifyObserver = None

POLL_S = 2.0
"""Shortest time between two polls."""

STOP_S = 1.5
"""How long the threads may take to end; one that a dead disk blocks ends with the process."""

POLL_SHARE = 20
"""A poll that takes t seconds is followed by a rest of at least this many times t."""

Hint = Callable[[str], None]
Warn = Callable[[str, str], None]
Kind = Literal["native", "poll"]

# A file that only vanishes makes nothing ready, and every file that we take in vanishes.
_EVENTS: list[type[FileSystemEvent]] = [
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileClosedEvent,
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
]

# Changes that other machines make on these give no events here.
_NETWORK = frozenset(
    """
    9p afs ceph cifs drvfs fuse.glusterfs fuse.rclone fuse.s3fs fuse.sshfs fuse.vmhgfs-fuse lustre
    ncpfs nfs nfs4 prl_fs smb3 smbfs vboxsf virtiofs vmhgfs
    """.split()  # noqa: SIM905
)


@dataclass(frozen=True, slots=True)
class _Watched:
    kind: Kind
    identity: tuple[int, int]
    watch: ObservedWatch


class Watcher:
    """Watches inboxes and says which one to scan; nothing here raises into the caller.

    Args:
        hint: called with an inbox's name from a thread of the watcher's, often and more than
            once for one change: it should only set a flag, and call nothing of the watcher.
        warn: called with an inbox's name and a sentence when it is watched less well than asked
            for; once for each cause.
        look: says whether a folder can be reached; one that does not answer is left as it is.
    """

    def __init__(
        self, inboxes: Iterable[Inbox], hint: Hint, warn: Warn, look: Look = look_directly
    ) -> None:
        self._inboxes = tuple(inboxes)
        self._hint = hint
        self._warn = warn
        self._look = look
        self._observers: dict[Kind, BaseObserver] = {}
        self._watched: dict[str, _Watched] = {}
        self._warned: set[tuple[str, str]] = set()

    def start(self) -> None:
        """Watch what is there."""
        self.refresh()

    def stop(self) -> None:
        """End all threads; waits a few seconds for them at most."""
        self._watched.clear()
        ends: list[threading.Thread] = []
        while self._observers:
            _, observer = self._observers.popitem()
            # watchdog waits for a thread that polls, however long the disk takes to answer that.
            ends.append(threading.Thread(target=_end, args=(observer,), daemon=True))
            ends[-1].start()
        until = time.monotonic() + STOP_S
        for end in ends:
            end.join(max(until - time.monotonic(), 0.0))

    def refresh(self) -> None:
        """Watch folders that came, or came back, and let go those that went.

        To be called with each rescan: a native watch stays with the folder that it was set on,
        so one that was moved away and made anew would go unseen.
        """
        for inbox in self._inboxes:
            try:
                self._refresh(inbox)
                self._check_exhausted(inbox)
            except Exception as error:
                self._drop(inbox.name)
                self._tell(inbox, f"not watched, only scanned: {error}")

    def kind(self, name: str) -> Kind | None:
        """How that inbox is watched now; None where only the scan sees it."""
        watched = self._watched.get(name)
        return watched.kind if watched else None

    def _refresh(self, inbox: Inbox) -> None:
        if self._look(inbox.path).is_silent:
            return
        identity = _identity(inbox.path)
        watched = self._watched.get(inbox.name)
        if watched and (watched.identity != identity or not self._is_alive(watched)):
            self._drop(inbox.name)
        if identity is None:
            self._warned = {(name, text) for name, text in self._warned if name != inbox.name}
        elif inbox.name not in self._watched:
            self._watch(inbox, identity)

    def _watch(self, inbox: Inbox, identity: tuple[int, int]) -> None:
        for kind in _kinds(inbox):
            try:
                self._watched[inbox.name] = self._schedule(inbox, kind, identity)
            except Exception as error:
                self._tell(inbox, f"{_WORDS[kind]} fails: {error}")
                continue
            # What came before the watch was set made no event.
            with suppress(Exception):
                self._hint(inbox.name)
            return
        self._tell(inbox, f"not watched, only scanned every {inbox.rescan_s:g} s")

    def _schedule(self, inbox: Inbox, kind: Kind, identity: tuple[int, int]) -> _Watched:
        # Watches do not follow symbolic links, and the inbox may have been named by one.
        root = os.path.realpath(inbox.path)
        watch = self._observer(kind).schedule(
            _Handler(root, partial(self._hint, inbox.name)),
            root,
            recursive=inbox.recursive,
            event_filter=_EVENTS,
        )
        return _Watched(kind, identity, watch)

    def _observer(self, kind: Kind) -> BaseObserver:
        observer = self._observers.get(kind)
        if observer is None or not _lives(observer):
            if observer:
                observer.stop()
            observer = self._native() if kind == "native" else _polling()
            observer.start()
            self._observers[kind] = observer
        return observer

    def _native(self) -> BaseObserver:
        return InotifyObserver(self._hint_all) if InotifyObserver else Observer()

    def _hint_all(self) -> None:
        """Events were lost, nobody knows whose."""
        for inbox in self._inboxes:
            with suppress(Exception):
                self._hint(inbox.name)

    def _is_alive(self, watched: _Watched) -> bool:
        """Whether events still come: watchdog ends a watch when its folder is removed."""
        observer = self._observers.get(watched.kind)
        return (
            observer is not None
            and _lives(observer)
            and any(
                emitter.watch == watched.watch
                and emitter.should_keep_running()
                and emitter.is_alive()
                for emitter in observer.emitters
            )
        )

    def _drop(self, name: str) -> None:
        watched = self._watched.pop(name, None)
        observer = watched and self._observers.get(watched.kind)
        if watched and observer:
            end = threading.Thread(target=_unschedule, args=(observer, watched.watch), daemon=True)
            end.start()
            end.join(STOP_S)
            if end.is_alive():
                # A dead disk blocks the thread that polled it, and that blocks this observer. The
                # other inboxes' watches are missed at once, and set on a new one.
                self._observers.pop(watched.kind, None)
            if inotify := _as_inotify(observer):
                inotify.forget_unwatched(watched.watch.path)

    def _check_exhausted(self, inbox: Inbox) -> None:
        """Poll a recursive inbox if the system has no watches left for all its subfolders."""
        watched = self._watched.get(inbox.name)
        inotify = watched and _as_inotify(self._observers[watched.kind])
        if not watched or not inotify or not inotify.unwatched_below(watched.watch.path):
            return
        self._tell(inbox, "the system's limit of watches is reached; raise it (doctor says how)")
        if inbox.watch == "auto":
            self._drop(inbox.name)
            self._watched[inbox.name] = self._schedule(inbox, "poll", watched.identity)

    def _tell(self, inbox: Inbox, text: str) -> None:
        if (inbox.name, text) not in self._warned:
            self._warned.add((inbox.name, text))
            with suppress(Exception):
                self._warn(inbox.name, text)


class _Handler(FileSystemEventHandler):
    """Turns events below `root` into hints, save those of files that a scan passes over."""

    def __init__(self, root: str, hint: Callable[[], None]) -> None:
        self._root = root
        self._hint = hint

    def dispatch(self, event: FileSystemEvent) -> None:
        path = os.fsdecode(event.dest_path or event.src_path)
        if path != self._root:
            inside = path.removeprefix(self._root + os.sep)
            if any(is_noise(part) for part in inside.split(os.sep)):  # noqa: PTH206
                return
            if isinstance(event, DirDeletedEvent):
                return
        # An error raised here would end the thread that serves all inboxes.
        with suppress(Exception):
            self._hint()


class _PatientPoller(PollingEmitter):
    """Polls the less often the longer it takes."""

    _pause_s = 0.0

    def queue_events(self, timeout: float) -> None:
        wait_s = max(timeout, self._pause_s)
        began = time.monotonic()
        super().queue_events(wait_s)
        self._pause_s = POLL_SHARE * max(0.0, time.monotonic() - began - wait_s)


def _visible(folder: str | None) -> Iterator[os.DirEntry[str]]:
    """The folder's entries without those that no scan would look at, our claims among them."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if not (is_noise(entry.name) or _is_linked_folder(entry)):
                yield entry


def _is_linked_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a junction of Windows, which the poller would take for a folder and enter."""
    try:
        is_folder = entry.is_dir(follow_symlinks=False)
        return is_folder and filesystem.is_link(entry.stat(follow_symlinks=False))
    except OSError:
        return False


# lstat, or a link to a folder above would be walked in circles.
_POLLER: Any = partial(_PatientPoller, stat=os.lstat, listdir=_visible)

_WORDS: dict[Kind, str] = {"native": "watching natively", "poll": "polling"}


def _unschedule(observer: BaseObserver, watch: ObservedWatch) -> None:
    with suppress(Exception):
        observer.unschedule(watch)


def _end(observer: BaseObserver) -> None:
    with suppress(Exception):
        observer.stop()
        observer.join()


def _polling() -> BaseObserver:
    return BaseObserver(_POLLER, timeout=POLL_S)


def _as_inotify(observer: BaseObserver) -> InotifyObserver | None:
    return observer if InotifyObserver and isinstance(observer, InotifyObserver) else None


def _lives(observer: BaseObserver) -> bool:
    inotify = _as_inotify(observer)
    return observer.is_alive() and (inotify is None or inotify.is_reading)


def _kinds(inbox: Inbox) -> tuple[Kind, ...]:
    """What to try, in this order."""
    if inbox.watch == "auto":
        return ("poll",) if _is_network(inbox.path) else ("native", "poll")
    return (inbox.watch,)


def _identity(folder: Path) -> tuple[int, int] | None:
    """Device and inode; None where there is no folder that can be read."""
    try:
        status = folder.stat()
    except OSError:
        return None
    # Without this, watchdog takes a folder without permission for a watched one.
    if not stat.S_ISDIR(status.st_mode) or not os.access(folder, os.R_OK | os.X_OK):
        return None
    return status.st_dev, status.st_ino


def _is_network(folder: Path) -> bool:
    """Whether the folder lies on a file system that others change without our kernel knowing."""
    return filesystem.type_of(folder) in _NETWORK
