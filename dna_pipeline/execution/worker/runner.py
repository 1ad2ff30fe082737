"""Runs one job's stages, in the process that owns the device. Knows no database."""

from __future__ import annotations

import errno
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from operator import attrgetter
from pathlib import Path
from typing import Any

import structlog

from dna_pipeline import __version__
from dna_pipeline.base import claim_folders
from dna_pipeline.base.errors import (
    Cancelled,
    DiskFull,
    Failure,
    Hold,
    Hours,
    InboxUnavailable,
    JobError,
    OutOfMemory,
    SourceMissing,
    StageFailed,
    WeightsMissing,
)
from dna_pipeline.base.failpoints import failpoint
from dna_pipeline.base.files import Artifact, fsync_dir, sha256_file, sha256_of_inputs
from dna_pipeline.base.periodic import Throttle
from dna_pipeline.execution.protocol import (
    Event,
    FileRecord,
    JobDone,
    JobFailed,
    Order,
    OrderInput,
    Phase,
    Progress,
    StageDone,
    StageOrder,
)
from dna_pipeline.execution.worker.device import memory_use
from dna_pipeline.execution.worker.marking import Marking
from dna_pipeline.media.marks.signing import Signer
from dna_pipeline.providers.base import Device, ModelCache, Provider
from dna_pipeline.providers.device_errors import is_device_fault, is_out_of_memory
from dna_pipeline.stages import registry
from dna_pipeline.stages.base import ExtraFile, Stage, StageContext
from dna_pipeline.stages.stage_key import stage_key

log = structlog.get_logger()

PROGRESS_INTERVAL_S = 0.25
ON_CPU = Device("cpu", "float32")
"""Device that is recorded for a stage without a model."""

MEMORY_REMARK = "Memory ran out, so the other models were unloaded and this is try number"


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """Models, callbacks and facts that a runner needs for any order."""

    models: ModelCache
    emit: Callable[[Event], None]
    is_cancelled: Callable[[str], bool]
    must_yield: Callable[[str], bool]
    """True if a job is to be given back before its next stage."""
    stage_timeout_s: float
    release_memory: Callable[[], None]
    """Gives cached memory of the device back that no model holds any more."""
    fingerprint: Callable[[Provider], tuple[str, str | None]]
    """Path and SHA-256 that the manifest records for a model."""
    environment: dict[str, Any]
    """Versions and device, recorded with each stage."""
    licence: Callable[[Provider], str | None] = attrgetter("license")
    """Licence of a model's weights, as the manifest records it."""
    data: Path | None = None
    """Data folder, where stages find further files; None if there is none."""
    hash_file: Callable[[Path], str] = sha256_file
    """SHA-256 of such a file."""
    signer: Signer | None = None
    """Signs the files of stages; None if they are not signed."""


def run(order: Order, context: WorkerContext) -> None:
    """Run the stages that are not done yet; emit exactly one JobDone or JobFailed at the end."""
    current: list[str | None] = [None]
    try:
        _Run(order, context, current).go()
    except Exception as error:
        context.emit(_failed(order, current[0], error))
    else:
        context.emit(JobDone(order.job))


class _Run:
    """One order while it is carried out.

    Args:
        current: its only item is set to the id of the stage that runs, for the caller to name in
            an error.
    """

    def __init__(self, order: Order, context: WorkerContext, current: list[str | None]) -> None:
        self.order = order
        self.context = context
        self.current = current
        self.stages = [registry.stage_class(s.type).model_validate(s.params) for s in order.stages]
        self.marking = Marking(order, self.stages, context.signer)
        self.total = sum(stage.weight for stage in self.stages)
        self.done = 0.0
        self.progress = Throttle(PROGRESS_INTERVAL_S)
        self.input_sha256 = ""
        """SHA-256 of the file that the current stage reads."""
        self.used_models: dict[str, dict[str, Any]] = {}
        """Facts about the models of finished stages, by stage, as their runs recorded them. Only a
        run finds out which textual inversions its prompts used."""

    def go(self) -> None:
        source = _checked_image(self.order)
        self.marking.check_signer()
        self.input_sha256 = sha256_of_inputs((f.role, f.sha256) for f in self.order.inputs)
        is_stale = has_run = False
        for spec, stage in zip(self.order.stages, self.stages, strict=True):
            self._check_cancelled()
            folder = Path(self.order.work_dir, spec.id)
            # Once a stage runs again, the results of the stages after it are stale.
            is_stale = is_stale or not self._may_keep(spec, stage, folder)
            if is_stale:
                # At least one stage runs in each attempt, so that the job ends some day.
                if has_run and self.context.must_yield(self.order.job):
                    raise Hours("its inbox rests; the stages that are done are kept")
                has_run = True
                source = self._run_stage(spec, stage, source, folder)
            else:
                assert spec.done is not None
                source = folder / spec.done[0].path
                self.input_sha256 = spec.done[0].sha256
                self.used_models[spec.id] = spec.done_model or {}
            self.done += stage.weight

    def _may_keep(self, spec: StageOrder, stage: Stage, folder: Path) -> bool:
        """True if the stage has run, would do the same again, and its files are unchanged."""
        if spec.done is None:
            return False
        try:
            is_same = spec.done_key is None or spec.done_key == self._stage_key(
                spec, stage, self._extra_files(stage)
            )
        except (OSError, WeightsMissing):
            # Without the weights, the key cannot be computed. So run the stage again: it reports
            # what is missing.
            return False
        if not is_same:
            log.info("stage.changed", job=self.order.job, stage=spec.id)
        return is_same and _is_intact(folder, spec.done)

    def _stage_key(
        self, spec: StageOrder, stage: Stage, extra_files: Mapping[str, ExtraFile]
    ) -> str:
        provider = self.context.models.provider(stage.model) if stage.model else None
        weights = None if provider is None else self.context.fingerprint(provider)[1]
        files = {name: file.sha256 for name, file in extra_files.items()}
        inputs, marking = self._inputs_sha256(stage), self.marking.for_stage_key(stage)
        return stage_key(stage, spec.stem, inputs, provider, weights, files, marking)

    def _extra_files(self, stage: Stage) -> dict[str, ExtraFile]:
        """Raises `WeightsMissing`, or OSError for a file that cannot be read."""
        if self.context.data is None:
            return {}
        paths = stage.extra_files(self.context.data)
        return {n: ExtraFile(path, self.context.hash_file(path)) for n, path in paths.items()}

    def _inputs_sha256(self, stage: Stage) -> str:
        """Hash of all files that the stage reads. That of the first stage's input includes all
        companions of the job already."""
        companions = self._companions_of(stage)
        if stage is self.stages[0] or not companions:
            return self.input_sha256
        files = [("image", self.input_sha256), *((f.role, f.sha256) for f in companions)]
        return sha256_of_inputs(files)

    def _companions_of(self, stage: Stage) -> list[OrderInput]:
        """The companions that go to that stage: those that it names, and of those beside the image
        the ones that it needs and no stage before it does."""
        needs = stage.companions()
        for other in takewhile(lambda other: other is not stage, self.stages):
            got = (role for role, reference in other.companions().items() if not reference)
            needs = {role: needs[role] for role in needs if needs[role] or role not in got}
        return [file for file in self.order.inputs[1:] if needs.get(file.role) == file.reference]

    def _run_stage(self, spec: StageOrder, stage: Stage, source: Path, folder: Path) -> Path:
        """Run the stage, again with less memory if memory runs out; the file that the next stage
        reads."""
        self.current[0] = spec.id
        level = 0
        while (output := self._try_stage(spec, stage, source, folder, level)) is None:
            level += 1
            self._check_cancelled()
            self.context.models.evict(*([] if stage.model is None else [stage.model]))
            self.context.release_memory()
        return output

    def _try_stage(
        self, spec: StageOrder, stage: Stage, source: Path, folder: Path, level: int
    ) -> Path | None:
        """The file that the next stage reads; None if memory ran out and the stage may be tried
        with less. The error is not returned, because its frames would keep the memory in use."""
        try:
            return self._attempt(spec, stage, source, folder, level)
        except Exception as error:
            if level >= stage.max_oom_retries or not is_out_of_memory(error):
                raise
            log.warning("memory.exhausted", job=self.order.job, stage=spec.id, detail=str(error))
            return None

    def _attempt(
        self, spec: StageOrder, stage: Stage, source: Path, folder: Path, level: int
    ) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.iterdir():
            leftover.unlink()
        self._prepare(spec, stage)
        self._phase(spec, "running", self._preparation_s(stage))
        recipe = self._recipe(spec)
        stage_context = StageContext(
            stage_id=spec.id,
            stem=spec.stem,
            source=source,
            work_dir=folder,
            models=self.context.models,
            on_step=lambda step, steps: self._on_step(spec, stage, step, steps),
            low_memory_level=level,
            extra_files=self._extra_files(stage),
            companions={file.role: Path(file.path) for file in self._companions_of(stage)},
            recipe=recipe if stage.metadata == "full" else {},
        )
        if level:
            stage_context.warnings.append(f"{MEMORY_REMARK} {level + 1}.")
        started = time.monotonic()
        files = stage.run(stage_context)
        seconds = time.monotonic() - started
        if stage_context.model_facts and stage.model is not None:
            recipe["stages"][-1]["model"] |= stage_context.model_facts
        files = self.marking.mark(files, recipe, stage_context.warnings)
        fsync_dir(folder)
        failpoint("stage-written")
        done = self._stage_done(spec, stage, files, seconds, stage_context)
        self.context.emit(done)
        self.input_sha256 = done.artifacts[0].sha256
        self.used_models[spec.id] = done.model or {}
        return files[0].path

    def _prepare(self, spec: StageOrder, stage: Stage) -> None:
        """Load the stage's model if it is not, and let the stage prepare for it."""
        models = self.context.models
        if stage.model is None:
            return
        if models.is_loaded(stage.model) and stage.is_ready(models.get(stage.model)):
            return
        self._phase(spec, "loading")
        stage.prepare(models.get(stage.model))

    def _stage_done(
        self,
        spec: StageOrder,
        stage: Stage,
        files: list[Artifact],
        seconds: float,
        context: StageContext,
    ) -> StageDone:
        provider = None if stage.model is None else self.context.models.provider(stage.model)
        place = context.computed_on or self._place_of(stage)
        return StageDone(
            job=self.order.job,
            stage=spec.id,
            type=spec.type,
            provider=provider.name_in_config if provider else None,
            model=self._model_facts(stage, provider, context),
            params=stage.params(),
            device=place.name,
            dtype=place.dtype,
            batch_size=1,
            seconds=round(seconds, 3),
            warnings=context.warnings,
            environment=self.context.environment,
            artifacts=[_record(file) for file in files],
            stage_key=self._stage_key(spec, stage, context.extra_files),
        )

    def _place_of(self, stage: Stage) -> Device:
        """Device of a stage that does not report its own: that of its model."""
        return ON_CPU if stage.model is None else self.context.models.computes_on(stage.model)

    def _recipe(self, last: StageOrder) -> dict[str, Any]:
        """How the stage's files are made: program version, source, and all stages up to this one.
        Time, place and job are left out, so that equal work gives an equal recipe."""
        until = self.order.stages.index(last) + 1
        stages = [
            {
                "id": spec.id,
                "type": spec.type,
                **self._model_options(spec, stage),
                "params": stage.params(),
            }
            for spec, stage in zip(self.order.stages[:until], self.stages[:until], strict=True)
        ]
        image, *companions = self.order.inputs
        source: dict[str, Any] = {"sha256": image.sha256}
        source |= {file.reference or file.role: {"sha256": file.sha256} for file in companions}
        return {"version": __version__, "input": source, "stages": stages}

    def _model_options(self, spec: StageOrder, stage: Stage) -> dict[str, Any]:
        if stage.model is None:
            return {"provider": None, "model": None}
        provider, sha256 = self.context.models.provider(stage.model), None
        licence = provider.license
        with suppress(OSError):  # the weights of a finished stage may have been removed since
            _, sha256 = self.context.fingerprint(provider)
            licence = self.context.licence(provider)
        model = {"name": stage.model, "sha256": sha256, "license": licence}
        with suppress(OSError, WeightsMissing):
            model |= stage.model_facts(self._extra_files(stage))
        used = self.used_models.get(spec.id, {})
        model |= {name: fact for name, fact in used.items() if name != "path"}
        return {"provider": provider.name_in_config, "model": model}

    def _model_facts(
        self, stage: Stage, provider: Provider | None, context: StageContext
    ) -> dict[str, Any] | None:
        if stage.model is None or provider is None:
            return None
        path, sha256 = self.context.fingerprint(provider)
        licence = self.context.licence(provider)
        facts: dict[str, Any] = {
            "name": stage.model, "path": path, "sha256": sha256, "license": licence
        }  # fmt: skip
        return facts | stage.model_facts(context.extra_files) | context.model_facts

    def _preparation_s(self, stage: Stage) -> float:
        """Seconds that the stage's model may take beyond the limit, if it prepares itself."""
        return self.context.models.provider(stage.model).preparation_s if stage.model else 0.0

    def _phase(self, spec: StageOrder, phase: str, more_s: float = 0.0) -> None:
        limit = self.context.stage_timeout_s + more_s
        memory = memory_use(self.context.models.device)
        self.context.emit(Phase(self.order.job, spec.id, phase, limit, memory=memory))

    def _on_step(self, spec: StageOrder, stage: Stage, step: int, steps: int) -> None:
        self._check_cancelled()
        if not self.progress.take(time.monotonic()) and step < steps:
            return
        fraction = (self.done + stage.weight * step / max(steps, 1)) / self.total
        memory = memory_use(self.context.models.device)
        job, share = self.order.job, round(fraction, 4)
        self.context.emit(Progress(job, spec.id, step, steps, share, memory))

    def _check_cancelled(self) -> None:
        if self.context.is_cancelled(self.order.job):
            raise Cancelled("cancelled while it ran")


def _checked_image(order: Order) -> Path:
    """Path of the image; the hashes of all inputs were checked.

    Raises:
        InboxUnavailable: an input cannot be read.
        SourceMissing: an input was removed or changed.
    """
    for file in order.inputs:
        path = Path(file.path)
        try:
            is_intact = path.is_file() and sha256_file(path) == file.sha256
        except OSError as error:
            raise InboxUnavailable(f"{path} cannot be read: {error.strerror}") from error
        if not is_intact:
            raise SourceMissing(f"{path} is gone or was changed")
    return Path(order.image.path)


def _is_intact(folder: Path, files: tuple[FileRecord, ...]) -> bool:
    """True if a finished stage's files all exist with the same hashes."""
    return bool(files) and all(
        (path := folder / file.path).is_file() and sha256_file(path) == file.sha256
        for file in files
    )


def _record(file: Artifact) -> FileRecord:
    size = file.path.stat().st_size
    sha256 = sha256_file(file.path)
    return FileRecord(file.path.name, file.role, file.media_type, size, sha256, file.facts)


def _failed(order: Order, stage: str | None, error: Exception) -> JobFailed:
    """The event for an error, with one of the program's error codes."""
    is_fault = is_device_fault(error)
    if not isinstance(error, Hold | Cancelled) and not is_fault:
        # If the inbox is unreachable, assume that caused the error, whatever the error says.
        why = claim_folders.unavailable_reason(Path(order.image.path).parent)
        error = error if why is None else InboxUnavailable(why)
    if isinstance(error, Hold):
        return JobFailed(order.job, failure_of(error).to_dict(), stage, hold=True)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        detail = f"{error.filename or order.work_dir}: {error.strerror}"
        failure = Failure(DiskFull.code, "", detail)
        return JobFailed(order.job, failure.to_dict(), stage, hold=True)
    if is_fault or not isinstance(error, JobError):
        log.error("stage.failed", job=order.job, stage=stage, error=traceback.format_exc())
    failure = failure_of(error, is_fault=is_fault).to_dict()
    return JobFailed(order.job, failure, stage, poisoned=is_fault)


def failure_of(error: Exception, *, is_fault: bool = False) -> Failure:
    """The report of an error that ended an order."""
    if isinstance(error, Hold):
        return Failure(error.code, "", str(error))
    return _translated(error, is_fault=is_fault).failure()


def _translated(error: Exception, *, is_fault: bool) -> JobError:
    """The error as a JobError: OutOfMemory if memory ran out, itself if it is a JobError and no
    fault of the device, else StageFailed."""
    detail = f"{type(error).__name__}: {error}"[:2000]
    if is_out_of_memory(error):
        return error if isinstance(error, OutOfMemory) else OutOfMemory(detail)
    return error if isinstance(error, JobError) and not is_fault else StageFailed(detail)
