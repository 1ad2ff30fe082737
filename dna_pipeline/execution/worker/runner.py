"""Runs one job's stages, in the process that owns the device. Knows no database."""

from __future__ import annotations

import errno
import time
import traceback
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog

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
from dna_pipeline.base.files import Artifact, fsync_dir, sha256_file
from dna_pipeline.base.periodic import Throttle
from dna_pipeline.execution.protocol import (
    FileRecord,
    JobDone,
    JobFailed,
    Order,
    Phase,
    Progress,
    StageDone,
    StageOrder,
)
from dna_pipeline.execution.worker.context import WorkerContext
from dna_pipeline.execution.worker.device import memory_use
from dna_pipeline.execution.worker.lanes import Turns
from dna_pipeline.execution.worker.marking import Marking
from dna_pipeline.execution.worker.recipes import Recipes
from dna_pipeline.execution.worker.reuse import Reuse
from dna_pipeline.providers.base import Device
from dna_pipeline.providers.device_errors import is_device_fault, is_out_of_memory
from dna_pipeline.stages import registry
from dna_pipeline.stages.base import DeviceTurns, Stage, StageContext

log = structlog.get_logger()

A = TypeVar("A")
T = TypeVar("T")

PROGRESS_INTERVAL_S = 0.25

WAITING = "waiting"
"""The phase of a job that waits for the device, which another one has."""

MEMORY_REMARK = "Memory ran out, so the other models were unloaded and this is try number"


def run(order: Order, context: WorkerContext, number: int = 0) -> None:
    """Run the stages that are not done yet; emit exactly one JobDone or JobFailed at the end.

    Args:
        number: of the order; of two jobs of equal priority that wait for the device, the one with
            the lower number gets it first.
    """
    current: list[str | None] = [None]
    try:
        _Run(order, context, current, number).go()
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

    def __init__(
        self, order: Order, context: WorkerContext, current: list[str | None], number: int
    ) -> None:
        self.order = order
        self.rank = (-order.priority, number)
        self.context = context
        self.current = current
        self.stages = [registry.stage_class(s.type).model_validate(s.params) for s in order.stages]
        self.marking = Marking(order, self.stages, context.signer)
        self.total = sum(stage.weight for stage in self.stages)
        self.done = 0.0
        self.may_keep = False
        """The last result that was computed may be kept for later jobs."""
        self.progress = Throttle(PROGRESS_INTERVAL_S)
        self.recipes = Recipes(order, context, self.stages, self.marking)
        self.reuse = Reuse(order, context, self.recipes)

    def go(self) -> None:
        source = _checked_image(self.order)
        self.marking.check_signer()
        is_stale = has_run = False
        for spec, stage in zip(self.order.stages, self.stages, strict=True):
            self.check_cancelled()
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
                self.recipes.input_sha256 = spec.done[0].sha256
                self.recipes.used_models[spec.id] = spec.done_model or {}
            self.done += stage.weight

    def _may_keep(self, spec: StageOrder, stage: Stage, folder: Path) -> bool:
        """True if the stage has run, would do the same again, and its files are unchanged."""
        if spec.done is None:
            return False
        try:
            is_same = spec.done_key is None or spec.done_key == self.recipes.stage_key(
                spec, stage, self.recipes.extra_files(stage)
            )
        except (OSError, WeightsMissing):
            # Without the weights, the key cannot be computed. So run the stage again: it reports
            # what is missing.
            return False
        if not is_same:
            log.info("stage.changed", job=self.order.job, stage=spec.id)
        return is_same and _is_intact(folder, spec.done)

    def _run_stage(self, spec: StageOrder, stage: Stage, source: Path, folder: Path) -> Path:
        """Take the stage's result if it was computed before, or run the stage, again with less
        memory if memory runs out; the file that the next stage reads."""
        self.current[0] = spec.id
        self.phase(spec, "reading")
        key = self.reuse.key(spec, stage)
        waits = partial(self.phase, spec, WAITING)
        with self.context.same_work.alone(key, self.check_cancelled, waits) as has_waited:
            if has_waited:
                self.phase(spec, "reading")  # from here on, it has a time limit again
            _empty(folder)
            if (done := self.reuse.take(key, spec, stage, folder)) is not None:
                self._finish(spec, done, folder)
            else:
                done = self._computed(spec, stage, source, folder, key)
        return folder / done.artifacts[0].path

    def _computed(
        self, spec: StageOrder, stage: Stage, source: Path, folder: Path, key: str | None
    ) -> StageDone:
        level = 0
        while (done := self._try_stage(spec, stage, source, folder, level)) is None:
            level += 1
            self.check_cancelled()
            self.turns_of(stage).take(
                partial(self._make_room, spec, stage),
                self.rank,
                self.check_cancelled,
                partial(self.phase, spec, WAITING),
            )
        if self.may_keep:
            self.reuse.keep(key, spec, done, folder)
        return done

    def _make_room(self, spec: StageOrder, stage: Stage) -> None:
        """Unload the models that the stage does not need, before it begins anew."""
        self.phase(spec, "reading")
        self.context.models.evict(*([] if stage.model is None else [stage.model]))
        self.context.release_memory()

    def _finish(self, spec: StageOrder, done: StageDone, folder: Path) -> None:
        """Report a stage whose files are in its work folder."""
        fsync_dir(folder)
        failpoint("stage-written")
        self.context.emit(done)
        self.recipes.input_sha256 = done.artifacts[0].sha256
        self.recipes.used_models[spec.id] = done.model or {}

    def _try_stage(
        self, spec: StageOrder, stage: Stage, source: Path, folder: Path, level: int
    ) -> StageDone | None:
        """The end of the stage; None if memory ran out and the stage may be tried with less.

        The error is not returned, because its frames would keep the memory in use."""
        try:
            return self._attempt(spec, stage, source, folder, level)
        except Exception as error:
            if level >= stage.max_oom_retries or not is_out_of_memory(error):
                raise
            log.warning("memory.exhausted", job=self.order.job, stage=spec.id, detail=str(error))
            return None

    def _attempt(
        self, spec: StageOrder, stage: Stage, source: Path, folder: Path, level: int
    ) -> StageDone:
        _empty(folder)
        use = _DeviceUse(self, spec, stage)
        recipe, parts = self.recipes.recipe(spec), self.reuse.parts(spec, stage)
        stage_context = StageContext(
            stage_id=spec.id,
            stem=spec.stem,
            source=source,
            work_dir=folder,
            models=self.context.models,
            on_step=lambda step, steps: self._on_step(spec, stage, step, steps),
            low_memory_level=level,
            extra_files=self.recipes.extra_files(stage),
            companions={file.role: Path(file.path) for file in self.recipes.companions_of(stage)},
            recipe=recipe if stage.metadata == "full" else {},
            parts=parts,
            turns=use,
        )
        if level:
            stage_context.warnings.append(f"{MEMORY_REMARK} {level + 1}.")
        started = time.monotonic()
        if stage.asks_for_device:
            files = stage.run(stage_context)
        else:
            files = use.take(lambda: stage.run(stage_context))
        seconds = time.monotonic() - started - use.not_counted_s
        if stage_context.model_facts and stage.model is not None:
            recipe["stages"][-1]["model"] |= stage_context.model_facts
        files = self.marking.mark(files, recipe, stage_context.warnings)
        place = stage_context.computed_on or use.place or self.recipes.place_of(stage)
        done = self._stage_done(spec, stage, files, seconds, stage_context, place)
        if parts is not None and parts.origin is not None:
            done = replace(done, reused_from=parts.origin)
        is_as_asked = self._is_as_asked(stage, stage_context, place)
        self.may_keep = is_as_asked and self.reuse.is_key_right(spec, stage)
        self._finish(spec, done, folder)
        return done

    def _is_as_asked(self, stage: Stage, context: StageContext, place: Device) -> bool:
        """True if a result has the bytes that its key stands for. Others come of a turn that was
        shared, and of memory, a library or a device that failed and may work at the next try."""
        requested = self.recipes.requested_place(stage)
        is_there = (place.name, place.dtype) == (requested.name, requested.dtype)
        has_failed = context.low_memory_level > 0 or context.is_degraded
        is_elsewhere = context.computed_on is None and not is_there
        return context.batch_size == 1 and not has_failed and not is_elsewhere

    def prepare(self, spec: StageOrder, stage: Stage) -> None:
        """Load the stage's model if it is not, and let the stage prepare for it."""
        models = self.context.models
        if stage.model is None:
            return
        if models.is_loaded(stage.model) and stage.is_ready(models.get(stage.model)):
            return
        self.phase(spec, "loading")
        stage.prepare(models.get(stage.model))

    def _stage_done(
        self,
        spec: StageOrder,
        stage: Stage,
        files: list[Artifact],
        seconds: float,
        context: StageContext,
        place: Device,
    ) -> StageDone:
        provider = None if stage.model is None else self.context.models.provider(stage.model)
        return StageDone(
            job=self.order.job,
            stage=spec.id,
            type=spec.type,
            provider=provider.name_in_config if provider else None,
            model=self.recipes.model_facts(stage, provider, context),
            params=stage.params(),
            device=place.name,
            dtype=place.dtype,
            batch_size=context.batch_size,
            seconds=round(seconds, 3),
            warnings=context.warnings,
            environment=self.context.environment,
            artifacts=[_record(file) for file in files],
            stage_key=self.recipes.stage_key(spec, stage, context.extra_files),
        )

    def preparation_s(self, stage: Stage) -> float:
        """Seconds that the stage's model may take beyond the limit, if it prepares itself."""
        return self.context.models.provider(stage.model).preparation_s if stage.model else 0.0

    def phase(
        self, spec: StageOrder, phase: str, more_s: float = 0.0, *, on_device: bool = True
    ) -> None:
        """Report the start of a phase of a stage; waiting for other jobs has no time limit."""
        limit = None if phase == WAITING else self.context.stage_timeout_s + more_s
        memory = memory_use(self.context.models.device)
        event = Phase(self.order.job, spec.id, phase, limit, memory=memory, on_device=on_device)
        self.context.emit(event)

    def turns_of(self, stage: Stage) -> Turns:
        """The turns by which jobs use that stage's model."""
        if stage.model is None or self.context.models.provider(stage.model).needs_device:
            return self.context.device
        return self.context.processor

    def _on_step(self, spec: StageOrder, stage: Stage, step: int, steps: int) -> None:
        self.check_cancelled()
        if not self.progress.take(time.monotonic()) and step < steps:
            return
        fraction = (self.done + stage.weight * step / max(steps, 1)) / self.total
        memory = memory_use(self.context.models.device)
        job, share = self.order.job, round(fraction, 4)
        self.context.emit(Progress(job, spec.id, step, steps, share, memory))

    def check_cancelled(self) -> None:
        if self.context.is_cancelled(self.order.job):
            raise Cancelled("cancelled while it ran")


@dataclass(frozen=True, slots=True)
class _NotPrepared:
    """The error with which the model of a shared turn could not be loaded. Each of its jobs raises
    it on its own thread, so that the turn has no error, which would end the worker."""

    error: Exception


class _DeviceUse(DeviceTurns):
    """Gives a stage its turns with the device: see `StageContext.on_device`.

    Attributes:
        not_counted_s: seconds that passed while the stage waited for its turn and its model was
            loaded, which are no part of its own time.
        place: where its model computed in its last turn; None before the first one.
    """

    def __init__(self, job: _Run, spec: StageOrder, stage: Stage) -> None:
        self._job = job
        self._spec = spec
        self._stage = stage
        self._turns = job.turns_of(stage)
        self._is_in_turn = False
        self._waits_since = 0.0
        self.not_counted_s = 0.0
        self.place: Device | None = None

    def take(self, work: Callable[[], T]) -> T:
        if self._is_in_turn:
            return work()
        self._waits_since = time.monotonic()
        job = self._job
        return self._turns.take(
            partial(self._in_turn, work), job.rank, job.check_cancelled, self._wait
        )

    def share(self, key: Hashable, item: A, work: Callable[[Sequence[A]], Sequence[T]]) -> T:
        """Have the turn alone if the order is to be alone, since an error of a shared turn is one
        of each job in it."""
        if self._job.order.alone or self._is_in_turn:
            return self.take(lambda: work([item])[0])

        def in_turn(shares: Sequence[tuple[_DeviceUse, A]]) -> Sequence[T | _NotPrepared]:
            uses = [use for use, _ in shares]
            try:
                self._job.prepare(self._spec, self._stage)
            except Exception as error:
                if is_device_fault(error):
                    raise
                return [_NotPrepared(error) for _ in shares]
            for use in uses:
                use.begin()
            results = work([item for _, item in shares])
            for use in uses:
                use.end()
            return results

        self._waits_since = time.monotonic()
        job, whole = self._job, (self._spec.type, self._stage.model, key)
        result = self._turns.share(
            whole, (self, item), in_turn, job.rank, job.check_cancelled, self._wait
        )
        if not isinstance(result, _NotPrepared):
            return result
        try:
            raise result.error
        finally:
            # The error's frames refer to this one: a reference from here would keep the error, and
            # the memory that its frames hold, until garbage is collected.
            del result

    def _wait(self) -> None:
        self._job.phase(self._spec, WAITING)

    def _in_turn(self, work: Callable[[], T]) -> T:
        self._job.prepare(self._spec, self._stage)
        self.begin()
        self._is_in_turn = True
        try:
            result = work()
        finally:
            self._is_in_turn = False
        self.end()
        return result

    def begin(self) -> None:
        """Note that the stage's model is loaded, and its work begins."""
        job, stage = self._job, self._stage
        on_device = self._turns is job.context.device
        job.phase(self._spec, "running", job.preparation_s(stage), on_device=on_device)
        self.not_counted_s += time.monotonic() - self._waits_since

    def end(self) -> None:
        """Note that the work is done."""
        self.place = self._job.recipes.place_of(self._stage)
        self._job.phase(self._spec, "writing")


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


def _empty(folder: Path) -> None:
    """Make a stage's work folder, or remove what an earlier attempt left there."""
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.iterdir():
        leftover.unlink()


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
