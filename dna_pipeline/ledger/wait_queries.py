"""Queries of commands that wait for the end of certain jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dna_pipeline.ledger.queries import Queries
from dna_pipeline.ledger.sqlite import chunks

_ROW_OUTCOMES = """SELECT coalesce(j.status, r.status) AS outcome, count(*) AS number
    FROM batch_rows r LEFT JOIN jobs j ON j.id = r.job_id WHERE r.batch_id = ? GROUP BY 1"""


class WaitQueries(Queries):
    """As `Queries`, with more questions."""

    def row_outcomes(self, batch_id: str) -> dict[str, int]:
        """Count the rows of a batch by the status of the job on which each counts; `wrong` or
        `replaced` where there is none."""
        rows = self._rows(_ROW_OUTCOMES, batch_id)
        return {row["outcome"]: row["number"] for row in rows}

    def states(self, job_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return `status`, `publish`, `hold` and `hold_detail` of each of these jobs, by id."""
        rows: dict[str, dict[str, Any]] = {}
        for some in chunks(job_ids):
            marks = ", ".join("?" for _ in some)
            sql = f"SELECT id, status, publish, hold, hold_detail FROM jobs WHERE id IN ({marks})"
            rows |= {row.pop("id"): row for row in self._rows(sql, *some)}
        return rows
