"""The thread that takes files in, and the watches that wake it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import structlog

from dna_pipeline.base.periodic import Throttle
from dna_pipeline.base.reachability import Look
from dna_pipeline.config.schema import Inbox
from dna_pipeline.intake.discovery.watcher import Watcher
from dna_pipeline.intake.service import IntakeService

log = structlog.get_logger()


class IntakeThread:
    """Steps the intake of all inboxes until it is stopped.

    Args:
        progressed: called after each step that took something in, and after an error.

    Attributes:
        error: the error that ended the thread; None if there was none. Without intake the daemon
            would wait for ever, so its loop raises this and ends.
    """

    def __init__(
        self,
        intake: IntakeService,
        inboxes: Sequence[Inbox],
        look: Look,
        progressed: Callable[[], None],
    ) -> None:
        self._intake = intake
        self._progressed = progressed
        self._refresh_s = min((inbox.rescan_s for inbox in inboxes), default=30.0)
        self._is_stopping = False
        self._has_ended = False
        self._lock = threading.Lock()
        """Held while it is decided whether the thread goes on."""
        self._hints = threading.Event()
        self.error: BaseException | None = None
        self._watcher = Watcher(inboxes, self._hint, _warn, look)
        self._thread = self._new_thread()

    def start(self) -> None:
        self._watcher.refresh()
        self._thread.start()

    def stop(self) -> None:
        """End after the step that runs now. Returns at once."""
        with self._lock:
            self._is_stopping = True
        self._hints.set()

    def resume(self) -> None:
        """Go on after `stop`; nothing happens if the thread was not stopped."""
        with self._lock:
            if not self._is_stopping:
                return
            self._is_stopping = False
            if not self._has_ended:
                return
            self._has_ended = False
            self._thread = self._new_thread()
            self._thread.start()

    def join(self, limit_s: float) -> bool:
        """Wait for the end; True if it has come."""
        self._thread.join(limit_s)
        return not self._thread.is_alive()

    def close(self) -> None:
        """End the watches."""
        self._watcher.stop()

    def _hint(self, name: str) -> None:
        self._intake.hint(name)
        self._hints.set()

    def _new_thread(self) -> threading.Thread:
        return threading.Thread(target=self._run, name="intake", daemon=True)

    def _goes_on(self) -> bool:
        with self._lock:
            self._has_ended = self._is_stopping
            return not self._has_ended

    def _run(self) -> None:
        refresh = Throttle(self._refresh_s)
        refresh.done(time.monotonic())
        try:
            while self._goes_on():
                if self._intake.step():
                    self._progressed()
                    continue
                self._hints.wait(min(self._intake.seconds_to_next(), self._refresh_s))
                self._hints.clear()
                if refresh.take(time.monotonic()):
                    self._watcher.refresh()
        except BaseException as error:
            self.error = error
            self._progressed()


def _warn(inbox: str, sentence: str) -> None:
    log.warning("inbox.watched_less_well", inbox=inbox, why=sentence)
