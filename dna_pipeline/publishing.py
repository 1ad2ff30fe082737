"""From a job's outcome to its folder in the outbox: what goes in, and each step's commit."""

from __future__ import annotations

import errno
import json
import shutil
from collections import Counter
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import structlog

from dna_pipeline import __version__, sources
from dna_pipeline.artifact import remove_temporaries
from dna_pipeline.errors import (
    DiskFull,
    Hold,
    InboxUnavailable,
    OutboxUnavailable,
    StageFailed,
)
from dna_pipeline.faults import point
from dna_pipeline.inbox import claim
from dna_pipeline.inbox.names import sidecar_name
from dna_pipeline.ledger import batches, queue, store
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.ledger.tables import ArtifactRow, Batch, Drop, Job, StageRun
from dna_pipeline.ledger.times import format_time, utcnow
from dna_pipeline.manifest import (
    ERROR_NAME,
    NAME,
    ArtifactPart,
    ErrorReport,
    InputPart,
    JobPart,
    Manifest,
    ModelPart,
    StagePart,
    error_text,
    to_bytes,
)
from dna_pipeline.publish import (
    FAILED,
    SOURCE,
    Outbox,
    Publication,
    batch_folder,
    mirrored,
    sweep,
)
from dna_pipeline.reachability import Look, look_directly
from dna_pipeline.spec.config import Config

log = structlog.get_logger()

StageFiles = list[tuple[StageRun, list[ArtifactRow]]]


def stage_stems(job: Job) -> dict[str, str]:
    """For each stage's id the start of its files' names: the id is in it where types repeat."""
    kinds = Counter(stage["type"] for stage in job.stages)
    return {
        stage["id"]: f"{job.stem}.{stage['id']}" if kinds[stage["type"]] > 1 else job.stem
        for stage in job.stages
    }


class Publisher:
    """Publishes ended jobs and disposes of the claims that nobody needs any more.

    Args:
        look: says whether a folder can be reached.
    """

    def __init__(self, config: Config, ledger: Ledger, look: Look = look_directly) -> None:
        self._config = config
        self._ledger = ledger
        self._look = look
        self.outbox = Outbox(config.outbox, ledger.id)

    def check_outbox(self) -> None:
        """Raises OutboxUnavailable: it is not there, or does not answer."""
        reach = self._look(self._config.outbox)
        if not reach.is_there:
            why = reach.why if reach.is_silent else f"is not there ({reach.why})"
            raise OutboxUnavailable(f"{self._config.outbox} {why}")

    def check_claim(self, claim: Path) -> None:
        """Raises TimeoutError: the folder that holds the claim does not answer."""
        if (reach := self._look(claim.parent)).is_silent:
            raise TimeoutError(errno.ETIMEDOUT, reach.why, str(claim.parent))

    def publish(self, job: Job) -> None:
        """Take the job from its outcome to its end, or back into the queue if files of it are lost.

        Raises:
            Hold: it must wait.
        """
        try:
            self._publish(job)
        except OSError as error:
            raise _as_hold(error, self._config.outbox) from error
        except (ValueError, TypeError, KeyError) as error:
            # What the ledger holds of this job makes no account; that must not stop the others.
            log.exception("publish.failed", job=job.id)
            detail = f"the account of this job cannot be written: {error}"
            if job.error is not None:
                raise Hold(detail) from error
            self._ledger.transact(lambda s: queue.fail(s, job.id, StageFailed(detail).failure()))

    def _publish(self, job: Job) -> None:
        self.check_outbox()
        drop, stages = self._ledger.transact(
            lambda s: (s.get_one(Drop, job.drop_id), queue.finished_stages(s, job.id))
        )
        if (name := self._planned_name(job)) is None:
            if job.error is None and not self._has_all_files(job, stages):
                log.warning("job.resumed", job=job.id, why="files that its stages made are gone")
                self._ledger.transact(lambda s: queue.requeue(s, job.id))
                return
            name = self._plan(job, drop, stages)
        if not self._is_published(job, name):
            try:
                self.outbox.publish(job.id, name)
                point("published")
            except FileExistsError:
                self._ledger.transact(lambda s: queue.replan_publish(s, job.id))
                return
        if job.error is None:
            self._update_latest(job, name, stages)
        self._ledger.transact(lambda s: queue.published(s, job.id))
        point("end-committed")
        log.info("job.published", job=job.id, folder=name)
        shutil.rmtree(self._config.work / job.id, ignore_errors=True)
        point("work-removed")
        self.dispose(job.drop_id)

    def _account(self, job: Job) -> str:
        return NAME if job.error is None else ERROR_NAME

    def _planned_name(self, job: Job) -> str | None:
        """The committed name, if its folder or what is to become it is still whole."""
        if job.publish != "planned" or job.publish_name is None:
            return None
        sha256 = job.manifest_sha256 or ""
        staged = self.outbox.is_staged(job.id, self._account(job), sha256)
        return job.publish_name if staged or self._is_published(job, job.publish_name) else None

    def _is_published(self, job: Job, name: str) -> bool:
        return self.outbox.holds(name, self._account(job), job.manifest_sha256 or "")

    def _work_file(self, job: Job, run: StageRun, file: ArtifactRow) -> Path:
        return self._config.work / job.id / run.stage_id / file.path

    def _has_all_files(self, job: Job, stages: StageFiles) -> bool:
        paths = [(self._work_file(job, run, f), f.bytes) for run, files in stages for f in files]
        return all(path.is_file() and path.stat().st_size == size for path, size in paths)

    def _plan(self, job: Job, drop: Drop, stages: StageFiles) -> str:
        publication = (
            self._result(job, drop, stages) if job.error is None else self._failure(job, drop)
        )
        sha256 = self.outbox.build(publication)
        remove_failure(self.outbox, job)
        name = self.outbox.free_name(publication.name)
        self._ledger.transact(lambda s: queue.plan_publish(s, job.id, name, sha256))
        point("plan-committed")
        job.manifest_sha256 = sha256
        return name

    # --- what goes into the folder ---

    def _result(self, job: Job, drop: Drop, stages: StageFiles) -> Publication:
        files = [
            (self._work_file(job, run, file), file.path)
            for run, artifacts in stages
            for file in artifacts
        ]
        texts: list[tuple[str, bytes]] = []
        if drop.originals == "archive":
            files += self._source_files(drop)
            if drop.sidecar is None:
                texts += _request(job, drop)
        manifest = Manifest(
            job=_job_part(job),
            input=_input_part(job, drop),
            sidecar=drop.sidecar_text or self._job_file(drop) or job.request,
            stages=[_stage_part(run) for run, _ in stages],
            artifacts=[_artifact_part(file) for _, artifacts in stages for file in artifacts],
            environment=_environment(stages),
        )
        name = f"{self._home(job)}/{job.stem}-{job.id[:8]}"
        return Publication(job.id, name, tuple(files), (NAME, to_bytes(manifest)), tuple(texts))

    def _job_file(self, drop: Drop) -> str | None:
        """The text of the job file that a drop was taken in with."""
        if drop.batch is None:
            return None
        own = self._ledger.transact(lambda s: s.get(Drop, drop.batch))
        return None if own is None else own.sidecar_text

    def _home(self, job: Job) -> str:
        """The folder for the result's folder."""
        if (batch := self._ledger.transact(lambda s: batches.find(s, job.batch))) is not None:
            return folder_of(batch)
        return f"{job.inbox}/{mirrored(job.folder)}" if job.folder else job.inbox

    def _failure(self, job: Job, drop: Drop) -> Publication:
        report = ErrorReport(
            **(job.error or {}),
            job=_job_part(job),
            input=_input_part(job, drop),
            stage=job.stage,
            attempts=job.attempt,
        )
        name = f"{job.inbox}/{FAILED}/{job.stem}-{job.id[:8]}"
        texts = [("ERROR.txt", error_text(report).encode("utf-8", "replace")), *_request(job, drop)]
        told = {name for name, _ in texts}
        files = tuple(entry for entry in self._source_files(drop) if entry[1] not in told)
        return Publication(job.id, name, files, (ERROR_NAME, to_bytes(report)), tuple(texts))

    def _source_files(self, drop: Drop) -> list[tuple[Path, str]]:
        """Those that are left. Raises InboxUnavailable: their folder is out of reach."""
        if (why := sources.unreachable(Path(drop.claim), self._look)) is not None:
            raise InboxUnavailable(why)
        names = [name for name in (drop.image, drop.sidecar) if name is not None]
        files = [(Path(drop.claim, name), f"{SOURCE}/{name}") for name in names]
        return [(path, name) for path, name in files if path.is_file()]

    # --- afterwards ---

    def _update_latest(self, job: Job, name: str, stages: StageFiles) -> None:
        inbox = self._config.inbox(job.inbox)
        if inbox is None or not inbox.latest:
            return
        if self._ledger.transact(lambda s: queue.has_newer_result(s, job)):
            return
        for target, file in _latest_files(stages, job.stem).items():
            source = self.outbox.folder(name) / file
            folder = mirrored(job.folder) if job.folder else ""
            self.outbox.replace_latest(source, job.inbox, folder, target)

    def dispose(self, drop_id: str | None = None) -> None:
        """Remove the claims that no job needs; of one drop, or of all."""
        for drop in self._ledger.transact(lambda s: store.unneeded_drops(s, drop_id)):
            self._ledger.transact(lambda s, i=drop.id: store.set_drop_state(s, i, "disposing"))
            try:
                self.check_claim(Path(drop.claim))
                point("disposing-committed")
                self._remove_claim(Path(drop.claim))
                point("claim-unlinked")
            except OSError as error:
                # The job has ended well; the next start tries again.
                log.warning("claim.left", claim=drop.claim, why=error.strerror)
                continue
            self._ledger.transact(lambda s, i=drop.id: store.set_drop_state(s, i, "gone"))
            point("gone-committed")

    def _remove_claim(self, folder: Path) -> None:
        if not folder.is_relative_to(self._config.data):
            claim.dispose(folder)
        elif folder.is_dir():
            shutil.rmtree(folder)

    def recover(self) -> None:
        """Clear away what the last daemon left: claims, work files and half-made folders."""

        def is_needed(job_id: str) -> bool:
            return self._ledger.transact(lambda s: queue.is_open(s, job_id))

        @cache
        def owners() -> set[str]:
            return self._ledger.transact(store.open_drop_ids)

        self.dispose()
        remove_temporaries(self._config.data)
        # Asked after the folder was listed: a drop's row is there before its folder is, also where
        # `submit` makes it meanwhile.
        sweep(self._config.data / "claims", lambda drop_id: drop_id in owners())
        sweep(self._config.work, is_needed)
        try:
            self.check_outbox()
            self.outbox.sweep(is_needed)
        except OutboxUnavailable as reason:
            log.warning("outbox.left", why=str(reason))
        except OSError as error:
            log.warning("outbox.left", why=error.strerror)


def folder_of(batch: Batch) -> str:
    """Where in the outbox the results of a batch are."""
    return batch_folder(batch.inbox, batch.folder, batch.stem, batch.id)


def _request(job: Job, drop: Drop) -> list[tuple[str, bytes]]:
    """What was asked of this job alone, as a YAML that can be mended, or dropped again."""
    if job.request is None:
        return []
    name = drop.sidecar or sidecar_name(drop.image or "")
    return [(f"{SOURCE}/{name}", job.request.encode())]


def remove_failure(outbox: Outbox, job: Job) -> None:
    """Take away the failure folder of a job that was retried, if that is what lies there."""
    name = job.publish_name
    if name is not None and _failed_job(outbox.folder(name) / ERROR_NAME) == job.id:
        outbox.remove(name)


def _failed_job(path: Path) -> str | None:
    """The id in an error.json."""
    try:
        return json.loads(path.read_bytes())["job"]["id"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _latest_files(stages: StageFiles, stem: str) -> dict[str, str]:
    """A job's newest mesh in each format and its picture, each by its name in `latest`.

    What an OBJ names keeps its name, and comes before it. Their order is that of the renames.
    """
    beside: dict[str, str] = {}
    meshes: dict[str, str] = {}
    pictures: dict[str, str] = {}
    for _, artifacts in stages:
        for file in artifacts:
            if file.role == "mesh":
                meshes[f"{stem}{PurePosixPath(file.path).suffix}"] = file.path
            elif file.role in ("material", "texture"):
                beside[file.path] = file.path
            elif file.role == "image" or (file.role == "matte" and not pictures):
                pictures[f"{stem}.png"] = file.path
    return beside | meshes | pictures


def _as_hold(error: OSError, outbox: Path) -> Hold:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"no space left to publish to {outbox}")
    return OutboxUnavailable(f"{error.filename or outbox}: {error.strerror}")


def _job_part(job: Job) -> JobPart:
    return JobPart(
        id=job.id, batch=job.batch, inbox=job.inbox, pipeline=job.pipeline, priority=job.priority,
        attempt=job.attempt, tags=job.tags, meta=job.meta,
        created_at=format_time(job.created_at),
        started_at=format_time(job.started_at) if job.started_at else None,
        finished_at=format_time(job.finished_at or utcnow()),
    )  # fmt: skip


def _input_part(job: Job, drop: Drop) -> InputPart:
    return InputPart(
        name=job.name, sha256=drop.sha256, bytes=drop.bytes, width=drop.width, height=drop.height
    )


def _stage_part(run: StageRun) -> StagePart:
    return StagePart(
        id=run.stage_id, type=run.type, provider=run.provider,
        model=ModelPart(**run.model) if run.model else None, params=run.params, device=run.device,
        dtype=run.dtype, batch_size=run.batch_size, seconds=run.seconds, warnings=run.warnings,
    )  # fmt: skip


def _artifact_part(file: ArtifactRow) -> ArtifactPart:
    facts: dict[str, Any] = file.facts
    return ArtifactPart(
        path=file.path, role=file.role, media_type=file.media_type, bytes=file.bytes,
        sha256=file.sha256, **facts,
    )  # fmt: skip


def _environment(stages: StageFiles) -> dict[str, Any]:
    facts: dict[str, Any] = {"dna_pipeline": __version__}
    for run, _ in stages:
        facts |= run.environment
    return facts
