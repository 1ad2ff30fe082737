"""The screen of the live view: draws the last overview on a thread of its own, and gives the
terminal back.

The thread is there since a terminal may stop reading, as after Ctrl-S, and a daemon must not wait
for it.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any, TextIO

from rich.console import Console, ConsoleDimensions, Group
from rich.live import Live
from rich.text import Text

from dna_pipeline.base.logs import PrintsToLog, note_failure
from dna_pipeline.base.naming import visible
from dna_pipeline.interfaces.cli.live.frame import draw
from dna_pipeline.interfaces.cli.live.results import (
    ResultLog,
    count_words,
    open_words,
    result_lines,
)
from dna_pipeline.interfaces.cli.live.signs import signs_for
from dna_pipeline.interfaces.cli.live.terminal import QuietInput, is_in_foreground
from dna_pipeline.interfaces.cli.live.text import joined
from dna_pipeline.operations.overview import Overview

LOOK_S = 0.25
"""Interval at which the thread looks for a new overview and a new size of the terminal."""

REDRAW_S = 10.0
"""Longest time between two drawings: what else was written on the terminal goes."""

START_S = 2.0
"""Time for a first overview, as that of a daemon that opens a large ledger. Without one, the screen
then says that the program starts."""

LOCK_WAIT_S = 1.0

LEAVE = "\x1b[?25h\x1b[?1049l"
"""Shows the cursor and the usual screen, where rich cannot any more."""

RESULTS_AT_END = 20
"""Most jobs that are listed after the view has closed."""


def make_console(stream: TextIO) -> Console:
    """Make a console that draws on a stream, and marks no numbers and words by itself."""
    return Console(file=stream, highlight=False, markup=False, emoji=False)


class LiveScreen:
    """Shows overviews in the terminal's other screen, which leaves no trace when it is closed.

    If drawing fails, the view closes and says the error once; what is printed then reaches the
    terminal again.

    Args:
        footer: what the last line says.
        stream: the terminal.
        failed: called once if drawing fails, by the thread of the screen after the view has closed,
            to go on in another way.
    """

    def __init__(
        self, footer: list[str], stream: TextIO, failed: Callable[[], None] = lambda: None
    ) -> None:
        self._stream = stream
        self._console = make_console(stream)
        self._signs = signs_for(stream.encoding)
        self._footer = joined(footer, self._signs)
        self._results = ResultLog()
        self._failed = failed
        self._make: Callable[[], Overview] | None = None
        self._made_by: Callable[[], Overview] | None = None
        self._overview: Overview | None = None
        self._drawn: tuple[Any, ...] = ()
        self._drawn_at = 0.0
        self._begun_at = 0.0
        self._live: Live | None = None
        self._remark = ""
        self._input = QuietInput()
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._closed = threading.Event()
        self._streams = sys.stdout, sys.stderr
        self._thread = threading.Thread(target=self._run, name="screen", daemon=True)

    @property
    def has_ended(self) -> bool:
        """True once nothing is drawn any more: the view was ended, or failed, or its terminal is
        gone."""
        return self._closed.is_set()

    def update(self, make: Callable[[], Overview]) -> None:
        """Show this from the next drawing on. Returns at once.

        Args:
            make: makes the overview; called by the thread of the screen, so that an error of it
                ends the view alone.
        """
        self._make = make

    @contextmanager
    def shown(self) -> Generator[None]:
        """Draw while the block runs. What the block prints goes to the log."""
        self._begun_at = time.monotonic()
        self._streams = sys.stdout, sys.stderr
        self._thread.start()
        prints = PrintsToLog()
        try:
            with _stops_cleanly(self._leave), redirect_stdout(prints), redirect_stderr(prints):
                yield
        finally:
            self._ended.set()
            self._thread.join(1.0)

    def end(self, remark: str = "") -> None:
        """Have the view close soon, and then print a remark. Safe to call from a signal handler."""
        self._remark = remark
        self._ended.set()

    def print_results(self) -> None:
        """List what ended while the view was there; it would be gone with the view."""
        if self._thread.is_alive():
            return  # the terminal reads nothing
        with suppress(Exception):  # where it failed, what it showed before is listed
            self._look()
        jobs = self._results.since_begin()
        self._console.print(Text(count_words(self._results.counts) + open_words(self._overview)))
        shown = jobs[-RESULTS_AT_END:]
        if len(shown) < self._results.counts.total():
            self._console.print(Text(f"the last {len(shown)}:"))
        for line in result_lines(shown, self._console.width, self._signs):
            self._console.print(line, no_wrap=True, overflow="crop")

    # --- the thread ---

    def _run(self) -> None:
        has_failed = False
        try:
            while not self._ended.wait(LOOK_S):
                self._step()
        except OSError:
            pass  # the terminal is gone
        except Exception as error:
            has_failed = True
            note_failure("screen.failed")
            why = visible(f"{type(error).__name__}: {error}")
            self._remark = f"the view failed ({why}); the work goes on, in plain lines"
        with suppress(OSError):
            self._leave()
            if self._remark:
                self._console.print(Text(self._remark))
        if has_failed:
            sys.stdout, sys.stderr = self._streams
            self._failed()
        self._closed.set()

    def _look(self) -> None:
        """Take over the newest overview, if there is one."""
        if self._make is not None and (make := self._make) is not self._made_by:
            self._overview = make()
            self._made_by = make
            self._results.add(self._overview.ended)

    def _step(self) -> None:
        """Draw if there is something new to see, and the terminal is ours to draw on."""
        self._look()
        overview, size = self._overview, self._console.size
        if not is_in_foreground(self._stream):
            self._leave()
            return
        now = time.monotonic()
        if overview is None and now - self._begun_at < START_S:
            return
        if self._drawn == (overview, size) and now - self._drawn_at < REDRAW_S:
            return
        with self._lock:
            self._enter().update(Group(*self._lines(overview, size)), refresh=True)
            self._drawn, self._drawn_at = (overview, size), now

    def _lines(self, overview: Overview | None, size: ConsoleDimensions) -> list[Text]:
        if overview is None:
            return [Text("dna-pipeline starts", style="bold")]
        return draw(overview, self._results, size.width, size.height, self._signs, self._footer)

    def _enter(self) -> Live:
        if self._live is None:
            self._input.begin()
            self._live = Live(
                console=self._console, screen=True, auto_refresh=False,
                redirect_stdout=False, redirect_stderr=False, vertical_overflow="crop",
            )  # fmt: skip
            self._live.start()
        return self._live

    def _leave(self) -> None:
        """Give the terminal back as it was."""
        # A terminal that reads nothing may hold the other thread, and with it the lock.
        if not self._lock.acquire(timeout=LOCK_WAIT_S):
            return
        try:
            live, self._live = self._live, None
            self._drawn = ()
            if live is not None:
                self._stop(live)
        finally:
            self._input.end()
            self._lock.release()

    def _stop(self, live: Live) -> None:
        try:
            live.stop()
        except OSError:
            raise
        except Exception:
            note_failure("screen.not_closed")
            self._stream.write(LEAVE)
            self._stream.flush()


@contextmanager
def _stops_cleanly(leave: Callable[[], None]) -> Generator[None]:
    """While the block runs, give the terminal back before Ctrl-Z stops the process. When the
    process goes on in the foreground, the view comes back by itself."""
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _: Any) -> None:
        with suppress(OSError):
            leave()
        signal.raise_signal(signal.SIGSTOP)

    before = signal.signal(signal.SIGTSTP, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTSTP, before)
