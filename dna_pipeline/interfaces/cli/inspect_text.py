"""Output of `show` and `status` for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dna_pipeline.base.quantities import NO_HISTORY, duration, jobs_text, number_of, size
from dna_pipeline.interfaces.cli.fitting import print_titled
from dna_pipeline.interfaces.cli.output import clean, local_time
from dna_pipeline.interfaces.cli.words import hold_reason, plain, short, time_left

if TYPE_CHECKING:
    from dna_pipeline.operations.overview import JobHold, WaitingFile, WorkerInfo

Record = dict[str, Any]

FILES_SHOWN = 10
"""Maximum number of files that are listed for one reason to wait."""

RECENT_SHOWN = 10

HOLDS_SHOWN = 3
"""Maximum number of holds that are listed for one code."""


def status_words(job: Record) -> str:
    """Give a job's status, with its hold or its number of warnings if it has any."""
    if job["hold"]:
        return f"{job['status']} ({job['hold']})"
    if number := job.get("warnings"):
        return f"{job['status']} ({number_of(number, 'warning')})"
    return job["status"]


# --- show ---


def job_lines(outbox: Path, job: Record) -> Iterator[tuple[str, str]]:
    """Describe one job, as pairs of title and text."""
    yield "job", short(job["id"])
    yield "whole id", job["id"]
    yield "status", status_words(job)
    if job["hold"]:
        yield "waits for", job["hold_detail"] or job["hold"]
    yield "input", f"{job['inbox']}: {job['name']}"
    yield "pipeline", f"{job['pipeline']}, priority {job['priority']}"
    yield from _labels(job)
    for title in ("created", "started", "finished"):
        if (time := job[f"{title}_at"]) is not None:
            yield title, local_time(time)
    yield "attempt", plain(job["attempt"])
    if job["error"]:
        yield from _error_lines(job["error"])
    if job["publish"] == "done":
        yield "folder", str(outbox / job["publish_name"])
    yield from _stage_lines(job["stages"])
    yield from _work_lines(job)


def _labels(job: Record) -> Iterator[tuple[str, str]]:
    if job["tags"]:
        yield "tags", plain(job["tags"])
    if job["meta"]:
        yield "meta", plain(job["meta"])


def _error_lines(error: Record) -> Iterator[tuple[str, str]]:
    yield "error", f"{error['code']}: {error['message']}"
    yield from (("", line) for line in error["detail"].splitlines())
    if error["hint"]:
        yield "what helps", error["hint"]


def _stage_lines(stages: Iterable[Record]) -> Iterator[tuple[str, str]]:
    """Give each stage with its parameters, one parameter a line."""
    for stage in stages:
        params = dict(stage["params"])
        model = params.pop("model", None)
        kind = "" if stage["type"] == stage["id"] else f" ({stage['type']})"
        yield "stage", f"{stage['id']}{kind}{'' if model is None else f', model {model}'}"
        wide = max(map(len, params), default=0)
        yield from (("", f"{name:{wide}}  {plain(value)}") for name, value in params.items())


def _work_lines(job: Record) -> Iterator[tuple[str, str]]:
    for run in job["stage_runs"]:
        yield "ran", _run_text(run)
        yield from (("warning", warning) for warning in run["warnings"])
    for file in job["artifacts"]:
        yield file["role"], f"{file['path']}, {size(file['bytes'])}"


def _run_text(run: Record) -> str:
    """Say how long a stage took, or whose result it took."""
    text = f"{run['stage_id']} in {duration(run['seconds'])} on {run['device']}"
    origin: Record | None = run.get("reused_from")
    if origin is None:
        return text
    job, seconds = origin["job"][:8], duration(origin["seconds"])
    if origin["part"] != "all":
        return f"{text}, with the {origin['part']} of job {job}"
    return f"{run['stage_id']}: the result of job {job}, where it took {seconds}"


# --- status ---


def print_status(fields: Record) -> None:
    """Print the state of daemon and queue, and the jobs and files that wait."""
    print_titled(((title, clean(text)) for title, text in _status_lines(fields)), 9)


def _status_lines(fields: Record) -> Iterator[tuple[str, str]]:
    from dna_pipeline.operations.overview import (
        make_holds,
        make_remarks,
        make_waiting,
        make_workers,
        server_url,
    )

    yield "daemon", _daemon(fields["daemon"])
    if (url := server_url(fields)) is not None:
        yield "server", url
    if len(workers := make_workers(fields)) == 1:
        yield from (("model", f"{model.name} {model.words}") for model in workers[0].models)
    if not any(fields[key] for key in ("queue", "holds", "waiting", "running")):
        yield "queue", "empty; put images into the folder of an inbox"
    for status, inboxes in sorted(fields["queue"].items()):
        by_inbox = ", ".join(f"{inbox} {number}" for inbox, number in sorted(inboxes.items()))
        count = sum(inboxes.values())
        is_cut_off = status == "running" and fields["daemon"] is None
        yield status, f"{count} ({by_inbox}){_cut_off(count) if is_cut_off else ''}"
    yield from _running_lines(fields)
    if fields["jobs_per_hour"]:
        yield "rate", f"{fields['jobs_per_hour']} completed in the last hour"
    if fields["queue_eta_s"] is not None:
        yield "time", time_left(fields["queue_eta_s"])
    elif fields["runnable"]:
        yield "time", f"{NO_HISTORY} for the {jobs_text(fields['runnable'])} that can run"
    yield from (("batch", _batch(batch)) for batch in fields["batches"])
    yield from (("held", text) for text in hold_lines(make_holds(fields["holds"])))
    waiting = make_waiting(fields["waiting"])
    yield from (
        ("waiting", text) for text in waiting_lines(waiting, fields.get("waiting_total", 0))
    )
    for sheet in fields.get("sheets", ()):
        mend = f"`dna-pipeline sheet --batch {short(sheet['batch'])}` makes it"
        yield "sheet", f"of {sheet['folder']} is not made: {sheet['why']}; {mend}"
    yield from _leftovers(fields)
    yield from (("note", text) for text in make_remarks(fields))
    for entry in fields["recent"][:RECENT_SHOWN]:
        why = f" ({entry['code']})" if entry["code"] else ""
        yield "recent", f"{short(entry['job'])} {entry['status']}{why} {entry['folder']}"


def _cut_off(count: int) -> str:
    """Say what became of the running jobs of a daemon that was killed."""
    verb, them = ("was", "it") if count == 1 else ("were", "them")
    text = f": {verb} running when the daemon ended; the next start goes on with {them}"
    return f"{text} unless cancelled"


def _daemon(daemon: Record | None) -> str:
    if daemon is None:
        return "none runs"
    from dna_pipeline.operations.daemon.lock import daemon_words

    return f"{daemon_words(daemon)}, device {daemon.get('device') or 'not loaded yet'}"


def _running_lines(fields: Record) -> Iterator[tuple[str, str]]:
    from dna_pipeline.operations.overview import delay_words, loading_words, make_workers

    workers = make_workers(fields)
    if len(workers) > 1:
        yield from (("worker", _worker(worker)) for worker in workers)
    first = [fields["running"]] if fields["running"] is not None else []
    jobs: Sequence[Record] = fields.get("running_jobs") or first
    yield from (("running", _running(job)) for job in jobs)
    if not jobs and (loading := loading_words(fields)):
        yield "running", f"nothing yet: {loading}"
    if delay := delay_words(fields):
        yield "order", delay


def _worker(worker: WorkerInfo) -> str:
    names = {
        state: ", ".join(model.name for model in worker.models if model.state == state)
        for state in ("loaded", "loading")
    }
    models = ", ".join(f"{some} {state}" for state, some in names.items() if some)
    state = worker.state.replace("_", " ")
    return ", ".join(filter(None, (f"{worker.place}: {state}", worker.dtype, worker.gpu, models)))


def _running(job: Record) -> str:
    eta = "" if job["eta_s"] is None else f", {time_left(job['eta_s'])}"
    stage = f"{job['stage']}, " if job["stage"] else ""
    stage += "waits for the device, " if job.get("phase") == "waiting" else ""
    step = f"step {job['step']} of {job['steps']}, " if job["steps"] else ""
    return f"{short(job['job'])} {job['name']}: {stage}{step}{job['fraction']:.0%}{eta}"


def _batch(batch: Record) -> str:
    counts = ", ".join(f"{number} {status}" for status, number in sorted(batch["jobs"].items()))
    wrong = f", {number_of(batch['wrong'], 'wrong row')}" if batch["wrong"] else ""
    paused = ", paused" if batch["paused"] else ""
    return f"{short(batch['batch'])} {batch['folder']}: {counts}{wrong}{paused}"


def hold_lines(holds: Sequence[JobHold]) -> Iterator[str]:
    """Describe the holds, each with its number of jobs. Of many holds with one code, as for many
    different times, only the first few are described."""
    for code in dict.fromkeys(hold.code for hold in holds):
        alike = [hold for hold in holds if hold.code == code]
        yield from map(_hold, alike[:HOLDS_SHOWN])
        if rest := alike[HOLDS_SHOWN:]:
            jobs = sum(hold.jobs or 0 for hold in rest)
            yield f"{jobs_text(jobs)}: {code}, with {number_of(len(rest), 'more reason')}"


def _hold(hold: JobHold) -> str:
    number = "the whole queue" if hold.jobs is None else jobs_text(hold.jobs)
    return f"{number}: {hold_reason(hold.code, hold.detail)}"


def waiting_lines(entries: Sequence[WaitingFile], total: int) -> Iterator[str]:
    """List the files that wait, grouped by inbox and reason; `total` counts those not listed."""

    def place(entry: WaitingFile) -> tuple[str, str]:
        return entry.inbox, entry.reason

    for (inbox, reason), group in groupby(sorted(entries, key=place), place):
        alike = list(group)
        for entry in alike[:FILES_SHOWN]:
            where = f"{inbox}/{entry.file}" if entry.file else inbox
            yield f"{where}: {reason}"
        if (more := len(alike) - FILES_SHOWN) > 0:
            yield f"{inbox}, and {number_of(more, 'more file')}: {reason}"
    if more := max(total - len(entries), 0):
        yield f"and {number_of(more, 'more file')}"


def _leftovers(fields: Record) -> Iterator[tuple[str, str]]:
    if number := fields["recovered"]["count"]:
        folders = f"{number_of(number, 'folder')} in {fields['recovered']['folder']}"
        what = "copies of images that no job knows; look at them and remove them yourself"
        yield "recovered", f"{folders}: {what}"
    for path in fields["foreign"]:
        yield "foreign", f"{path}: not dna-pipeline's; it is left alone"
    if more := fields["foreign_total"] - len(fields["foreign"]):
        yield "foreign", f"and {more:,} more"
