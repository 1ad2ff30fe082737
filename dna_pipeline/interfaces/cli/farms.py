"""Output of commands that farms and scripts wait for: lines of progress, and how it ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import typer

from dna_pipeline.base.quantities import duration, jobs_text
from dna_pipeline.interfaces.cli.output import clean, say
from dna_pipeline.interfaces.cli.words import hold_reason

if TYPE_CHECKING:
    from dna_pipeline.config.schema import Config
    from dna_pipeline.operations.job_progress import Progress

LINE_S = 1.0
"""Least time between two lines of progress."""

DAEMON_WAIT_S = 60.0
"""Time for which jobs are waited for although no daemon runs: one that is restarted comes back."""

EXIT_INTERRUPTED = 130
"""Exit status of a wait that Ctrl-C ended, as shells have it."""

IDS_SHOWN = 5


class ProgressLines:
    """Prints `Progress: 37%` on lines of their own, as Deadline and others read them.

    At most one a second, and each number once. 100 % is printed at once.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = -1
        self._next_at = 0.0

    def show(self, percent: int) -> None:
        now = self._clock()
        if percent == self._last or (now < self._next_at and percent < 100):
            return
        self._last, self._next_at = percent, now + LINE_S
        print(f"Progress: {percent}%", flush=True)


def wait_for(config: Config, jobs: Sequence[str], *, prints: bool = True) -> dict[str, int]:
    """Wait until all jobs have ended; give their numbers by status.

    Args:
        prints: print lines of progress.

    Raises:
        typer.Exit: Ctrl-C came, or the daemon ended and did not come back.
    """
    from dna_pipeline.operations.job_progress import follow

    lines, reason = ProgressLines(), ""
    progress: Progress | None = None
    try:
        for progress in follow(config, jobs):
            if prints:
                lines.show(progress.percent)
            if (text := _why_waiting(progress)) and text != reason:
                say(text)
            reason = text
            if progress.daemon_missing_s > DAEMON_WAIT_S:
                say(f"stopped waiting; the jobs stay in the queue{_how_to_cancel(jobs)}")
                raise typer.Exit(1)
    except KeyboardInterrupt:
        say(f"stopped waiting; the jobs go on{_how_to_cancel(jobs)}")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    return {} if progress is None else dict(progress.outcomes)


def _why_waiting(progress: Progress) -> str:
    """The reason why nothing goes on; "" if none is known."""
    if progress.daemon_missing_s:
        wait = duration(DAEMON_WAIT_S)
        return f"no daemon runs any more; `dna-pipeline watch` starts one (waiting for {wait})"
    return "" if progress.hold is None else f"held: {clean(hold_reason(*progress.hold))}"


def _how_to_cancel(jobs: Sequence[str]) -> str:
    if len(jobs) > IDS_SHOWN:
        return "; `dna-pipeline cancel` with their ids ends them"
    return f"; `dna-pipeline cancel {' '.join(job[:8] for job in jobs)}` ends them"


def print_outcomes(outcomes: dict[str, int]) -> None:
    """Say how the jobs ended, on standard error."""
    parts = (
        f"{outcomes.get(status, 0)} {status}" for status in ("completed", "failed", "cancelled")
    )
    lost = f", {jobs_text(outcomes['gone'])} no more in the ledger" if outcomes.get("gone") else ""
    say(f"{', '.join(parts)}{lost}")


def print_table(table: dict[str, Any]) -> None:
    """Print what became of the rows of a `run --table`."""
    counts = ", ".join(f"{number:,} {outcome}" for outcome, number in table["outcomes"].items())
    rows = f"rows {table['rows']} of {table['table']}"
    where = f"; {table['folder']}/batch.csv lists them" if table["folder"] else ""
    print(clean(f"{rows}: {counts or 'none was taken in'}{where}"))
