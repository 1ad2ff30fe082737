"""One picture of daemon and queue, as lines of a given width and number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from rich.text import Text

from dna_pipeline.base.clock import briefly, to_minute
from dna_pipeline.base.quantities import NO_HISTORY, about, jobs_text, number_of, size
from dna_pipeline.base.terminal_text import width as width_of
from dna_pipeline.interfaces.cli.fitting import cut_end, cut_middle
from dna_pipeline.interfaces.cli.inspect_text import hold_lines, waiting_lines
from dna_pipeline.interfaces.cli.live.results import ResultLog, result_lines
from dna_pipeline.interfaces.cli.live.signs import Signs
from dna_pipeline.interfaces.cli.live.text import (
    apart,
    bar,
    folded,
    joined,
    pad,
    percent,
    shorten,
)
from dna_pipeline.interfaces.cli.words import short_path, time_left
from dna_pipeline.operations.overview import OpenBatch, Overview, RunningJob, WorkerInfo

TITLE_COLUMNS = 9
TIME_LEFT_COLUMNS = 22
"""Room for `about 3 h 20 min left`, so that the bar before it keeps its length."""

NAME_COLUMNS = 20
BAR_COLUMNS = 10
"""Length of the bar of an inbox or a batch, where its folder is shown; at most four times it."""

PLACE_COLUMNS = 8
"""Least room for a folder."""

SENTENCE_LINES = 2
"""Most lines of one hold or of one file that waits."""

REMARK_LINES = 4
"""Most lines of one remark: it says what is wrong and what mends it."""

STATE_COLUMNS = 11
"""Room for the longest state of a worker."""

LIST_LINES = 6
"""Most lines of all holds, and of all files that wait."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the queue: an inbox or a batch."""

    name: str
    place: str
    done: int
    total: int
    end: str
    remark: str = ""

    @property
    def numbers(self) -> str:
        return f"{self.done:,} of {self.total:,}"


@dataclass(frozen=True, slots=True)
class Columns:
    """Widths of the columns of the queue; 0 for one that is left out."""

    name: int
    place: int
    bar: int
    numbers: int


def _columns(rows: Iterable[Row], room: int) -> Columns:
    """Choose widths for rows. Where there is little room, the folders go first, then the bars."""
    all_rows = list(rows)
    name = min(max((width_of(row.name) for row in all_rows), default=0), NAME_COLUMNS)
    numbers = max([*(len(row.numbers) for row in all_rows), 7])
    end = max([*(len(row.end) for row in all_rows), 5])
    free = room - name - (2 + numbers) - (2 + 5) - (2 + end) - 2 * 2
    longest = max((width_of(row.remark or row.place) for row in all_rows), default=0)
    place = min(longest, free - BAR_COLUMNS)
    if place < PLACE_COLUMNS:
        place = 0
    wide = free - place
    return Columns(name, place, min(wide, 4 * BAR_COLUMNS) if wide >= 4 else 0, numbers)


def draw(
    overview: Overview, log: ResultLog, width: int, height: int, signs: Signs, footer: str
) -> list[Text]:
    """Draw all parts, and as many results as fit below them; exactly `height` lines."""
    return _Picture(overview, log, width, height, signs).lines(footer)


class _Picture:
    def __init__(
        self, overview: Overview, log: ResultLog, width: int, height: int, signs: Signs
    ) -> None:
        self.overview = overview
        self.log = log
        self.width = width
        self.height = height
        self.signs = signs
        self.room = width - TITLE_COLUMNS

    def lines(self, footer: str) -> list[Text]:
        is_tall = self.height >= 20
        lines = list(self._head())
        for part in (
            self._workers(),
            self._running(),
            self._queue(),
            self._held(),
            self._waiting(),
            self._remarks(),
        ):
            some = list(part)
            lines += [Text("")] * bool(is_tall and some) + some
        room = self.height - 1 - len(lines) - 2 * is_tall
        lines += [Text("")] * is_tall + list(self._results())[: max(room, 0)]
        lines = lines[: self.height - 1]
        lines += [Text("")] * (self.height - 1 - len(lines))
        last = Text(cut_end(footer, self.width, self.signs.cut), style="dim")
        return [shorten(line, self.width, self.signs) for line in [*lines, last]]

    # --- head ---

    def _head(self) -> Iterator[Text]:
        overview, signs = self.overview, self.signs
        title = Text().append("dna-pipeline", style="bold")
        folders = sum(bool(inbox.path) for inbox in overview.inboxes)
        if overview.has_daemon:
            title.append(f" watches {number_of(folders, 'inbox', 'inboxes')}")
            device = Text(self._device())
        else:
            device = Text("no daemon runs", style="yellow")
        yield apart(title, device, self.width, signs)
        rate = f"{jobs_text(overview.jobs_per_hour)} in the last hour"
        right = Text(rate if overview.jobs_per_hour else "", style="dim")
        outbox = cut_middle(
            self.signs.show(short_path(overview.outbox)), self.width - 36, signs.cut
        )
        yield apart(Text(f"results in {outbox}", style="dim"), right, self.width, signs)
        if overview.server is not None:
            url = cut_middle(signs.show(overview.server), self.width - 10, signs.cut)
            yield Text(f"serves on {url}", style="dim")

    def _device(self) -> str:
        device = self.overview.device
        if (number := len(self.overview.workers)) > 1:
            lost = sum(worker.problem is not None for worker in self.overview.workers)
            return f"{number} workers{f', {lost} without a device' if lost else ''}"
        if device.device is None:
            return "device not loaded yet"
        memory = ""
        if device.memory_bytes is not None and device.memory_total_bytes is not None:
            memory = f"{size(device.memory_bytes)} of {size(device.memory_total_bytes)}"
        name = " ".join(filter(None, (device.device, device.dtype)))
        gpu = (device.gpu or "") if self.width >= 100 else ""
        return joined((gpu, name, memory), self.signs)

    # --- workers ---

    def _workers(self) -> Iterator[Text]:
        """List the workers, if there are several."""
        workers = self.overview.workers
        if len(workers) < 2:
            return
        most = max(self.height // 4, 2)
        wide = max(width_of(self.signs.show(worker.place)) for worker in workers)
        for number, worker in enumerate(workers[:most]):
            yield self._titled("" if number else "workers", self._worker(worker, wide))
        if (more := len(workers) - most) > 0:
            yield self._titled("", Text(f"and {more:,} more", style="dim"))

    def _worker(self, worker: WorkerInfo, wide: int) -> Text:
        signs = self.signs
        state = worker.state.replace("_", " ")
        style = "yellow" if worker.problem is not None else "dim"
        memory = ""
        if worker.memory_bytes is not None and worker.memory_total_bytes is not None:
            memory = f"{size(worker.memory_bytes)} of {size(worker.memory_total_bytes)}"
        gpu = (worker.gpu or "") if self.width >= 100 else ""
        models = signs.show(", ".join(model.name for model in worker.models))
        line = Text(pad(signs.show(worker.place), wide))
        line.append(f"  {pad(state, STATE_COLUMNS)}  ", style=style)
        rest = joined((memory, models, worker.dtype or "", gpu), signs)
        room = max(self.room - wide - STATE_COLUMNS - 4, 8)
        return line.append(cut_end(rest, room, signs.cut), style="dim")

    def _device_of(self, job: RunningJob) -> str:
        """Device of a running job, if there are several; "" if it is not known."""
        if len(self.overview.workers) < 2:
            return ""
        named = (w.device for w in self.overview.workers if w.worker == job.worker)
        return self.signs.show(next(named, ""))

    # --- running ---

    def _running(self) -> Iterator[Text]:
        if not self.overview.running:
            # The same two lines as of a job, so that nothing jumps between two jobs.
            loading = self.signs.show(self.overview.loading)
            words = f"nothing yet: {loading}" if loading else "nothing"
            yield self._titled("running", Text(words, style="dim"))
            yield Text("")
        for number, job in enumerate(self.overview.running):
            yield from self._job("" if number else "running", job)

    def _job(self, title: str, job: RunningJob) -> Iterator[Text]:
        signs = self.signs
        stage = Text(_stage_words(job), style="cyan")
        inbox = self.signs.show(job.inbox)
        attempt = f"attempt {job.attempt}" if job.attempt > 1 else ""
        behind = f"  {joined((inbox, self._device_of(job), attempt), signs)}"
        room = max(self.room - stage.cell_len - 2 - width_of(behind), 8)
        text = cut_middle(self.signs.show(job.name), room, signs.cut)
        name = Text().append(text, style="bold").append(behind, style="dim")
        yield self._titled(title, apart(name, stage, self.room, signs))
        left = "" if job.eta_s is None else f"{about(job.eta_s)} left"
        wide = self.room - 9 - TIME_LEFT_COLUMNS
        line = bar(job.fraction, max(wide, 4), signs)
        line.append(f"  {percent(job.fraction)}  {left}")
        yield self._titled("", line)

    # --- queue ---

    def _queue(self) -> Iterator[Text]:
        yield self._titled("queue", Text(self._queue_words()))
        rows = list(self._rows())
        most = max(self.height // 3, 3)
        if len(rows) > most:
            # Those with work come first; the order of the others stays.
            rows.sort(key=lambda row: row.done >= row.total)
        if self.overview.delay:
            delay = cut_end(self.signs.show(self.overview.delay), self.room, self.signs.cut)
            yield self._titled("", Text(delay, style="dim"))
        yield from self._table(rows[:most])
        if (more := len(rows) - most) > 0:
            yield self._titled("", Text(f"and {more:,} more", style="dim"))

    def _queue_words(self) -> str:
        overview = self.overview
        if not overview.queued and not overview.running:
            return "empty; put images into one of these folders"
        if not overview.has_daemon:
            return f"{jobs_text(overview.queued)} waiting; `dna-pipeline watch` does them"
        waits = f"{jobs_text(overview.queued)} waiting" if overview.queued else "no job waits"
        if overview.queued and (held := overview.held):
            waits += ", all of them held" if held == overview.queued else f", {held:,} of them held"
        if overview.queue_eta_s is not None:
            return f"{waits}; {time_left(overview.queue_eta_s)}"
        return f"{waits}; time left: {NO_HISTORY}" if overview.runnable else waits

    def _rows(self) -> Iterator[Row]:
        now = datetime.now(UTC)
        for inbox in self.overview.inboxes:
            end = _end(inbox.eta_s, now) if inbox.done < inbox.total else ""
            place = self.signs.show(short_path(inbox.path)) if inbox.path else ""
            yield Row(self.signs.show(inbox.name), place, inbox.done, inbox.total, end)
            for batch in self.overview.batches:
                if batch.inbox == inbox.name:
                    yield self._batch_row(batch, now)

    def _batch_row(self, batch: OpenBatch, now: datetime) -> Row:
        end = _end(batch.eta_s, now) if batch.done < batch.total else ""
        remark = "paused" if batch.paused else ""
        if batch.wrong:
            remark = joined((remark, number_of(batch.wrong, "wrong row")), self.signs)
        name = f"  {self.signs.show(batch.folder.rpartition('/')[2])}"
        return Row(name, "", batch.done, batch.total, end, remark)

    def _table(self, rows: list[Row]) -> Iterator[Text]:
        """Draw rows with columns that keep their places while the numbers grow."""
        columns = _columns(rows, self.room)
        for row in rows:
            line = Text(pad(cut_middle(row.name, columns.name, self.signs.cut), columns.name))
            if columns.place:
                text = cut_middle(row.remark or row.place, columns.place, self.signs.cut)
                style = "yellow" if row.remark else "dim"
                line.append(f"  {pad(text, columns.place)}", style=style)
            if row.total:
                share = row.done / row.total
                if columns.bar:
                    line.append("  ").append_text(bar(share, columns.bar, self.signs))
                line.append(f"  {row.numbers:>{columns.numbers}}  {percent(share)}  {row.end}")
            yield self._titled("", line)

    # --- what waits ---

    def _held(self) -> Iterator[Text]:
        yield from self._sentences("held", hold_lines(self.overview.holds))

    def _waiting(self) -> Iterator[Text]:
        overview = self.overview
        lines = waiting_lines(overview.waiting, overview.waiting_total)
        yield from self._sentences("waiting", lines)

    def _remarks(self) -> Iterator[Text]:
        yield from self._sentences("note", self.overview.remarks, REMARK_LINES)

    def _sentences(
        self, title: str, sentences: Iterable[str], most: int = SENTENCE_LINES
    ) -> Iterator[Text]:
        number = 0
        for sentence in sentences:
            for text in folded(self.signs.show(sentence), self.room, most, self.signs):
                if number == LIST_LINES:
                    yield self._titled("", Text("and more; `dna-pipeline status` says all"))
                    return
                yield self._titled("" if number else title, Text(text, style="yellow"))
                number += 1

    # --- results ---

    def _results(self) -> Iterator[Text]:
        jobs = self.log.newest()
        if not jobs:
            yield self._titled("results", Text("none yet", style="dim"))
        for number, line in enumerate(result_lines(jobs, self.room, self.signs)):
            yield self._titled("" if number else "results", line)

    def _titled(self, title: str, line: Text) -> Text:
        return Text().append(pad(title, TITLE_COLUMNS), style="dim").append_text(line)


def _stage_words(job: RunningJob) -> str:
    if job.stage is None:
        return "starting"
    if job.phase == "waiting":
        return f"{job.stage}, waits for the device"
    if job.phase == "loading":
        return f"{job.stage}, loading its model"
    return f"{job.stage}, step {job.step} of {job.steps}" if job.steps else job.stage


def _end(seconds: float | None, now: datetime) -> str:
    """Write when the last job ends: `17:10`, on another day `02 17:10`; "" if unknown."""
    if seconds is None:
        return ""
    try:
        end = now + timedelta(seconds=seconds)
    except OverflowError:
        return ""
    text = briefly(end, now)
    return text if len(text) == 5 else to_minute(end)[5:]
