"""Read-only queries: the data that the commands and `status.json` show.

They are plain SQL on a plain connection. People list jobs again and again, and such a command
should not wait for the import of an object-relational mapper.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from dna_pipeline.base.clock import to_second
from dna_pipeline.base.errors import ConfigError, LedgerUnreadable
from dna_pipeline.base.times import format_time, utcnow
from dna_pipeline.ledger.health import refusal
from dna_pipeline.ledger.sqlite import chunks, open_reader, sqlite_module

MOST_BEHIND = 10_000
"""Number of messages above which those that a receiver lacks are not counted."""

MOST_ATTEMPTS = 2
"""Attempts at a thumbnail: a picture that ends the worker must not do so for ever."""

FOLDER_ID_CHARS = 8
"""Length of the beginning of a job's id in the name of its folder."""

_TIMES = (
    "at", "created_at", "started_at", "finished_at", "not_before", "behind_since", "next_at",
    "requested_at", "ended_at",
)  # fmt: skip
_JSON = (
    "stat", "error", "stages", "tags", "meta", "model", "params", "warnings", "environment",
    "facts", "data", "axes", "companions", "reused_from",
)  # fmt: skip

_CONVERTED = frozenset({*_TIMES, *_JSON, "cancel_requested"})

_JOB = """id, batch, inbox, folder, name, pipeline, priority, status, hold, hold_detail, attempt,
    stage, error, publish, publish_name, created_at, started_at, finished_at"""

_OPEN = """SELECT EXISTS (SELECT 1 FROM jobs WHERE status = 'running' AND hold IS NULL)
    OR EXISTS (SELECT 1 FROM jobs INDEXED BY ix_jobs_runnable
               WHERE status = 'queued' AND hold IS NULL)
       AND NOT EXISTS (SELECT 1 FROM settings WHERE name = 'paused')
    OR EXISTS (SELECT 1 FROM jobs INDEXED BY ix_jobs_hold WHERE hold = 'retry_wait')
    OR EXISTS (SELECT 1 FROM jobs INDEXED BY ix_jobs_publish
               WHERE publish IN ('pending', 'planned') AND (hold IS NOT NULL) = 0)"""

# The plus keeps SQLite from an index of which the condition matches half the table.
_ENDED = f"""SELECT {_JOB} FROM jobs JOIN (
        SELECT job_id, max(id) AS ended FROM events
        WHERE id > ? AND kind IN ('completed', 'failed', 'cancelled') GROUP BY +job_id
    ) ON job_id = jobs.id ORDER BY ended"""
_STAGE_RUNS = """SELECT r.id, r.job_id, r.type, r.provider, r.params, r.device, r.dtype, r.seconds,
    r.batch_size,
    r.finished_at, {reused_from}, j.started_at, d.width, d.height
    FROM stage_runs AS r JOIN jobs AS j ON j.id = r.job_id JOIN drops AS d ON d.id = j.drop_id
    WHERE r.id > max(?, (SELECT max(id) FROM stage_runs) - ?) ORDER BY r.id"""
_WORK = "j.stages, j.stem, j.tags, d.width, d.height, d.sha256, d.companions"
_RUNNABLE = """FROM jobs AS j INDEXED BY ix_jobs_runnable JOIN drops AS d ON d.id = j.drop_id
    WHERE j.status = 'queued' AND j.hold IS NULL"""
_COMPLETED_SINCE = """SELECT count(*) FROM jobs
    WHERE finished_at >= ? AND publish = 'done' AND +status = 'completed'"""

_BATCH = "SELECT id, inbox, folder, stem, name, rows, wrong, paused, created_at FROM batches"
_BATCHES = f"""{_BATCH}
    WHERE state <> 'done' AND state <> 'claiming' ORDER BY created_at DESC LIMIT 50"""
_NEW_BATCHES = f"{_BATCH} WHERE created_at >= ? AND state <> 'claiming' ORDER BY created_at"
_SAME = """SELECT status, publish_name FROM jobs
    WHERE key = ? AND +status IN ('queued', 'running', 'completed') ORDER BY seq DESC LIMIT 1"""
_FRONT = """SELECT id, inbox, name, status, publish, meta, created_at, started_at,
    (SELECT data FROM events WHERE job_id = jobs.id AND kind = 'progress'
     ORDER BY events.id DESC LIMIT 1) AS data FROM jobs"""
# A claim has its drop's id as name, and lies directly in its root.
_HELD_ROOTS = """SELECT DISTINCT substr(claim, 1, length(claim) - length(drops.id) - 1) AS root
    FROM jobs INDEXED BY ix_jobs_hold JOIN drops ON drops.id = drop_id WHERE hold = ?"""
_SHEET_ROWS = """SELECT number, image, job_id, status, code, field, detail FROM batch_rows
    WHERE batch_id = ? ORDER BY number LIMIT ?"""
_SHEET_JOBS = """SELECT j.id, j.inbox, j.name, j.pipeline, j.status, j.stages, j.tags, j.meta,
    j.priority, j.error, j.publish, j.publish_name, j.started_at, j.finished_at, d.image, d.sha256
    FROM jobs AS j JOIN drops AS d ON d.id = j.drop_id"""
_SHEET_FILES = "SELECT job_id, stage_id, path, role, media_type, bytes, sha256 FROM artifacts"
_CANCEL_REQUESTED = "SELECT 1 FROM jobs WHERE status = 'running' AND cancel_requested LIMIT 1"
TO_PUBLISH = """FROM jobs INDEXED BY ix_jobs_publish
    WHERE publish IN ('pending', 'planned') AND hold IS NOT 'inbox_unavailable'"""
HAS_PUBLISHED = "SELECT 1 FROM jobs INDEXED BY ix_jobs_finished WHERE publish = 'done' LIMIT 1"
_UNPUBLISHED = f"SELECT 1 {TO_PUBLISH} LIMIT 1"
_FAILED_SHEETS = """SELECT id, inbox, folder, stem, sheet FROM batches
    WHERE sheet <> 'made' AND sheet <> 'due' ORDER BY created_at DESC LIMIT 20"""
_BATCH_COUNTS = "SELECT status, count(*) AS jobs FROM jobs WHERE batch = ? GROUP BY +status"


class Queries:
    """Read-only queries to one ledger file, which must exist.

    Rows hold plain values: times as aware datetimes, JSON decoded, paths as text.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = self._guarded(lambda: open_reader(path))

    def close(self) -> None:
        self._connection.close()

    def _guarded(self, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except sqlite_module().OperationalError as error:
            raise LedgerUnreadable(f"{self._path}: {self._why_unread(error)}") from None
        except sqlite_module().DatabaseError as error:
            raise refusal(self._path, error) from None

    def _why_unread(self, error: Exception) -> str:
        """Say why a query failed. All tables are made in one transaction, a moment after the
        file."""
        if str(error).startswith("no such table") and self._has_no_tables():
            return (
                "this ledger is still empty; the daemon that makes it needs a moment (if none "
                "runs, `dna-pipeline watch` makes it)"
            )
        return f"the ledger cannot be read: {error}"

    def _has_no_tables(self) -> bool:
        return self._connection.execute("SELECT 1 FROM sqlite_master").fetchone() is None

    def _rows(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        def ask() -> list[dict[str, Any]]:
            cursor = self._connection.execute(sql, _bound(values))
            names = [column[0] for column in cursor.description]
            columns = [(name, name in _CONVERTED) for name in names]
            return [_plain(columns, row) for row in cursor]

        return self._guarded(ask)

    def _value(self, sql: str, *values: Any) -> Any:
        row = self._guarded(lambda: self._connection.execute(sql, _bound(values)).fetchone())
        return row[0] if row is not None else None

    def find(self, prefix: str) -> str | None:
        """Find the job id with a prefix, or that of a job's folder, `<stem>-<job8>`; None if there
        is none.

        Raises:
            ConfigError: several ids begin with it.
        """
        name, _, low = prefix.rstrip("/").lower().rpartition("-")
        if not low or (name and len(low) < FOLDER_ID_CHARS):
            return None
        rows = self._rows("SELECT id FROM jobs WHERE id >= ? AND id < ? LIMIT 3", low, low + "g")
        if len(rows) > 1:
            raise ConfigError(f"several jobs begin with {prefix!r}; give more of the id")
        return rows[0]["id"] if rows else None

    def ids_from(self, start: str) -> list[str]:
        """Return the ids of a few jobs that begin with a text of hexadecimal digits."""
        sql = "SELECT id FROM jobs WHERE id >= ? AND id < ? LIMIT 10"
        return [row["id"] for row in self._rows(sql, start, start + "g")]

    def id_of(self, seq: int) -> str | None:
        """Return the id of the job in a row of the table; None if there is no such row."""
        return self._value("SELECT id FROM jobs WHERE seq = ?", seq)

    def progress(self, job_id: str) -> dict[str, Any] | None:
        """Return the data of the newest progress of a job that has not ended; None if there is
        none."""
        sql = """SELECT data FROM events WHERE job_id = ? AND kind = 'progress'
            ORDER BY id DESC LIMIT 1"""
        return next((row["data"] for row in self._rows(sql, job_id)), None)

    def find_batch(self, prefix: str) -> str:
        """Find the batch id with a prefix, or that of a batch's folder, `<name>-<prefix>`.

        Raises:
            ConfigError: there is no such batch, or there are several.
        """
        low = prefix.rstrip("/").rpartition("-")[2].lower()
        rows = self._rows("SELECT id FROM batches WHERE id >= ? AND id < ? LIMIT 2", low, low + "g")
        if not low or len(rows) != 1:
            which = "several batches' ids begin" if rows else "no batch's id begins"
            raise ConfigError(f"{which} with {low!r}; `dna-pipeline status` lists the open ones")
        return rows[0]["id"]

    def newest_with_key(self, key: str) -> dict[str, Any] | None:
        """Find the newest job with a dedup key that is queued, running or completed."""
        return next(iter(self._rows(_SAME, key)), None)

    def known_files(self, inbox: str) -> dict[str, Any]:
        """Return rows by path, as `ledger/drops.py: known_files` does."""
        rows = self._rows(
            "SELECT path, stat, key, error AS code, drop_id FROM known_files WHERE inbox = ?", inbox
        )
        return {row["path"]: SimpleNamespace(error=row.pop("code"), **row) for row in rows}

    def batches(self) -> list[dict[str, Any]]:
        """Return the batches that are not done, newest first, with counts of jobs by status."""
        return self._counted(self._rows(_BATCHES))

    def batches_since(self, time: datetime) -> list[dict[str, Any]]:
        """Return the batches that were claimed since then, oldest first, as `batches` does."""
        return self._counted(self._rows(_NEW_BATCHES, format_time(time)))

    def batch_page(self, *, before: int | None = None, limit: int = 50) -> list[dict[str, Any]]:
        """Return the newest batches, newest first, each with its `seq` and counts of jobs by
        status.

        Args:
            before: only those with a lower `seq`.
        """
        where = "state <> 'claiming'" + ("" if before is None else " AND rowid < ?")
        values = [limit] if before is None else [before, limit]
        sql = f"SELECT rowid AS seq, * FROM batches WHERE {where} ORDER BY rowid DESC LIMIT ?"
        return self._counted(self._rows(sql, *values))

    def counted_batch(self, batch_id: str) -> dict[str, Any] | None:
        """Return one batch as `batch_page` does; None if there is none."""
        sql = "SELECT rowid AS seq, * FROM batches WHERE id = ? AND state <> 'claiming'"
        return next(iter(self._counted(self._rows(sql, batch_id))), None)

    def batch(self, batch_id: str) -> dict[str, Any]:
        """Return one batch, with its folders' names, its axes and the state of its sheet."""
        (batch,) = self._rows("SELECT * FROM batches WHERE id = ?", batch_id)
        return batch

    def newest_batch(self) -> str | None:
        """Return the id of the batch that was claimed last; None if there is none."""
        sql = "SELECT id FROM batches WHERE state <> 'claiming' ORDER BY created_at DESC LIMIT 1"
        return self._value(sql)

    def failed_sheets(self) -> list[dict[str, Any]]:
        """Return the newest batches whose contact sheets could not be made."""
        if self._value("SELECT 1 FROM pragma_table_info('batches') WHERE name = 'sheet'") is None:
            return []  # no daemon of this version has opened the ledger yet
        return self._rows(_FAILED_SHEETS)

    def batch_rows(self, batch_id: str, limit: int) -> list[dict[str, Any]]:
        """Return the first rows of a batch, in order."""
        return self._rows(_SHEET_ROWS, batch_id, limit)

    def published_ids(
        self, *, inbox: str | None = None, since: datetime | None = None, limit: int = 1000
    ) -> list[str]:
        """Return ids of the jobs that have a folder in the outbox, those that ended last first."""
        where, values = "publish = 'done'", list[Any]()
        if inbox is not None:
            where += " AND inbox = ?"
            values.append(inbox)
        if since is not None:
            where += " AND finished_at >= ?"
            values.append(format_time(since))
        sql = f"SELECT id FROM jobs WHERE {where} ORDER BY finished_at DESC LIMIT ?"
        return [row["id"] for row in self._rows(sql, *values, limit)]

    def sheet_jobs(self, job_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return what a contact sheet says of these jobs, by id; each has its `files`."""
        jobs: dict[str, dict[str, Any]] = {}
        for some in chunks(job_ids):
            marks = ", ".join("?" for _ in some)
            for row in self._rows(f"{_SHEET_JOBS} WHERE j.id IN ({marks})", *some):
                jobs[row["id"]] = row | {"files": []}
            for file in self._rows(f"{_SHEET_FILES} WHERE job_id IN ({marks}) ORDER BY id", *some):
                jobs[file["job_id"]]["files"].append(file)
        return jobs

    def _counted(self, batches: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for batch in batches:
            counted = self._rows(_BATCH_COUNTS, batch["id"])
            batch["jobs"] = {entry["status"]: entry["jobs"] for entry in counted}
        return batches

    def jobs(
        self,
        *,
        status: str | None = None,
        inbox: str | None = None,
        batch: str | None = None,
        limit: int = 50,
    ) -> list[dict[str, Any]]:
        """Return the newest jobs, newest first."""
        filters = {"status": status, "inbox": inbox, "batch": batch}
        chosen = {name: value for name, value in filters.items() if value is not None}
        where = " AND ".join(f"{name} = ?" for name in chosen)
        clause = f"WHERE {where}" if where else ""
        sql = f"SELECT {_JOB} FROM jobs {clause} ORDER BY seq DESC LIMIT ?"
        return self._rows(sql, *chosen.values(), limit)

    def page(
        self,
        *,
        status: str | None = None,
        inbox: str | None = None,
        batch: str | None = None,
        stem: str | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> list[dict[str, Any]]:
        """Return the newest jobs as `jobs` does, each with its `seq`.

        Args:
            stem: only those of images of that name, without ending, that lay directly in `inbox`.
            before: only those with a lower `seq`.
        """
        # The jobs of a batch, or of a name, are few beside the ledger, so that these indexes are
        # the ones to use. The plus keeps SQLite from others.
        plus = "" if batch is None and stem is None else "+"
        of_inbox = "inbox = ?" if batch is None else "+inbox = ?"
        filters = {
            "batch = ?": batch, of_inbox: inbox, "folder = ?": stem and "", "stem = ?": stem,
            f"{plus}status = ?": status, "seq < ?": before,
        }  # fmt: skip
        chosen = {clause: value for clause, value in filters.items() if value is not None}
        where = f"WHERE {' AND '.join(chosen)}" if chosen else ""
        sql = f"SELECT seq, {_JOB} FROM jobs {where} ORDER BY seq DESC LIMIT ?"
        return self._rows(sql, *chosen.values(), limit)

    def last_progress(self, job_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return the data of the newest event of progress of each of these jobs that has any."""
        sql = "SELECT data FROM events WHERE job_id = ? AND kind = 'progress' ORDER BY id DESC"
        newest = {job_id: self._rows(f"{sql} LIMIT 1", job_id) for job_id in job_ids}
        return {job_id: rows[0]["data"] for job_id, rows in newest.items() if rows}

    def warning_counts(self, job_ids: Sequence[str]) -> dict[str, int]:
        """Count the warnings of these jobs' stages; jobs without any are left out."""
        return {job_id: len(texts) for job_id, texts in self.warnings(job_ids).items()}

    def warnings(self, job_ids: Sequence[str]) -> dict[str, list[str]]:
        """Return the warnings of these jobs' stages in their order; jobs without any are left
        out."""
        texts: dict[str, list[str]] = {}
        for some in chunks(job_ids):
            marks = ", ".join("?" for _ in some)
            sql = f"""SELECT job_id, warnings FROM stage_runs
                WHERE job_id IN ({marks}) AND warnings <> '[]' ORDER BY id"""
            for row in self._rows(sql, *some):
                texts.setdefault(row["job_id"], []).extend(row["warnings"])
        return texts

    def job_names(self, job_ids: Sequence[str]) -> list[dict[str, Any]]:
        """Return id, name and batch of each of these jobs, in their order."""
        rows: dict[str, dict[str, Any]] = {}
        for some in chunks(job_ids):
            marks = ", ".join("?" for _ in some)
            sql = f"SELECT id, name, batch FROM jobs WHERE id IN ({marks})"
            rows |= {row["id"]: row for row in self._rows(sql, *some)}
        return [rows[job_id] for job_id in job_ids if job_id in rows]

    def ids(
        self, statuses: tuple[str, ...], *, inbox: str | None = None, batch: str | None = None
    ) -> list[str]:
        """Return ids of all jobs with these statuses, oldest first; a million take a second."""
        marks = ", ".join("?" for _ in statuses)
        # Without the plus, SQLite would read all jobs of a status to find those of a batch.
        where = f"{'+' if batch is not None else ''}status IN ({marks})"
        values = list(statuses)
        for name, value in (("inbox", inbox), ("batch", batch)):
            if value is not None:
                where += f" AND {name} = ?"
                values.append(value)
        sql = f"SELECT id FROM jobs WHERE {where} ORDER BY seq"
        return [row["id"] for row in self._rows(sql, *values)]

    def job(self, job_id: str) -> dict[str, Any]:
        """Return one job with its drop, stages and files. Raises `ConfigError` if there is none."""
        job = self._row_of("SELECT * FROM jobs WHERE id = ?", job_id)
        (drop,) = self._rows("SELECT * FROM drops WHERE id = ?", job["drop_id"])
        job["drop"] = drop
        for name, table in (("stage_runs", "stage_runs"), ("artifacts", "artifacts")):
            job[name] = self._rows(f"SELECT * FROM {table} WHERE job_id = ? ORDER BY id", job_id)
        return job

    def standing(self, job_id: str) -> dict[str, Any]:
        """Return status, hold and `hold_detail` of a job, and `paused`: a sentence if the whole
        queue is. Raises `ConfigError` if there is no such job."""
        row = self._row_of("SELECT status, hold, hold_detail FROM jobs WHERE id = ?", job_id)
        paused = self._value("SELECT value FROM settings WHERE name = 'paused'")
        return row | {"paused": None if paused is None else _paused(paused)}

    def _row_of(self, sql: str, job_id: str) -> dict[str, Any]:
        """The one row of a job, which a rebuilt ledger may lack."""
        for row in self._rows(sql, job_id):
            return row
        raise ConfigError(f"job {job_id} is not in the ledger any more")

    def pause_of(self, pipeline: str) -> str | None:
        """Return a sentence about the pause of the queue or of a pipeline; None if neither is
        paused."""
        sql = "SELECT name, value FROM settings WHERE name IN ('paused', ?) ORDER BY name"
        for row in self._rows(sql, f"paused:{pipeline}"):
            return _paused(row["value"]) if row["name"] == "paused" else row["value"]
        return None

    def model_load(self, load_id: int) -> dict[str, Any] | None:
        """Return a request to load a model, with the model's `name`; None if it is kept no more."""
        sql = """SELECT id, model AS name, state, error, device, seconds, requested_at, ended_at
            FROM model_loads WHERE id = ?"""
        return next(iter(self._rows(sql, load_id)), None)

    def has_requested_loads(self) -> bool:
        """True if a model is to be loaded of which no daemon knows yet."""
        return bool(self._value("SELECT 1 FROM model_loads WHERE state = 'requested' LIMIT 1"))

    def has_thumbnails_to_make(self) -> bool:
        """True if the thumbnail of a picture was requested that the worker has not tried yet, or
        once without an answer."""
        sql = f"SELECT 1 FROM thumbnails WHERE attempts < {MOST_ATTEMPTS} LIMIT 1"
        return bool(self._value(sql))

    def setting(self, name: str) -> str | None:
        return self._value("SELECT value FROM settings WHERE name = ?", name)

    def result_names(self) -> dict[str, str]:
        """Return the result folders below the outbox of all completed jobs, by job id."""
        sql = "SELECT id, publish_name FROM jobs WHERE status = 'completed' AND publish = 'done'"
        return {row["id"]: row["publish_name"] for row in self._rows(sql)}

    def events(self, job_id: str | None, after: int = 0, limit: int = 1000) -> list[dict[str, Any]]:
        """Return events with a number above `after`, oldest first."""
        sql = "SELECT id, job_id, at, kind, data FROM events WHERE id > ?"
        if job_id is None:
            return self._rows(f"{sql} ORDER BY id LIMIT ?", after, limit)
        return self._rows(f"{sql} AND job_id = ? ORDER BY id LIMIT ?", after, job_id, limit)

    def receivers(self) -> list[dict[str, Any]]:
        """Return the receivers of notifications, each with the number of messages it lacks
        (`behind`, at most `MOST_BEHIND`)."""
        if self._value("SELECT 1 FROM sqlite_master WHERE name = 'receivers'") is None:
            return []  # no daemon of this version has opened the ledger yet
        rows = self._rows("SELECT * FROM receivers ORDER BY name")
        for row in rows:
            kinds = json.loads(row["kinds"])
            marks = ", ".join("?" for _ in kinds)
            sql = f"""SELECT count(*) FROM (SELECT 1 FROM events
                WHERE id > ? AND kind IN ({marks}) LIMIT {MOST_BEHIND})"""
            row["behind"] = self._value(sql, row["cursor"], *kinds) + row["dropped"]
        return rows

    def counts(self) -> list[tuple[str, str, int]]:
        """Count jobs by status and inbox."""
        sql = "SELECT status, inbox, count(*) AS jobs FROM jobs GROUP BY status, inbox"
        return [(row["status"], row["inbox"], row["jobs"]) for row in self._rows(sql)]

    def holds(self) -> list[dict[str, Any]]:
        """Return the reasons why jobs wait, with their numbers of jobs."""
        holds = self._rows(
            """SELECT hold AS code, hold_detail AS detail, count(*) AS jobs FROM jobs
            WHERE hold IS NOT NULL GROUP BY hold, hold_detail ORDER BY count(*) DESC LIMIT 50"""
        )
        paused = self._value("SELECT value FROM settings WHERE name = 'paused'")
        pipelines = self._rows(
            "SELECT value AS why FROM settings WHERE name >= 'paused:' AND name < 'paused;'"
        )
        details = {hold["detail"] for hold in holds}
        holds += [
            {"code": "paused", "detail": row["why"], "jobs": 0}
            for row in pipelines
            if row["why"] not in details
        ]
        if paused is not None:
            holds.insert(0, {"code": "paused", "detail": _paused(paused), "jobs": None})
        return holds

    def watched_inboxes(self) -> set[str]:
        """Return the names of the inboxes that were looked into at least once."""
        rows = self._rows(
            "SELECT name FROM settings WHERE name >= 'watched:' AND name < 'watched;'"
        )
        return {row["name"].removeprefix("watched:") for row in rows}

    def recent(self, limit: int = 20) -> list[dict[str, Any]]:
        """Return the published jobs that ended last, newest first, with their folders."""
        return self._rows(
            f"""SELECT {_JOB} FROM jobs WHERE finished_at IS NOT NULL AND publish = 'done'
            ORDER BY finished_at DESC LIMIT ?""",
            limit,
        )

    def last_event(self) -> int:
        """Return the number of the newest event; 0 if there is none."""
        return self._value("SELECT max(id) FROM events") or 0

    def ended_since(self, event_id: int) -> list[dict[str, Any]]:
        """Return the jobs that ended after an event, in the order of their ends."""
        return self._rows(_ENDED, event_id)

    def finished_within(self, hours: float) -> int:
        """Count the jobs that were completed in the last hours."""
        since = utcnow() - timedelta(hours=hours)
        return self._value(_COMPLETED_SINCE, format_time(since))

    def stage_runs(self, after: int, limit: int) -> list[dict[str, Any]]:
        """Return the newest stage runs with a number above `after`, and their images' sizes.

        The oldest comes first. Of all stage runs, only the last `limit` numbers are searched.
        """
        try:
            return self._rows(_STAGE_RUNS.format(reused_from="r.reused_from"), after, limit)
        except ConfigError:
            # A ledger that no daemon of this version has opened yet has no such column.
            return self._rows(_STAGE_RUNS.format(reused_from="NULL AS reused_from"), after, limit)

    def runnable(self) -> int:
        """Count the jobs that only wait for their turn."""
        if self._value("SELECT 1 FROM settings WHERE name = 'paused'"):
            return 0
        return self._value(
            """SELECT count(*) FROM jobs INDEXED BY ix_jobs_runnable
            WHERE status = 'queued' AND hold IS NULL"""
        )

    def runnable_sample(self, one_in: int) -> list[dict[str, Any]]:
        """Return the work of about one in so many runnable jobs, as `work_of` does, with their
        inbox and batch, in the order in which they will run.

        The choice follows no pattern that the order of a batch might have too. Jobs of one image
        that follow one another are mostly chosen together, since they may share results.
        """
        sql = f"""SELECT {_WORK}, j.inbox, j.batch {_RUNNABLE}
            AND ((d.rowid * 8191 + (j.seq >> 4)) * 40503 >> 5) % ? = 0
            ORDER BY j.priority DESC, j.seq"""
        return self._rows(sql, one_in)

    def work_of(self, job_id: str) -> dict[str, Any] | None:
        """Return stages, stem and tags of one job, and size, hash and companions of its image; None
        if there is no such job."""
        sql = f"""SELECT {_WORK} FROM jobs AS j JOIN drops AS d ON d.id = j.drop_id
            WHERE j.id = ?"""
        return next(iter(self._rows(sql, job_id)), None)

    def front_of_queue(self, limit: int) -> list[dict[str, Any]]:
        """Return the jobs that run, then those that run next, with the newest data of their
        progress (`data`; null before the first step). At most `limit` of either.

        Of those that run, the ones whose results are computed (`publish` is set) come last: while
        the outbox is away, any number of them wait for it.
        """
        running = self._rows(
            f"{_FRONT} WHERE status = 'running' ORDER BY publish IS NOT NULL, seq LIMIT ?", limit
        )
        waiting = self._rows(
            f"""{_FRONT} INDEXED BY ix_jobs_runnable WHERE status = 'queued' AND hold IS NULL
            ORDER BY priority DESC, seq LIMIT ?""",
            limit,
        )
        return running + waiting

    def held_roots(self, code: str) -> set[Path]:
        """Return the folders with the claims of all jobs under a hold. Reads every such job."""
        return {Path(row["root"]) for row in self._rows(_HELD_ROOTS, code)}

    def has_open_jobs(self) -> bool:
        """True if any job can go on by itself: running, runnable, or about to be published."""
        return bool(self._value(_OPEN))

    def has_cancel_requests(self) -> bool:
        """True if someone asked to cancel a job that runs."""
        return self._value(_CANCEL_REQUESTED) is not None

    def has_unpublished_jobs(self) -> bool:
        """True if a job's folder is to be put into the outbox, and its inbox can be reached."""
        return self._value(_UNPUBLISHED) is not None

    def has_published_jobs(self) -> bool:
        """True if the folder of any job is in the outbox, or was."""
        return self._value(HAS_PUBLISHED) is not None

    def data_version(self) -> int:
        """Return a number that changes after a commit of another connection."""
        return self._value("PRAGMA data_version")


def _paused(since: str) -> str:
    """Say since when the whole queue is paused, and how to resume it."""
    try:
        began = f" since {to_second(datetime.fromisoformat(since))}"
    except ValueError:
        began = ""
    return f"paused{began}; `dna-pipeline resume` frees it"


def _bound(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Make values that SQLite accepts.

    Typed text need not be UTF-8; with an ASCII locale it may come as surrogates for its bytes.
    """
    return tuple(
        value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        if isinstance(value, str) and not value.isascii()
        else value
        for value in values
    )


def _plain(columns: list[tuple[str, bool]], row: tuple[Any, ...]) -> dict[str, Any]:
    """A row as plain values; columns have their names, and whether their values are converted."""
    return {
        name: _value(name, value) if is_converted or type(value) is bytes else value
        for (name, is_converted), value in zip(columns, row, strict=True)
    }


def _value(name: str, value: Any) -> Any:
    if isinstance(value, bytes):
        return os.fsdecode(value)
    if isinstance(value, str):
        if name in _TIMES:
            return datetime.fromisoformat(value)
        if name in _JSON:
            return json.loads(value)
    if name == "cancel_requested":
        return bool(value)
    return value
