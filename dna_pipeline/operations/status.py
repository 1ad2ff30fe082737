"""How the daemon and the queue are doing: entries of `status.json`, the facts of the command
`status`, and the report of a `run`."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dna_pipeline.base.times import format_time
from dna_pipeline.config.schema import Config
from dna_pipeline.ledger.queries import Queries
from dna_pipeline.operations.lookup import open_queries
from dna_pipeline.publish.outbox import batch_folder

if TYPE_CHECKING:
    from dna_pipeline.base.reachability import Look


def file_of(outbox: Path) -> Path:
    return outbox / "status.json"


def queue_counts(views: Queries) -> dict[str, dict[str, int]]:
    """Number of jobs by status, and within it by inbox."""
    counts: dict[str, dict[str, int]] = {}
    for status, inbox, number in views.counts():
        counts.setdefault(status, {})[inbox] = number
    return counts


def queued_entry(job: dict[str, Any]) -> dict[str, Any]:
    """One line of `queued`: a job that has not started, and what holds it."""
    return {
        "job": job["id"], "inbox": job["inbox"], "name": job["name"],
        "hold": job["hold"], "detail": job["hold_detail"],
    }  # fmt: skip


def recent_entry(job: dict[str, Any]) -> dict[str, Any]:
    """One line of `recent`: a result or a failure and its folder."""
    error: dict[str, Any] | None = job["error"]
    return {
        "job": job["id"], "inbox": job["inbox"], "name": job["name"], "status": job["status"],
        "folder": job["publish_name"], "code": error["code"] if error else None,
        "finished_at": format_time(job["finished_at"]),
    }  # fmt: skip


def batch_entry(batch: dict[str, Any]) -> dict[str, Any]:
    """One line of `batches`: one that is not done, and how far it is."""
    folder = batch_folder(batch["inbox"], batch["folder"], batch["stem"], batch["id"])
    return {
        "batch": batch["id"], "inbox": batch["inbox"], "name": batch["name"], "folder": folder,
        "rows": batch["rows"], "wrong": batch["wrong"], "jobs": batch["jobs"],
        "paused": batch["paused"],
    }  # fmt: skip


def read_status(outbox: Path) -> dict[str, Any] | None:
    """What the file says; None where there is none that can be read."""
    try:
        return json.loads(file_of(outbox).read_bytes())
    except (OSError, ValueError):
        return None


@dataclass(frozen=True, slots=True)
class Status:
    """How the daemon and the queue are doing.

    Attributes:
        facts: in the words of `status.json`.
        silent_outbox: why the daemon's status file could not be read; None if it was not needed or
            the outbox answered.
    """

    facts: dict[str, Any]
    silent_outbox: str | None = None


def read_daemon_and_queue(config: Config) -> Status:
    """Status from the ledger, and from the daemon if one runs. Raises `ConfigError`."""
    from dna_pipeline.base.reachability import brief_looks
    from dna_pipeline.ledger import health
    from dna_pipeline.operations.daemon.lock import is_held
    from dna_pipeline.operations.ownership import find_leftovers

    health.check_present(config.ledger_path)
    reported, silent = _reported(config) if is_held(config.data) else (None, None)
    views = open_queries(config) if config.ledger_path.exists() else None
    with brief_looks() as look:
        leftovers = find_leftovers(config, look)
        problems = _inbox_problems(config, views, look) if reported is None else []
    facts: dict[str, Any] = {
        "daemon": None, "queue": {}, "running": None, "holds": [], "waiting": problems,
        "recent": [], "batches": [], "jobs_per_hour": 0, "runnable": 0, "queue_eta_s": None,
        **leftovers.facts(),
    }  # fmt: skip
    if views is not None:
        facts["queue"] = queue_counts(views)
        facts["batches"] = [batch_entry(batch) for batch in views.batches()]
        facts["holds"] = views.holds()
        facts["recent"] = [recent_entry(job) for job in views.recent()]
        facts["jobs_per_hour"] = views.finished_within(1)
        if reported is None:
            facts |= _time_left(views)
    if reported is not None:
        from_daemon = (
            "daemon", "running", "waiting", "waiting_total", "runnable", "queue_eta_s",
        )  # fmt: skip
        facts |= {key: reported[key] for key in from_daemon if key in reported}
        if _is_held(facts["holds"]):
            # What the daemon wrote may be older than the pause.
            running: dict[str, Any] | None = facts["running"]
            facts |= {"runnable": 0, "queue_eta_s": None if running is None else running["eta_s"]}
    return Status(facts, silent)


def _inbox_problems(config: Config, views: Queries | None, look: Look) -> list[dict[str, Any]]:
    """What keeps inboxes from being watched, as a running daemon reports it."""
    from dna_pipeline.operations.obstacles import of_inbox

    reasons = [(inbox.name, of_inbox(config, inbox, views, look)) for inbox in config.inboxes]
    return [{"inbox": name, "file": None, "reason": reason} for name, reason in reasons if reason]


def _is_held(holds: list[dict[str, Any]]) -> bool:
    """Whether the whole queue is paused."""
    return any(hold["jobs"] is None for hold in holds)


def _reported(config: Config) -> tuple[dict[str, Any] | None, str | None]:
    """Status as the running daemon last wrote it; where the outbox does not answer, who the daemon
    is, and why the outbox does not answer."""
    from dna_pipeline.base.reachability import brief_looks
    from dna_pipeline.operations.daemon.lock import holder

    with brief_looks() as look:
        reach = look(config.outbox)
    if not reach.is_silent:
        return read_status(config.outbox), None
    return {"daemon": holder(config.data)}, reach.why


def _time_left(views: Queries) -> dict[str, Any]:
    """What the daemon would tell if one ran."""
    from dna_pipeline.execution.estimate import Estimator

    estimator = Estimator(views)
    estimator.refresh()
    return estimator.queue().to_dict()


def last_event(config: Config) -> int:
    """The number of the newest event; 0 where there is no ledger yet."""
    if not config.ledger_path.exists():
        return 0
    views = open_queries(config)
    try:
        return views.last_event()
    finally:
        views.close()


def run_report(
    config: Config, before: int, since: datetime, waiting: list[dict[str, Any]]
) -> dict[str, Any]:
    """What a run did, and what it left.

    Args:
        before: the number of the newest event before it, see `last_event`.
        since: when it began.
        waiting: files that the daemon left in the inboxes.
    """
    views = open_queries(config)
    try:
        ended = views.ended_since(before)
        holds = views.holds()
        batches = [batch_entry(batch) for batch in views.batches_since(since)]
    finally:
        views.close()
    counts = Counter(job["status"] for job in ended)
    return {
        "completed": counts["completed"],
        "failed": counts["failed"],
        "cancelled": counts["cancelled"],
        "jobs": [
            {
                "job": job["id"], "inbox": job["inbox"], "name": job["name"],
                "status": job["status"], "folder": job["publish_name"],
                "code": job["error"]["code"] if job["error"] else None,
            }
            for job in ended
        ],
        "batches": batches,
        "holds": holds,
        "waiting": waiting,
    }  # fmt: skip
