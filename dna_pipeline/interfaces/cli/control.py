"""`dna-pipeline cancel`, `retry`, `pause` and `resume`: wishes, told through the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.interfaces.cli.output import (
    JsonOption,
    jobs_text,
    load,
    load_to_write,
    print_json,
    say,
)
from dna_pipeline.operations.lookup import do_each, find_batch, find_job, open_ledger, open_views

if TYPE_CHECKING:
    from dna_pipeline.config.schema import Config
    from dna_pipeline.ledger.engine import Transaction
    from dna_pipeline.ledger.queries import Views

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
    from dna_pipeline.ledger import batches, requests
    from dna_pipeline.ledger.store import Ledger

    config = load(context)
    views = open_views(config)
    _one_of(jobs, batch)
    ids = dict.fromkeys(find_job(views, job) for job in jobs or ())
    batch_id = find_batch(views, batch)
    ledger = Ledger(config.ledger_path)
    before = {i: ledger.transact(lambda s, i=i: requests.request_cancel(s, i)) for i in ids}
    if batch_id is not None:
        before = ledger.transact(lambda s: batches.cancel(s, batch_id))
        if not before:
            say("nothing of that batch is queued or running")
    open_ = {i: status for i, status in before.items() if status in ("queued", "running")}
    if as_json:
        print_json([{"job": i, "was": status} for i, status in open_.items()])
    for job_id, status in () if as_json else open_.items():
        print(f"{job_id[:8]} {'cancelled' if status == 'queued' else 'ends at its next step'}")
    if ended := ", ".join(f"{i[:8]} ({before[i]})" for i in before if i not in open_):
        raise ConfigError(f"ended already, so not cancelled: {ended}")


def _one_of(jobs: list[str] | None, batch: str | None) -> None:
    if bool(jobs) == (batch is not None):
        raise ConfigError("name jobs, or one batch with --batch")


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
    from dna_pipeline.intake.discovery.probe import Prober
    from dna_pipeline.ledger.store import Ledger
    from dna_pipeline.operations.retry import Retrier

    config = load(context)
    views = open_views(config)
    _check_choice(config, jobs, batch, inbox, failed=failed)
    ids = _all_failed(views, batch, inbox) if failed else [find_job(views, j) for j in jobs or ()]
    ledger, prober = Ledger(config.ledger_path), Prober()
    retrier = Retrier(config, ledger)

    def retry_one(job_id: str) -> dict[str, Any]:
        done = retrier.retry(job_id, prober)
        if done.left is not None:
            say(f"{job_id[:8]}: what you put into {done.left}, or changed there, stays there")
        if not as_json:
            behind = f", goes on behind {done.stages[-1]}" if done.stages else ""
            print(f"{job_id[:8]} queued{behind}", flush=True)
        return {"job": job_id, "kept_stages": done.stages}

    try:
        queued, problems = do_each(dict.fromkeys(ids), retry_one)
    finally:
        prober.close()
        ledger.close()
    if as_json:
        print_json(queued)
    if problems:
        raise ConfigError("\n".join(problems))


def _check_choice(
    config: Config, jobs: list[str] | None, batch: str | None, inbox: str | None, *, failed: bool
) -> None:
    """Raises `ConfigError` where it is not clear which jobs are meant."""
    if bool(jobs) == failed or (not failed and (batch is not None or inbox is not None)):
        raise ConfigError(
            "name jobs, or one batch with --batch and --failed: `retry JOB…`, `retry --failed`, "
            "`retry --failed --batch B` or `retry --failed --inbox I`"
        )
    if inbox is not None and config.inbox(inbox) is None:
        names = ", ".join(entry.name for entry in config.inboxes)
        raise ConfigError(f"no inbox is called {inbox!r}; there are: {names}")


def _all_failed(views: Views, batch: str | None, inbox: str | None) -> list[str]:
    """The jobs that `--failed` means, oldest first; says what it leaves out, and where it is none.

    A batch is to be whole in the end, so its cancelled jobs count as well. Elsewhere what people
    cancelled in the course of time stays cancelled.
    """
    if batch is not None:
        batch_id = find_batch(views, batch)
        found = views.ids(("failed", "cancelled"), inbox=inbox, batch=batch_id)
        if not found:
            say("nothing of that batch failed or was cancelled")
        return found
    found = views.ids(("failed",), inbox=inbox)
    if not found:
        say("no job has failed")
    if left := len(views.ids(("cancelled",), inbox=inbox)):
        say(f"{jobs_text(left)} cancelled: left so; `retry JOB…` queues them again")
    return found


def pause(context: typer.Context, batch: BatchOption = None) -> None:
    """Hold the whole queue, or one batch; survives a restart. The running job goes on."""
    from dna_pipeline.base.times import format_time, utcnow
    from dna_pipeline.ledger import batches, store

    config = load_to_write(context)
    batch_id = find_batch(open_views(config), batch) if batch is not None else None
    ledger = open_ledger(config)
    since = format_time(utcnow())
    if batch_id is None:
        ledger.transact(lambda s: store.set_setting(s, "paused", since))
        said = "paused; `dna-pipeline resume` frees the queue"
    else:
        said = f"batch {batch_id[:8]} is paused; `dna-pipeline resume --batch {batch_id[:8]}`"
        ledger.transact(lambda s: batches.pause(s, batch_id, said))
    ledger.close()
    say(said)


def resume(context: typer.Context, batch: BatchOption = None) -> None:
    """Free the queue after a pause, and the pipelines and batches paused for their failures; or
    one batch alone."""
    from dna_pipeline.execution.scheduler import hold_resting
    from dna_pipeline.ledger import batches, pauses

    config = load_to_write(context)
    batch_id = find_batch(open_views(config), batch) if batch is not None else None
    ledger = open_ledger(config)

    def free(session: Transaction) -> None:
        if batch_id is None:
            pauses.resume(session)
        else:
            batches.resume(session, batch_id)
        hold_resting(session, config)

    ledger.transact(free)
    ledger.close()
    say("resumed")


def register(app: typer.Typer) -> None:
    for command in (cancel, retry, pause, resume):
        app.command()(command)
