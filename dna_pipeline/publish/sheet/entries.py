"""Entries of a contact sheet: the results and failures that it shows, read from the ledger."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from dna_pipeline.base.errors import Failure
from dna_pipeline.base.files import INTERMEDIATE
from dna_pipeline.base.layout import CANCELLED, SOURCE
from dna_pipeline.config.recipe import as_sidecar
from dna_pipeline.ledger.queries import Queries

MAX_ENTRIES = 5000
"""Most entries of one sheet. A larger batch has its `batch.csv`, and sheets of parts of it."""

WRONG_ROW = "This row is wrong. Mend it and drop its file again; what was done is skipped."

_PICTURES = ("preview", "image", "matte")
"""Roles of the files that can stand for a result, the best first."""
_PICTURE_TYPES = ("image/png", "image/jpeg", "image/webp")


@dataclass(frozen=True, slots=True)
class SheetFile:
    """A file of a result: its path below the outbox, its role, and its hash."""

    path: str
    role: str
    media_type: str
    bytes: int
    sha256: str

    @property
    def is_picture(self) -> bool:
        return self.media_type in _PICTURE_TYPES


@dataclass(frozen=True, slots=True)
class SheetEntry:
    """A result, a failure, or a row without a job.

    Attributes:
        number: the row's number in its batch, else its place on the sheet, from 1.
        job: id of its job; "" for a row without one.
        name: name of its image.
        status: that of the job, or of the row: `wrong`, `skipped`, `replaced`.
        folder: its folder below the outbox; None if it has none.
        picture: the file of which its thumbnail is made; None if there is none.
        params: parameters of its stages, and what else differs within a batch, by keys like
            `img2img.strength`; empty for a job that failed before it had any.
        sidecar: its recipe as the text of a sidecar; "" if it has none.
        failure: what went wrong; None for a result.
        seconds: duration of its last attempt.
    """

    number: int
    job: str
    name: str
    status: str
    folder: str | None = None
    files: tuple[SheetFile, ...] = ()
    picture: SheetFile | None = None
    params: dict[str, Any] = field(default_factory=dict[str, Any])
    sidecar: str = ""
    tags: tuple[str, ...] = ()
    meta: dict[str, Any] = field(default_factory=dict[str, Any])
    failure: Failure | None = None
    seconds: float | None = None
    warnings: tuple[str, ...] = ()

    @property
    def is_failure(self) -> bool:
        return self.failure is not None

    @property
    def manifest(self) -> str:
        """Name of the file in its folder that says all about it; "" if others share the folder."""
        if self.folder is not None and self.folder.rpartition("/")[2] == CANCELLED:
            return ""
        return "error.json" if self.is_failure else "manifest.json"


def of_batch(queries: Queries, batch_id: str, limit: int = MAX_ENTRIES) -> list[SheetEntry]:
    """Read the first rows of a batch, in order."""
    rows = queries.batch_rows(batch_id, limit)
    ids = [row["job_id"] for row in rows if row["job_id"] is not None]
    jobs, warnings = queries.sheet_jobs(ids), queries.warnings(ids)
    return [
        _of_job(row["number"], job, warnings.get(job["id"], []), row["status"])
        if (job := jobs.get(row["job_id"] or "")) is not None
        else _of_row(row)
        for row in rows
    ]


def of_jobs(queries: Queries, ids: Sequence[str], *, has_sidecars: bool = True) -> list[SheetEntry]:
    """Read the entries of these jobs, in that order; those without a folder are left out.

    Args:
        has_sidecars: False to leave the sidecars empty, which take the most time to write.
    """
    jobs, warnings = queries.sheet_jobs(ids), queries.warnings(ids)
    listed = [jobs[job_id] for job_id in ids if job_id in jobs]
    published = [job for job in listed if job["publish"] == "done"]
    return [
        _of_job(number, job, warnings.get(job["id"], []), has_sidecar=has_sidecars)
        for number, job in enumerate(published, 1)
    ]


def _of_row(row: Mapping[str, Any]) -> SheetEntry:
    status = row["status"] or "waiting"
    failure = None
    if row["code"] is not None:
        where = f"{row['field']}: " if row["field"] else ""
        failure = Failure(row["code"], WRONG_ROW, f"{where}{row['detail'] or ''}")
    return SheetEntry(row["number"], "", row["image"], status, failure=failure)


def _of_job(
    number: int, job: Mapping[str, Any], warnings: Iterable[str], row_status: str | None = None,
    *, has_sidecar: bool = True,
) -> SheetEntry:  # fmt: skip
    folder: str | None = job["publish_name"] if job["publish"] == "done" else None
    files = _files(folder, job["files"])
    error: dict[str, Any] | None = job["error"]
    picture = _picture(job["stages"], job["files"], files)
    if picture is None and error is not None:
        picture = _original(folder, job)
    return SheetEntry(
        number=number,
        job=job["id"],
        name=job["name"],
        status=row_status or job["status"],
        folder=folder,
        files=files,
        picture=picture,
        params=_params(job),
        sidecar=sidecar_of(job) if job["stages"] and has_sidecar else "",
        tags=tuple(job["tags"]),
        meta=job["meta"],
        failure=None if error is None else Failure.from_dict(error),
        seconds=_seconds(job["started_at"], job["finished_at"]),
        warnings=tuple(warnings),
    )


def sidecar_of(job: Mapping[str, Any]) -> str:
    """The sidecar that asks for the same as a job, as the ledger has it."""
    head = {key: job[key] for key in ("pipeline", "tags", "meta")}
    return as_sidecar(job["stages"], head=head)


def _files(folder: str | None, rows: Iterable[Mapping[str, Any]]) -> tuple[SheetFile, ...]:
    if folder is None:
        return ()
    return tuple(
        SheetFile(f"{folder}/{row['path']}", *(row[key] for key in _FILE_KEYS))
        for row in rows
        if row["role"] != INTERMEDIATE
    )


_FILE_KEYS = ("role", "media_type", "bytes", "sha256")


def _picture(
    stages: Iterable[Mapping[str, Any]],
    rows: Iterable[Mapping[str, Any]],
    files: Sequence[SheetFile],
) -> SheetFile | None:
    """The picture of the last stage that made one."""
    places = {stage["id"]: place for place, stage in enumerate(stages)}
    shown = [row for row in rows if row["role"] != INTERMEDIATE]
    ranked = [
        (-places.get(row["stage_id"], -1), _PICTURES.index(file.role), place, file)
        for place, (row, file) in enumerate(zip(shown, files, strict=False))
        if file.role in _PICTURES and file.is_picture
    ]
    return min(ranked, key=lambda entry: entry[:3])[-1] if ranked else None


def _original(folder: str | None, job: Mapping[str, Any]) -> SheetFile | None:
    """The image of a failure, which lies in the failure's folder."""
    name, sha256 = job["image"], job["sha256"]
    if folder is None or not name or not sha256:
        return None
    return SheetFile(f"{folder}/{SOURCE}/{name}", SOURCE, "", 0, sha256)


def _params(job: Mapping[str, Any]) -> dict[str, Any]:
    if not job["stages"]:
        return {}  # its sidecar was wrong; compared with others, each parameter would differ
    params: dict[str, Any] = {"pipeline": job["pipeline"]}
    if job["priority"]:
        params["priority"] = job["priority"]
    for stage in job["stages"]:
        params |= {f"{stage['id']}.{name}": value for name, value in stage["params"].items()}
    return params


def _seconds(started: datetime | None, ended: datetime | None) -> float | None:
    return None if started is None or ended is None else (ended - started).total_seconds()


# --- thumbnails ---


_SHA256 = re.compile("[0-9a-f]{64}")


def thumbnail_path(thumbnails: Path, sha256: str, suffix: str) -> Path:
    """Place of the thumbnail of a file with that hash."""
    if not _SHA256.fullmatch(sha256):
        raise ValueError("no SHA-256")
    return thumbnails / sha256[:2] / f"{sha256}{suffix}"
