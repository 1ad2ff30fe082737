"""The state of daemon, queue and models as a server shows it, put together once for all who ask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dna_pipeline.base.files import read_json
from dna_pipeline.base.reachability import brief_looks
from dna_pipeline.config.json_schema.draft7 import definition
from dna_pipeline.config.json_schema.sections import finished, stage_section
from dna_pipeline.config.schema import Config
from dna_pipeline.operations.daemon.lock import is_held
from dna_pipeline.operations.models.listing import list_models
from dna_pipeline.operations.overview import Overview, make_overview
from dna_pipeline.operations.serving.kept_answers import KeptAnswer
from dna_pipeline.operations.status import file_of, read_daemon_and_queue
from dna_pipeline.stages import registry

STATUS_KEPT_S = 1.0
MODELS_KEPT_S = 10.0


class Board:
    """Answers questions about one data folder. Threads may share it."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._fields = KeptAnswer(self._read, STATUS_KEPT_S)
        self._models = KeptAnswer(lambda: list_models(config), MODELS_KEPT_S)

    def _read(self) -> Mapping[str, Any]:
        """Read what the daemon has put together, which costs little; the ledger where none runs."""
        if is_held(self._config.data):
            with brief_looks() as look:
                is_silent = look(self._config.outbox).is_silent
            reported = None if is_silent else read_json(file_of(self._config.outbox))
            if reported is not None and reported.get("daemon") is not None:
                return reported
        return read_daemon_and_queue(self._config).fields

    def fields(self) -> Mapping[str, Any]:
        """The fields of `status.json`. Raises `ConfigError` if the ledger cannot be read."""
        return self._fields.get()

    def overview(self) -> Overview:
        """The fields as typed values. Raises as `fields`."""
        return make_overview(self._config, self.fields())

    def forget(self) -> None:
        """Look anew at the next question, since something was changed."""
        self._fields.forget()

    def models(self) -> list[dict[str, Any]]:
        """The models, as `list_models` gives them."""
        return self._models.get()


def list_pipelines(config: Config) -> list[dict[str, Any]]:
    """List the pipelines: `name`, and `stages` with `id`, `type`, `params` as pipeline.yaml has
    them, and `parameters`, a JSON Schema of all parameters that jobs may set."""
    return [
        {
            "name": name,
            "stages": [
                {
                    "id": stage.id, "type": stage.type, "params": dict(stage.params),
                    "parameters": parameters_of(stage.type),
                }
                for stage in pipeline.stages
            ],
        }
        for name, pipeline in config.pipelines.items()
    ]  # fmt: skip


def parameters_of(stage_type: str) -> dict[str, Any]:
    """The parameters of a type of stage, under all their names, as a JSON Schema (draft 7)."""
    schema, definitions = stage_section(registry.stage_class(stage_type), stage_type)
    all_definitions = {stage_type: schema, **definitions}
    return {
        **definition(stage_type),
        "definitions": {name: finished(each) for name, each in all_definitions.items()},
    }
