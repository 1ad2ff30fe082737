"""Questions to the ledger that change nothing; what the commands and `status.json` show.

Plain SQL on a plain connection: a command that lists jobs is asked for again and again, and should
not wait for an object-relational mapper to be imported.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from dna_pipeline.base.clock import to_second
from dna_pipeline.base.errors import ConfigError
from dna_pipeline.ledger.health import refusal
from dna_pipeline.ledger.sqlite import open_reader, sqlite_module

_TIMES = ("at", "created_at", "started_at", "finished_at", "not_before")
_JSON = (
    "stat", "error", "stages", "tags", "meta", "model", "params", "warnings", "environment",
    "facts", "data",
)  # fmt: skip

_JOB = """id, batch, inbox, folder, name, pipeline, priority, status, hold, hold_detail, attempt,
    stage, error, publish, publish_name, created_at, started_at, finished_at"""

_OPEN = """SELECT EXISTS (SELECT 1 FROM jobs WHERE status = 'running' AND hold IS NULL)
    OR EXISTS (SELECT 1 FROM jobs INDEXED BY ix_jobs_runnable
               WHERE status = 'queued' AND hold IS NULL)
       AND NOT EXISTS (SELECT 1 FROM settings WHERE name = 'paused')
    OR EXISTS (SELECT 1 FROM jobs INDEXED BY ix_jobs_hold WHERE hold = 'retry_wait')
    OR EXISTS (SELECT 1 FROM jobs INDEXED BY ix_jobs_publish
               WHERE publish IN ('pending', 'planned') AND (hold IS NOT NULL) = 0)"""

# The plus keeps a condition from an index that half the table would come out of.
_ENDED = f"""SELECT {_JOB} FROM jobs JOIN (
        SELECT job_id, max(id) AS ended FROM events
        WHERE id > ? AND kind IN ('completed', 'failed', 'cancelled') GROUP BY +job_id
    ) ON job_id = jobs.id ORDER BY ended"""
_STAGE_RUNS = """SELECT r.id, r.job_id, r.type, r.provider, r.params, r.device, r.dtype, r.seconds,
    r.finished_at, j.started_at, d.width, d.height
    FROM stage_runs AS r JOIN jobs AS j ON j.id = r.job_id JOIN drops AS d ON d.id = j.drop_id
    WHERE r.id > max(?, (SELECT max(id) FROM stage_runs) - ?) ORDER BY r.id"""
_RUNNABLE = """FROM jobs AS j INDEXED BY ix_jobs_runnable JOIN drops AS d ON d.id = j.drop_id
    WHERE j.status = 'queued' AND j.hold IS NULL"""
_COMPLETED_SINCE = """SELECT count(*) FROM jobs
    WHERE finished_at >= ? AND publish = 'done' AND +status = 'completed'"""


_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"
_BATCH = "SELECT id, inbox, folder, stem, name, rows, wrong, paused, created_at FROM batches"
_BATCHES = f"""{_BATCH}
    WHERE state <> 'done' AND state <> 'claiming' ORDER BY created_at DESC LIMIT 50"""
_NEW_BATCHES = f"{_BATCH} WHERE created_at >= ? AND state <> 'claiming' ORDER BY created_at"
_SAME = """SELECT status, publish_name FROM jobs
    WHERE key = ? AND +status IN ('queued', 'running', 'completed') ORDER BY seq DESC LIMIT 1"""
# A claim is called as its drop, and lies right in its root.
_HELD_ROOTS = """SELECT DISTINCT substr(claim, 1, length(claim) - length(drops.id) - 1) AS root
    FROM jobs INDEXED BY ix_jobs_hold JOIN drops ON drops.id = drop_id WHERE hold = ?"""
_BATCH_COUNTS = "SELECT status, count(*) AS jobs FROM jobs WHERE batch = ? GROUP BY +status"


class AmbiguousPrefixError(LookupError):
    """Not exactly one id begins so."""


class Queries:
    """A read-only look at one ledger file, which must exist.

    Rows come as plain values: times as aware datetimes, JSON as what it stands for, paths as text.
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
            raise ConfigError(f"{self._path}: the ledger cannot be read: {error}") from None
        except sqlite_module().DatabaseError as error:
            raise refusal(self._path, error) from None

    def _rows(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        def ask() -> list[dict[str, Any]]:
            cursor = self._connection.execute(sql, _bound(values))
            names = [column[0] for column in cursor.description]
            return [_plain(names, row) for row in cursor]

        return self._guarded(ask)

    def _value(self, sql: str, *values: Any) -> Any:
        row = self._guarded(lambda: self._connection.execute(sql, _bound(values)).fetchone())
        return row[0] if row is not None else None

    def find(self, prefix: str) -> str | None:
        """The id that begins so; None where there is none. Raises `AmbiguousPrefixError`."""
        if not prefix:
            return None
        low, high = prefix.lower(), prefix.lower() + "g"
        rows = self._rows("SELECT id FROM jobs WHERE id >= ? AND id < ? LIMIT 3", low, high)
        if len(rows) > 1:
            raise AmbiguousPrefixError(f"several jobs begin with {prefix!r}; give more of the id")
        return rows[0]["id"] if rows else None

    def find_batch(self, prefix: str) -> str:
        """The id that begins so, or that of the batch in a folder called so.

        Raises:
            AmbiguousPrefixError: there is none, or there are several.
        """
        low = prefix.rstrip("/").rpartition("-")[2].lower()
        rows = self._rows("SELECT id FROM batches WHERE id >= ? AND id < ? LIMIT 2", low, low + "g")
        if not low or len(rows) != 1:
            which = "several batches' ids begin" if rows else "no batch's id begins"
            raise AmbiguousPrefixError(
                f"{which} with {low!r}; `dna-pipeline status` lists the open ones"
            )
        return rows[0]["id"]

    def same(self, key: str) -> dict[str, Any] | None:
        """The newest job of that key that is to be done, or was done well."""
        return next(iter(self._rows(_SAME, key)), None)

    def known_files(self, inbox: str) -> dict[str, Any]:
        """As `store.known_files` gives them."""
        rows = self._rows(
            "SELECT path, stat, key, error AS code, drop_id FROM known_files WHERE inbox = ?", inbox
        )
        return {row["path"]: SimpleNamespace(error=row.pop("code"), **row) for row in rows}

    def batches(self) -> list[dict[str, Any]]:
        """The batches that are not done, the newest first, with how many jobs are in each state."""
        return self._counted(self._rows(_BATCHES))

    def batches_since(self, time: datetime) -> list[dict[str, Any]]:
        """The same of those that were taken in since then, the oldest first."""
        return self._counted(self._rows(_NEW_BATCHES, time.strftime(_TIME)))

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
        """The newest jobs, newest first."""
        wanted = {"status": status, "inbox": inbox, "batch": batch}
        chosen = {name: value for name, value in wanted.items() if value is not None}
        where = " AND ".join(f"{name} = ?" for name in chosen)
        clause = f"WHERE {where}" if where else ""
        sql = f"SELECT {_JOB} FROM jobs {clause} ORDER BY seq DESC LIMIT ?"
        return self._rows(sql, *chosen.values(), limit)

    def ids(
        self, statuses: tuple[str, ...], *, inbox: str | None = None, batch: str | None = None
    ) -> list[str]:
        """Ids of all jobs with one of these statuses, oldest first; of a million in a second."""
        marks = ", ".join("?" for _ in statuses)
        # The plus keeps SQLite from reading all jobs of a status to find those of a batch.
        where = f"{'+' if batch is not None else ''}status IN ({marks})"
        values = list(statuses)
        for name, value in (("inbox", inbox), ("batch", batch)):
            if value is not None:
                where += f" AND {name} = ?"
                values.append(value)
        sql = f"SELECT id FROM jobs WHERE {where} ORDER BY seq"
        cursor = self._guarded(lambda: self._connection.execute(sql, _bound(tuple(values))))
        return [row[0] for row in self._guarded(cursor.fetchall)]

    def job(self, job_id: str) -> dict[str, Any]:
        """All about one job: itself, its drop, stages and files."""
        (job,) = self._rows("SELECT * FROM jobs WHERE id = ?", job_id)
        (drop,) = self._rows("SELECT * FROM drops WHERE id = ?", job["drop_id"])
        job["drop"] = drop
        for name, table in (("stage_runs", "stage_runs"), ("artifacts", "artifacts")):
            job[name] = self._rows(f"SELECT * FROM {table} WHERE job_id = ? ORDER BY id", job_id)
        return job

    def events(self, job_id: str | None, after: int = 0, limit: int = 1000) -> list[dict[str, Any]]:
        """Events with a higher number, oldest first."""
        sql = "SELECT id, job_id, at, kind, data FROM events WHERE id > ?"
        if job_id is None:
            return self._rows(f"{sql} ORDER BY id LIMIT ?", after, limit)
        return self._rows(f"{sql} AND job_id = ? ORDER BY id LIMIT ?", after, job_id, limit)

    def counts(self) -> list[tuple[str, str, int]]:
        """Number of jobs by status and inbox."""
        sql = "SELECT status, inbox, count(*) AS jobs FROM jobs GROUP BY status, inbox"
        return [(row["status"], row["inbox"], row["jobs"]) for row in self._rows(sql)]

    def holds(self) -> list[dict[str, Any]]:
        """Why jobs wait, and how many for each reason."""
        found = self._rows(
            """SELECT hold AS code, hold_detail AS detail, count(*) AS jobs FROM jobs
            WHERE hold IS NOT NULL GROUP BY hold, hold_detail ORDER BY count(*) DESC LIMIT 50"""
        )
        paused = self._value("SELECT value FROM settings WHERE name = 'paused'")
        pipelines = self._rows(
            "SELECT value AS why FROM settings WHERE name >= 'paused:' AND name < 'paused;'"
        )
        told = {hold["detail"] for hold in found}
        found += [
            {"code": "paused", "detail": row["why"], "jobs": 0}
            for row in pipelines
            if row["why"] not in told
        ]
        if paused is not None:
            found.insert(0, {"code": "paused", "detail": _paused(paused), "jobs": None})
        return found

    def watched_inboxes(self) -> set[str]:
        """Names of the inboxes that were looked into at least once."""
        rows = self._rows(
            "SELECT name FROM settings WHERE name >= 'watched:' AND name < 'watched;'"
        )
        return {row["name"].removeprefix("watched:") for row in rows}

    def recent(self, limit: int = 20) -> list[dict[str, Any]]:
        """The published jobs that ended last, newest first, with the folders they ended in."""
        return self._rows(
            f"""SELECT {_JOB} FROM jobs WHERE finished_at IS NOT NULL AND publish = 'done'
            ORDER BY finished_at DESC LIMIT ?""",
            limit,
        )

    def last_event(self) -> int:
        """The number of the newest event; 0 where there is none."""
        return self._value("SELECT max(id) FROM events") or 0

    def ended_since(self, event_id: int) -> list[dict[str, Any]]:
        """The jobs that ended after that event, in the order of their ends."""
        return self._rows(_ENDED, event_id)

    def finished_within(self, hours: float) -> int:
        """How many jobs were completed in that time."""
        since = datetime.now(UTC) - timedelta(hours=hours)
        return self._value(_COMPLETED_SINCE, since.strftime(_TIME))

    def stage_runs(self, after: int, limit: int) -> list[dict[str, Any]]:
        """The last finished stages with a higher number, oldest first, and their pictures' size."""
        return self._rows(_STAGE_RUNS, after, limit)

    def runnable(self) -> int:
        """How many jobs wait for nothing but their turn."""
        if self._value("SELECT 1 FROM settings WHERE name = 'paused'"):
            return 0
        return self._value(
            """SELECT count(*) FROM jobs INDEXED BY ix_jobs_runnable
            WHERE status = 'queued' AND hold IS NULL"""
        )

    def runnable_sample(self, one_in: int) -> list[dict[str, Any]]:
        """What about one of so many of them is to do, and the size of its picture.

        The choice follows no pattern that the order of a batch might have too.
        """
        sql = f"SELECT j.stages, d.width, d.height {_RUNNABLE} AND (j.seq * 40503 >> 5) % ? = 0"
        return self._rows(sql, one_in)

    def work_of(self, job_id: str) -> dict[str, Any] | None:
        """What one job is to do, and the size of its picture."""
        sql = """SELECT j.stages, d.width, d.height FROM jobs AS j JOIN drops AS d
            ON d.id = j.drop_id WHERE j.id = ?"""
        return next(iter(self._rows(sql, job_id)), None)

    def held_roots(self, code: str) -> set[Path]:
        """The folders that hold the claims of all jobs under that hold. Reads every such job."""
        return {Path(row["root"]) for row in self._rows(_HELD_ROOTS, code)}

    def has_open_jobs(self) -> bool:
        """Whether any job can go on by itself: running, runnable, or about to be published."""
        return bool(self._value(_OPEN))

    def data_version(self) -> Generator[int]:
        """Yields a number for each asking; it changes when another connection committed."""
        while True:
            yield self._value("PRAGMA data_version")


def _paused(since: str) -> str:
    """Sentence for a pause of the whole queue."""
    try:
        began = f" since {to_second(datetime.fromisoformat(since))}"
    except ValueError:
        began = ""
    return f"paused{began}; `dna-pipeline resume` frees it"


def _bound(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Values as SQLite takes them: what was typed need not be UTF-8, or may come as its bytes where
    the locale is plain ASCII."""
    return tuple(
        value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        if isinstance(value, str) and not value.isascii()
        else value
        for value in values
    )


def _plain(names: list[str], row: tuple[Any, ...]) -> dict[str, Any]:
    return {name: _value(name, value) for name, value in zip(names, row, strict=True)}


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
