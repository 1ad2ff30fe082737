"""`dna-pipeline jobs`, `show`, `events` and `status`: the commands that only read."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dna_pipeline.interfaces.cli.fitting import print_titled
from dna_pipeline.interfaces.cli.inspect_text import job_lines, print_status, status_words
from dna_pipeline.interfaces.cli.output import (
    JsonOption,
    clean,
    clean_on,
    load,
    local_time,
    print_json,
    print_json_line,
    print_table,
    say,
    table_time,
)
from dna_pipeline.interfaces.cli.words import event_words, short

if TYPE_CHECKING:
    from dna_pipeline.config.schema import Config
    from dna_pipeline.operations.status import Status

FOLLOW_INTERVAL_S = 0.25

RESULT_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".glb", ".mp4", ".obj", ".ply", ".stl", ".xmp"}
)
"""Ends of the names of results' files."""

LEAST_COLUMNS = {"status": 16, "inbox": 7, "name": 24, "pipeline": 8, "folder": 20}
"""Widths down to which columns of `jobs` may be cut."""


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
         table_time(row["created_at"]), row["publish_name"])
        for row in rows
    ]  # fmt: skip
    header = ("job", "status", "inbox", "name", "pipeline", "created", "folder")
    print_table(header, table, LEAST_COLUMNS, ("pipeline", "folder", "inbox", "created"))
    if not rows:
        _say_none(config, status, inbox, batch)


def _say_none(config: Config, status: str | None, inbox: str | None, batch: str | None) -> None:
    """Say why the list is empty, and what would fill it."""
    names = [folder.name for folder in config.inboxes]
    if inbox is not None and config.inbox(inbox) is None:
        say(f"no job came from an inbox {inbox!r}; the inboxes are: {', '.join(names)}")
    elif (status, inbox, batch) != (None, None, None):
        say("no such job; `dna-pipeline jobs` lists all")
    else:
        say("no jobs yet; put images into the folder of an inbox, and `dna-pipeline watch`")


def show(
    context: typer.Context,
    job: Annotated[str, typer.Argument(metavar="JOB|FILE", help="A job, or a result's file.")],
    as_json: JsonOption = False,
) -> None:
    """Print all about one job, or the recipe of a result's file as a sidecar."""
    from dna_pipeline.operations.history import read_job

    if _is_file(job):
        _show_file(Path(job), as_json=as_json)
        return
    config = load(context)
    job_record = read_job(config, job)
    if as_json:
        print_json(job_record)
        return
    lines = job_lines(config.outbox, job_record)
    print_titled(((clean(title), clean(text)) for title, text in lines), 12)


def _is_file(target: str) -> bool:
    """True if this is a file, or the path of one that is not there, and no job's id."""
    path = Path(target)
    return path.is_file() or path.suffix.lower() in RESULT_SUFFIXES


def _show_file(path: Path, *, as_json: bool) -> None:
    from dna_pipeline.operations.recipes import sidecar_of_file

    text = sidecar_of_file(path)
    if as_json:
        print_json({"file": str(path), "sidecar": text})
    else:
        print("\n".join(map(clean_on, text.rstrip("\n").split("\n"))))


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
                begin = f"{local_time(event['at'])} {short(event['job_id'])}"
                print_titled([(begin, f"{event['kind']} {words}")], len(begin))
                sys.stdout.flush()
        if events:
            continue
        if not follow:
            return
        time.sleep(FOLLOW_INTERVAL_S)


def status(
    context: typer.Context,
    watch: Annotated[bool, typer.Option("--watch", help="Go on showing it, until Ctrl-C.")] = False,
    alive: Annotated[
        bool,
        typer.Option("--alive", help="Only see if a daemon runs and goes on; else exit status 1."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Print how the daemon and the queue are doing, and what waits for what."""
    from dna_pipeline.operations.status import find_daemon_fault, follow, read_daemon_and_queue

    config = load(context)
    if alive:
        if (fault := find_daemon_fault(config)) is not None:
            say(fault)
            raise typer.Exit(1)
        return
    if not watch:
        _print_status(config, read_daemon_and_queue(config), as_json=as_json)
        return
    try:
        _show_status(config, follow(config), as_json=as_json)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _show_status(config: Config, states: Iterator[Status], *, as_json: bool) -> None:
    """Show the status on a terminal as it changes; elsewhere print it anew after each change."""
    from dna_pipeline.interfaces.cli.live.terminal import can_show

    if not as_json and can_show(sys.stdout):
        from dna_pipeline.base.logs import silence
        from dna_pipeline.interfaces.cli.live.screen import LiveScreen
        from dna_pipeline.operations.overview import make_overview

        silence()  # nothing may write into the view
        screen = LiveScreen(["Ctrl-C leaves this view; the daemon goes on"], sys.stdout)
        with screen.shown():
            for state in states:
                screen.update(partial(make_overview, config, state.fields))
                if screen.has_ended:
                    break
    last: Status | None = None
    for state in states:
        if state != last:
            _print_status(config, state, as_json=as_json, is_line=True)
        last = state


def _print_status(config: Config, current: Status, *, as_json: bool, is_line: bool = False) -> None:
    """Print the status once; as JSON on one line with `is_line`, else with an empty line behind."""
    if current.silent_outbox is not None:
        say(f"{config.outbox} {current.silent_outbox} What the daemon is at cannot be told")
    if as_json:
        (print_json_line if is_line else print_json)(current.fields)
        return
    print_status(current.fields)
    if is_line:
        print(flush=True)
