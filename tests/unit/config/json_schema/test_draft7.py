from __future__ import annotations

from typing import Annotated, Any, Literal

import jsonschema
import pytest
from pydantic import BaseModel, Field

from dna_pipeline.config.json_schema.draft7 import convert, or_null


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"]
    breed: str | None = None


class Zoo(BaseModel):
    pets: list[Annotated[Cat | Dog, Field(discriminator="kind")]] = []
    size: tuple[int, str] = (1, "a")
    best: Cat | None = Field(None, description="the best one")
    first: Dog = Field(Dog(kind="dog"), description="the first one")


ZOO = convert(Zoo.model_json_schema(), "zoo.")


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"pets": [{"kind": "cat", "lives": 7}, {"kind": "dog"}]},
        {"size": [3, "b"]},
        {"best": None, "first": {"kind": "dog", "breed": None}},
    ],
)
def test_what_the_model_accepts_is_accepted(document: Any):
    Zoo.model_validate(document)
    jsonschema.Draft7Validator(ZOO).validate(document)


@pytest.mark.parametrize(
    "document",
    [
        {"pets": [{"kind": "bird"}]},
        {"size": ["b", 3]},
        {"size": [3, "b", 4]},
        {"first": {"kind": "cat"}},
        {"best": {"kind": "cat", "lives": "many"}},
    ],
)
def test_what_the_model_refuses_is_refused(document: Any):
    assert not jsonschema.Draft7Validator(ZOO).is_valid(document)


def test_keywords_of_later_drafts_are_gone():
    jsonschema.Draft7Validator.check_schema(ZOO)
    assert sorted(ZOO["definitions"]) == ["zoo.Cat", "zoo.Dog"]
    assert ZOO["properties"]["size"]["items"] == [{"type": "integer"}, {"type": "string"}]
    assert ZOO["properties"]["first"]["allOf"] == [{"$ref": "#/definitions/zoo.Dog"}]
    text = str(ZOO)
    for keyword in ("$defs", "prefixItems", "discriminator", "'title'"):
        assert keyword not in text


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, {"type": ["string", "null"]}),
        (
            {"anyOf": [{"enum": ["a"], "type": "string"}, {"type": "null"}], "default": None},
            {"enum": ["a", None], "type": ["string", "null"], "default": None},
        ),
        (
            {"anyOf": [{"$ref": "#/$defs/A"}, {"type": "null"}]},
            {"anyOf": [{"$ref": "#/definitions/A"}, {"type": "null"}]},
        ),
        ({"type": "integer", "nullable": True}, {"type": ["integer", "null"]}),
        (
            {"dependentRequired": {"a": ["b"]}, "properties": {"title": {"title": "Title"}}},
            {"dependencies": {"a": ["b"]}, "properties": {"title": {}}},
        ),
        ({"dependentSchemas": {"a": {"$defs": {}}}}, {"dependencies": {"a": {"definitions": {}}}}),
        (
            {"prefixItems": [{"const": 1}, True], "items": False},
            {"items": [{"const": 1}, True], "additionalItems": False},
        ),
        ({"type": "string", "format": "path"}, {"type": "string", "format": "path"}),
        ({"default": {"$ref": "x", "title": "y"}}, {"default": {"$ref": "x", "title": "y"}}),
    ],
)
def test_a_keyword_becomes_that_of_draft_7(schema: dict[str, Any], expected: dict[str, Any]):
    assert convert(schema) == expected


@pytest.mark.parametrize(
    "schema",
    [
        {"const": 1, "type": "integer", "description": "one"},
        {"enum": ["a", "b"], "type": "string"},
        {"anyOf": [{"type": "integer"}, {"const": "a"}]},
        {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        {"allOf": [{"type": "integer"}]},
        {"type": "array", "items": {"type": "integer"}},
    ],
)
def test_null_is_accepted_besides(schema: dict[str, Any]):
    accepting = jsonschema.Draft7Validator(or_null(schema))
    assert accepting.is_valid(None)
    for value in (1, "a", [1], 2, "c", {}):
        assert accepting.is_valid(value) == jsonschema.Draft7Validator(schema).is_valid(value)
