"""Jobs that do not come through an inbox: retried from their failure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dna_pipeline.artifact import copy_file, sha256_file
from dna_pipeline.errors import ConfigError, JobError, SourceMissing
from dna_pipeline.inbox.claim import sync_claims
from dna_pipeline.inbox.scan import is_yaml_name
from dna_pipeline.intake import records
from dna_pipeline.intake.resubmit import claiming
from dna_pipeline.intake.take import keep_claims
from dna_pipeline.ledger import batches, queue, store, wishes
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.ledger.tables import Drop, Job
from dna_pipeline.probe import Prober
from dna_pipeline.publish import SOURCE, Outbox
from dna_pipeline.publishing import remove_failure
from dna_pipeline.spec.config import Config, Inbox
from dna_pipeline.spec.sidecar import JobSpec


class Retrier:
    """Queues failed and cancelled jobs again, with the sidecar as it is now."""

    def __init__(self, config: Config, ledger: Ledger) -> None:
        self._config = config
        self._ledger = ledger
        self._outbox = Outbox(config.outbox, ledger.id)

    def retry(self, job_id: str, prober: Prober) -> None:
        """Queue one job again under its id; its failure folder goes.

        Raises:
            ConfigError: it has neither failed nor been cancelled, or cannot be made to work.
        """
        job = self._ledger.transact(lambda s: queue.find_job(s, job_id))
        if job is None or job.status not in ("failed", "cancelled"):
            raise ConfigError(f"job {job_id[:8]} has not failed; only such jobs can be retried")
        if job.publish != "done" or job.publish_name is None:
            raise ConfigError(
                f"job {job_id[:8]} is still being put under failed/; try again in a moment"
            )
        source = self._config.outbox / job.publish_name / SOURCE
        drop = self._ledger.transact(lambda s: s.get_one(Drop, job.drop_id))
        row = self._new_drop(job, drop, source)
        with claiming(self._ledger, row):
            self._copy(row, source, Path(row["claim"]))
            try:
                facts, spec = self._read_again(job, row, prober)
            except JobError as error:
                raise ConfigError(f"job {job_id[:8]}: {error.detail} ({error.code})") from None
            if not self._commit(job, row, facts, spec):
                raise ConfigError(f"job {job_id[:8]} was retried by someone else at the same time")
        self._ledger.transact(lambda s: self._remove_failure(s, job))

    def _remove_failure(self, session: Any, job: Job) -> None:
        """Take the old failure folder away, while the lock keeps the daemon from making a new one.

        Where the daemon was faster it did this itself.
        """
        now = queue.find_job(session, job.id)
        if now is not None and now.manifest_sha256 is None:
            remove_failure(self._outbox, job)

    def _new_drop(self, job: Job, drop: Drop, source: Path) -> dict[str, Any]:
        names = sorted(p.name for p in source.iterdir()) if source.is_dir() else []
        image = drop.image if drop.image in names else None
        sidecar = next((name for name in names if is_yaml_name(name)), None)
        row = records.drop_row(self._inbox(job), drop.folder, image, sidecar)
        return row | {"claim": str(keep_claims(self._config, row["id"]))}

    @staticmethod
    def _copy(row: Mapping[str, Any], source: Path, folder: Path) -> None:
        folder.mkdir(parents=True)
        for name in filter(None, (row["image"], row["sidecar"])):
            copy_file(source / name, folder / name)
        sync_claims([folder], ())

    def _inbox(self, job: Job) -> Inbox:
        inbox = self._config.inbox(job.inbox)
        if inbox is None:
            raise ConfigError(f"inbox {job.inbox!r} is not in pipeline.yaml any more")
        return inbox

    def _read_again(
        self, job: Job, row: Mapping[str, Any], prober: Prober
    ) -> tuple[dict[str, Any], JobSpec]:
        image, sidecar = row["image"], row["sidecar"]
        inbox, folder = self._inbox(job), Path(row["claim"])
        if image is None:
            raise SourceMissing("there is no image in the folder source of its failure")
        answer = prober.probe(folder / image)
        if isinstance(answer, JobError):
            raise answer
        data = records.read_sidecar(folder / sidecar) if sidecar else None
        facts: dict[str, Any] = {
            "sha256": sha256_file(folder / image), "bytes": (folder / image).stat().st_size,
            "width": answer.width, "height": answer.height,
            "sidecar_text": None if data is None else records.as_text(data),
        }  # fmt: skip
        known = records.facts_of(inbox, row["folder"], image, facts["sha256"])
        if job.batch is not None:
            batch, number = self._ledger.transact(lambda s: batches.place_of(s, job))
            known = replace(known, batch=batch, row=number)
        return facts, records.resolve_text(self._config, inbox, data, known)

    def _commit(
        self, job: Job, row: Mapping[str, Any], facts: Mapping[str, Any], spec: JobSpec
    ) -> bool:
        changes = records.work_of(self._inbox(job), spec) | {"drop_id": row["id"]}
        if job.batch is not None:
            before = self._ledger.transact(lambda s: s.get_one(Drop, job.drop_id))
            if (before.sha256, job.request) != (facts["sha256"], facts["sidecar_text"]):
                changes |= {"request": facts["sidecar_text"], "key": None}

        def commit(session: Any) -> bool:
            if not wishes.revive(session, job.id, changes):
                return False
            drop = {"id": row["id"], "inbox": job.inbox, **facts}
            store.finish_claims(session, [drop], [])
            batches.reopen(session, job.id)
            return True

        return self._ledger.transact(commit)
