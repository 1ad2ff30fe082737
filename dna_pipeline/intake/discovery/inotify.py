"""watchdog's inotify observer with five mends; Linux only.

It watches no claims: each would cost one of the system's watches, and folders that come and go
as fast as claims do trip it. For the same cause it watches no other folder that a scan passes over,
such as the recycle bin of a NAS. It remembers the subfolders for which no watch was left, which
watchdog passes over in silence. It tells when the kernel threw events away. It shows whether the
thread that reads the events lives. And it logs no error where a watch is only being ended.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from watchdog.events import FileSystemEventHandler
from watchdog.observers.api import BaseObserver, ObservedWatch
from watchdog.observers.inotify import InotifyEmitter
from watchdog.observers.inotify_c import (
    CallbackId,
    InotifyEvent,
    InotifyFD,
    Mask,
    WatchCallback,
    WatchDescriptor,
)

from dna_pipeline.intake.discovery.scan import is_noise


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    """Not what an emitter says that is stopped between its look at the flag and its next read.

    It then logs an error and ends, as it was told to; nothing was lost, since nobody listens.
    """
    return "called when the thread is inactive" not in record.msg


logging.getLogger("watchdog.observers.inotify").addFilter(_is_worth_a_line)


class InotifyObserver(BaseObserver):
    """An observer whose emitters share one inotify descriptor. Creating it may raise OSError.

    Args:
        overflowed: called, from the reading thread, when events were lost: there were more than
            the kernel holds for us.
    """

    def __init__(self, overflowed: Callable[[], None]) -> None:
        self._reader = _Reader(overflowed)
        self._reader.start()
        # watchdog declares only the arguments that all emitters share.
        options: dict[str, Any] = {"inotify_fd": self._reader}
        super().__init__(InotifyEmitter, **options)

    def schedule(
        self, event_handler: FileSystemEventHandler, path: str | Path, **options: Any
    ) -> ObservedWatch:
        self._reader.roots.add(os.fsencode(path))
        return super().schedule(event_handler, path, **options)

    @property
    def is_reading(self) -> bool:
        return self._reader.is_alive()

    def unwatched_below(self, root: str) -> bool:
        """Whether the system had no watch left for a folder below `root`."""
        return any(path.startswith(root + os.sep) for path in self._reader.unwatched)

    def forget_unwatched(self, root: str) -> None:
        """Begin anew for `root`, which is to be watched again or otherwise."""
        for path in list(self._reader.unwatched):
            if path == root or path.startswith(root + os.sep):
                self._reader.unwatched.discard(path)

    def on_thread_stop(self) -> None:
        super().on_thread_stop()
        self._reader.stop()
        self._reader.join()


class _Reader(InotifyFD):
    def __init__(self, overflowed: Callable[[], None]) -> None:
        super().__init__()
        self.unwatched: set[str] = set()
        self.roots: set[bytes] = set()
        self._overflowed = overflowed

    def handle_event(self, event: InotifyEvent) -> None:
        """As watchdog's, which on an overflow sets its watches anew but makes no event."""
        super().handle_event(event)
        if event.is_queue_overflow:
            self._overflowed()

    def add_callback(
        self, path: bytes, mask: Mask, callback: WatchCallback, id_: CallbackId
    ) -> WatchDescriptor:
        """As watchdog's, which goes on without a subfolder for which this raises OSError."""
        inside = (path[len(root) :] for root in self.roots if path.startswith(root + b"/"))
        if any(is_noise(os.fsdecode(part)) for part in next(inside, b"").split(b"/") if part):
            raise FileNotFoundError(errno.ENOENT, "this folder is not watched")
        try:
            return super().add_callback(path, mask, callback, id_)
        except RuntimeWarning as error:
            # Two events told of one new folder. Where warnings are errors this ended the thread.
            raise FileExistsError(errno.EEXIST, str(error)) from None
        except OSError as error:
            if error.errno == errno.ENOSPC:
                self.unwatched.add(os.fsdecode(path))
            raise
