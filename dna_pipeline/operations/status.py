"""State of daemon and queue: entries of `status.json`, the fields of the command `status`, and the
report of a `run`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dna_pipeline.base.files import read_json
from dna_pipeline.base.layout import STATUS, batch_folder
from dna_pipeline.base.periodic import Throttle
from dna_pipeline.base.quantities import about
from dna_pipeline.base.times import format_time, utcnow
from dna_pipeline.config.schema import Config
from dna_pipeline.ledger.queries import Queries
from dna_pipeline.operations.lookup import open_queries
from dna_pipeline.operations.receivers import list_receivers

if TYPE_CHECKING:
    from dna_pipeline.base.reachability import Look


FOLLOW_INTERVAL_S = 1.0
FOLLOW_COST_SHARE = 20
ALIVE_S = 180.0
"""Age of a status file from which a daemon counts as hung; it writes one every ten seconds."""

TEXT_CHARS = 500
"""Longest text of a failure in `status.json`; its folder has all of it."""


def file_of(outbox: Path) -> Path:
    return outbox / STATUS


def queue_counts(queries: Queries) -> dict[str, dict[str, int]]:
    """Count the jobs by status, and within each status by inbox."""
    counts: dict[str, dict[str, int]] = {}
    for status, inbox, number in queries.counts():
        counts.setdefault(status, {})[inbox] = number
    return counts


def ledger_fields(queries: Queries) -> dict[str, Any]:
    """The fields that come from the ledger: counts, open batches, holds, and what ended last."""
    return {
        "queue": queue_counts(queries),
        "batches": [batch_entry(batch) for batch in queries.batches()],
        "holds": queries.holds(),
        "recent": _recent(queries),
        "receivers": list_receivers(queries),
        "sheets": [_sheet_entry(batch) for batch in queries.failed_sheets()],
    }


def _sheet_entry(batch: dict[str, Any]) -> dict[str, Any]:
    """One entry of `sheets`: a batch whose contact sheet could not be made, and why."""
    folder = batch_folder(batch["inbox"], batch["folder"], batch["stem"], batch["id"])
    why = _bounded(str(batch["sheet"]).removeprefix("failed: "))
    return {"batch": batch["id"], "folder": folder, "why": why}


def _recent(queries: Queries) -> list[dict[str, Any]]:
    jobs = queries.recent()
    counts = queries.warning_counts([job["id"] for job in jobs])
    return [recent_entry(job) | {"warnings": counts.get(job["id"], 0)} for job in jobs]


def queued_entry(job: dict[str, Any]) -> dict[str, Any]:
    """One entry of `queued`: a job that has not started, and its hold."""
    return {
        "job": job["id"], "inbox": job["inbox"], "name": job["name"],
        "hold": job["hold"], "detail": job["hold_detail"],
    }  # fmt: skip


def recent_entry(job: dict[str, Any]) -> dict[str, Any]:
    """One entry of `recent`: a result or a failure, and its folder. A failure has its sentence, and
    what exactly was wrong and what helps, each "" if the failure does not say."""
    error: dict[str, Any] | None = job["error"]
    cause = {key: _bounded((error or {}).get(key) or "") for key in ("message", "detail", "hint")}
    return {
        "job": job["id"], "inbox": job["inbox"], "name": job["name"], "status": job["status"],
        "folder": job["publish_name"], "code": error["code"] if error else None,
        "finished_at": None if (at := job["finished_at"]) is None else format_time(at),
        **cause,
    }  # fmt: skip


def _bounded(text: str) -> str:
    """Text on one line, cut off where it is long."""
    line = "; ".join(text.splitlines())
    return line if len(line) <= TEXT_CHARS else f"{line[: TEXT_CHARS - 1]}…"


def progress_entries(
    counted: Mapping[str, dict[str, int]], inbox_s: Mapping[str, float]
) -> list[dict[str, Any]]:
    """The entries of `progress`: for each inbox the jobs that are done, those of its round in all,
    and the seconds until the last of them ends that need not wait; None if that is unknown."""
    return [
        {"inbox": name, **numbers, "eta_s": inbox_s.get(name)} for name, numbers in counted.items()
    ]


def batch_entry(batch: dict[str, Any]) -> dict[str, Any]:
    """One entry of `batches`: a batch and its number of jobs by status."""
    folder = batch_folder(batch["inbox"], batch["folder"], batch["stem"], batch["id"])
    return {
        "batch": batch["id"], "inbox": batch["inbox"], "name": batch["name"], "folder": folder,
        "rows": batch["rows"], "wrong": batch["wrong"], "jobs": batch["jobs"],
        "paused": batch["paused"],
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Status:
    """State of daemon and queue.

    Attributes:
        fields: named as in `status.json`.
        silent_outbox: why the daemon's status file could not be read; None if it was not needed or
            the outbox answered.
    """

    fields: dict[str, Any]
    silent_outbox: str | None = None


def read_daemon_and_queue(config: Config) -> Status:
    """Read the status from the ledger, and from the daemon if one runs. Raises `ConfigError`."""
    from dna_pipeline.base.reachability import brief_looks
    from dna_pipeline.ledger import health
    from dna_pipeline.operations.daemon.lock import is_held
    from dna_pipeline.operations.ownership import find_leftovers
    from dna_pipeline.operations.serving import addresses

    health.check_present(config.ledger_path)
    queries = open_queries(config) if config.ledger_path.exists() else None
    with brief_looks() as look:
        reported, silent = _reported(config, look) if is_held(config.data) else (None, None)
        leftovers = find_leftovers(config, look)
        problems = _inbox_problems(config, queries, look) if reported is None else []
        left_alone = _left_alone(config, queries, look) if queries is not None else []
    fields: dict[str, Any] = {
        "daemon": None, "queue": {}, "running": None, "running_jobs": [], "workers": [],
        "holds": [], "waiting": problems, "recent": [], "batches": [], "jobs_per_hour": 0,
        "runnable": 0, "queue_eta_s": None, "progress": [], "receivers": [], "config": None,
        "sheets": [], "page": addresses.newest_url(config.data),
        "server": None, "loading": None, "delayed": None, "left_alone": left_alone,
        **leftovers.to_dict(),
    }  # fmt: skip
    if queries is not None:
        with closing(queries):
            fields |= ledger_fields(queries)
            fields["jobs_per_hour"] = queries.finished_within(1)
            if reported is None:
                fields |= _time_left(config, queries, fields)
    if reported is not None:
        from_daemon = (
            "daemon", "running", "running_jobs", "workers", "waiting", "waiting_total",
            "runnable", "queue_eta_s", "progress", "config", "server", "loading", "delayed",
        )  # fmt: skip
        fields |= {key: reported[key] for key in from_daemon if key in reported}
        ends = {batch["batch"]: batch.get("eta_s") for batch in reported.get("batches", ())}
        fields["batches"] = [b | {"eta_s": ends.get(b["batch"])} for b in fields["batches"]]
        if any(hold["jobs"] is None for hold in fields["holds"]):
            # The whole queue is paused. The daemon may have written its estimate before that, so
            # correct it here.
            running: dict[str, Any] | None = fields["running"]
            fields |= {"runnable": 0, "queue_eta_s": None if running is None else running["eta_s"]}
    return Status(fields, silent)


def device_of(config: Config) -> str:
    """Name the device that the worker of the daemon uses, as its status says; where it says none,
    the one that pipeline.yaml asks for."""
    from dna_pipeline.base.reachability import brief_looks

    with brief_looks() as look:
        reported, _ = _reported(config, look)
    daemon: dict[str, Any] = (reported or {}).get("daemon") or {}
    return daemon.get("device") or config.runtime.devices[0]


def find_daemon_fault(config: Config, now: datetime | None = None) -> str | None:
    """Say why the daemon is not well: none runs, or it shows no sign of life; None if it is.

    Whether its loop goes round is seen by the status file. If that cannot be read, or is one of
    before its start, the daemon counts as well.

    Args:
        now: the time; None for the clock's.
    """
    from dna_pipeline.base.reachability import brief_looks
    from dna_pipeline.operations.daemon.lock import daemon_words, holder, is_held

    if not is_held(config.data):
        return f"no daemon runs on {config.data}; `dna-pipeline watch` starts one"
    with brief_looks() as look:
        is_silent = look(config.outbox).is_silent
    reported = None if is_silent else read_json(file_of(config.outbox))
    daemon = holder(config.data)
    try:
        written = datetime.fromisoformat((reported or {})["written_at"])
        age_s = ((now or utcnow()) - written).total_seconds()
        is_old = written < datetime.fromisoformat((daemon or {})["since"])
    except (KeyError, TypeError, ValueError):
        return None
    if is_old or age_s <= ALIVE_S:
        return None
    return (
        f"the daemon ({daemon_words(daemon)}) has written no status for {about(age_s)}: it hangs, "
        f"or cannot write to {config.outbox}; the log in {config.logs} may say why"
    )


def follow(config: Config) -> Iterator[Status]:
    """Read the status again and again, without end: each second, or more seldom where reading it
    takes longer. Raises `ConfigError`."""
    throttle = Throttle(FOLLOW_INTERVAL_S, FOLLOW_COST_SHARE)
    while True:
        started = time.monotonic()
        current = read_daemon_and_queue(config)
        now = time.monotonic()
        throttle.done(now, now - started)
        yield current
        time.sleep(max(throttle.next_at - time.monotonic(), 0.0))


def _inbox_problems(config: Config, queries: Queries | None, look: Look) -> list[dict[str, Any]]:
    """List why inboxes cannot be watched, in the form in which a running daemon reports it."""
    from dna_pipeline.operations.obstacles import of_inbox

    reasons = [(inbox.name, of_inbox(config, inbox, queries, look)) for inbox in config.inboxes]
    return [{"inbox": name, "file": None, "reason": reason} for name, reason in reasons if reason]


def _left_alone(config: Config, queries: Queries, look: Look) -> list[dict[str, Any]]:
    """Count, for each inbox with `existing: ignore`, the files that lay there before the first
    watch and wait to be saved again; inboxes without such files are left out."""
    inboxes = [inbox for inbox in config.inboxes if inbox.existing == "ignore"]
    if not inboxes:
        return []
    from dna_pipeline.intake.planning.known_files import KnownFiles

    counted = [
        {"inbox": inbox.name, "files": KnownFiles(inbox.name, queries).count_left(inbox.path)}
        for inbox in inboxes
        if look(inbox.path).is_there
    ]
    return [entry for entry in counted if entry["files"]]


def _reported(config: Config, look: Look) -> tuple[dict[str, Any] | None, str | None]:
    """Read the status that the running daemon last wrote. If there is none, give the daemon's entry
    from its lock, and why the outbox does not answer, if it does not."""
    from dna_pipeline.operations.daemon.lock import holder

    reach = look(config.outbox)
    if not reach.is_silent and (status := read_json(file_of(config.outbox))) is not None:
        return status, None
    return {"daemon": holder(config.data)}, reach.why if reach.is_silent else None


def _time_left(config: Config, queries: Queries, fields: dict[str, Any]) -> dict[str, Any]:
    """Estimate the time left, in the fields that a running daemon would write."""
    from dna_pipeline.execution.estimate import Estimator
    from dna_pipeline.operations.inbox_progress import InboxProgress

    estimator = Estimator(queries, config)
    estimator.refresh()
    estimate = estimator.queue()
    counted = InboxProgress().step(fields["queue"], [inbox.name for inbox in config.inboxes])
    return {
        **estimate.to_dict(),
        "progress": progress_entries(counted, estimate.inbox_s),
        "batches": [b | {"eta_s": estimate.batch_s.get(b["batch"])} for b in fields["batches"]],
    }


def last_event(config: Config) -> int:
    """Give the number of the newest event; 0 if there is no ledger yet."""
    if not config.ledger_path.exists():
        return 0
    with closing(open_queries(config)) as queries:
        return queries.last_event()


def run_report(
    config: Config, before: int, since: datetime, waiting: list[dict[str, Any]]
) -> dict[str, Any]:
    """Report the jobs that a `run` ended, and the jobs and files that still wait.

    Args:
        before: number of the newest event before the run, see `last_event`.
        since: start of the run.
        waiting: files that the daemon left in the inboxes.
    """
    from dna_pipeline.base.reachability import brief_looks

    with closing(open_queries(config)) as queries, brief_looks() as look:
        left_alone = _left_alone(config, queries, look)
        ended = queries.ended_since(before)
        warnings = queries.warnings([job["id"] for job in ended])
        holds = queries.holds()
        batches = [batch_entry(batch) for batch in queries.batches_since(since)]
    counts = Counter(job["status"] for job in ended)
    return {
        **{status: counts[status] for status in ("completed", "failed", "cancelled")},
        "jobs": [
            recent_entry(job)
            | {"warnings": len(texts := warnings.get(job["id"], [])), "warning_texts": texts}
            for job in ended
        ],
        "batches": batches,
        "holds": holds,
        "waiting": waiting,
        "left_alone": left_alone,
    }
