"""`dna-pipeline cancel`, `retry`, `pause` and `resume`: wishes, told through the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dna_pipeline.cli.common import (
    JsonOption,
    do_each,
    find_batch,
    find_job,
    load,
    load_to_write,
    open_ledger,
    open_views,
    print_json,
    say,
)
from dna_pipeline.errors import ConfigError

if TYPE_CHECKING:
    from dna_pipeline.ledger.views import Views

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
    from dna_pipeline.ledger import batches, wishes
    from dna_pipeline.ledger.store import Ledger

    config = load(context)
    views = open_views(config)
    _one_of(jobs, batch)
    ids = dict.fromkeys(find_job(views, job) for job in jobs or ())
    batch_id = find_batch(views, batch)
    ledger = Ledger(config.ledger_path)
    before = {i: ledger.transact(lambda s, i=i: wishes.request_cancel(s, i)) for i in ids}
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
        bool, typer.Option("--failed", help="Of the batch, all that failed or were cancelled.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Queue failed or cancelled jobs again, with the sidecar as it is in their folder now."""
    from dna_pipeline.intake.retry import Retrier
    from dna_pipeline.ledger.store import Ledger
    from dna_pipeline.probe import Prober

    config = load(context)
    views = open_views(config)
    ids = _to_retry(views, jobs, batch, failed=failed)
    ledger, prober = Ledger(config.ledger_path), Prober()
    retrier = Retrier(config, ledger)

    def retry_one(job_id: str) -> str:
        retrier.retry(job_id, prober)
        return job_id

    try:
        queued, problems = do_each(ids, retry_one)
    finally:
        prober.close()
        ledger.close()
    if as_json:
        print_json([{"job": job_id} for job_id in queued])
    for job_id in () if as_json else queued:
        print(f"{job_id[:8]} queued")
    if problems:
        raise ConfigError("\n".join(problems))


def _to_retry(
    views: Views, jobs: list[str] | None, batch: str | None, *, failed: bool
) -> list[str]:
    if failed != (batch is not None):
        raise ConfigError("--failed and --batch go together: `retry --failed --batch B`")
    _one_of(jobs, batch)
    if batch is None:
        return list(dict.fromkeys(find_job(views, job) for job in jobs or ()))
    batch_id = find_batch(views, batch)
    found = [
        job
        for status in ("failed", "cancelled")
        for job in views.jobs(status=status, batch=batch_id, limit=1_000_000)
    ]
    if not found:
        say("nothing of that batch failed or was cancelled")
    return [job["id"] for job in reversed(found)]


def pause(context: typer.Context, batch: BatchOption = None) -> None:
    """Hold the whole queue, or one batch; survives a restart. The running job goes on."""
    from dna_pipeline.ledger import batches, store
    from dna_pipeline.ledger.times import format_time, utcnow

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
    from dna_pipeline.ledger import batches, pauses

    config = load_to_write(context)
    batch_id = find_batch(open_views(config), batch) if batch is not None else None
    ledger = open_ledger(config)
    if batch_id is None:
        ledger.transact(pauses.resume)
    else:
        ledger.transact(lambda s: batches.resume(s, batch_id))
    ledger.close()
    say("resumed")


def register(app: typer.Typer) -> None:
    for command in (cancel, retry, pause, resume):
        app.command()(command)
