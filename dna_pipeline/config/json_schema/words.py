"""Values, defaults and units of a key in words, as editors show them and the reference lists them.

They are read from the key's JSON Schema, so that they cannot differ from what is checked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from dna_pipeline.config.yaml12 import is_list, is_mapping

_NOUNS = {
    "array": "list",
    "boolean": "true or false",
    "integer": "whole number",
    "null": "null",
    "number": "number",
    "object": "mapping",
    "string": "text",
}
_BOUNDS = {
    "exclusiveMinimum": "more than",
    "minimum": "at least",
    "exclusiveMaximum": "less than",
    "maximum": "at most",
}
_MOST_SHOWN = 10**15
"""Bounds above it are those of the machine's numbers, which say nothing to a person."""
_PLAIN = re.compile(r"[A-Za-z_./*<>][\w ./*<>:-]*")
_WORDS = frozenset({"", "null", "true", "false", "~"})

UNIT, VALUES, DEFAULT_WORDS, ALIASES = "unit", "values", "default_words", "aliases"
"""Keys that a field's `json_schema_extra` may hold: unit of its value; its values in words, where
the schema has only a pattern; its default in words, where it depends on other keys. And one that
the schema of a stage adds: further names of the key."""
EXTRAS = (UNIT, VALUES, DEFAULT_WORDS, ALIASES)


def as_yaml(value: Any) -> str:
    """A default or a choice on one line, as people write it in YAML."""
    if isinstance(value, str):
        is_plain = value not in _WORDS and _PLAIN.fullmatch(value) is not None
        return value if is_plain else json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return f"[{', '.join(map(as_yaml, value))}]"  # type: ignore[reportUnknownArgumentType]
    if isinstance(value, float) and value.is_integer():
        return f"{value:.1f}" if abs(value) < _MOST_SHOWN else f"{value:g}"
    return json.dumps(value, ensure_ascii=False)


def values(schema: Mapping[str, Any]) -> str:
    """The values that a key may have: `whole number from 1 to 1000`, `keep, white`."""
    if VALUES in schema:
        return schema[VALUES]
    if "const" in schema:
        return as_yaml(schema["const"])
    schema = _without_default_null(schema)
    if "enum" in schema:
        return ", ".join(map(as_yaml, schema["enum"]))
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(dict.fromkeys(map(values, schema[key])))
    types: Any = schema.get("type", [])
    listed: list[str] = [types] if isinstance(types, str) else types
    words = [_of_type(kind, schema) for kind in listed]
    return " or ".join(words) or ("mapping" if "allOf" in schema or "$ref" in schema else "any")


def _without_default_null(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema without a null that only stands for the default, which is described in words."""
    if DEFAULT_WORDS not in schema:
        return schema
    nulls: Mapping[str, Any] = {"enum": None, "anyOf": {"type": "null"}, "type": "null"}
    result = dict(schema)
    for key, null in nulls.items():
        if is_list(choices := schema.get(key)):
            result[key] = [each for each in choices if each != null]
    return result


def _of_type(kind: str, schema: Mapping[str, Any]) -> str:
    if kind in ("integer", "number"):
        return f"{_NOUNS[kind]}{_range(schema)}"
    if kind == "array":
        items = schema.get("items")
        return f"list of {values(items)}" if items else "list"
    if kind == "object" and is_mapping(inner := schema.get("additionalProperties")):
        return f"mapping to {values(inner)}"
    return "path" if schema.get("format") == "path" else _NOUNS[kind]


def _range(schema: Mapping[str, Any]) -> str:
    limits = {key: schema[key] for key in _BOUNDS if abs(schema.get(key, 2**63)) <= _MOST_SHOWN}
    if {"minimum", "maximum"} <= limits.keys():
        text = f" from {_number(limits['minimum'])} to {_number(limits['maximum'])}"
    else:
        clauses = [f"{_BOUNDS[key]} {_number(limit)}" for key, limit in limits.items()]
        text = f" {' and '.join(clauses)}" if clauses else ""
    step = schema.get("multipleOf")
    return f"{text}, a multiple of {_number(step)}" if step else text


def _number(number: float) -> str:
    return f"{number:,}" if isinstance(number, int) and abs(number) >= 10_000 else f"{number:g}"


def default(schema: Mapping[str, Any]) -> str | None:
    """The default in words; None if the key has none that says anything."""
    if DEFAULT_WORDS in schema:
        return schema[DEFAULT_WORDS]
    return as_yaml(schema["default"]) if "default" in schema else None


def capitalised(text: str) -> str:
    """The text with a large first letter, unless it begins with a value or a key."""
    is_word = re.match(r"[a-z]+[ ,;]", text) is not None
    return text[:1].upper() + text[1:] if is_word else text


def sentence(schema: Mapping[str, Any], *, is_required: bool = False) -> str:
    """The text that editors show for a key: description, values, unit, default and other names."""
    text = capitalised(schema.get("description", "")).rstrip(".")
    start = f"{text}. " if text else ""
    unit = f", in {schema[UNIT]}" if UNIT in schema else ""
    clauses = [f"Values: {values(schema)}{unit}."]
    if is_required:
        clauses.append("Required.")
    elif (own := default(schema)) is not None:
        clauses.append(f"Default: {own}.")
    if names := schema.get(ALIASES):
        clauses.append(f"Also: {', '.join(names)}.")
    return start + " ".join(clauses)
