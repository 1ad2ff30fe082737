"""Sections of the schemas: the keys of one model, of a stage or of a provider."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, JsonSchemaWarningKind

from dna_pipeline.config.json_schema import words
from dna_pipeline.config.json_schema.draft7 import (
    Schema,
    convert,
    definition,
    is_schema,
    or_null,
)

if TYPE_CHECKING:
    from dna_pipeline.stages.base import Stage


class _Tolerant(GenerateJsonSchema):
    """Writes a schema for any model: a key whose type has none accepts every value.

    Stages and providers of other packages may use such types, and must not take the schema of all
    the others with them.
    """

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchemaValue:
        return {}

    def emit_warning(self, kind: JsonSchemaWarningKind, detail: str) -> None:
        pass


def section(model: type[BaseModel], name: str = "") -> tuple[Schema, dict[str, Schema]]:
    """The schema of a mapping with the model's keys, and the definitions that it refers to.

    Args:
        name: start of the definitions' names.
    """
    written = model.model_json_schema(schema_generator=_Tolerant)
    schema = convert(written, f"{name}." if name else "")
    definitions = schema.pop("definitions", {})
    schema["additionalProperties"] = False
    schema.setdefault("properties", {})
    schema.pop("description", None)
    if doc := summary(model):
        schema["description"] = doc
    return schema, definitions


def summary(model: type[BaseModel]) -> str:
    """The first paragraph of the model's own docstring, on one line."""
    text = inspect.cleandoc(vars(model).get("__doc__") or "").split("\n\n")[0]
    return " ".join(text.split())


def stage_section(stage: type[Stage], name: str) -> tuple[Schema, dict[str, Schema]]:
    """The parameters of a stage under all their names. Null stands for no parameters.

    A parameter may be missing, since another place may set it.

    Args:
        name: name of the definition that the schema will have.
    """
    schema, definitions = section(stage, name)
    schema.pop("required", None)
    own: dict[str, Schema] = schema["properties"]
    for parameter, pattern in stage.other_words.items():
        own[parameter] = _with_other_words(own[parameter], pattern)
    names = spellings(stage)
    for parameter, (_, *aliases) in names.items():
        own[parameter] = {**own[parameter], words.ALIASES: aliases}
        own |= {alias: _alias(parameter, name) for alias in aliases}
    if names:
        schema["dependencies"] = {
            name: rest for each in names.values() for name, rest in _alone(each)
        }
    return or_null(schema), definitions


def spellings(stage: type[Stage]) -> dict[str, list[str]]:
    """The parameters that have aliases, each with all its names, its own first."""
    names: dict[str, list[str]] = {}
    for alias, parameter in stage.aliases.items():
        names.setdefault(parameter, [parameter]).append(alias)
    return names


def _alone(names: list[str]) -> Iterator[tuple[str, Schema]]:
    """For each of a parameter's names, that no other one stands beside it."""
    for name in names:
        others = [{"required": [other]} for other in names if other != name]
        yield name, {"not": {"anyOf": others}}


def _alias(parameter: str, stage_name: str) -> Schema:
    return {
        "description": f"The same as `{parameter}`.",
        "doNotSuggest": True,
        "allOf": [definition(f"{stage_name}/properties/{parameter}")],
    }


def _with_other_words(schema: Schema, pattern: str) -> Schema:
    """The schema, which accepts texts of that pattern too."""
    about = {key: schema[key] for key in ("description", "default", *words.EXTRAS) if key in schema}
    rest = {key: value for key, value in schema.items() if key not in about}
    choices = [rest, {"type": "string", "pattern": pattern}]
    return {**about, words.VALUES: words.values(schema), "anyOf": choices}


_VALUES = ("const", "default", "enum", "examples")
"""Keywords whose values are no schemas."""
_KINDS = ("type", "anyOf", "oneOf", "enum", "const")


def finished(schema: Schema) -> Schema:
    """The schema as editors read it: the facts about each key have become its description."""
    result: Schema = {}
    for key, value in schema.items():
        if key in _VALUES:
            result[key] = value
        elif key == "properties":
            required: list[str] = schema.get("required", [])
            result[key] = {
                name: _described(each, is_required=name in required) for name, each in value.items()
            }
        elif key not in words.EXTRAS:
            result[key] = _finished_part(value)
    if "pattern" in schema and words.VALUES in schema:
        # yaml-language-server shows it in place of the pattern.
        result["patternErrorMessage"] = f"Should be: {schema[words.VALUES]}."
    return result


def _finished_part(value: Any) -> Any:
    if isinstance(value, list):
        return [_finished_part(each) for each in value]  # type: ignore[reportUnknownVariableType]
    return finished(value) if is_schema(value) else value


def _described(schema: Any, *, is_required: bool) -> Any:
    if not is_schema(schema):
        return schema
    own = finished(schema)
    if is_value(schema):
        return {**own, "description": words.sentence(schema, is_required=is_required)}
    if "description" in own:
        own["description"] = words.capitalised(own["description"])
    return own


def is_value(schema: Schema) -> bool:
    """True for a key that has a value, not keys of its own."""
    has_values = not schema.keys().isdisjoint(_KINDS)
    return has_values and "properties" not in schema
