"""Shows on standard error how far a transfer of files is: a bar on a terminal, else plain lines."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dna_pipeline.base.naming import visible
from dna_pipeline.base.quantities import duration, size
from dna_pipeline.base.terminal_text import shown_on, width

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

_WINDOW_S = 15.0
"""Time over which the rate is averaged."""

LINE_EVERY_S = 10.0
"""Interval of the plain lines."""

_NAME_COLUMNS = 22


class Rate:
    """Bytes in a second, over the last seconds. Bytes that an earlier pull left do not count."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._samples: deque[tuple[float, int]] = deque([(clock(), 0)])
        self._total = 0

    def add(self, number: int) -> None:
        now = self._clock()
        self._total += number
        self._samples.append((now, self._total))
        while len(self._samples) > 2 and now - self._samples[0][0] > _WINDOW_S:
            self._samples.popleft()

    @property
    def bytes_per_s(self) -> float | None:
        """None until there is something to measure."""
        begin, first = self._samples[0]
        seconds = self._clock() - begin
        return (self._total - first) / seconds if seconds > 0.5 and self._total > first else None


class TransferProgress:
    """A `Progress` for people. All models of one command share one bar."""

    def __init__(self, bar: Bar | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._bar = bar
        self._task = None if bar is None else bar.add_task("", total=None, facts="")
        self._clock = clock
        self._rate = Rate(clock)
        self._total = 0
        self._done = 0
        self._name = ""
        self._last_line = clock()

    def begin(self, total_bytes: int) -> None:
        self._total = total_bytes
        self._update()

    def show_file(self, name: str) -> None:
        self._name = visible(name)
        self._update()

    def advance(self, number: int) -> None:
        self._rate.add(number)
        self.resume(number)

    def resume(self, number: int) -> None:
        self._done += number
        self._update()

    def remark(self, text: str) -> None:
        text = visible(text)
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, file=sys.stderr, flush=True)

    def _update(self) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(
                self._task,
                description=_cut(shown_on(sys.stderr, self._name)),
                completed=min(self._done, self._total),
                total=self._total or None,
                facts=self._facts(),
            )
        elif self._clock() - self._last_line >= LINE_EVERY_S:
            self._last_line = self._clock()
            print(f"{self._name}: {self._facts()}", file=sys.stderr, flush=True)

    def _facts(self) -> str:
        """`1.2 GiB of 3.5 GiB, 11 MiB/s, 3 min 20 s left`."""
        parts = [f"{size(self._done)} of {size(self._total)}"]
        if (rate := self._rate.bytes_per_s) is not None:
            parts += [f"{size(round(rate))}/s", _time_left((self._total - self._done) / rate)]
        return ", ".join(parts)


def _time_left(seconds: float) -> str:
    """Whole seconds below a minute, tens of seconds below ten minutes, then whole minutes."""
    if seconds < 59.5:
        return f"{max(round(seconds), 1)} s left"
    step = 10 if seconds < 600 else 60
    return f"{duration(round(seconds / step) * step)} left"


def _cut(name: str) -> str:
    """The beginning of a name, which names model and part, if it is too long for the line."""
    if width(name) <= _NAME_COLUMNS:
        return name
    while width(name) > _NAME_COLUMNS - 2:
        name = name[:-1]
    return f"{name}.."


@contextmanager
def transfer_progress() -> Generator[TransferProgress]:
    """A bar while the block runs, if standard error is a terminal that can show one."""
    if not sys.stderr.isatty():
        yield TransferProgress(None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[facts]}", markup=False),
    )
    console = Console(file=sys.stderr)
    with Progress(*columns, console=console, transient=True, expand=True) as bar:
        yield TransferProgress(bar)
