"""Publish the outcome of a job: contents of its folder in the outbox, and each step's commit."""

from __future__ import annotations

import errno
import hashlib
from functools import partial
from itertools import takewhile
from pathlib import Path

import structlog

from dna_pipeline.base import claim_folders, stage_files
from dna_pipeline.base.errors import (
    DiskFull,
    Hold,
    InboxUnavailable,
    OutboxUnavailable,
    StageFailed,
)
from dna_pipeline.base.failpoints import failpoint
from dna_pipeline.base.files import remove_tree
from dna_pipeline.base.layout import (
    CANCELLED,
    FAILED,
    SOURCE,
    batch_folder,
    inbox_folder,
    place_below,
)
from dna_pipeline.base.naming import sidecar_name
from dna_pipeline.base.reachability import Look, look_directly
from dna_pipeline.config.schema import Config
from dna_pipeline.ledger import batches, queue, states
from dna_pipeline.ledger.engine import Transaction
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.ledger.tables import ArtifactRow, Batch, Drop, Job, StageRun
from dna_pipeline.publish import cancelled_rows
from dna_pipeline.publish.failure_folders import TEXT_NAME, remove_failure
from dna_pipeline.publish.latest import LatestFiles
from dna_pipeline.publish.manifest import (
    ERROR_NAME,
    NAME,
    ErrorReport,
    Manifest,
    error_text,
    to_bytes,
)
from dna_pipeline.publish.manifest_parts import (
    StageFiles,
    artifact_part,
    environment,
    input_part,
    job_part,
    makes_parts,
    originals_of,
    published,
    stage_part,
)
from dna_pipeline.publish.outbox import Outbox, Publication

log = structlog.get_logger()


class Publisher:
    """Publishes ended jobs.

    Args:
        look: says whether a folder can be reached.
    """

    def __init__(self, config: Config, ledger: Ledger, look: Look = look_directly) -> None:
        self._config = config
        self._ledger = ledger
        self._look = look
        self.outbox = Outbox(config.outbox, ledger.id)
        self._latest = LatestFiles(ledger, self.outbox)
        self._known_outbox: tuple[int, int] | None = None
        """Device and inode of the folder that was found to be the outbox."""

    def check_outbox(self) -> None:
        """Raise OutboxUnavailable if the outbox is missing, does not answer, or is not mounted."""
        reach = self._look(self._config.outbox)
        if not reach.is_there:
            why = reach.why if reach.is_silent else f"is not there ({reach.why})"
            raise OutboxUnavailable(f"{self._config.outbox} {why}")
        if (folder := (reach.device, reach.inode)) != self._known_outbox:
            self._check_not_bare()
            self._known_outbox = folder

    def _check_not_bare(self) -> None:
        """Raise OutboxUnavailable if earlier results were published, and nothing of them is there.

        What is written below an empty mount point is hidden once its disk is mounted, and with the
        results their originals, which may be the last.
        """
        if self.outbox.is_bare() and self._ledger.transact(queue.has_published):
            raise OutboxUnavailable(
                f"{self._config.outbox} is there, but is not the one that held the earlier "
                "results: it is empty, as when its disk is not mounted. Mount it; if it was "
                f"emptied or moved on purpose, make the folder {self.outbox.mark}, and work goes on"
            )

    def publish(self, job: Job) -> None:
        """Publish an ended job, or queue it again if files of its stages are lost.

        Raises:
            Hold: publishing must wait.
        """
        try:
            self._publish(job)
        except OSError as error:
            raise _as_hold(error, self._config.outbox) from error
        except (ValueError, TypeError, KeyError) as error:
            # The job's ledger rows do not form a valid manifest. Fail this job, so that the others
            # are still published.
            log.exception("publish.failed", job=job.id)
            detail = f"the account of this job cannot be written: {error}"
            if job.error is not None:
                raise Hold(detail) from error
            self._ledger.transact(lambda s: queue.fail(s, job.id, StageFailed(detail).failure()))

    def _publish(self, job: Job) -> None:
        self.check_outbox()
        drop, stages, batch = self._ledger.transact(
            lambda s: (
                s.get_one(Drop, job.drop_id),
                queue.finished_stages(s, job.id),
                batches.find(s, job.batch),
            )
        )
        if job.error is not None:
            stages = self._finished(job, drop, stages)
        # The shared folder has a place for one original a row, so an image with companions gets a
        # folder of its own.
        is_bare = not stages and not drop.companions
        if batch is not None and job.cancelled_while == states.WAITING and is_bare:
            name = self._add_cancelled_row(job, drop, batch)
        else:
            name = self._publish_folder(job, drop, stages, batch)
        if name is None:
            return
        if job.error is None:
            self._update_latest(job, drop, name, stages)
        self._ledger.transact(lambda s: queue.finish_publishing(s, job.id))
        failpoint("end-committed")
        log.info("job.published", job=job.id, folder=name)
        remove_tree(self._config.work / job.id, ignore_errors=True)
        failpoint("work-removed")

    def _publish_folder(
        self, job: Job, drop: Drop, stages: StageFiles, batch: Batch | None
    ) -> str | None:
        """Put the job's own folder into its place and give its name. None if that must be done
        again, from the queue or with another name."""
        if (name := self._planned_name(job)) is None:
            if job.error is None and not all(self._is_whole(job, *stage) for stage in stages):
                why = "files that its stages made are gone"
                log.warning("job.resumed", job=job.id, why=why)
                self._ledger.transact(lambda s: queue.requeue(s, job.id, why))
                return None
            name = self._plan(job, drop, stages, home_of(job, batch))
        if not self._is_published(job, name):
            try:
                self.outbox.publish(job.id, name)
                failpoint("published")
            except FileExistsError:
                self._ledger.transact(lambda s: queue.replan_publish(s, job.id))
                return None
        return name

    def _finished(self, job: Job, drop: Drop, stages: StageFiles) -> StageFiles:
        """List the stages whose results a failure folder keeps, up to the first incomplete one.

        If a stage is lost or started anew, the stages behind it were made from an older result, so
        they are left out.
        """
        if Path(drop.claim).is_relative_to(self._config.data):
            stage_files.restore(Path(drop.claim), self._config.work / job.id)
        by_id = {run.stage_id: (run, files) for run, files in stages}
        ids = [stage["id"] for stage in job.stages]
        recorded = [by_id[i] for i in takewhile(by_id.__contains__, ids)]
        return list(
            takewhile(lambda stage: makes_parts(*stage) and self._is_whole(job, *stage), recorded)
        )

    def _add_cancelled_row(self, job: Job, drop: Drop, batch: Batch) -> str:
        """Write a row that was cancelled while it waited into the folder that such rows share."""
        name = f"{folder_of(batch)}/{CANCELLED}"
        originals = [path for path, _ in self._source_files(job, drop)]
        image = next((path for path in originals if path.name == drop.image), None)
        below = place_below(drop.folder, batch.folder)
        is_written = False
        while not is_written:
            place = None
            if image is not None:
                place = cancelled_rows.put_original(self.outbox, name, image, below)
                failpoint("original-copied")
            is_written = self._ledger.transact(
                lambda s, p=place: self._write_row(s, job, drop, name, p)
            )
        failpoint("plan-committed")
        return name

    def _write_row(
        self, session: Transaction, job: Job, drop: Drop, name: str, place: str | None
    ) -> bool:
        """Write a cancelled row and plan its publishing; False if its original is gone.

        If another row of the same original is retried and no further row needs the original yet,
        that retry removes it. The ledger's lock allows this only before this transaction: once this
        row is planned, its original is needed.
        """
        if place is not None and not (self.outbox.folder(name) / place).is_file():
            return False
        row = cancelled_rows.CancelledRow(source=place, **dict(self._report(job, drop, [])))
        request = next((data for _, data in _request(job, drop)), None)
        cancelled_rows.write_row(self.outbox, name, job.stem, row, request)
        failpoint("row-written")
        if job.publish_name not in (name, None):
            needed = partial(queue.is_original_needed, session, job)
            remove_failure(self.outbox, job, drop, needed)
        sha256 = hashlib.sha256(to_bytes(row)).hexdigest()
        queue.plan_publish(session, job.id, name, sha256, place)
        return True

    def _remove_failure(self, job: Job, drop: Drop) -> None:
        if job.publish_name is None:
            return  # it was never retried

        def is_needed(place: str) -> bool:
            return self._ledger.transact(lambda s: queue.is_original_needed(s, job, place))

        remove_failure(self.outbox, job, drop, is_needed)

    def _manifest(self, job: Job) -> str:
        return NAME if job.error is None else ERROR_NAME

    def _planned_name(self, job: Job) -> str | None:
        """Give the committed name, if the published or the staging folder for it is complete."""
        if job.publish != "planned" or job.publish_name is None:
            return None
        sha256 = job.manifest_sha256 or ""
        staged = self.outbox.is_staged(job.id, self._manifest(job), sha256)
        return job.publish_name if staged or self._is_published(job, job.publish_name) else None

    def _is_published(self, job: Job, name: str) -> bool:
        return self.outbox.holds(name, self._manifest(job), job.manifest_sha256 or "")

    def _work_file(self, job: Job, run: StageRun, file: ArtifactRow) -> Path:
        return self._config.work / job.id / run.stage_id / file.path

    def _is_whole(self, job: Job, run: StageRun, files: list[ArtifactRow]) -> bool:
        """True if a stage's files are all in the work folder, with the sizes that were recorded."""
        paths = [(self._work_file(job, run, file), file.bytes) for file in files]
        return all(path.is_file() and path.stat().st_size == size for path, size in paths)

    def _plan(self, job: Job, drop: Drop, stages: StageFiles, home: str) -> str:
        contents = self._result if job.error is None else self._failure
        # A failure is found by the name of its image, whatever its result would be called.
        start = job.stem if job.error is not None else job.result_name or job.stem
        publication = contents(job, drop, stages, f"{home}/{start}-{job.id[:8]}")
        sha256 = self.outbox.build(publication)
        self._remove_failure(job, drop)
        name = self.outbox.free_name(publication.name)
        self._ledger.transact(lambda s: queue.plan_publish(s, job.id, name, sha256))
        failpoint("plan-committed")
        job.manifest_sha256 = sha256
        return name

    # --- contents of the folder ---

    def _result(self, job: Job, drop: Drop, stages: StageFiles, name: str) -> Publication:
        stages = published(stages)
        files = self._stage_files(job, stages)
        texts: list[tuple[str, bytes]] = []
        if drop.originals == "archive":
            files += self._source_files(job, drop)
            if drop.sidecar is None:
                texts += _request(job, drop)
        manifest = Manifest(
            job=job_part(job),
            input=input_part(job, drop),
            sidecar=drop.sidecar_text or self._job_file(drop) or job.request,
            stages=[stage_part(run) for run, _ in stages],
            artifacts=[artifact_part(file) for _, artifacts in stages for file in artifacts],
            environment=environment(stages),
        )
        return Publication(job.id, name, tuple(files), (NAME, to_bytes(manifest)), tuple(texts))

    def _stage_files(self, job: Job, stages: StageFiles) -> list[tuple[Path, str]]:
        """List the files of these stages, each with its name in the job's folder."""
        return [
            (self._work_file(job, run, file), file.path)
            for run, artifacts in stages
            for file in artifacts
        ]

    def _job_file(self, drop: Drop) -> str | None:
        """Give the text of the job file that a drop was claimed with."""
        if drop.batch is None:
            return None
        own = self._ledger.transact(lambda s: s.get(Drop, drop.batch))
        return None if own is None else own.sidecar_text

    def _report(self, job: Job, drop: Drop, stages: StageFiles) -> ErrorReport:
        return ErrorReport(
            **(job.error or {}),
            job=job_part(job),
            input=input_part(job, drop),
            stage=job.stage,
            attempts=job.attempt,
            stages=[stage_part(run) for run, _ in stages],
            artifacts=[artifact_part(file) for _, files in stages for file in files],
            environment=environment(stages),
        )

    def _failure(self, job: Job, drop: Drop, stages: StageFiles, name: str) -> Publication:
        report = self._report(job, drop, stages)
        texts = [(TEXT_NAME, error_text(report).encode("utf-8", "replace")), *_request(job, drop)]
        text_names = {name for name, _ in texts}
        files = [entry for entry in self._source_files(job, drop) if entry[1] not in text_names]
        files += self._stage_files(job, stages)
        return Publication(job.id, name, tuple(files), (ERROR_NAME, to_bytes(report)), tuple(texts))

    def _source_files(self, job: Job, drop: Drop) -> list[tuple[Path, str]]:
        """List the drop's originals that still exist, each with its name in the job's folder.

        Raises InboxUnavailable if their folder is out of reach.
        """
        if not self.has_claim(Path(drop.claim)):
            return []
        names = originals_of(drop, job.stages)
        files = [(Path(drop.claim, name), f"{SOURCE}/{name}") for name in names]
        return [(path, name) for path, name in files if path.is_file()]

    def has_claim(self, claim: Path) -> bool:
        """True if the folder of a claim can be read; False if it is gone for good.

        Raises InboxUnavailable if it is out of reach.
        """
        if claim_folders.is_lost(claim, self._config.claims):
            return False
        if (why := claim_folders.unreachable_reason(claim, self._look)) is not None:
            raise InboxUnavailable(why)
        return True

    # --- afterwards ---

    def _update_latest(self, job: Job, drop: Drop, name: str, stages: StageFiles) -> None:
        inbox = self._config.inbox(job.inbox)
        if inbox is not None and inbox.latest:
            files = [file for _, artifacts in stages for file in artifacts]
            self._latest.update(job, drop, name, files)

    def recover(self) -> None:
        """Remove temporary files that the last daemon left in the outbox."""
        try:
            self.check_outbox()
            self.outbox.remove_temporaries()
        except OutboxUnavailable as reason:
            log.warning("outbox.left", why=str(reason))
        except OSError as error:
            log.warning("outbox.left", why=error.strerror)


def folder_of(batch: Batch) -> str:
    """Give the outbox's folder for the results of a batch."""
    return batch_folder(batch.inbox, batch.folder, batch.stem, batch.id)


def home_of(job: Job, batch: Batch | None) -> str:
    """Give the outbox's folder in which the job's own folder is made."""
    if job.error is None:
        return inbox_folder(job.inbox, job.folder) if batch is None else folder_of(batch)
    if job.cancelled_while != states.WAITING:
        return f"{job.inbox}/{FAILED}"
    return f"{job.inbox if batch is None else folder_of(batch)}/{CANCELLED}"


def _request(job: Job, drop: Drop) -> list[tuple[str, bytes]]:
    """Give the request of this job alone, as a YAML that people can correct or drop again."""
    if job.request is None:
        return []
    name = drop.sidecar or sidecar_name(drop.image or "")
    return [(f"{SOURCE}/{name}", job.request.encode())]


def _as_hold(error: OSError, outbox: Path) -> Hold:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"no space left to publish to {outbox}")
    return OutboxUnavailable(f"{error.filename or outbox}: {error.strerror}")
