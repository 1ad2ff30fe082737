"""Jobs that do not come through an inbox: submitted by command, or retried from their failure."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from dna_pipeline.artifact import copy_file, remove_tree, sha256_file, write_atomic, write_bytes
from dna_pipeline.errors import ConfigError, JobError, SourceMissing
from dna_pipeline.inbox.claim import sync_claims
from dna_pipeline.inbox.names import sidecar_name
from dna_pipeline.inbox.scan import is_yaml_name
from dna_pipeline.intake import records
from dna_pipeline.intake.take import keep_claims
from dna_pipeline.ledger import batches, queue, store, wishes
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.ledger.tables import Drop, Job
from dna_pipeline.probe import Prober
from dna_pipeline.publish import SOURCE, Outbox
from dna_pipeline.publishing import remove_failure
from dna_pipeline.spec import yaml12
from dna_pipeline.spec.config import SUBMIT_INBOX, Config, Inbox
from dna_pipeline.spec.facts import JobFacts
from dna_pipeline.spec.sidecar import JobSpec, resolve
from dna_pipeline.spec.yaml12 import Document


def told_by_command(pipeline: str | None, settings: list[str]) -> Document:
    """The document that `--pipeline P --set stage.param=V …` stands for. Raises ConfigError."""
    value: dict[str, Any] = {} if pipeline is None else {"pipeline": pipeline}
    for setting in settings:
        key, equals, text = setting.partition("=")
        stage, dot, parameter = key.partition(".")
        if not equals or not stage or (dot and not parameter):
            raise ConfigError(f"--set {setting!r}: should read stage.parameter=value")
        if dot:
            value.setdefault(stage, {})[parameter] = yaml12.scalar(text)
        else:
            value[stage] = yaml12.scalar(text)
    return Document(value)


@dataclass(frozen=True, slots=True)
class Submission:
    """An image to be submitted: a file, or a stream with a name for it."""

    name: str
    source: Path | IO[bytes]


@contextmanager
def _claiming(ledger: Ledger, row: dict[str, Any]) -> Generator[None]:
    """While a command fills a drop's claim: the drop is committed as *claiming* before there is a
    folder, which a daemon that starts meanwhile would clear away, and an error leaves nothing."""
    # Of no inbox yet: a daemon that starts puts back, or goes on with, what one was half taking.
    ledger.transact(lambda s: store.begin_claims(s, [row | {"inbox": SUBMIT_INBOX}]))
    try:
        yield
    except BaseException:
        # Nothing to forget means that the job was committed before we were interrupted.
        if ledger.transact(lambda s: store.forget_drops(s, [row["id"]])):
            remove_tree(row["claim"], ignore_errors=True)
        raise


class Submitter:
    """Copies images into the data folder and queues them there."""

    def __init__(self, config: Config, ledger: Ledger, told: Document) -> None:
        self._config = config
        self._ledger = ledger
        self._told = told
        inbox = config.inbox(SUBMIT_INBOX)
        assert inbox is not None
        self._inbox: Inbox = inbox
        self._resolve(None)

    def _resolve(self, facts: JobFacts | None) -> JobSpec:
        try:
            return resolve(self._config, self._inbox, self._told, records.draw_seed, facts)
        except JobError as error:
            raise ConfigError(f"{error.detail} ({error.code})") from None

    def submit(self, submission: Submission, prober: Prober) -> str:
        """Queue one image; its job's id. Raises ConfigError for what is no usable image."""
        row = records.drop_row(
            self._inbox, "", Path(submission.name).name, self._sidecar(submission)
        )
        folder = keep_claims(self._config, row["id"])
        row["claim"] = str(folder)
        with _claiming(self._ledger, row):
            path = self._fetch(submission, folder)
            return self._queue(row, path, prober)

    def _sidecar(self, submission: Submission) -> str | None:
        """What the command told is written down as a YAML, to be kept, seen and corrected."""
        return sidecar_name(Path(submission.name).name) if self._told.value else None

    def _fetch(self, submission: Submission, folder: Path) -> Path:
        folder.mkdir(parents=True)
        path = folder / Path(submission.name).name
        if isinstance(submission.source, Path):
            copy_file(submission.source, path)
        else:
            stream = submission.source
            write_atomic(path, lambda file: shutil.copyfileobj(stream, file))
        if (sidecar := self._sidecar(submission)) is not None:
            write_bytes(folder / sidecar, self._written())
        sync_claims([folder], ())
        return path

    def _written(self) -> bytes:
        return yaml12.dumps(self._told.value, indent=2).encode()

    def _queue(self, row: Mapping[str, Any], path: Path, prober: Prober) -> str:
        answer = prober.probe(path)
        if isinstance(answer, JobError):
            raise ConfigError(f"{path.name}: {answer.sentence} {answer.detail} ({answer.code})")
        facts: dict[str, Any] = {
            "id": row["id"], "sha256": sha256_file(path), "bytes": path.stat().st_size,
            "width": answer.width, "height": answer.height,
            "sidecar_text": self._written().decode() if row["sidecar"] else None,
        }  # fmt: skip
        known = records.facts_of(self._inbox, "", path.name, facts["sha256"])
        job = records.job_row(self._inbox, "", path.name, row["id"], self._resolve(known))
        self._ledger.transact(lambda s: store.finish_claims(s, [facts], [job]))
        return job["id"]


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
        with _claiming(self._ledger, row):
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
