"""`dna-pipeline cancel`, `retry`, `pause` and `resume`: requests, written to the ledger."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.base.quantities import jobs_text
from dna_pipeline.interfaces.cli.output import JsonOption, load, load_to_write, print_json, say
from dna_pipeline.interfaces.cli.words import short

if TYPE_CHECKING:
    from dna_pipeline.operations.retry import JobSelection, RetryResult

Jobs = Annotated[
    list[str] | None, typer.Argument(metavar="JOB…", help="Ids, or unique beginnings.")
]
BatchOption = Annotated[
    str | None, typer.Option("--batch", metavar="B", help="A batch: its id, or its folder's name.")
]


def cancel(
    context: typer.Context,
    jobs: Jobs = None,
    batch: BatchOption = None,
    as_json: JsonOption = False,
) -> None:
    """Cancel jobs, or all of a batch: queued ones at once, running ones at their next step."""
    from dna_pipeline.operations import control

    config = load(context)
    before = control.cancel(config, jobs or (), batch)
    if batch is not None and not before:
        say("nothing of that batch is queued or running")
    cancelled = {i: status for i, status in before.items() if status in ("queued", "running")}
    if as_json:
        print_json([{"job": i, "was": status} for i, status in cancelled.items()])
    elif cancelled:
        running_text = control.cancel_of_running(config)
        for job_id, status in cancelled.items():
            print(f"{short(job_id)} {'cancelled' if status == 'queued' else running_text}")
    if ended := ", ".join(f"{short(i)} ({before[i]})" for i in before if i not in cancelled):
        raise ConfigError(f"ended already, so not cancelled: {ended}")


def retry(
    context: typer.Context,
    jobs: Jobs = None,
    batch: BatchOption = None,
    failed: Annotated[
        bool,
        typer.Option(
            "--failed",
            help="All jobs that failed; with --batch also those of the batch that were cancelled.",
        ),
    ] = False,
    inbox: Annotated[
        str | None, typer.Option(metavar="I", help="With --failed: only this inbox's.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Queue failed or cancelled jobs again, with the sidecar as it is in their folder now."""
    from dna_pipeline.operations import retry as operation

    config = load(context)
    selection = operation.choose_jobs(config, jobs or (), batch, inbox, failed=failed)
    if failed:
        _say_omissions(selection, batch)
    queued: list[dict[str, Any]] = []
    problems: list[str] = []
    with closing(operation.retry_each(config, selection.ids)) as attempts:
        for job_id, outcome in attempts:
            if isinstance(outcome, str):
                problems.append(outcome)
                continue
            queued.append({"job": job_id, "kept_stages": outcome.stages})
            _print_result(job_id, outcome, as_json=as_json)
    if as_json:
        print_json(queued)
    if problems:
        raise ConfigError("\n".join(problems))


def _say_omissions(selection: JobSelection, batch: str | None) -> None:
    if batch is not None:
        if not selection.ids:
            say("nothing of that batch failed or was cancelled")
        return
    if not selection.ids:
        say("no job has failed")
    if selection.cancelled:
        say(f"{jobs_text(selection.cancelled)} cancelled: left so; `retry JOB…` queues them again")


def _print_result(job_id: str, result: RetryResult, *, as_json: bool) -> None:
    if result.failure_folder is not None:
        place = result.failure_folder
        say(f"{short(job_id)}: what you put into {place}, or changed there, stays there")
    if not as_json:
        behind = f", goes on behind {result.stages[-1]}" if result.stages else ""
        print(f"{short(job_id)} queued{behind}", flush=True)


def pause(context: typer.Context, batch: BatchOption = None) -> None:
    """Hold the whole queue, or one batch; survives a restart. The running job goes on."""
    from dna_pipeline.operations import control

    why = control.pause(load_to_write(context), batch)
    say("paused; `dna-pipeline resume` frees the queue" if why is None else why)


def resume(context: typer.Context, batch: BatchOption = None) -> None:
    """Free the queue after a pause, and the pipelines and batches paused for their failures; or
    one batch alone."""
    from dna_pipeline.operations import control

    control.resume(load_to_write(context), batch)
    say("resumed")
