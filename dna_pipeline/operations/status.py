"""What both the daemon's `status.json` and the command `status` tell, and how the file is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dna_pipeline.base.times import format_time
from dna_pipeline.ledger.queries import Views
from dna_pipeline.publish.outbox import batch_folder


def file_of(outbox: Path) -> Path:
    return outbox / "status.json"


def queue_counts(views: Views) -> dict[str, dict[str, int]]:
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
