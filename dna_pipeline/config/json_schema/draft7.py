"""Conversion of a JSON Schema from draft 2020-12, as pydantic writes it, to draft 7.

Editors read YAML by yaml-language-server, which knows draft 7 and ignores newer keywords, so that
a schema of 2020-12 would check less there than it says.

Source: "Migrating from older drafts" and the release notes of the drafts, on json-schema.org.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

URI = "http://json-schema.org/draft-07/schema#"

Schema = dict[str, Any]

_SCHEMAS_BY_NAME = {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"}
_SCHEMA_LISTS = {"allOf", "anyOf", "oneOf"}
_SCHEMAS = {
    "additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then",
}  # fmt: skip
_DROPPED = {
    "$anchor", "$dynamicAnchor", "$dynamicRef", "contentSchema", "discriminator", "maxContains",
    "minContains", "title", "unevaluatedItems", "unevaluatedProperties",
}  # fmt: skip
"""Keywords without a counterpart in draft 7, and pydantic's titles, which repeat the keys. Without
them the schema accepts more, never less."""
_OLD_DEFINITIONS = "#/$defs/"


def definition(name: str) -> Schema:
    """A reference to the definition of that name."""
    return {"$ref": f"#/definitions/{name}"}


def convert(schema: Mapping[str, Any], prefix: str = "") -> Schema:
    """The schema in draft 7.

    Args:
        prefix: start of the names of its definitions, so that those of several schemas do not clash
            in one file.
    """
    result: Schema = {}
    for key, value in schema.items():
        if key not in _DROPPED:
            result |= _keyword(key, value, schema, prefix)
    return _nullable(_separate_reference(result))


def _keyword(key: str, value: Any, schema: Mapping[str, Any], prefix: str) -> Schema:
    if key in _SCHEMAS_BY_NAME:
        return _named(key, value, prefix)
    if key in _SCHEMA_LISTS:
        return {key: [convert(each, prefix) for each in value]}
    if key == "items" and "prefixItems" in schema:
        return {"additionalItems": _convert_any(value, prefix)}
    if key == "prefixItems":
        return {"items": [_convert_any(each, prefix) for each in value]}
    if key in _SCHEMAS:
        return {key: _convert_any(value, prefix)}
    if key == "dependentRequired":
        return {"dependencies": value}
    if key == "$ref":
        return definition(prefix + str(value).removeprefix(_OLD_DEFINITIONS))
    return {key: value}


def _named(key: str, value: Mapping[str, Any], prefix: str) -> Schema:
    is_definition = key in ("$defs", "definitions")
    own = {
        (prefix if is_definition else "") + name: _convert_any(each, prefix)
        for name, each in value.items()
    }
    new_keys = {"$defs": "definitions", "dependentSchemas": "dependencies"}
    return {new_keys.get(key, key): own}


def _convert_any(value: Any, prefix: str) -> Any:
    return convert(value, prefix) if is_schema(value) else value


def is_schema(value: Any) -> TypeGuard[Schema]:
    """True for a schema that is a mapping; `true` and `false` are schemas too."""
    return isinstance(value, dict)


def _separate_reference(schema: Schema) -> Schema:
    """The schema with `$ref` on its own, since draft 7 ignores all keywords beside it."""
    if "$ref" not in schema or len(schema) == 1:
        return schema
    rest = {key: value for key, value in schema.items() if key != "$ref"}
    return {"allOf": [{"$ref": schema["$ref"]}], **rest}


def _nullable(schema: Schema) -> Schema:
    """`anyOf` of one type and null as that type with null, for which editors write plain messages.

    `nullable: true`, as OpenAPI 3.0 writes it, means the same.
    """
    is_nullable = schema.pop("nullable", False)
    choices = schema.get("anyOf", [])
    others = [each for each in choices if each != {"type": "null"}]
    if len(choices) == len(others) + 1 and len(others) == 1:
        rest = {key: value for key, value in schema.items() if key != "anyOf"}
        return or_null({**others[0], **rest}) if "type" in others[0] else schema
    return or_null(schema) if is_nullable else schema


def or_null(schema: Schema) -> Schema:
    """The schema, which accepts null too."""
    types: Any = schema.get("type")
    if types is None or "const" in schema:
        if {"type": "null"} in schema.get("anyOf", []):
            return schema
        if "anyOf" in schema:
            return {**schema, "anyOf": [*schema["anyOf"], {"type": "null"}]}
        kept = {key: schema[key] for key in ("description", "default") if key in schema}
        return {"anyOf": [schema, {"type": "null"}], **kept}
    listed: list[str] = [types] if isinstance(types, str) else types
    if "null" in listed:
        return schema
    result = {**schema, "type": [*listed, "null"]}
    return result | {"enum": [*schema["enum"], None]} if "enum" in schema else result
