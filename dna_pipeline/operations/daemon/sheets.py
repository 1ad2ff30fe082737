"""Contact sheets of batches that have ended, made while the device has nothing else to do.

entries from the ledger → thumbnails, some at a time → one picture of all → the page

The pictures are made in the worker, by tasks for idle time; ledger and disk are read and written
on a thread of its own. A batch stays `due` in the ledger until its sheet is there, so a restart
makes what a crash cut off. Nothing here fails or holds a job.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from dna_pipeline.base.errors import ConfigError, DeviceUnavailable, DnaError
from dna_pipeline.base.periodic import Throttle
from dna_pipeline.base.reachability import Look, look_directly
from dna_pipeline.config.schema import Config
from dna_pipeline.execution.dispatcher import Dispatcher
from dna_pipeline.execution.protocol import (
    SheetOrder,
    Task,
    TaskDone,
    TaskEnd,
    ThumbnailOrder,
)
from dna_pipeline.ledger import batches
from dna_pipeline.ledger.queries import Queries
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.operations.daemon.background import Background
from dna_pipeline.operations.sheet_contents import cells_of, columns_of, sheet_of_batch
from dna_pipeline.publish.sheet.folder import SheetFolder
from dna_pipeline.publish.sheet.pages import Sheet

log = structlog.get_logger()

PORTION = 16
"""Thumbnails of one task: less than a second, for which a job that comes meanwhile waits."""
LOOK_S = 2.0
RETRY_S = 60.0
"""Time until a sheet is tried again that waits for the device or for the outbox."""
MOST_FAULTS = 3
MOST_ATTEMPTS = 2
"""Attempts at one task: a picture that ends the worker must not do so for ever."""


class _Closed(DnaError):
    """The daemon ends."""


class _Wait(DnaError):
    """The sheet cannot be made now; it is tried again later, however often."""


@dataclass(slots=True, eq=False)
class _Making:
    """A sheet that is being made.

    Attributes:
        sheet, folder: set once the ledger was read; None if the batch has no folder any more.
        tasks: what the worker has still to do.
        attempts: how often the first of them was tried.
        background: what runs on the thread; None while the worker has its turn.
        is_written: True once the page is there.
    """

    batch: str
    background: Background | None = None
    sheet: Sheet | None = None
    folder: SheetFolder | None = None
    tasks: deque[Task] = field(default_factory=deque[Task])
    attempts: int = 0
    is_requested: bool = False
    is_written: bool = False


class SheetMaker:
    """Makes the contact sheets that are due, one after another, from the daemon's main thread.

    Args:
        wake: called when a step may be due, from any thread.
    """

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        dispatcher: Dispatcher,
        look: Look = look_directly,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._look = look
        self._wake = wake
        self._looking = Throttle(LOOK_S)
        self._making: _Making | None = None
        self._waits: dict[str, float] = {}
        """Times before which the sheets of batches are not tried again."""
        self._faults = Counter[str]()
        """Number of times that the disk or the ledger kept a sheet from being made."""
        self._is_stale = True
        self._is_closed = threading.Event()
        self._clock = 0.0

    def step(self, now: float) -> bool:
        """Go on with the work; True if a task was requested, so that the dispatcher has to look."""
        self._clock = now
        try:
            return self._step(now)
        except (OSError, DnaError, ValueError, KeyError, TypeError) as error:
            self._fail(error)
            return False

    @property
    def is_at_work(self) -> bool:
        """True while a sheet is being made that waits for nothing but its turn."""
        return self._making is not None

    @property
    def is_writing(self) -> bool:
        """True while the thread reads the ledger or writes files."""
        making = self._making
        return (
            making is not None
            and making.background is not None
            and (not making.background.has_ended())
        )

    def has_work(self) -> bool:
        """True if a sheet is being made or could be begun now; it is begun at the next step."""
        if self._making is None and self._next(self._clock) is None:
            return False
        self._is_stale, self._looking.next_at = True, self._clock
        return True

    def ledger_changed(self) -> None:
        """Note that a batch may have ended."""
        self._is_stale = True

    def close(self) -> None:
        """Begin no further file; what is unfinished is made after the next start."""
        self._is_closed.set()

    def reopen(self) -> None:
        """Go on after `close`."""
        if self._is_closed.is_set():
            self._is_closed.clear()
            self._is_stale = True

    # --- one step ---

    def _step(self, now: float) -> bool:
        if self._making is None and not self._begin(now):
            return False
        making = self._making
        assert making is not None
        if making.background is not None:
            if not making.background.has_ended():
                return False
            making.background.check()
            making.background = None
        if making.is_written or making.folder is None:
            self._end(making)
            return False
        if making.tasks:
            return self._request(making)
        making.background = Background(
            "sheet", making.batch, lambda: self._write(making), self._wake
        )
        return False

    def _begin(self, now: float) -> bool:
        has_waited = any(time <= now for time in self._waits.values())
        if self._is_closed.is_set() or not (self._is_stale or has_waited):
            return False
        if not self._looking.take(now):
            return False
        self._is_stale = False
        if (batch_id := self._next(now)) is None:
            return False
        self._waits.pop(batch_id, None)
        self._making = making = _Making(batch_id)
        making.background = Background(
            "sheet", making.batch, lambda: self._read(making), self._wake
        )
        return True

    def _next(self, now: float) -> str | None:
        due = self._ledger.transact(batches.due_sheets)
        return next((batch for batch in due if self._waits.get(batch, now) <= now), None)

    def _end(self, making: _Making) -> None:
        self._ledger.transact(lambda s: batches.end_sheet(s, making.batch))
        self._making = None
        self._is_stale, self._looking.next_at = True, self._clock
        if making.folder is None:
            log.info("sheet.skipped", batch=making.batch, why="its folder is gone")
        else:
            log.info("sheet.made", batch=making.batch, page=str(making.folder.page))

    def _fail(self, error: Exception) -> None:
        """Give a sheet up, or let it wait where it cannot be helped now."""
        making, self._making = self._making, None
        self._is_stale = True
        if making is None or self._is_closed.is_set() or isinstance(error, _Closed):
            return
        why = str(error) or type(error).__name__
        is_passing = isinstance(error, OSError | ConfigError)
        self._faults[making.batch] += is_passing
        if isinstance(error, _Wait) or (is_passing and self._faults[making.batch] < MOST_FAULTS):
            self._waits[making.batch] = self._clock + RETRY_S
            log.info("sheet.waits", batch=making.batch, why=why)
            return
        log.warning("sheet.failed", batch=making.batch, why=why)
        self._ledger.transact(lambda s: batches.end_sheet(s, making.batch, why))

    # --- on the thread ---

    def _read(self, making: _Making) -> None:
        """Read the entries, and find out what the worker has to draw."""
        if not self._look(self._config.outbox).is_there:
            raise _Wait(f"{self._config.outbox} cannot be reached")
        with closing(Queries(self._config.ledger_path)) as queries:
            sheet, name = sheet_of_batch(queries, making.batch, self._config.data)
        folder = SheetFolder(
            self._config.outbox / name, self._config.outbox, self._config.thumbnails
        )
        if not folder.folder.is_dir():
            return
        self._picture_path(making).unlink(missing_ok=True)  # of a daemon that was killed
        missing = folder.missing_thumbnails(sheet.entries)
        for start in range(0, len(missing), PORTION):
            orders = [ThumbnailOrder(str(a), str(b)) for a, b in missing[start : start + PORTION]]
            task_id = f"thumbnails {making.batch} {start}"
            making.tasks.append(Task(task_id, "make_thumbnails", thumbnails=tuple(orders)))
        making.sheet, making.folder = sheet, folder

    def _write(self, making: _Making) -> None:
        assert making.sheet is not None
        assert making.folder is not None
        picture = self._picture_path(making)
        if not picture.is_file() and not making.attempts:
            # The thumbnails are there now, so the worker can draw them all as one picture. It is
            # not started for a sheet of which nothing can be seen.
            cells = tuple(cells_of(making.sheet, making.folder))
            if any(cell.picture for cell in cells):
                columns = columns_of(making.sheet)
                order = SheetOrder(str(picture), making.sheet.title, cells, columns)
                making.tasks.append(Task(f"sheet {making.batch}", "draw_sheet", sheet=order))
                return
        making.folder.write(making.sheet, self._pause)
        if picture.is_file():
            making.folder.put_picture(picture)
            picture.unlink()
        making.is_written = True

    def _picture_path(self, making: _Making) -> Path:
        return self._config.thumbnails / f"sheet-{making.batch}.png"

    def _pause(self) -> None:
        if self._is_closed.is_set():
            raise _Closed

    # --- tasks ---

    def _request(self, making: _Making) -> bool:
        if making.is_requested:
            return False
        making.is_requested = True
        self._dispatcher.request_when_idle(
            making.tasks[0], lambda end: self._on_task_end(making, end)
        )
        return True

    def _on_task_end(self, making: _Making, end: TaskEnd) -> None:
        making.is_requested = False
        if self._is_closed.is_set() or self._making is not making:
            return
        if isinstance(end, TaskDone):
            making.tasks.popleft()
            making.attempts = 0
            return
        making.attempts += 1
        why = str(end.failure.get("detail") or end.failure.get("message"))
        if end.failure.get("code") == DeviceUnavailable.code:
            self._fail(_Wait(why))
        elif making.attempts >= MOST_ATTEMPTS:
            # What could not be drawn is left out; all else is still worth a page.
            task = making.tasks.popleft()
            log.warning("sheet.incomplete", batch=making.batch, task=task.id, why=why)
            making.attempts = 0 if task.kind == "make_thumbnails" else making.attempts
