"""Work of the daemon on a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Background:
    """Runs an action on a thread of its own, so that a disk that stops answering blocks that thread
    and not the daemon's loop.

    Args:
        name: of the thread.
        subject: id of the job or batch that the action is about.
        ended: called when the action has ended, from the thread.
    """

    def __init__(
        self,
        name: str,
        subject: str,
        action: Callable[[], None],
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        self.subject = subject
        self._action = action
        self._notify = ended
        self._error: BaseException | None = None
        self._ended = threading.Event()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def _run(self) -> None:
        try:
            self._action()
        except BaseException as error:
            self._error = error
        finally:
            self._ended.set()
            self._notify()

    def has_ended(self, wait_s: float = 0.0) -> bool:
        """True if the action has ended; waits up to `wait_s` for it."""
        return self._ended.wait(wait_s)

    def check(self) -> None:
        """Raise the error that ended the action, if there was one."""
        if self._error is not None:
            raise self._error
