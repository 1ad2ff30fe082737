"""A ledger on disk and rows to put into it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dna_pipeline.base.times import utcnow
from dna_pipeline.ledger import drops, queue, store
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.ledger.tables import Event, Job
from tests.ledgers import lay_out


class Book:
    """A ledger with short words for what the tests do over and over."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ledger = Ledger(path)

    def do(self, action: Callable[..., Any], *args: Any) -> Any:
        """One function of the ledger in a transaction of its own."""
        return self.ledger.transact(lambda session: action(session, *args))

    def add(self, **values: Any) -> str:
        """A claimed drop with one queued job; its id."""
        drop = {
            "id": store.new_id(), "inbox": "in", "state": "claiming", "originals": "archive",
            "folder": "", "claim": "/claims/1", "image": "cat.png", "sidecar": None, "stat": {},
            "error": None, "created_at": utcnow(),
        }  # fmt: skip
        job = {
            "id": store.new_id(), "drop_id": drop["id"], "batch": None, "inbox": "in",
            "folder": "", "name": "cat.png", "stem": "cat", "pipeline": "cut", "priority": 0,
            "status": "queued", "hold": None, "hold_detail": None, "not_before": None,
            "stages": [], "models": "key", "tags": [], "meta": {}, "error": None, "publish": None,
            "created_at": utcnow(), "finished_at": None,
        } | values  # fmt: skip

        def commit(session: Any) -> None:
            drops.begin_claims(session, [drop])
            drops.finish_claims(session, [{"id": drop["id"]}], [job])

        self.ledger.transact(commit)
        return job["id"]

    def job(self, job_id: str) -> Job:
        return self.do(queue.find_job, job_id)

    def claim(self) -> str | None:
        job = self.do(queue.claim_next)
        return None if job is None else job.id

    def kinds(self, job_id: str) -> list[str]:
        from sqlalchemy import select

        rows = select(Event.kind).where(Event.job_id == job_id).order_by(Event.id)
        return self.ledger.transact(lambda s: list(s.scalars(rows)))

    def data(self, job_id: str, kind: str) -> list[dict[str, Any]]:
        """The data of a job's events of one kind, in order."""
        from sqlalchemy import select

        rows = select(Event.data).where(Event.job_id == job_id, Event.kind == kind)
        return self.ledger.transact(lambda s: list(s.scalars(rows.order_by(Event.id))))

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """What another program reads."""
        return self.ledger.transact(
            lambda s: [tuple(row) for row in s.connection().exec_driver_sql(statement)]
        )

    def set(self, job_id: str, **values: Any) -> None:
        from sqlalchemy import update

        self.ledger.transact(
            lambda s: s.execute(update(Job).where(Job.id == job_id).values(values))
        )


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    lay_out(tmp_path / "ledger.db")
    book = Book(tmp_path / "ledger.db")
    yield book
    book.ledger.close()
