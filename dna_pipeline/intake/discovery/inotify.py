"""watchdog's inotify observer with five repairs; Linux only.

- Claims get no watch: each would cost one of the system's watches, and folders that come and go as
  fast as claims make watchdog fail. For the same reason no other folder that a scan passes over
  gets one, such as the recycle bin of a NAS.
- The observer remembers the subfolders for which no watch was left; watchdog skips them silently.
- It reports that the kernel dropped events.
- It shows whether the thread that reads the events is alive.
- It logs no error when a watch is only being ended.
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


def _is_no_shutdown_error(record: logging.LogRecord) -> bool:
    """False for the error of an emitter that is stopped between its check of the stop flag and its
    next read.

    Such an emitter logs an error and ends, as requested. Nothing is lost, since nobody listens.
    """
    return "called when the thread is inactive" not in record.msg


logging.getLogger("watchdog.observers.inotify").addFilter(_is_no_shutdown_error)


class InotifyObserver(BaseObserver):
    """An observer whose emitters share one inotify descriptor. Creating it may raise OSError.

    Args:
        overflowed: called from the reading thread when events were lost because the kernel's
            queue was full.
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
        """True if the system had no watch left for a folder below `root`."""
        return any(path.startswith(root + os.sep) for path in self._reader.unwatched)

    def forget_unwatched(self, root: str) -> None:
        """Forget the missing watches of `root`, which is about to be watched anew or by polling."""
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
        """Report an overflow of the kernel's queue.

        watchdog then sets its watches anew but emits no event.
        """
        super().handle_event(event)
        if event.is_queue_overflow:
            self._overflowed()

    def add_callback(
        self, path: bytes, mask: Mask, callback: WatchCallback, id_: CallbackId
    ) -> WatchDescriptor:
        """Refuse folders that need no watch, and remember those for which no watch was left.

        watchdog goes on without a subfolder for which this method raises OSError.
        """
        inside = (path[len(root) :] for root in self.roots if path.startswith(root + b"/"))
        if any(is_noise(os.fsdecode(part)) for part in next(inside, b"").split(b"/") if part):
            raise FileNotFoundError(errno.ENOENT, "this folder is not watched")
        try:
            return super().add_callback(path, mask, callback, id_)
        except RuntimeWarning as error:
            # Two events may report one new folder, and watchdog then warns. Where warnings are
            # errors, that would end the thread.
            raise FileExistsError(errno.EEXIST, str(error)) from None
        except OSError as error:
            if error.errno == errno.ENOSPC:
                self.unwatched.add(os.fsdecode(path))
            raise
