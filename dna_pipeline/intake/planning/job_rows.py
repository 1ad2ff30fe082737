"""Make the ledger's rows of drops, jobs and batches."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from io import FileIO
from pathlib import Path
from typing import Any

from dna_pipeline.base.clock import to_minute
from dna_pipeline.base.errors import Failure, Hours, JobError, ParameterInvalid
from dna_pipeline.base.naming import safe_stem
from dna_pipeline.base.times import utcnow
from dna_pipeline.config.batch import combinations, head_of, request_text
from dna_pipeline.config.job_context import JobContext
from dna_pipeline.config.schema import Config, Inbox
from dna_pipeline.config.sidecar import JobSpec, parse_sidecar, resolve
from dna_pipeline.config.yaml12 import MAX_BYTES, Document
from dna_pipeline.ledger import model_sets
from dna_pipeline.ledger.store import new_id

_OPEN = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_BINARY", 0)
)


def printable(name: str) -> str:
    """A file's name as text that a database and JSON can hold, whatever its bytes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def draw_seed() -> int:
    """A seed in [0, 2³²)."""
    return secrets.randbits(32)


def read_sidecar(path: Path) -> bytes:
    """A sidecar's bytes, but at most one byte more than the limit allows.

    Raises:
        OSError: also if a link or a pipe replaced the sidecar since the scan.
    """
    with FileIO(path, opener=lambda name, _: os.open(name, _OPEN)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return file.read(MAX_BYTES + 1)


def as_text(data: bytes) -> str:
    """A sidecar's text as the manifest quotes it."""
    return data.decode("utf-8", "replace")


_SAMPLES = (
    JobContext("a.png", "a", "a", "a", 1, "0" * 64),
    JobContext("b.png", "b", "b", "b", 2, "1" * 64),
)
"""Contexts of two images that have nothing in common."""

ResolvedJobs = list[tuple[Document, JobSpec]]
"""Jobs, each with its document: the sidecar with the values of one combination of its matrix."""


class Resolver:
    """Resolves the sidecars of one inbox into job specs."""

    def __init__(self, config: Config, inbox: Inbox) -> None:
        self._config = config
        self._inbox = inbox

    def resolve(self, data: bytes | None, context: JobContext) -> ResolvedJobs:
        """The jobs that a sidecar's bytes (or none) ask for, as `resolve_jobs` gives them."""
        if data is None and self._plain is not None:
            return self._plain
        return resolve_jobs(self._config, self._inbox, data, context)

    def version_key(self, context: JobContext, data: bytes | None, error: str | None) -> str:
        """A hash, equal for versions of a known file with the same bytes and the same job specs.

        Random choices do not count.

        Args:
            error: code of an error that does not come from the sidecar.
        """
        is_plain = data is None and self._plain is not None
        text = self._plain_text if is_plain else self._requested_text(data, context)
        return hashlib.sha256(f"{context.sha256}\n{error}\n{text}".encode()).hexdigest()

    @cached_property
    def _plain(self) -> ResolvedJobs | None:
        """Jobs of an image without a sidecar; None if they depend on the image or on chance."""
        drawn: list[int] = []

        def draw() -> int:
            drawn.append(0)
            return 0

        try:
            one, other = (resolve_jobs(self._config, self._inbox, None, f, draw) for f in _SAMPLES)
        except JobError:
            return None
        return one if one == other and not drawn else None

    @cached_property
    def _plain_text(self) -> str:
        return self._requested_text(None, _SAMPLES[0])

    def _requested_text(self, data: bytes | None, context: JobContext) -> str:
        try:
            jobs = resolve_jobs(self._config, self._inbox, data, context, lambda: 0)
            return json.dumps([spec.identity() for _, spec in jobs], sort_keys=True, default=str)
        except JobError:
            return hashlib.sha256(data or b"").hexdigest()


def context_of(inbox: Inbox, folder: str, name: str | None, sha256: str | None) -> JobContext:
    """The job context of an image; `folder` and `name` as the file system has them."""
    return JobContext(printable(name or ""), printable(folder), inbox.name, sha256=sha256)


def resolve_text(
    config: Config,
    inbox: Inbox,
    data: bytes | None,
    context: JobContext,
    draw: Callable[[], int] = draw_seed,
    seeds: Mapping[str, int] | None = None,
) -> JobSpec:
    """The one job that a sidecar's bytes (or none) ask for. Raises `JobError`."""
    (_, spec), *more = resolve_jobs(config, inbox, data, context, draw, seeds)
    if more:
        raise ParameterInvalid(
            "matrix: asks for several jobs, but this image has become one job already",
            hint="Drop the image again, with its YAML beside it.",
            where="matrix",
        )
    return spec


def resolve_jobs(
    config: Config,
    inbox: Inbox,
    data: bytes | None,
    context: JobContext,
    draw: Callable[[], int] = draw_seed,
    seeds: Mapping[str, int] | None = None,
) -> ResolvedJobs:
    """The jobs that a sidecar's bytes (or none) ask for.

    Raises `JobError` if anything is wrong with any of them.
    """
    document = parse_sidecar(data) if data is not None else Document({}, {})
    head_of(document)
    if document.value.get("matrix") is None:
        return [(document, resolve(config, inbox, document, draw, context, seeds))]
    rows = enumerate(combinations(document), 1)
    batch = context.fields()["stem"]
    contexts = [(each, replace(context, batch=batch, row=number)) for number, each in rows]
    return [(each, resolve(config, inbox, each, draw, own, seeds)) for each, own in contexts]


def drop_row(inbox: Inbox, folder: str, image: str | None, sidecar: str | None) -> dict[str, Any]:
    """The row of a drop that is about to be claimed from that folder of the inbox."""
    return {
        "id": new_id(), "batch": None, "inbox": inbox.name, "state": "claiming",
        "originals": inbox.originals, "folder": folder, "claim": "", "image": image,
        "sidecar": sidecar, "stat": {}, "error": None, "created_at": utcnow(),
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


def batch_row(inbox: Inbox, folder: str, name: str, kind: str) -> dict[str, Any]:
    """The row of a batch, which the file of that folder and name asks for."""
    return {
        "id": new_id(), "inbox": inbox.name, "folder": printable(folder), "name": printable(name),
        "stem": safe_stem(name), "kind": kind, "originals": inbox.originals, "max_failures": None,
        "paused": None, "rows": 0, "wrong": 0, "created_at": utcnow(), "finished_at": None,
    }  # fmt: skip


def matrix_batch(
    inbox: Inbox,
    folder: str,
    name: str,
    data: bytes,
    jobs: Sequence[dict[str, Any]],
    documents: Sequence[Document],
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The batch of one image's matrix, and its rows. Puts the batch into the rows of the jobs."""
    batch = batch_row(inbox, folder, name, "matrix")
    batch["max_failures"] = head_of(parse_sidecar(data)).max_failures
    rows: list[dict[str, Any]] = []
    for number, (job, document) in enumerate(zip(jobs, documents, strict=True), 1):
        job |= {"batch": batch["id"], "request": request_text(document)}
        rows.append(
            {"batch_id": batch["id"], "number": number, "image": job["name"], "job_id": job["id"],
             "status": None, "code": None, "field": None, "detail": None}
        )  # fmt: skip
    return batch, rows


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
    stages = [{"id": stage.id, "type": stage.type, "params": stage.params} for stage in spec.stages]
    return {
        "pipeline": spec.pipeline, "priority": spec.priority, "status": status,
        "hold": hold, "hold_detail": detail,
        "not_before": spec.not_before, "stages": stages,
        "models": model_sets.text_of(model_sets.names_in(stages)), "tags": list(spec.tags),
        "meta": spec.meta, "error": None, "publish": None, "finished_at": None,
    }  # fmt: skip
