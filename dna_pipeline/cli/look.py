"""`dna-pipeline jobs`, `show`, `events` and `status`: the commands that only look."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dna_pipeline.cli.common import (
    NO_HISTORY,
    JsonOption,
    about,
    clean,
    find_batch,
    find_job,
    jobs_text,
    load,
    local_time,
    open_views,
    print_json,
    print_json_line,
    print_table,
    say,
)

if TYPE_CHECKING:
    from dna_pipeline.ledger.views import Views
    from dna_pipeline.spec.config import Config

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
        (row["id"][:8], _status(row), row["inbox"], row["name"], row["pipeline"],
         local_time(row["created_at"]), row["publish_name"])
        for row in rows
    ]  # fmt: skip
    print_table(("job", "status", "inbox", "name", "pipeline", "created", "folder"), table)


def _status(row: dict[str, Any]) -> str:
    return f"{row['status']} ({row['hold']})" if row["hold"] else row["status"]


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
    lines = [
        ("job", facts["id"]),
        ("status", _status(facts)),
        ("input", f"{facts['inbox']}: {facts['name']}"),
        ("pipeline", f"{facts['pipeline']}, priority {facts['priority']}"),
        ("created", local_time(facts["created_at"])),
        ("started", local_time(facts["started_at"])),
        ("finished", local_time(facts["finished_at"])),
        ("attempt", facts["attempt"]),
    ]
    if facts["hold"]:
        lines.append(("waits for", facts["hold_detail"]))
    if facts["error"]:
        lines.append(("error", f"{facts['error']['code']}: {facts['error']['message']}"))
        lines += [("", line) for line in facts["error"]["detail"].splitlines()]
        if facts["error"]["hint"]:
            lines.append(("what helps", facts["error"]["hint"]))
    if facts["publish"] == "done":
        lines.append(("folder", config.outbox / facts["publish_name"]))
    for stage in facts["stages"]:
        lines.append((stage["id"], ", ".join(f"{k}={v}" for k, v in stage["params"].items())))
    for run in facts["stage_runs"]:
        lines.append(("ran", f"{run['stage_id']} in {run['seconds']:.1f} s on {run['device']}"))
    for file in facts["artifacts"]:
        lines.append((file["role"], f"{file['path']}, {file['bytes']:,} bytes"))
    for title, text in lines:
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
                data = " ".join(f"{k}={clean(v)}" for k, v in event["data"].items())
                print(f"{local_time(event['at'])} {event['job_id'][:8]} {event['kind']} {data}",
                      flush=True)  # fmt: skip
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
        _print_status(facts)


def _status_facts(config: Config) -> dict[str, Any]:
    from dna_pipeline.ledger import health
    from dna_pipeline.lock import is_held
    from dna_pipeline.ownership import find_leftovers
    from dna_pipeline.reachability import brief_looks
    from dna_pipeline.snapshot import batch_entry, queue_counts, recent_entry

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
        from_daemon = ("daemon", "running", "waiting", "runnable", "queue_eta_s")
        facts |= {key: told[key] for key in from_daemon if key in told}
    return facts


def _told(config: Config) -> dict[str, Any] | None:
    """Status as the running daemon last wrote it; where the outbox is silent, who the daemon is."""
    from dna_pipeline.lock import holder
    from dna_pipeline.reachability import brief_looks
    from dna_pipeline.snapshot import read_status

    with brief_looks() as look:
        reach = look(config.outbox)
    if not reach.is_silent:
        return read_status(config.outbox)
    say(f"{config.outbox} {reach.why} What the daemon is at cannot be told")
    return {"daemon": holder(config.data)}


def _time_left(views: Views) -> dict[str, Any]:
    """What the daemon would tell if one ran."""
    from dna_pipeline.estimate import Estimator

    estimator = Estimator(views)
    estimator.refresh()
    return estimator.queue().facts()


def _print_batches(found: list[dict[str, Any]]) -> None:
    for batch in found:
        counts = ", ".join(f"{number} {status}" for status, number in sorted(batch["jobs"].items()))
        wrong = f", {batch['wrong']} wrong rows" if batch["wrong"] else ""
        paused = ", paused" if batch["paused"] else ""
        print(f"batch     {batch['batch'][:8]} {clean(batch['folder'])}: {counts}{wrong}{paused}")


def _print_leftovers(facts: dict[str, Any]) -> None:
    if number := facts["recovered"]["count"]:
        folders = "1 folder" if number == 1 else f"{number:,} folders"
        print(clean(
            f"recovered {folders} in {facts['recovered']['folder']}: copies of images that no job "
            "knows; look at them and remove them yourself"
        ))  # fmt: skip
    for path in facts["foreign"]:
        print(clean(f"foreign   {path}: not dna-pipeline's; it is left alone"))
    if more := facts["foreign_total"] - len(facts["foreign"]):
        print(f"foreign   and {more:,} more")


def _print_status(facts: dict[str, Any]) -> None:
    daemon = facts["daemon"]
    if daemon is None:
        print("daemon    none runs")
    else:
        device = daemon.get("device") or "not loaded yet"
        print(clean(f"daemon    process {daemon['pid']} on {daemon['host']}, device {device}"))
    for status_, inboxes in sorted(facts["queue"].items()):
        named = ", ".join(f"{clean(inbox)} {number}" for inbox, number in sorted(inboxes.items()))
        print(f"{status_:9} {sum(inboxes.values())} ({named})")
    if (running := facts["running"]) is not None:
        eta = "" if running["eta_s"] is None else f", {about(running['eta_s'])} left"
        step = f" step {running['step']}/{running['steps']}" if running["steps"] else ""
        print(f"running   {running['job'][:8]} {clean(running['name'])}: {running['stage']}{step}, "
              f"{running['fraction']:.0%}{eta}")  # fmt: skip
    if facts["jobs_per_hour"]:
        print(f"rate      {facts['jobs_per_hour']} in the last hour")
    if facts["queue_eta_s"] is not None:
        print(f"time      {about(facts['queue_eta_s'])} left")
    elif facts["runnable"]:
        print(f"time      {NO_HISTORY}")
    _print_batches(facts["batches"])
    for hold in facts["holds"]:
        number = "the whole queue" if hold["jobs"] is None else jobs_text(hold["jobs"])
        print(f"held      {number}: {hold['code']}: {clean(hold['detail'])}")
    for entry in facts["waiting"]:
        where = f"{entry['inbox']}/{entry['file']}" if entry["file"] else entry["inbox"]
        print(f"waiting   {clean(where)}: {clean(entry['reason'])}")
    _print_leftovers(facts)
    for entry in facts["recent"][:10]:
        why = f" ({entry['code']})" if entry["code"] else ""
        print(f"recent    {entry['job'][:8]} {entry['status']}{why} {clean(entry['folder'])}")


def register(app: typer.Typer) -> None:
    for command in (jobs, show, events, status):
        app.command()(command)
