"""Publishing on a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Publishing:
    """Publishes one job on a thread of its own, so that a disk that stops answering blocks that
    thread and not the daemon's loop."""

    def __init__(self, job: str, publish: Callable[[], None]) -> None:
        self.job = job
        self._publish = publish
        self._error: BaseException | None = None
        self._ended = threading.Event()
        threading.Thread(target=self._run, name="publish", daemon=True).start()

    def _run(self) -> None:
        try:
            self._publish()
        except BaseException as error:
            self._error = error
        finally:
            self._ended.set()

    def has_ended(self, wait_s: float) -> bool:
        """True if publishing has ended; waits up to `wait_s` for it."""
        return self._ended.wait(wait_s)

    def check(self) -> None:
        """Raise the error that ended publishing, if there was one."""
        if self._error is not None:
            raise self._error
