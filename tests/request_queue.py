"""Jobs of requests in a real ledger."""

from __future__ import annotations

from typing import Any

from dna_pipeline.base.times import utcnow
from dna_pipeline.config.schema import Config
from dna_pipeline.ledger import drops, queue, store
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.operations.serving.readers import Readers
from dna_pipeline.operations.serving.request_jobs import RequestJob, open_jobs
from dna_pipeline.operations.serving.submissions import Submissions


class RequestQueue:
    """A ledger, and words for its jobs, whose origins are entries of `key`."""

    def __init__(self, config: Config, key: str) -> None:
        self.key = key
        self.ledger = Ledger(config.ledger_path)
        self.readers = Readers(config)
        self.submissions = Submissions(config)

    def close(self) -> None:
        self.ledger.close()
        self.readers.close()
        self.submissions.close()

    def add(self, meta: Any, **values: Any) -> str:
        drop = {
            "id": store.new_id(), "inbox": "submit", "state": "claiming", "originals": "delete",
            "folder": "", "claim": "/claims/1", "image": "a.png", "sidecar": None, "stat": {},
            "error": None, "created_at": utcnow(),
        }  # fmt: skip
        job: dict[str, Any] = {
            "id": store.new_id(), "drop_id": drop["id"], "batch": None, "inbox": "submit",
            "folder": "", "name": "a.png", "stem": "a", "pipeline": "cut", "priority": 0,
            "status": "queued", "hold": None, "hold_detail": None, "not_before": None,
            "stages": [], "models": "matte", "tags": [], "meta": meta, "error": None,
            "publish": None, "created_at": utcnow(), "finished_at": None, **values,
        }  # fmt: skip

        def commit(session: Any) -> None:
            drops.begin_claims(session, [drop])
            drops.finish_claims(session, [{"id": drop["id"]}], [job])

        self.ledger.transact(commit)
        return job["id"]

    def start(self) -> str:
        job = self.ledger.transact(queue.claim_next)
        assert job is not None
        return job.id

    def open(self) -> list[RequestJob]:
        return open_jobs(self.readers, self.key)

    def status(self, job_id: str) -> tuple[str, bool]:
        job = self.ledger.transact(lambda s: queue.find_job(s, job_id))
        return job.status, job.cancel_requested
