"""Keys and recipes of the stages of one order: what decides the bytes of a stage's files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import takewhile
from typing import Any

from dna_pipeline import __version__
from dna_pipeline.base.errors import WeightsMissing
from dna_pipeline.base.files import sha256_of_inputs
from dna_pipeline.execution.protocol import Order, OrderInput, StageOrder
from dna_pipeline.execution.worker.context import WorkerContext
from dna_pipeline.execution.worker.marking import Marking
from dna_pipeline.providers.base import Device, Provider
from dna_pipeline.stages.base import ExtraFile, Stage, StageContext
from dna_pipeline.stages.stage_key import provider_options
from dna_pipeline.stages.stage_key import stage_key as key_of

ON_CPU = Device("cpu", "float32")
"""Device that is recorded for a stage without a model."""


class Recipes:
    """Keys and recipes of an order's stages, which are asked for one after another.

    Args:
        stages: those of the order.

    Attributes:
        input_sha256: SHA-256 of the file that the current stage reads.
        used_models: facts about the models of finished stages, by stage, as their runs recorded
            them. Only a run finds out which textual inversions its prompts used.
    """

    def __init__(
        self, order: Order, context: WorkerContext, stages: Sequence[Stage], marking: Marking
    ) -> None:
        self._order = order
        self._context = context
        self._stages = stages
        self._marking = marking
        self.input_sha256 = sha256_of_inputs((file.role, file.sha256) for file in order.inputs)
        self.used_models: dict[str, dict[str, Any]] = {}

    def stage_key(
        self, spec: StageOrder, stage: Stage, extra_files: Mapping[str, ExtraFile]
    ) -> str:
        provider = self._context.models.provider(stage.model) if stage.model else None
        weights = None if provider is None else self._context.fingerprint(provider)[1]
        files = {name: file.sha256 for name, file in extra_files.items()}
        inputs, marking = self._inputs_sha256(stage), self._marking.for_stage_key(stage)
        return key_of(stage, spec.stem, inputs, provider, weights, files, marking)

    def model_key(self, stage: Stage) -> dict[str, Any] | None:
        """Everything about a stage's model that decides what it makes. Raises as `stage_key`."""
        if stage.model is None:
            return None
        provider = self._context.models.provider(stage.model)
        files = {name: file.sha256 for name, file in self.extra_files(stage).items()}
        _, weights = self._context.fingerprint(provider)
        return {"options": provider_options(provider), "weights": weights, "files": files}

    def extra_files(self, stage: Stage) -> dict[str, ExtraFile]:
        """Raises `WeightsMissing`, or OSError for a file that cannot be read."""
        if self._context.data is None:
            return {}
        paths = stage.extra_files(self._context.data)
        return {n: ExtraFile(path, self._context.hash_file(path)) for n, path in paths.items()}

    def _inputs_sha256(self, stage: Stage) -> str:
        """Hash of all files that the stage reads. That of the first stage's input includes all
        companions of the job already."""
        companions = self.companions_of(stage)
        if stage is self._stages[0] or not companions:
            return self.input_sha256
        files = [("image", self.input_sha256), *((f.role, f.sha256) for f in companions)]
        return sha256_of_inputs(files)

    def companions_of(self, stage: Stage) -> list[OrderInput]:
        """The companions that go to that stage: those that it names, and of those beside the image
        the ones that it needs and no stage before it does."""
        needs = stage.companions()
        for other in takewhile(lambda other: other is not stage, self._stages):
            got = (role for role, reference in other.companions().items() if not reference)
            needs = {role: needs[role] for role in needs if needs[role] or role not in got}
        return [file for file in self._order.inputs[1:] if needs.get(file.role) == file.reference]

    def recipe(self, last: StageOrder) -> dict[str, Any]:
        """How the stage's files are made: program version, source, and all stages up to this one.
        Time, place and job are left out, so that equal work gives an equal recipe."""
        until = self._order.stages.index(last) + 1
        stages = [
            {
                "id": spec.id,
                "type": spec.type,
                **self._model_options(spec, stage),
                "params": stage.result_params(),
            }
            for spec, stage in zip(self._order.stages[:until], self._stages[:until], strict=True)
        ]
        image, *companions = self._order.inputs
        source: dict[str, Any] = {"sha256": image.sha256}
        source |= {file.reference or file.role: {"sha256": file.sha256} for file in companions}
        return {"version": __version__, "input": source, "stages": stages}

    def _model_options(self, spec: StageOrder, stage: Stage) -> dict[str, Any]:
        if stage.model is None:
            return {"provider": None, "model": None}
        provider, sha256 = self._context.models.provider(stage.model), None
        licence = provider.license
        with suppress(OSError):  # the weights of a finished stage may have been removed since
            _, sha256 = self._context.fingerprint(provider)
            licence = self._context.licence(provider)
        model = {"name": stage.model, "sha256": sha256, "license": licence}
        with suppress(OSError, WeightsMissing):
            model |= stage.model_facts(self.extra_files(stage))
        used = self.used_models.get(spec.id, {})
        model |= {name: fact for name, fact in used.items() if name != "path"}
        return {"provider": provider.name_in_config, "model": model}

    def model_facts(
        self, stage: Stage, provider: Provider | None, context: StageContext
    ) -> dict[str, Any] | None:
        if stage.model is None or provider is None:
            return None
        path, sha256 = self._context.fingerprint(provider)
        licence = self._context.licence(provider)
        facts: dict[str, Any] = {
            "name": stage.model, "path": path, "sha256": sha256, "license": licence
        }  # fmt: skip
        return facts | stage.model_facts(context.extra_files) | context.model_facts

    def requested_place(self, stage: Stage) -> Device:
        """Device and number type that the stage's model is to compute in, loaded or not."""
        if stage.model is None:
            return ON_CPU
        models = self._context.models
        return models.provider(stage.model).place_on(models.device)

    def place_of(self, stage: Stage) -> Device:
        """Device of a stage that does not report its own: that of its model."""
        return ON_CPU if stage.model is None else self._context.models.computes_on(stage.model)
