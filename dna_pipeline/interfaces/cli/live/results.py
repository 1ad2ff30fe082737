"""Lines of results and failures, the newest first, and the memory of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from rich.text import Text

from dna_pipeline.base.clock import to_minute
from dna_pipeline.base.quantities import number_of
from dna_pipeline.base.terminal_text import width as width_of
from dna_pipeline.interfaces.cli.fitting import cut_end, cut_middle
from dna_pipeline.interfaces.cli.live.signs import Signs
from dna_pipeline.interfaces.cli.live.text import folded, pad
from dna_pipeline.interfaces.cli.words import failure_text
from dna_pipeline.operations.overview import EndedJob, Overview, ended_at

KEPT = 200
"""Most jobs that are remembered."""

NAME_COLUMNS = 26
CAUSE_LINES = 4
"""Most lines of one failure's cause and mend."""

STYLES = {"completed": "green", "failed": "red", "cancelled": "yellow"}


class ResultLog:
    """Remembers the jobs that ended; the daemon's own list of the last ones is short.

    Attributes:
        counts: number of jobs that ended since the log began, by status.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._jobs: dict[tuple[str, str | None], EndedJob] = {}
        self._before: set[tuple[str, str | None]] | None = None

    def add(self, jobs: Iterable[EndedJob]) -> None:
        """Add those that are new. Those of the first call ended before this log began."""
        new = {(job.job, job.finished_at): job for job in jobs}
        if self._before is None:
            self._before = set(new)
        self.counts.update(
            job.status for key, job in new.items() if key not in self._jobs.keys() | self._before
        )
        self._jobs |= new
        if len(self._jobs) > KEPT:
            self._jobs = {(job.job, job.finished_at): job for job in self.newest()[:KEPT]}

    def newest(self) -> list[EndedJob]:
        """List those that are remembered, the newest first."""
        return sorted(self._jobs.values(), key=lambda job: job.finished_at or "", reverse=True)

    def since_begin(self) -> list[EndedJob]:
        """List those that ended since the log began, the oldest first."""
        before = self._before or set()
        return [job for job in reversed(self.newest()) if (job.job, job.finished_at) not in before]


def result_lines(jobs: Sequence[EndedJob], width: int, signs: Signs) -> Iterator[Text]:
    """Draw one line for each result, with its folder, and some for each failure, with its cause and
    its mend. Of failures in a row with one cause, only the first says it."""
    names = NAME_COLUMNS if width < 100 else 2 * NAME_COLUMNS
    widest = max((width_of(signs.show(job.name)) for job in jobs), default=0)
    cause = ""
    for job in jobs:
        before, cause = cause, signs.show(_cause(job))
        yield from _job_lines(job, cause, before, width, min(widest, names), signs)


def _job_lines(
    job: EndedJob, cause: str, before: str, width: int, names: int, signs: Signs
) -> Iterator[Text]:
    style = STYLES.get(job.status, "")
    line = Text().append(f"{_clock(job)} ", style="dim")
    line.append(f"{getattr(signs, job.status, ' ')} ", style=style)
    line.append(pad(cut_middle(signs.show(job.name), names, signs.cut), names) + "  ")
    room = width - line.cell_len
    if not cause:
        warnings = f"  {number_of(job.warnings, 'warning')}" if job.warnings else ""
        folder = cut_middle(signs.show(job.folder), room - len(warnings), signs.cut)
        yield line.append(folder, style=style).append(warnings, style="yellow")
        return
    is_known = cause == before
    code = f"{job.code}, as above" if is_known else f"{job.code}"
    yield line.append(cut_end(code, room, signs.cut), style=style)
    if not is_known:
        indent = " " * 8
        yield from (
            Text(indent + text, style="dim")
            for text in folded(cause, width - len(indent), CAUSE_LINES, signs)
        )


def _cause(job: EndedJob) -> str:
    """Say what was wrong with a failed job and what helps; "" for any other."""
    if job.status != "failed":
        return ""
    return failure_text(job.message, job.detail, job.hint)


def _clock(job: EndedJob) -> str:
    """The time of day at which it ended, in five columns."""
    at: datetime | None = ended_at(job)
    return "     " if at is None else to_minute(at)[-5:]


def count_words(counts: Mapping[str, int]) -> str:
    """Write how many jobs ended, and how: `12 completed, 2 failed`."""
    words = [f"{counts[status]:,} {status}" for status in STYLES if counts.get(status)]
    return ", ".join(words) or "0 jobs ended"


def open_words(overview: Overview | None) -> str:
    """Say at the view's end that jobs are left: `; 1 goes on at the next start`; "" if none is."""
    left = 0 if overview is None else overview.queued + len(overview.running)
    return f"; {left:,} {'goes' if left == 1 else 'go'} on at the next start" if left else ""
