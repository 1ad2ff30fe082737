"""`dna-pipeline jobs`, `show`, `events` and `status`: the commands that only read."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from dna_pipeline.interfaces.cli.inspect_text import job_lines, print_status, status_words
from dna_pipeline.interfaces.cli.output import (
    JsonOption,
    clean,
    load,
    local_time,
    print_json,
    print_json_line,
    print_table,
    say,
)
from dna_pipeline.interfaces.cli.words import event_words, short

FOLLOW_INTERVAL_S = 0.25


def jobs(
    context: typer.Context,
    status: Annotated[str | None, typer.Option(help="queued, running, completed, …")] = None,
    inbox: Annotated[str | None, typer.Option(help="Only this inbox's.")] = None,
    batch: Annotated[str | None, typer.Option(help="Only this batch's.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at the most.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List jobs, the newest first."""
    from dna_pipeline.operations.history import list_jobs

    config = load(context)
    rows = list_jobs(config, status=status, inbox=inbox, batch=batch, limit=limit)
    if as_json:
        print_json(rows)
        return
    table = [
        (short(row["id"]), status_words(row), row["inbox"], row["name"], row["pipeline"],
         local_time(row["created_at"]), row["publish_name"])
        for row in rows
    ]  # fmt: skip
    print_table(("job", "status", "inbox", "name", "pipeline", "created", "folder"), table)


def show(context: typer.Context, job: str, as_json: JsonOption = False) -> None:
    """Print all about one job."""
    from dna_pipeline.operations.history import read_job

    config = load(context)
    job_record = read_job(config, job)
    if as_json:
        print_json(job_record)
        return
    for title, text in job_lines(config.outbox, job_record):
        print(f"{clean(title):12} {clean(text)}".rstrip())


def events(
    context: typer.Context,
    job: Annotated[str | None, typer.Argument(help="Only this job's.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on as they happen.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Print what happened, in order: as lines or as JSON lines."""
    from dna_pipeline.operations.history import read_events

    portions = read_events(load(context), job)
    try:
        _print_events(portions, follow=follow, as_json=as_json)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _print_events(portions: Iterator[list[dict[str, Any]]], *, follow: bool, as_json: bool) -> None:
    for events in portions:
        for event in events:
            if as_json:
                print_json_line(event)
            else:
                words = clean(event_words(event["kind"], event["data"]))
                line = f"{local_time(event['at'])} {short(event['job_id'])} {event['kind']} {words}"
                print(line.rstrip(), flush=True)
        if events:
            continue
        if not follow:
            return
        time.sleep(FOLLOW_INTERVAL_S)


def status(context: typer.Context, as_json: JsonOption = False) -> None:
    """Print how the daemon and the queue are doing, and what waits for what."""
    from dna_pipeline.operations.status import read_daemon_and_queue

    config = load(context)
    current = read_daemon_and_queue(config)
    if current.silent_outbox is not None:
        say(f"{config.outbox} {current.silent_outbox} What the daemon is at cannot be told")
    if as_json:
        print_json(current.fields)
    else:
        print_status(current.fields)
