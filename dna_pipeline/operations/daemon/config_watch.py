"""Watch of pipeline.yaml while the daemon runs: finds an edited file that has settled."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import structlog

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.config.schema import Config

log = structlog.get_logger()

LOOK_S = 1.0
SETTLE_S = 2.0
"""Time without a change after which a valid file counts as written to its end."""

INVALID_SETTLE_S = 8.0
"""Time without a change after which a file that is not valid is reported. An editor may leave half
a file for a moment, and a person saves between two thoughts."""

CLOSE_S = 0.5

Identity = tuple[int, int, int, int] | None
"""Device, inode, time and size of the file; None if it is not there."""


class ConfigWatch:
    """Loads pipeline.yaml again after each change, on a thread of its own: its disk may be slow.

    Args:
        load: reads and checks the file, as `operations/configuration.py: load`.

    Attributes:
        problem: the reason why the file of now cannot be used, as its loader says it; "" if it can
            be used, or is being edited.
    """

    def __init__(self, file: Path, load: Callable[[Path], Config]) -> None:
        self._file = file
        self._load = load
        self._identity: Identity = None
        self._changed_at: float | None = None
        self._judged_at: float | None = None
        """Time of the change up to which the file was judged."""
        self._fault = ""
        self._newest: deque[Config] = deque(maxlen=1)
        """Handed from thread to thread, so that `take` loses none that comes meanwhile."""
        self.problem = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="config", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(CLOSE_S)

    def take(self) -> Config | None:
        """Give the newest valid configuration, once."""
        try:
            return self._newest.pop()
        except IndexError:
            return None

    def _run(self) -> None:
        while not self._stop.wait(LOOK_S):
            self.step(time.monotonic())

    def step(self, now: float) -> None:
        """Look at the file; load it if it has settled. `now` is monotonic."""
        identity = _identity(self._file)
        if self._changed_at is None or identity != self._identity:
            self._identity, self._changed_at, self._fault = identity, now, ""
            return
        age_s = now - self._changed_at
        if self._judged_at == self._changed_at or age_s < SETTLE_S:
            return
        if not self._fault:
            self._try_load(identity)
        if self._fault and age_s >= INVALID_SETTLE_S:
            self.problem, self._judged_at = self._fault, self._changed_at

    def _try_load(self, identity: Identity) -> None:
        try:
            config = self._load(self._file)
        except ConfigError as error:
            self._fault = str(error)
            return
        except Exception as error:
            # The thread goes on, so that the next edit is noticed, and this one leaves a trace.
            log.exception("config.not_loaded")
            self._fault = f"{self._file}: cannot be read: {error or type(error).__name__}"
            return
        if _identity(self._file) == identity:  # else the next look sees the change
            self._newest.append(config)
            self.problem, self._judged_at = "", self._changed_at


def _identity(file: Path) -> Identity:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size
