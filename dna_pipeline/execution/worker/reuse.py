"""Takes results of stages that were computed before, and keeps new ones for later jobs.

Whatever is wrong with the store, the job goes on: the stage is computed then.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import structlog

from dna_pipeline.base.errors import WeightsMissing
from dna_pipeline.base.ipc import PipeError
from dna_pipeline.execution.protocol import (
    Order,
    StageDone,
    StageOrder,
    event_from_message,
    event_to_message,
)
from dna_pipeline.execution.result_store import ALL, ResultStore
from dna_pipeline.execution.worker.context import WorkerContext
from dna_pipeline.execution.worker.program import plugin_sha256
from dna_pipeline.execution.worker.recipes import ON_CPU, Recipes
from dna_pipeline.providers.base import KeptParts
from dna_pipeline.stages.base import Stage

log = structlog.get_logger()

T = TypeVar("T")


class Reuse:
    """The store of results, as the stages of one order use it."""

    def __init__(self, order: Order, context: WorkerContext, recipes: Recipes) -> None:
        self._order = order
        self._context = context
        self._recipes = recipes
        self._store = context.store
        """None once keeping a result failed: that is tried once a job."""
        self._stage_key: str | None = None
        """The stage's key that the last `key` was made from; None if that gave none."""

    def key(self, spec: StageOrder, stage: Stage) -> str | None:
        """The key of the stage's result in the store; None if it is to be computed.

        Two results with one key have the same bytes. Besides the stage's key it covers what a
        resumed job may go on with and another job may not: the code, the libraries, the device and
        its number type, and all that the marks say of the stages before.
        """
        self._stage_key = None
        if self._context.store is None or stage.reuse == "off":
            return None
        try:
            parts = self._key_parts(spec, stage)
        except (OSError, WeightsMissing):
            return None  # the stage reports what is missing
        return hash_of(parts)

    def _key_parts(self, spec: StageOrder, stage: Stage) -> dict[str, Any]:
        recipes = self._recipes
        self._stage_key = recipes.stage_key(spec, stage, recipes.extra_files(stage))
        return {
            "stage_key": self._stage_key,
            "id": spec.id,
            "recipe": None if stage.metadata == "none" else recipes.recipe(spec),
            **self._maker(stage),
        }

    def is_key_right(self, spec: StageOrder, stage: Stage) -> bool:
        """True if the files that the stage's `key` was made from are still the same.

        The model and the further files are read in the stage's turn, for which the job may have
        waited for minutes. To be asked before the recipes go on to the next stage.
        """
        if self._stage_key is None:
            return False
        recipes = self._recipes
        with suppress(OSError, WeightsMissing):
            now = recipes.stage_key(spec, stage, recipes.extra_files(stage))
            return now == self._stage_key
        return False

    def _maker(self, stage: Stage) -> dict[str, Any]:
        """The code that computes a stage, and the device that it does so on."""
        kinds: list[type] = [type(stage)]
        if stage.model is not None:
            kinds.append(type(self._context.models.provider(stage.model)))
        place = self._recipes.requested_place(stage)
        return {
            "code": [self._context.code, *map(plugin_sha256, kinds)],
            "environment": self._context.environment,
            "threads": self._context.threads if place.name == ON_CPU.name else None,
            "device": place.name,
            "dtype": place.dtype,
        }

    def take(
        self, key: str | None, spec: StageOrder, stage: Stage, folder: Path
    ) -> StageDone | None:
        """Copy the kept files into the stage's work folder, which is empty; None if the stage has
        to be computed."""
        if key is None or self._context.store is None:
            return None
        started = time.monotonic()
        facts = self._context.store.take(key, folder)
        if facts is None:
            return None
        try:
            done = event_from_message(facts)
            if not isinstance(done, StageDone):
                raise PipeError(f"{done.kind} is no result")
            reused = self._as_ours(done, spec, stage, started)
        except (PipeError, OSError, WeightsMissing) as error:
            log.warning("result.not_taken", key=key, why=str(error))
            for path in folder.iterdir():
                path.unlink()
            return None
        self._note(spec, key)
        return reused

    def _as_ours(
        self, done: StageDone, spec: StageOrder, stage: Stage, started: float
    ) -> StageDone:
        """The event of a result, as that of this job."""
        origin = {"job": done.job, "stage": done.stage, "part": ALL, "seconds": done.seconds}
        log.info("stage.reused", job=self._order.job, stage=spec.id, of=done.job)
        return replace(
            done,
            job=self._order.job,
            stage=spec.id,
            model=self._model_facts(stage, done.model),
            params=stage.params(),
            seconds=round(time.monotonic() - started, 3),
            stage_key=self._stage_key or done.stage_key,
            reused_from=origin,
        )

    def _model_facts(self, stage: Stage, facts: dict[str, Any] | None) -> dict[str, Any] | None:
        """Facts about the model, with its place and licence as they are now."""
        if stage.model is None or facts is None:
            return facts
        provider = self._context.models.provider(stage.model)
        path, _ = self._context.fingerprint(provider)
        return facts | {"path": path, "license": self._context.licence(provider)}

    def keep(self, key: str | None, spec: StageOrder, done: StageDone, folder: Path) -> None:
        """Keep a stage's files for later jobs."""
        if key is None or self._store is None:
            return
        files = [(folder / file.path, file.sha256) for file in done.artifacts]
        try:
            self._store.keep(key, event_to_message(done), files)
            self._note(spec, key)
        except OSError as error:
            self._give_up(done.stage, error)

    def _note(self, spec: StageOrder, key: str) -> None:
        if spec.request and self._context.store is not None:
            self._context.store.note_request(spec.request, key)

    def _give_up(self, stage: str, error: OSError) -> None:
        """Keep nothing more of this job: it would fail again, once a stage."""
        self._store = None
        log.warning("result.not_kept", job=self._order.job, stage=stage, why=str(error))

    def parts(self, spec: StageOrder, stage: Stage) -> PartsOfStage | None:
        """The parts of the stage's work that are kept; None if it is to compute all of it."""
        if self._store is None or stage.reuse == "off" or stage.model is None:
            return None
        with suppress(OSError, WeightsMissing):  # the stage reports what is missing
            maker = {"model": self._recipes.model_key(stage)} | self._maker(stage)
            is_model_same = partial(self._is_model, stage, maker["model"])
            return PartsOfStage(
                self._store, maker, is_model_same, self._order.job, spec, self._give_up
            )
        return None

    def _is_model(self, stage: Stage, key: dict[str, Any] | None) -> bool:
        """True if the files of the stage's model still have that key."""
        with suppress(OSError, WeightsMissing):
            return self._recipes.model_key(stage) == key
        return False


def hash_of(values: dict[str, Any]) -> str:
    """Hexadecimal SHA-256 of plain values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


class PartsOfStage(KeptParts):
    """The store of results, as one run of a stage uses it for parts of its work.

    Args:
        maker: the model, code and device that make the parts.
        is_model_same: whether the model's files are still those of `maker`; the model is read
            later than that is made.
        give_up: called with the stage and the error that kept a part from being kept.

    Attributes:
        origin: `reused_from` of the stage, if a part was taken.
    """

    def __init__(
        self,
        store: ResultStore,
        maker: dict[str, Any],
        is_model_same: Callable[[], bool],
        job: str,
        spec: StageOrder,
        give_up: Callable[[str, OSError], None],
    ) -> None:
        self._store = store
        self._maker = maker
        self._is_model_same = is_model_same
        self._job = job
        self._spec = spec
        self._stage = spec.id
        self._report = give_up
        self.origin: dict[str, Any] | None = None

    def take(self, part: str, of: Mapping[str, Any], load: Callable[[bytes], T | None]) -> T | None:
        entry = self._store.read(self._key(part, of)) if self._is_model_same() else None
        value = None if entry is None else load(entry[1])
        if entry is None or value is None:
            return None
        self.origin = {name: entry[0].get(name) for name in ("job", "stage", "part", "seconds")}
        self._note(part, of)
        log.info("part.reused", job=self._job, stage=self._stage, part=part, of=entry[0].get("job"))
        return value

    def keep(self, part: str, of: Mapping[str, Any], data: bytes, seconds: float) -> None:
        if not self._is_model_same():
            return
        facts = {"job": self._job, "stage": self._stage, "part": part, "seconds": round(seconds, 3)}
        try:
            self._store.keep_bytes(self._key(part, of), facts, part, data)
            self._note(part, of)
        except OSError as error:
            self._report(self._stage, error)

    def _note(self, part: str, of: Mapping[str, Any]) -> None:
        if self._spec.part_request:
            self._store.note_request(self._spec.part_request, self._key(part, of))

    def _key(self, part: str, of: Mapping[str, Any]) -> str:
        return hash_of({"part": part, "of": dict(of), **self._maker})
