"""Give hints that an inbox is worth a scan.

Events may be lost, late or doubled; the scan is the truth. Each inbox is watched natively or by
polling, or not at all if neither is possible: the periodic scan finds all files anyway, only later.
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
"""Longest wait for the end of a thread; one that a dead disk blocks ends with the process."""

POLL_SHARE = 20
"""A poll that takes t seconds is followed by a rest of at least this many times t."""

Hint = Callable[[str], None]
Warn = Callable[[str, str], None]
Kind = Literal["native", "poll"]

# Without FileDeletedEvent: a deletion makes no candidate ready, and every claim deletes files.
_EVENTS: list[type[FileSystemEvent]] = [
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileClosedEvent,
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
]


@dataclass(frozen=True, slots=True)
class _Watched:
    kind: Kind
    identity: tuple[int, int]
    watch: ObservedWatch


class Watcher:
    """Watches inboxes and tells which one to scan. No method raises an error of the file system.

    Args:
        hint: called with an inbox's name from a thread of the watcher, often and more than once for
            one change: it should only set a flag, and must not call the watcher.
        warn: called with an inbox's name and a sentence when the inbox is watched less well than
            its settings request; once for each cause.
        look: tells whether a folder can be reached; the watch of a folder that does not answer is
            left as it is.
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

    def stop(self) -> None:
        """End all threads; waits a few seconds for them at most."""
        self._watched.clear()
        ends: list[threading.Thread] = []
        while self._observers:
            _, observer = self._observers.popitem()
            # watchdog joins a polling thread without a limit, however long the disk takes to
            # answer, so each observer is stopped in a thread of its own.
            ends.append(threading.Thread(target=_end, args=(observer,), daemon=True))
            ends[-1].start()
        until = time.monotonic() + STOP_S
        for end in ends:
            end.join(max(until - time.monotonic(), 0.0))

    def refresh(self) -> None:
        """Watch folders that are new or back, and drop the watches of folders that are gone.

        Call this at the start and with each rescan: a native watch stays with the folder that it
        was set on, so a folder that was moved away and made anew would have no watch.
        """
        for inbox in self._inboxes:
            try:
                self._refresh(inbox)
                self._check_exhausted(inbox)
            except Exception as error:
                self._drop(inbox.name)
                self._report(inbox, f"not watched, only scanned: {error}")

    def kind(self, name: str) -> Kind | None:
        """Present kind of watch of an inbox; None if the inbox is only scanned."""
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
                self._report(inbox, f"{_WORDS[kind]} fails: {error}")
                continue
            # Files that came before the watch was set made no event, so one hint is given now.
            with suppress(Exception):
                self._hint(inbox.name)
            return
        self._report(inbox, f"not watched, only scanned every {inbox.rescan_s:g} s")

    def _schedule(self, inbox: Inbox, kind: Kind, identity: tuple[int, int]) -> _Watched:
        # Watches do not follow symbolic links, and the path of the inbox may contain some.
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
            observer = self._native() if kind == "native" else BaseObserver(_POLLER, timeout=POLL_S)
            observer.start()
            self._observers[kind] = observer
        return observer

    def _native(self) -> BaseObserver:
        return InotifyObserver(self._hint_all) if InotifyObserver else Observer()

    def _hint_all(self) -> None:
        """Hint at all inboxes, since it is unknown whose events were lost."""
        for inbox in self._inboxes:
            with suppress(Exception):
                self._hint(inbox.name)

    def _is_alive(self, watched: _Watched) -> bool:
        """True if events still come; watchdog ends a watch when its folder is removed."""
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
                # A dead disk blocks the thread that polls it, and that thread blocks this observer.
                # The observer is dropped: the next refresh finds the watches of the other inboxes
                # gone, and sets them on a new observer.
                self._observers.pop(watched.kind, None)
            if inotify := _as_inotify(observer):
                inotify.forget_unwatched(watched.watch.path)

    def _check_exhausted(self, inbox: Inbox) -> None:
        """Poll a recursive inbox if the system has too few watches left for its subfolders."""
        watched = self._watched.get(inbox.name)
        inotify = watched and _as_inotify(self._observers[watched.kind])
        if not watched or not inotify or not inotify.unwatched_below(watched.watch.path):
            return
        self._report(inbox, "the system's limit of watches is reached; raise it (doctor says how)")
        if inbox.watch == "auto":
            self._drop(inbox.name)
            self._watched[inbox.name] = self._schedule(inbox, "poll", watched.identity)

    def _report(self, inbox: Inbox, text: str) -> None:
        if (inbox.name, text) not in self._warned:
            self._warned.add((inbox.name, text))
            with suppress(Exception):
                self._warn(inbox.name, text)


class _Handler(FileSystemEventHandler):
    """Turns events below `root` into hints, except those of files that a scan passes over."""

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
    """A poller that rests longer the longer its polls take."""

    _pause_s = 0.0

    def queue_events(self, timeout: float) -> None:
        wait_s = max(timeout, self._pause_s)
        began = time.monotonic()
        super().queue_events(wait_s)
        self._pause_s = POLL_SHARE * max(0.0, time.monotonic() - began - wait_s)


def _visible(folder: str | None) -> Iterator[os.DirEntry[str]]:
    """The folder's entries without those that every scan passes over, such as our claims."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if not (is_noise(entry.name) or _is_linked_folder(entry)):
                yield entry


def _is_linked_folder(entry: os.DirEntry[str]) -> bool:
    """True for a junction of Windows, which the poller would enter as if it were a folder."""
    try:
        is_folder = entry.is_dir(follow_symlinks=False)
        return is_folder and filesystem.is_link(entry.stat(follow_symlinks=False))
    except OSError:
        return False


# With stat instead of lstat, a link to a folder above would make the poller walk in circles.
_POLLER: Any = partial(_PatientPoller, stat=os.lstat, listdir=_visible)

_WORDS: dict[Kind, str] = {"native": "watching natively", "poll": "polling"}


def _unschedule(observer: BaseObserver, watch: ObservedWatch) -> None:
    with suppress(Exception):
        observer.unschedule(watch)


def _end(observer: BaseObserver) -> None:
    with suppress(Exception):
        observer.stop()
        observer.join()


def _as_inotify(observer: BaseObserver) -> InotifyObserver | None:
    return observer if InotifyObserver and isinstance(observer, InotifyObserver) else None


def _lives(observer: BaseObserver) -> bool:
    inotify = _as_inotify(observer)
    return observer.is_alive() and (inotify is None or inotify.is_reading)


def _kinds(inbox: Inbox) -> tuple[Kind, ...]:
    """Kinds of watches to try, in this order."""
    if inbox.watch == "auto":
        is_remote = filesystem.type_of(inbox.path) in filesystem.NETWORK
        return ("poll",) if is_remote else ("native", "poll")
    return (inbox.watch,)


def _identity(folder: Path) -> tuple[int, int] | None:
    """Device and inode of a folder; None if there is no folder that can be read."""
    try:
        status = folder.stat()
    except OSError:
        return None
    # watchdog reports no error for a folder that it may not read, so that is checked here.
    if not stat.S_ISDIR(status.st_mode) or not os.access(folder, os.R_OK | os.X_OK):
        return None
    return status.st_dev, status.st_ino
