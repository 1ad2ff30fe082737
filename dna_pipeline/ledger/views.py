"""Questions to the ledger that change nothing; what the commands and `status.json` show."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Row, func, select, text

from dna_pipeline.ledger import pauses
from dna_pipeline.ledger.engine import open_reader
from dna_pipeline.ledger.tables import (
    ArtifactRow,
    Drop,
    Event,
    Job,
    Setting,
    StageRun,
    utcnow,
)

# As literal text: SQLite cannot prove that a bound parameter satisfies a partial index's WHERE.
# The plus keeps it from an index that half the table would come out of.
_PUBLISHED = text("jobs.publish = 'done'")
_COMPLETED = text("+jobs.status = 'completed'")
_OPEN = text("""SELECT EXISTS (SELECT 1 FROM jobs WHERE status = 'running' AND hold IS NULL)
    OR EXISTS (SELECT 1 FROM jobs INDEXED BY ix_jobs_runnable
               WHERE status = 'queued' AND hold IS NULL)
       AND NOT EXISTS (SELECT 1 FROM settings WHERE name = 'paused')
    OR EXISTS (SELECT 1 FROM jobs INDEXED BY ix_jobs_hold WHERE hold = 'retry_wait')
    OR EXISTS (SELECT 1 FROM jobs INDEXED BY ix_jobs_publish
               WHERE publish IN ('pending', 'planned') AND (hold IS NOT NULL) = 0)""")

_JOB = (
    Job.id, Job.batch, Job.inbox, Job.folder, Job.name, Job.pipeline, Job.priority, Job.status,
    Job.hold, Job.hold_detail, Job.attempt, Job.stage, Job.error, Job.publish, Job.publish_name,
    Job.created_at, Job.started_at, Job.finished_at,
)  # fmt: skip


class AmbiguousPrefixError(LookupError):
    """More than one job's id begins so."""


class Views:
    """A read-only look at one ledger file, which must exist."""

    def __init__(self, path: Path) -> None:
        self._engine: Engine = open_reader(path)

    @contextmanager
    def _connect(self) -> Generator[Connection]:
        with self._engine.connect() as connection:
            yield connection

    def close(self) -> None:
        self._engine.dispose()

    def find(self, prefix: str) -> str | None:
        """The id that begins so; None where there is none. Raises `AmbiguousPrefixError`."""
        if not prefix:
            return None
        low, high = prefix.lower(), prefix.lower() + "g"
        rows = select(Job.id).where(Job.id >= low, Job.id < high).limit(3)
        with self._connect() as c:
            ids = list(c.scalars(rows))
        if len(ids) > 1:
            raise AmbiguousPrefixError(f"several jobs begin with {prefix!r}; give more of the id")
        return ids[0] if ids else None

    def jobs(
        self,
        *,
        status: str | None = None,
        inbox: str | None = None,
        batch: str | None = None,
        limit: int = 50,
    ) -> list[dict[str, Any]]:
        """The newest jobs, newest first."""
        rows = select(*_JOB).order_by(Job.seq.desc()).limit(limit)
        for column, value in ((Job.status, status), (Job.inbox, inbox), (Job.batch, batch)):
            if value is not None:
                rows = rows.where(column == value)
        with self._connect() as c:
            return [_plain(row) for row in c.execute(rows)]

    def job(self, job_id: str) -> dict[str, Any]:
        """All about one job: itself, its drop, stages, files and events."""
        with self._connect() as c:
            job = _plain(c.execute(select(*Job.__table__.columns).where(Job.id == job_id)).one())
            drop = c.execute(select(*Drop.__table__.columns).where(Drop.id == job["drop_id"])).one()
            stages = c.execute(
                select(*StageRun.__table__.columns)
                .where(StageRun.job_id == job_id)
                .order_by(StageRun.id)
            ).all()
            files = c.execute(
                select(*ArtifactRow.__table__.columns)
                .where(ArtifactRow.job_id == job_id)
                .order_by(ArtifactRow.id)
            ).all()
        job["drop"] = _plain(drop)
        job["stage_runs"] = [_plain(row) for row in stages]
        job["artifacts"] = [_plain(row) for row in files]
        return job

    def events(self, job_id: str | None, after: int = 0, limit: int = 1000) -> list[dict[str, Any]]:
        """Events with a higher number, oldest first."""
        rows = select(Event.id, Event.job_id, Event.at, Event.kind, Event.data)
        rows = rows.where(Event.id > after).order_by(Event.id).limit(limit)
        if job_id is not None:
            rows = rows.where(Event.job_id == job_id)
        with self._connect() as c:
            return [_plain(row) for row in c.execute(rows)]

    def counts(self) -> list[tuple[str, str, int]]:
        """Number of jobs by status and inbox."""
        rows = select(Job.status, Job.inbox, func.count()).group_by(Job.status, Job.inbox)
        with self._connect() as c:
            return [(row[0], row[1], row[2]) for row in c.execute(rows)]

    def holds(self) -> list[dict[str, Any]]:
        """Why jobs wait, and how many for each reason."""
        rows = (
            select(Job.hold, Job.hold_detail, func.count().label("jobs"))
            .where(Job.hold.is_not(None))
            .group_by(Job.hold, Job.hold_detail)
            .order_by(func.count().desc())
            .limit(50)
        )
        with self._connect() as c:
            found = [{"code": row[0], "detail": row[1], "jobs": row[2]} for row in c.execute(rows)]
            paused = c.scalar(select(Setting.value).where(Setting.name == "paused"))
            each = select(Setting.value).where(pauses.begins(pauses.PAUSED))
            pipelines = list(c.scalars(each))
        told = {hold["detail"] for hold in found}
        found += [
            {"code": "paused", "detail": why, "jobs": 0} for why in pipelines if why not in told
        ]
        if paused is not None:
            found.insert(0, {"code": "paused", "detail": f"paused since {paused}", "jobs": None})
        return found

    def recent(self, limit: int = 20) -> list[dict[str, Any]]:
        """The published jobs that ended last, newest first, with the folders they ended in."""
        rows = (
            select(*_JOB)
            .where(Job.finished_at.is_not(None), _PUBLISHED)
            .order_by(Job.finished_at.desc())
            .limit(limit)
        )
        with self._connect() as c:
            return [_plain(row) for row in c.execute(rows)]

    def last_event(self) -> int:
        """The number of the newest event; 0 where there is none."""
        with self._connect() as c:
            return int(c.scalar(select(func.max(Event.id))) or 0)

    def ended_since(self, event_id: int) -> list[dict[str, Any]]:
        """The jobs that ended after that event, in the order of their ends."""
        ends = (
            select(Event.job_id, func.max(Event.id).label("at"))
            .where(Event.id > event_id, Event.kind.in_(("completed", "failed", "cancelled")))
            .group_by(text("+events.job_id"))  # not by its index, which would read all events
            .subquery()
        )
        rows = select(*_JOB).join(ends, ends.c.job_id == Job.id).order_by(ends.c.at)
        with self._connect() as c:
            return [_plain(row) for row in c.execute(rows)]

    def finished_within(self, hours: float) -> int:
        """How many jobs were completed in that time."""
        since = utcnow() - timedelta(hours=hours)
        rows = select(func.count()).where(Job.finished_at >= since, _PUBLISHED, _COMPLETED)
        with self._connect() as c:
            return int(c.scalar(rows) or 0)

    def has_open_jobs(self) -> bool:
        """Whether any job can go on by itself: running, runnable, or about to be published."""
        with self._connect() as c:
            return bool(c.scalar(_OPEN))

    def data_version(self) -> Generator[int]:
        """Yields a number for each asking; it changes when another connection committed."""
        with self._connect() as c:
            while True:
                yield int(c.exec_driver_sql("PRAGMA data_version").scalar_one())


def _plain(row: Row[*tuple[Any, ...]]) -> dict[str, Any]:
    return dict(row._mapping)  # pyright: ignore[reportPrivateUsage]
