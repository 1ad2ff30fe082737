"""Tables of the ledger as typed models; `docs/ledger.md` explains them to people who write SQL."""

from __future__ import annotations

import os
from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import JSON, ForeignKey, Index, LargeBinary, Text, TypeDecorator, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from dna_pipeline.base.times import format_time


class UtcTime(TypeDecorator[datetime]):
    """An aware time, stored as RFC 3339 text in UTC, so that text order is time order."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> str | None:
        return None if value is None else format_time(value)

    def process_result_value(self, value: Any, dialect: Any) -> datetime | None:
        return None if value is None else datetime.fromisoformat(value)


class FsPath(TypeDecorator[str]):
    """A path, stored as the file system's bytes, since names need not be valid Unicode."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> bytes | None:
        return None if value is None else os.fsencode(value)

    def process_result_value(self, value: Any, dialect: Any) -> str | None:
        return None if value is None else os.fsdecode(value)


class Base(DeclarativeBase):
    """Base of all tables. JSON columns hold plain values only."""

    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: UtcTime,
        # None is SQL's NULL, not the JSON text `null`, so that IS NULL means what it says.
        dict[str, Any]: JSON(none_as_null=True),
        list[Any]: JSON(none_as_null=True),
        str: Text,
    }


class Drop(Base):
    """One claim with its files: the owner of the source bytes.

    State: `claiming` (files are being moved or copied into the claim) → `claimed` → `disposing`
    (no open job needs it; the claim is being removed) → `gone`. A companion, such as a mask, has
    `role`, `name` and, once it is claimed, `sha256` and `bytes`.
    """

    __tablename__ = "drops"

    id: Mapped[str] = mapped_column(primary_key=True)
    inbox: Mapped[str]
    state: Mapped[str]
    originals: Mapped[str]
    folder: Mapped[str] = mapped_column(FsPath)
    claim: Mapped[str] = mapped_column(FsPath)
    image: Mapped[str | None] = mapped_column(FsPath)
    sidecar: Mapped[str | None] = mapped_column(FsPath)
    stat: Mapped[dict[str, Any]]
    error: Mapped[dict[str, Any] | None]
    sha256: Mapped[str | None]
    bytes: Mapped[int | None]
    width: Mapped[int | None]
    height: Mapped[int | None]
    sidecar_text: Mapped[str | None]
    created_at: Mapped[datetime]
    batch: Mapped[str | None]
    companions: Mapped[list[Any] | None]

    __table_args__ = (
        Index("ix_drops_open", "state", sqlite_where=text("state <> 'gone'")),
        Index("ix_drops_batch", "batch", sqlite_where=text("batch IS NOT NULL")),
    )


class Batch(Base):
    """The jobs of a job file, a table or a matrix.

    Its id is also that of the drop that holds the job file or the table. State: `claiming` →
    `claimed` (its jobs are in the queue) → `open` (its folder is in the outbox) → `done`. `axes`
    has name and values of each axis of its matrix, the slowest first: row n is the n-th of their
    combinations. `sheet` says how far its contact sheet is: `due` since the batch is done, then
    `made`, or `failed: ` with the reason.
    """

    __tablename__ = "batches"

    id: Mapped[str] = mapped_column(primary_key=True)
    inbox: Mapped[str]
    folder: Mapped[str]
    name: Mapped[str]
    stem: Mapped[str]
    kind: Mapped[str]
    state: Mapped[str]
    originals: Mapped[str]
    max_failures: Mapped[int | None]
    paused: Mapped[str | None]
    rows: Mapped[int] = mapped_column(default=0)
    wrong: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    axes: Mapped[list[Any] | None]
    sheet: Mapped[str | None]

    __table_args__ = (
        Index("ix_batches_open", "state", sqlite_where=text("state <> 'done'")),
        Index("ix_batches_sheet", "sheet", sqlite_where=text("sheet <> 'made'")),
    )


class BatchRow(Base):
    """A row of a batch. `job_id` is its job, or one that did the same before (`skipped`).

    `status` is set if the row has no job of its own: `wrong`, `skipped`, `replaced`. `field` is the
    column or key with the mistake of a wrong row.
    """

    __tablename__ = "batch_rows"

    batch_id: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    image: Mapped[str]
    job_id: Mapped[str | None] = mapped_column(index=True)
    status: Mapped[str | None]
    code: Mapped[str | None]
    field: Mapped[str | None]
    detail: Mapped[str | None]


class Job(Base):
    """One run of one pipeline on one input image.

    `hold` says why a queued job may not start yet. `publish` says how far its folder is: `pending`
    (to be put together), `planned` (its name and hash are committed), `done`. A batch's job has a
    `key`, the dedup key, and may have a `request`: its row's own parameters, as a YAML.
    `cancelled_while` says if a cancelled job was `waiting` or `running`. `original_place` is the
    place of a cancelled row's original in the folder that the row shares with others.
    `result_name` is the name of its result folder, before the `-` and the job's id; null: `stem`.
    """

    __tablename__ = "jobs"

    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(unique=True)
    drop_id: Mapped[str] = mapped_column(ForeignKey("drops.id"), index=True)
    batch: Mapped[str | None]
    inbox: Mapped[str]
    folder: Mapped[str]
    name: Mapped[str]
    stem: Mapped[str]
    pipeline: Mapped[str]
    priority: Mapped[int]
    status: Mapped[str]
    hold: Mapped[str | None]
    hold_detail: Mapped[str | None]
    not_before: Mapped[datetime | None]
    stages: Mapped[list[Any]]
    models: Mapped[str]
    tags: Mapped[list[Any]]
    meta: Mapped[dict[str, Any]]
    attempt: Mapped[int] = mapped_column(default=0)
    crashes: Mapped[int] = mapped_column(default=0)
    interruptions: Mapped[int] = mapped_column(default=0)
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    stage: Mapped[str | None]
    error: Mapped[dict[str, Any] | None]
    publish: Mapped[str | None]
    publish_name: Mapped[str | None]
    manifest_sha256: Mapped[str | None]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    key: Mapped[str | None]
    request: Mapped[str | None]
    cancelled_while: Mapped[str | None]
    original_place: Mapped[str | None]
    result_name: Mapped[str | None]

    __table_args__ = (
        Index(
            "ix_jobs_runnable",
            text("priority DESC"),
            "seq",
            sqlite_where=text("status = 'queued' AND hold IS NULL"),
        ),
        Index("ix_jobs_due", "not_before", sqlite_where=text("hold = 'not_before'")),
        Index("ix_jobs_hold", "hold", "models", sqlite_where=text("hold IS NOT NULL")),
        Index(
            "ix_jobs_publish",
            text("hold IS NOT NULL"),
            "seq",
            sqlite_where=text("publish IN ('pending', 'planned')"),
        ),
        # Each index ends in the row's number, so that the newest of any choice need no sorting.
        Index("ix_jobs_status", "status"),
        Index("ix_jobs_inbox", "inbox"),
        Index("ix_jobs_status_inbox", "status", "inbox"),
        Index("ix_jobs_batch", "batch", sqlite_where=text("batch IS NOT NULL")),
        Index("ix_jobs_key", "key", sqlite_where=text("key IS NOT NULL")),
        Index("ix_jobs_finished", "finished_at", sqlite_where=text("publish = 'done'")),
        Index("ix_jobs_name", "inbox", "folder", "stem"),
    )


class StageRun(Base):
    """A finished stage of a job: how it ran.

    The stage is not run again while `stage_key` is that of a new run (see `stages/stage_key.py`);
    null if an older version of the program recorded none.

    `reused_from` is null for a stage that was computed; else it names the job whose result was
    taken (see docs/reuse.md).
    """

    __tablename__ = "stage_runs"

    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), index=True)
    stage_id: Mapped[str]
    type: Mapped[str]
    provider: Mapped[str | None]
    model: Mapped[dict[str, Any] | None]
    params: Mapped[dict[str, Any]]
    device: Mapped[str]
    dtype: Mapped[str]
    batch_size: Mapped[int]
    attempt: Mapped[int]
    seconds: Mapped[float]
    warnings: Mapped[list[Any]]
    environment: Mapped[dict[str, Any]]
    finished_at: Mapped[datetime]
    stage_key: Mapped[str | None]
    reused_from: Mapped[dict[str, Any] | None]

    __table_args__ = (Index("ux_stage_runs_job_stage", "job_id", "stage_id", unique=True),)


class ArtifactRow(Base):
    """A file that a stage made; `path` is its name within the stage's work or result folder."""

    __tablename__ = "artifacts"

    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), index=True)
    stage_id: Mapped[str]
    path: Mapped[str]
    role: Mapped[str]
    media_type: Mapped[str]
    bytes: Mapped[int]
    sha256: Mapped[str]
    facts: Mapped[dict[str, Any]]


class Event(Base):
    """An event of a job. Those of its progress are pruned when the job ends.

    An event of a batch, the queue, a hold, a pause or pipeline.yaml has "" as `job_id`.
    """

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    job_id: Mapped[str]
    at: Mapped[datetime]
    kind: Mapped[str]
    data: Mapped[dict[str, Any]]

    __table_args__ = (Index("ix_events_job", "job_id", "id"), {"sqlite_autoincrement": True})


class Receiver(Base):
    """A receiver of notifications, and how far it is.

    `kinds` are those of the events that it gets, `cursor` is the number of the last event that is
    done with. State: `active`, or `ended` if the receiver said that it is gone. `failures` counts
    the attempts at the next message, `problem` is the reason of the last one, and `next_at` the
    time of the next. `dropped` counts messages that are lost and not reported to it yet.
    """

    __tablename__ = "receivers"

    name: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]
    kinds: Mapped[list[Any]]
    state: Mapped[str]
    cursor: Mapped[int]
    failures: Mapped[int]
    problem: Mapped[str | None]
    behind_since: Mapped[datetime | None]
    next_at: Mapped[datetime | None]
    dropped: Mapped[int]


class ModelLoad(Base):
    """A request to load a model before a job needs it.

    State: `requested` → `taken` (a daemon has it) → `done` or `failed`. One that a daemon has taken
    is not given to the next daemon.
    """

    __tablename__ = "model_loads"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    model: Mapped[str]
    state: Mapped[str]
    error: Mapped[dict[str, Any] | None]
    device: Mapped[str | None]
    seconds: Mapped[float | None]
    requested_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]

    __table_args__ = ({"sqlite_autoincrement": True},)


class ThumbnailRequest(Base):
    """A request for the thumbnail of a picture in the outbox, by the picture's hash.

    `place` is the picture's path below the outbox. `attempts` counts the times that the worker was
    given it; the row is removed once the thumbnail is there.
    """

    __tablename__ = "thumbnails"

    sha256: Mapped[str] = mapped_column(primary_key=True)
    place: Mapped[str] = mapped_column(FsPath)
    attempts: Mapped[int]
    requested_at: Mapped[datetime]


class KnownFile(Base):
    """A file that stays in its inbox and was seen: of a `keep` inbox, ignored, or reserved.

    `path` is that of the image or the job file. `error` is the code of what was wrong with its
    pairing. `drop_id` is the last drop made of it; null if it was ignored.
    """

    __tablename__ = "known_files"

    inbox: Mapped[str] = mapped_column(primary_key=True)
    path: Mapped[str] = mapped_column(FsPath, primary_key=True)
    stat: Mapped[dict[str, Any]]
    key: Mapped[str]
    error: Mapped[str | None]
    drop_id: Mapped[str | None]


class Setting(Base):
    """Single values: the ledger's id, a pause of the queue, the inboxes that were watched, the
    `chunk_size` that the old API was given."""

    __tablename__ = "settings"

    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]
