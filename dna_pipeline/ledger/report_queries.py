"""Queries of what the daemon reports to receivers of notifications and to metrics."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from dna_pipeline.ledger.queries import Queries


class ReportQueries(Queries):
    """As `Queries`, with more questions."""

    def events_with_jobs(
        self, kinds: Sequence[str], after: int, limit: int
    ) -> list[dict[str, Any]]:
        """Return events of these kinds with a number above `after`, oldest first, each with the
        columns of its job and, of the end of a batch, with the state of the batch's contact sheet;
        those are None if it has none."""
        marks = ", ".join("?" for _ in kinds)
        sql = f"""SELECT e.id, e.job_id, e.at, e.kind, e.data, j.inbox, j.name, j.pipeline, j.batch,
            j.publish, j.publish_name, j.started_at, j.finished_at, b.sheet
            FROM events AS e LEFT JOIN jobs AS j ON j.id = e.job_id
            LEFT JOIN batches AS b
                ON e.kind = 'batch_ended' AND b.id = json_extract(e.data, '$.batch')
            WHERE e.id > ? AND e.kind IN ({marks}) ORDER BY e.id LIMIT ?"""
        return self._rows(sql, after, *kinds, limit)

    def event_counts(self, kinds: Sequence[str], after: int) -> dict[str, int]:
        """Count the events of these kinds with a number above `after`, by kind."""
        marks = ", ".join("?" for _ in kinds)
        sql = f"""SELECT kind, count(*) AS events FROM events
            WHERE id > ? AND kind IN ({marks}) GROUP BY +kind"""
        return {row["kind"]: row["events"] for row in self._rows(sql, after, *kinds)}

    def receiver(self, name: str) -> dict[str, Any] | None:
        """Return a receiver of notifications; None if the ledger has none of that name."""
        return next(iter(self._rows("SELECT * FROM receivers WHERE name = ?", name)), None)

    def held_by_code(self, codes: Sequence[str]) -> list[dict[str, Any]]:
        """Return code, one detail and number of jobs of each of these holds that there is."""
        marks = ", ".join("?" for _ in codes)
        sql = f"""SELECT hold AS code, min(hold_detail) AS detail, count(*) AS jobs
            FROM jobs INDEXED BY ix_jobs_hold WHERE hold IN ({marks}) GROUP BY hold"""
        return self._rows(sql, *codes)

    def queued(self) -> int:
        """Count the jobs that have not started."""
        return self._value("SELECT count(*) FROM jobs WHERE status = 'queued'")

    def counts_by_pipeline(self) -> list[tuple[str, str, str, int]]:
        """Count jobs by status, inbox and pipeline. Reads all jobs."""
        sql = """SELECT status, inbox, pipeline, count(*) AS jobs FROM jobs
            GROUP BY status, inbox, pipeline"""
        rows = self._rows(sql)
        return [(row["status"], row["inbox"], row["pipeline"], row["jobs"]) for row in rows]

    def oldest_queued(self) -> datetime | None:
        """Return the time at which the oldest job was made that has not started; None if none."""
        sql = "SELECT created_at FROM jobs WHERE status = 'queued' ORDER BY seq LIMIT 1"
        return next((row["created_at"] for row in self._rows(sql)), None)

    def last_stage_run(self) -> int:
        """Return the number of the newest stage run; 0 if there is none."""
        return self._value("SELECT max(id) FROM stage_runs") or 0
