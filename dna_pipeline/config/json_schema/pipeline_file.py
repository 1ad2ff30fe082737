"""The JSON Schema of pipeline.yaml."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dna_pipeline.config.file_parts import (
    PathsSpec,
    RetentionSpec,
    RuntimeSpec,
    ServeSpec,
    SigningSpec,
)
from dna_pipeline.config.json_schema.draft7 import URI, Schema, definition, or_null
from dna_pipeline.config.json_schema.sections import finished, section, stage_section
from dna_pipeline.config.receivers import ReceiverSpec
from dna_pipeline.config.schema import ID_PATTERN, InboxSpec, PipelineFile
from dna_pipeline.providers.checkpoints import ANY_NAME
from dna_pipeline.stages import registry

if TYPE_CHECKING:
    from pydantic import BaseModel

    from dna_pipeline.stages.base import Stage

PROVIDER = "word of the provider that runs the weights"
STAGE_ID = (
    "name of the stage in sidecars and in names of files; needed if a pipeline has two stages of "
    "one type"
)
CHECKPOINTS = "folder in which each checkpoint is a model by its name without the ending"


def pipeline_schema() -> Schema:
    """The schema of pipeline.yaml in draft 7, with all stages and providers that are installed."""
    schema, definitions = _file()
    for name in registry.stage_types():
        _add_stage(definitions, name, registry.stage_class(name))
    for name in registry.provider_names():
        _add_provider(definitions, name)
    definitions["model"] = _model()
    definitions["inbox"] = _inbox(definitions)
    receiver, more = section(ReceiverSpec, "receiver")
    definitions |= more | {"receiver": receiver}
    return {
        "$schema": URI,
        "title": "pipeline.yaml of dna-pipeline",
        **finished(schema),
        "description": "Folders, models, pipelines and inboxes of dna-pipeline.",
        "definitions": {name: finished(each) for name, each in definitions.items()},
    }


def provider_key() -> Schema:
    """The schema of the key `provider` of a model."""
    return {"type": "string", "enum": registry.provider_names(), "description": PROVIDER}


def stage_id_key(name: str) -> Schema:
    """The schema of the key `id` of such a stage in a pipeline."""
    pattern = f"^{ID_PATTERN}$"
    about = {"description": STAGE_ID, "default_words": name}
    return {"type": "string", "pattern": pattern, **about, "values": "letters, digits and _"}


def _file() -> tuple[Schema, dict[str, Schema]]:
    schema, definitions = section(PipelineFile)
    own: dict[str, Schema] = schema["properties"]
    parts: dict[str, type[BaseModel]] = {
        "paths": PathsSpec, "runtime": RuntimeSpec, "retention": RetentionSpec,
        "c2pa": SigningSpec, "serve": ServeSpec,
    }  # fmt: skip
    for key, model in parts.items():
        part, more = section(model)
        definitions |= more
        own[key] = or_null({**part, "description": own[key]["description"]})
    stages = {"type": "array", "minItems": 1, "items": _stage()}
    own["models"] |= {
        "properties": {ANY_NAME: {"type": "string", "description": CHECKPOINTS}},
        "additionalProperties": definition("model"),
    }
    own["pipelines"] |= {"minProperties": 1, "additionalProperties": stages}
    own["inboxes"] |= {"items": definition("inbox")}
    own["notify"] |= {"items": definition("receiver")}
    return schema, definitions


def _stage() -> Schema:
    return {
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": False,
        "properties": {name: definition(f"pipeline.{name}") for name in registry.stage_types()},
    }


def _add_stage(definitions: dict[str, Schema], name: str, stage: type[Stage]) -> None:
    """Add the parameters of a stage, and the same with the stage's id and what it requires."""
    parameters, more = stage_section(stage, name)
    definitions |= more | {name: parameters}
    own = {key: definition(f"{name}/properties/{key}") for key in parameters["properties"]}
    entry = {**parameters, "properties": {"id": stage_id_key(name), **own}}
    spellings = {*stage.aliases, *stage.aliases.values()}
    fields = stage.model_fields.items()
    if required := [key for key, f in fields if f.is_required() and key not in spellings]:
        entry["required"] = required
    definitions[f"pipeline.{name}"] = entry


def _add_provider(definitions: dict[str, Schema], name: str) -> None:
    schema, more = section(registry.provider_class(name), f"models.{name}")
    schema["properties"] = {"provider": provider_key(), **schema["properties"]}
    definitions |= more | {f"models.{name}": schema}


def _model() -> Schema:
    """An entry of `models:`, whose keys depend on its provider."""
    return {
        "type": "object",
        "required": ["provider"],
        "properties": {"provider": provider_key()},
        "allOf": [
            {
                "if": {"properties": {"provider": {"const": name}}, "required": ["provider"]},
                "then": definition(f"models.{name}"),
            }
            for name in registry.provider_names()
        ],
    }


def _inbox(definitions: dict[str, Schema]) -> Schema:
    schema, more = section(InboxSpec, "inbox")
    definitions |= more
    stages = registry.stage_types()
    schema["properties"]["defaults"] |= {
        "properties": {name: definition(name) for name in stages},
        "additionalProperties": {"anyOf": [definition(name) for name in stages]},
    }
    return schema
