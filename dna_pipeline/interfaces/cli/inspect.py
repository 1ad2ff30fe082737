"""`dna-pipeline jobs`, `show`, `events` and `status`: the commands that only look."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dna_pipeline.interfaces.cli.inspect_text import job_lines, print_status, status_words
from dna_pipeline.interfaces.cli.output import (
    JsonOption,
    clean,
    find_batch,
    find_job,
    load,
    local_time,
    open_views,
    print_json,
    print_json_line,
    print_table,
    say,
)
from dna_pipeline.interfaces.cli.words import event_words, short

if TYPE_CHECKING:
    from dna_pipeline.config.schema import Config
    from dna_pipeline.ledger.queries import Views

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
    views = open_views(load(context))
    chosen = find_batch(views, batch)
    rows = views.jobs(status=status, inbox=inbox, batch=chosen, limit=limit)
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
    config = load(context)
    views = open_views(config)
    facts = views.job(find_job(views, job))
    if as_json:
        print_json(facts)
    else:
        _print_job(config, facts)


def _print_job(config: Config, facts: dict[str, Any]) -> None:
    for title, text in job_lines(config.outbox, facts):
        print(f"{clean(title):12} {clean(text)}".rstrip())


def events(
    context: typer.Context,
    job: Annotated[str | None, typer.Argument(help="Only this job's.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on as they happen.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Print what happened, in order: as lines or as JSON lines."""
    views = open_views(load(context))
    job_id = find_job(views, job) if job else None
    try:
        _print_events(views, job_id, follow=follow, as_json=as_json)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _print_events(views: Views, job_id: str | None, *, follow: bool, as_json: bool) -> None:
    after = 0
    while True:
        found = views.events(job_id, after)
        for event in found:
            after = event["id"]
            if as_json:
                print_json_line(event)
            else:
                said = clean(event_words(event["kind"], event["data"]))
                line = f"{local_time(event['at'])} {short(event['job_id'])} {event['kind']} {said}"
                print(line.rstrip(), flush=True)
        if found:
            continue
        if not follow:
            return
        time.sleep(FOLLOW_INTERVAL_S)


def status(context: typer.Context, as_json: JsonOption = False) -> None:
    """Print how the daemon and the queue are doing, and what waits for what."""
    config = load(context)
    facts = _status_facts(config)
    if as_json:
        print_json(facts)
    else:
        print_status(facts)


def _status_facts(config: Config) -> dict[str, Any]:
    from dna_pipeline.base.reachability import brief_looks
    from dna_pipeline.ledger import health
    from dna_pipeline.operations.daemon.lock import is_held
    from dna_pipeline.operations.ownership import find_leftovers
    from dna_pipeline.operations.status import batch_entry, queue_counts, recent_entry

    health.check_present(config.ledger_path)
    told = _told(config) if is_held(config.data) else None
    with brief_looks() as look:
        leftovers = find_leftovers(config, look)
    facts: dict[str, Any] = {
        "daemon": None, "queue": {}, "running": None, "holds": [], "waiting": [], "recent": [],
        "batches": [], "jobs_per_hour": 0, "runnable": 0, "queue_eta_s": None,
        **leftovers.facts(),
    }  # fmt: skip
    if config.ledger_path.exists():
        views = open_views(config)
        facts["queue"] = queue_counts(views)
        facts["batches"] = [batch_entry(batch) for batch in views.batches()]
        facts["holds"] = views.holds()
        facts["recent"] = [recent_entry(job) for job in views.recent()]
        facts["jobs_per_hour"] = views.finished_within(1)
        if told is None:
            facts |= _time_left(views)
    if told is not None:
        from_daemon = (
            "daemon", "running", "waiting", "waiting_total", "runnable", "queue_eta_s",
        )  # fmt: skip
        facts |= {key: told[key] for key in from_daemon if key in told}
        if _is_held(facts["holds"]):
            # What the daemon wrote may be older than the pause.
            running: dict[str, Any] | None = facts["running"]
            facts |= {"runnable": 0, "queue_eta_s": None if running is None else running["eta_s"]}
    return facts


def _is_held(holds: list[dict[str, Any]]) -> bool:
    """Whether the whole queue is paused."""
    return any(hold["jobs"] is None for hold in holds)


def _told(config: Config) -> dict[str, Any] | None:
    """Status as the running daemon last wrote it; where the outbox is silent, who the daemon is."""
    from dna_pipeline.base.reachability import brief_looks
    from dna_pipeline.operations.daemon.lock import holder
    from dna_pipeline.operations.status import read_status

    with brief_looks() as look:
        reach = look(config.outbox)
    if not reach.is_silent:
        return read_status(config.outbox)
    say(f"{config.outbox} {reach.why} What the daemon is at cannot be told")
    return {"daemon": holder(config.data)}


def _time_left(views: Views) -> dict[str, Any]:
    """What the daemon would tell if one ran."""
    from dna_pipeline.execution.estimate import Estimator

    estimator = Estimator(views)
    estimator.refresh()
    return estimator.queue().facts()


def register(app: typer.Typer) -> None:
    for command in (jobs, show, events, status):
        app.command()(command)
