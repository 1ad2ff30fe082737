"""Rows of the ledger made from what was taken in."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dna_pipeline.artifact import safe_stem
from dna_pipeline.errors import Failure, JobError
from dna_pipeline.ledger.store import new_id
from dna_pipeline.ledger.times import utcnow
from dna_pipeline.spec.config import Config, Inbox
from dna_pipeline.spec.facts import JobFacts
from dna_pipeline.spec.sidecar import JobSpec, inside_path, parse_sidecar, resolve
from dna_pipeline.spec.yaml12 import MAX_BYTES


def printable(name: str) -> str:
    """A file's name as text that a database and JSON can hold, whatever its bytes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def draw_seed() -> int:
    """A seed in [0, 2³²)."""
    return secrets.randbits(32)


def read_sidecar(path: Path) -> bytes:
    """A sidecar's bytes, one more than is allowed at the most."""
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def as_text(data: bytes) -> str:
    """A sidecar as the manifest quotes it."""
    return data.decode("utf-8", "replace")


def image_named(path: Path) -> str | JobError | None:
    """The `image:` of the YAML at `path`, as written; None where it has none or cannot be read.

    A `JobError` is given, not raised.
    """
    try:
        image = parse_sidecar(read_sidecar(path)).value.get("image")
    except JobError as error:
        return error
    except OSError:
        return None  # gone or locked; the next look sees it as it then is
    return image if isinstance(image, str) else None


def facts_of(inbox: Inbox, folder: str, name: str | None, sha256: str | None) -> JobFacts:
    """What is known of an image of that inbox, by the file system's names."""
    return JobFacts(printable(name or ""), printable(folder), inbox.name, sha256=sha256)


def resolve_text(config: Config, inbox: Inbox, data: bytes | None, facts: JobFacts) -> JobSpec:
    """The job that a sidecar's bytes (or none) ask for. Raises `JobError`."""
    document = parse_sidecar(data) if data is not None else None
    if document is not None and isinstance(image := document.value.get("image"), str):
        inside_path(image)
    return resolve(config, inbox, document, draw_seed, facts)


def spec_key(
    config: Config, inbox: Inbox, facts: JobFacts, data: bytes | None, error: str | None
) -> str:
    """What makes two versions of a kept file the same: its bytes and its spec before chance.

    `error` is the code of what is wrong with it whatever its sidecar says.
    """
    try:
        document = parse_sidecar(data) if data is not None else None
        spec = resolve(config, inbox, document, lambda: 0, facts)
        told = json.dumps(asdict(spec), sort_keys=True, default=str)
    except JobError:
        told = hashlib.sha256(data or b"").hexdigest()
    return hashlib.sha256(f"{facts.sha256}\n{error}\n{told}".encode()).hexdigest()


def drop_row(inbox: Inbox, folder: str, image: str | None, sidecar: str | None) -> dict[str, Any]:
    """A drop about to be taken, from that folder of the inbox."""
    return {
        "id": new_id(), "inbox": inbox.name, "state": "claiming", "originals": inbox.originals,
        "folder": folder, "claim": "", "image": image, "sidecar": sidecar, "stat": {},
        "error": None, "created_at": utcnow(),
    }  # fmt: skip


def job_row(
    inbox: Inbox, folder: str, name: str, drop_id: str, outcome: JobSpec | Failure
) -> dict[str, Any]:
    """A job as it enters the ledger: to be run, or failed before it could be.

    Args:
        folder, name: of its image, as the file system has them.
    """
    return {
        "id": new_id(), "drop_id": drop_id, "batch": None, "inbox": inbox.name,
        "folder": printable(folder), "name": printable(name), "stem": safe_stem(name),
        "created_at": utcnow(),
    } | work_of(inbox, outcome)  # fmt: skip


def work_of(inbox: Inbox, outcome: JobSpec | Failure) -> dict[str, Any]:
    """The part of a job's row that its sidecar decides."""
    if isinstance(outcome, Failure):
        return _row(JobSpec(inbox.pipeline, ()), "failed") | {
            "error": outcome.to_dict(), "publish": "pending", "finished_at": utcnow(),
        }  # fmt: skip
    return _row(outcome, "queued")


def _row(spec: JobSpec, status: str) -> dict[str, Any]:
    models = sorted({stage.params.get("model") or "" for stage in spec.stages} - {""})
    later = spec.not_before is not None and spec.not_before > utcnow()
    return {
        "pipeline": spec.pipeline, "priority": spec.priority, "status": status,
        "hold": "not_before" if later else None,
        "hold_detail": f"starts at {spec.not_before:%Y-%m-%d %H:%M} UTC" if later else None,
        "not_before": spec.not_before, "stages": [asdict(stage) for stage in spec.stages],
        "models": ",".join(models), "tags": list(spec.tags), "meta": spec.meta,
        "error": None, "publish": None, "finished_at": None,
    }  # fmt: skip
