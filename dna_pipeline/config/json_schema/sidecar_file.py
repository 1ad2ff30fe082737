"""The JSON Schema of a sidecar, a job file, and the YAML beside a table: all have the same keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from dna_pipeline.config.batch import BATCH_KEYS
from dna_pipeline.config.json_schema import words
from dna_pipeline.config.json_schema.draft7 import URI, Schema, definition, or_null
from dna_pipeline.config.json_schema.sections import finished, section, stage_section, summary
from dna_pipeline.config.schema import SidecarHead
from dna_pipeline.stages import registry

if TYPE_CHECKING:
    from dna_pipeline.config.schema import Pipeline


def sidecar_schema(pipelines: Mapping[str, Pipeline] | None = None) -> Schema:
    """The schema of a sidecar in draft 7, with all stages that are installed.

    Args:
        pipelines: those of pipeline.yaml. Their names are offered, and the ids of their stages are
            keys. Another pipeline's name is accepted too, since one may be added later.
    """
    head, definitions = section(SidecarHead)
    keys: dict[str, Schema] = {name: or_null(each) for name, each in head["properties"].items()}
    stages = {name: [name] for name in registry.stage_types()}
    for name in stages:
        parameters, more = stage_section(registry.stage_class(name), name)
        definitions |= more | {name: parameters}
    stages |= _stages_by_id(pipelines or {})
    if pipelines:
        keys["pipeline"] = _with_choices(keys["pipeline"], pipelines)
    keys["matrix"] = _matrix(keys, definitions, stages)
    keys |= {name: _stage(types) for name, types in stages.items()}
    schema: Schema = {"type": ["object", "null"], "additionalProperties": False, "properties": keys}
    return {
        "$schema": URI,
        "title": "sidecar or job file of dna-pipeline",
        **finished(schema),
        "description": "How the image of the same name, or the images named here, are to be done.",
        "definitions": {name: finished(each) for name, each in definitions.items()},
    }


def _stages_by_id(pipelines: Mapping[str, Pipeline]) -> dict[str, list[str]]:
    """Types of the stages by their ids. Two pipelines may give one id to stages of two types."""
    types: dict[str, list[str]] = {}
    for pipeline in pipelines.values():
        for stage in pipeline.stages:
            if stage.type not in types.setdefault(stage.id, []):
                types[stage.id].append(stage.type)
    return types


def _stage(types: list[str]) -> Schema:
    """The parameters of a stage, or false where it may be left out.

    It is no choice of two, since editors would then show the faults of both at the stage's key.
    """
    kinds = [registry.stage_class(name) for name in types]
    if all(kind.consumes != kind.produces for kind in kinds):
        return _one_of(types)
    about = " ".join(filter(None, (*map(summary, kinds), "False leaves the stage out.")))
    return {"description": about, "if": {"const": False}, "else": _one_of(types)}


def _one_of(types: list[str]) -> Schema:
    choices = [definition(name) for name in types]
    return choices[0] if len(choices) == 1 else {"anyOf": choices}


def _with_choices(schema: Schema, pipelines: Iterable[str]) -> Schema:
    rest = {key: value for key, value in schema.items() if key != "type"}
    return {**rest, "anyOf": [{"enum": list(pipelines)}, {"type": schema["type"]}]}


def _matrix(
    keys: Mapping[str, Schema],
    definitions: Mapping[str, Schema],
    stages: Mapping[str, list[str]],
) -> Schema:
    """Lists of values by `img2img.strength`, by a whole stage, or by a key of the sidecar."""
    own = {key: _without_text(each) for key, each in keys.items() if key not in BATCH_KEYS}
    rows = {key: _several(each) for key, each in own.items()}
    patterns = {r"^meta\.": _several({})}
    for name, types in stages.items():
        parameters = {kind: definitions[kind]["properties"] for kind in types}
        rows[name] = _several(_stage(types))
        rows |= {f"{name}.{key}": each for key, each in _rows_of(parameters)}
        patterns |= {rf"^{name}\.{key}\.": each for key, each in _inner_rows_of(parameters)}
    return {
        **keys["matrix"],
        "additionalProperties": False,
        "patternProperties": patterns,
        "properties": rows,
    }


def _rows_of(parameters: Mapping[str, Schema]) -> Iterator[tuple[str, Schema]]:
    """The parameters of stages of one name, each with a schema for a list of its values.

    Args:
        parameters: for each type of such stages, its parameters.
    """
    for key in sorted({key for own in parameters.values() for key in own}):
        kinds = [kind for kind, own in parameters.items() if key in own]
        yield key, _several(_one_of([f"{kind}/properties/{key}" for kind in kinds]))


def _inner_rows_of(parameters: Mapping[str, Schema]) -> Iterator[tuple[str, Schema]]:
    """As `_rows_of`, for the values in parameters that are mappings: `img2img.loras.clay`."""
    inner: dict[str, list[Schema]] = {}
    for own in parameters.values():
        for key, each in own.items():
            if value := each.get("additionalProperties"):
                inner.setdefault(key, []).append(value)
    for key, values in inner.items():
        yield key, _several({"anyOf": values})


def _without_text(schema: Schema) -> Schema:
    left_out = ("description", "default", *words.EXTRAS)
    return {key: value for key, value in schema.items() if key not in left_out}


def _several(schema: Schema) -> Schema:
    return {"type": "array", "minItems": 1, "items": schema}
