"""Make the ledger's rows of drops, jobs and batches."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from pathlib import Path
from typing import Any

from dna_pipeline.base.clock import to_minute
from dna_pipeline.base.errors import Failure, Hours
from dna_pipeline.base.files import open_to_read
from dna_pipeline.base.naming import printable, safe_stem
from dna_pipeline.base.times import utcnow
from dna_pipeline.config.job_context import JobContext
from dna_pipeline.config.prompt_file import as_yaml, is_prompt_file
from dna_pipeline.config.schema import Inbox
from dna_pipeline.config.sidecar import JobSpec
from dna_pipeline.config.yaml12 import MAX_BYTES
from dna_pipeline.ledger import model_sets
from dna_pipeline.ledger.store import new_id


def draw_seed() -> int:
    """A seed in [0, 2³²)."""
    return secrets.randbits(32)


def read_sidecar(path: Path, name: str | None = None) -> bytes:
    """A sidecar's bytes, but at most one byte more than the limit allows.

    Those of a prompt file are given as the YAML that means the same.

    Args:
        name: the sidecar's name; None for that of the file.

    Raises:
        OSError: also if a link or a pipe replaced the sidecar since the scan.
    """
    with open_to_read(path) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        data = file.read(MAX_BYTES + 1)
    return as_yaml(data) if is_prompt_file(name or path.name) else data


def as_text(data: bytes) -> str:
    """A sidecar's text as the manifest quotes it."""
    return data.decode("utf-8", "replace")


def context_of(
    inbox: Inbox, folder: str, name: str | None, sha256: str | None, file: Path | None = None
) -> JobContext:
    """The job context of an image; `folder` and `name` as the file system has them.

    Args:
        file: the image itself, where it lies now.
    """
    name, folder = printable(name or ""), printable(folder)
    return JobContext(name, folder, inbox.name, sha256=sha256, file=file)


def drop_row(inbox: Inbox, folder: str, image: str | None, sidecar: str | None) -> dict[str, Any]:
    """The row of a drop that is about to be claimed from that folder of the inbox."""
    return {
        "id": new_id(), "batch": None, "inbox": inbox.name, "state": "claiming",
        "originals": inbox.originals, "folder": folder, "claim": "", "image": image,
        "sidecar": sidecar, "companions": None, "stat": {}, "error": None,
        "created_at": utcnow(),
    }  # fmt: skip


def job_row(
    inbox: Inbox, folder: str, name: str, drop_id: str, outcome: JobSpec | Failure
) -> dict[str, Any]:
    """The row of a new job: queued, or failed before it could be queued.

    Args:
        folder: folder of its image in the inbox, as the file system has it.
        name: name of its image, as the file system has it.
    """
    return {
        "id": new_id(), "drop_id": drop_id, "batch": None, "inbox": inbox.name,
        "folder": printable(folder), "name": printable(name), "stem": safe_stem(name),
        "key": None, "request": None, "created_at": utcnow(),
    } | job_columns(inbox, outcome)  # fmt: skip


def job_columns(inbox: Inbox, outcome: JobSpec | Failure) -> dict[str, Any]:
    """Columns of a job's row that depend on its sidecar."""
    if isinstance(outcome, Failure):
        return _row(JobSpec(inbox.pipeline, ()), "failed") | {
            "error": outcome.to_dict(), "publish": "pending", "finished_at": utcnow(),
        }  # fmt: skip
    return _row(outcome, "queued", *_first_hold(inbox, outcome))


def _first_hold(inbox: Inbox, spec: JobSpec) -> tuple[str | None, str | None]:
    """Hold of a new job and its sentence: a start time or the inbox's hours; twice None if none."""
    now = utcnow()
    if spec.not_before is not None and spec.not_before > now:
        return "not_before", f"starts at {to_minute(spec.not_before)}"
    why = inbox.hours_reason(now)
    return (None, None) if why is None else (Hours.code, why)


def _row(
    spec: JobSpec, status: str, hold: str | None = None, detail: str | None = None
) -> dict[str, Any]:
    stages = spec.stage_values
    return {
        "pipeline": spec.pipeline, "priority": spec.priority, "status": status,
        "hold": hold, "hold_detail": detail,
        "not_before": spec.not_before, "stages": stages,
        "models": model_sets.text_of(model_sets.names_in(stages), spec.needed_files),
        "tags": list(spec.tags), "result_name": spec.result_name,
        "meta": spec.meta, "error": None, "publish": None, "finished_at": None,
    }  # fmt: skip
