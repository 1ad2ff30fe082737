"""`dna-pipeline cancel`, `retry`, `pause` and `resume`: wishes, told through the ledger."""

from __future__ import annotations

from typing import Annotated

import typer

from dna_pipeline.cli.common import JsonOption, find_job, load, open_views, print_json, say
from dna_pipeline.errors import ConfigError

Jobs = Annotated[list[str], typer.Argument(metavar="JOB…", help="Ids, or unique beginnings.")]


def cancel(context: typer.Context, jobs: Jobs, as_json: JsonOption = False) -> None:
    """Cancel jobs: queued ones at once, running ones at their next step."""
    from dna_pipeline.ledger import queue
    from dna_pipeline.ledger.store import Ledger

    config = load(context)
    views = open_views(config)
    ids = [find_job(views, job) for job in jobs]
    ledger = Ledger(config.ledger_path)
    before = {i: ledger.transact(lambda s, i=i: queue.request_cancel(s, i)) for i in ids}
    if ended := [i for i, status in before.items() if status not in ("queued", "running")]:
        named = ", ".join(f"{i[:8]} ({before[i]})" for i in ended)
        raise ConfigError(f"ended already, so not cancelled: {named}")
    if as_json:
        print_json([{"job": i, "was": status} for i, status in before.items()])
        return
    for job_id, status in before.items():
        print(f"{job_id[:8]} {'cancelled' if status == 'queued' else 'ends at its next step'}")


def retry(context: typer.Context, jobs: Jobs, as_json: JsonOption = False) -> None:
    """Queue failed or cancelled jobs again, with the sidecar as it is in their folder now."""
    from dna_pipeline.intake.resubmit import Retrier
    from dna_pipeline.ledger.store import Ledger
    from dna_pipeline.probe import Prober

    config = load(context)
    views = open_views(config)
    ids = [find_job(views, job) for job in jobs]
    ledger, prober = Ledger(config.ledger_path), Prober()
    try:
        retrier = Retrier(config, ledger)
        for job_id in ids:
            retrier.retry(job_id, prober)
    finally:
        prober.close()
        ledger.close()
    if as_json:
        print_json([{"job": job_id} for job_id in ids])
    else:
        print("\n".join(f"{job_id[:8]} queued" for job_id in ids))


def pause(context: typer.Context) -> None:
    """Hold the whole queue; survives a restart. The running job goes on."""
    from dna_pipeline.ledger import store
    from dna_pipeline.ledger.store import Ledger
    from dna_pipeline.ledger.times import format_time, utcnow

    ledger = Ledger(load(context).ledger_path)
    ledger.transact(lambda s: store.set_setting(s, "paused", format_time(utcnow())))
    ledger.close()
    say("paused; `dna-pipeline resume` frees the queue")


def resume(context: typer.Context) -> None:
    """Free the queue after a pause, and the pipelines that were paused for their failures."""
    from dna_pipeline.ledger import pauses
    from dna_pipeline.ledger.store import Ledger

    ledger = Ledger(load(context).ledger_path)
    ledger.transact(pauses.resume)
    ledger.close()
    say("resumed")


def register(app: typer.Typer) -> None:
    for command in (cancel, retry, pause, resume):
        app.command()(command)
