from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar

import jsonschema
import pytest
from pydantic import BaseModel, ConfigDict, Field, InstanceOf

from dna_pipeline.base.files import Artifact
from dna_pipeline.config.json_schema.draft7 import Schema
from dna_pipeline.config.json_schema.sections import finished, section, stage_section
from dna_pipeline.config.json_schema.words import default, sentence, values
from dna_pipeline.stages.base import Stage, StageContext


class Palette:
    """A type of another package, of which pydantic knows nothing."""


class Paint(Stage):
    """Paints.

    In all colours.
    """

    type = "paint"
    aliases: ClassVar[dict[str, str]] = {"brush": "size", "width": "size"}
    other_words: ClassVar[dict[str, str]] = {"colour": "^[Rr][Ee][Dd]$"}
    model_config = ConfigDict(arbitrary_types_allowed=True)

    size: int = Field(3, ge=1, description="size of the brush", json_schema_extra={"unit": "px"})
    colour: Annotated[str, Field(pattern="^(red|blue)$")] = Field("red", description="its colour")
    palette: InstanceOf[Palette] | None = Field(None, description="for programs alone")
    strokes: int = Field(description="how many strokes")

    def run(self, ctx: StageContext) -> list[Artifact]:
        raise AssertionError("nothing is run here")


@pytest.fixture
def paint() -> jsonschema.Draft7Validator:
    parameters, definitions = stage_section(Paint, "paint")
    definitions["paint"] = finished(parameters)
    return jsonschema.Draft7Validator({"$ref": "#/definitions/paint", "definitions": definitions})


@pytest.mark.parametrize(
    "document",
    [
        None, {}, {"size": 2}, {"brush": 2}, {"colour": "RED"}, {"colour": "blue"},
        {"palette": "anything"}, {"strokes": 1}, {"model": None},
    ],
)  # fmt: skip
def test_parameters_under_all_names_and_words(paint: jsonschema.Draft7Validator, document: Any):
    paint.validate(document)


@pytest.mark.parametrize(
    "document",
    [
        [], {"brush": 0}, {"colour": "green"}, {"height": 2}, {"size": 1, "brush": 1},
        {"brush": 1, "width": 1}, {"strokes": None},
    ],
)  # fmt: skip
def test_a_wrong_parameter_is_refused(paint: jsonschema.Draft7Validator, document: Any):
    assert not paint.is_valid(document)


def test_the_facts_of_a_key_are_its_description():
    parameters, _ = stage_section(Paint, "paint")
    shown = finished(parameters)
    assert shown["description"] == "Paints."
    size = shown["properties"]["size"]
    assert size["description"] == (
        "Size of the brush. Values: whole number at least 1, in px. Default: 3. Also: brush, width."
    )
    assert not {"unit", "aliases"} & size.keys()
    assert shown["properties"]["brush"]["description"] == "The same as `size`."


def test_a_pattern_is_explained_in_words():
    kind = {"type": "string", "pattern": "^cuda:[0-9]$", "values": "cuda:N", "description": "it"}
    shown = finished({"properties": {"device": kind}})["properties"]["device"]
    assert shown["patternErrorMessage"] == "Should be: cuda:N."


def test_a_required_key_says_so():
    class Shelf(BaseModel):
        path: Path = Field(description="where it stands")

    schema, _ = section(Shelf)
    assert finished(schema)["properties"]["path"]["description"] == (
        "Where it stands. Values: path. Required."
    )


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "integer", "minimum": 1, "maximum": 1000}, "whole number from 1 to 1000"),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 1},
         "number more than 0 and at most 1"),
        ({"type": "integer", "exclusiveMaximum": 2**63}, "whole number"),
        ({"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}, "whole number"),
        ({"type": "integer", "multipleOf": 2}, "whole number, a multiple of 2"),
        ({"type": "integer", "minimum": 0, "maximum": 100000}, "whole number from 0 to 100,000"),
        ({"enum": ["keep", "white"], "type": "string"}, "keep, white"),
        ({"enum": [False, "mesh"]}, "false, mesh"),
        ({"type": ["number", "null"]}, "number or null"),
        ({"type": ["number", "null"], "default_words": "none"}, "number"),
        ({"enum": ["all", None], "default_words": "none"}, "all"),
        ({"anyOf": [{"type": "integer"}, {"const": "from_content"}]},
         "whole number or from_content"),
        ({"type": "array", "items": {"enum": ["glb", "obj"]}}, "list of glb, obj"),
        ({"type": "object", "additionalProperties": {"type": "number"}}, "mapping to number"),
        ({"type": "string", "pattern": "x", "values": "cuda:N"}, "cuda:N"),
        ({"$ref": "#/definitions/a"}, "mapping"),
        ({}, "any"),
    ],
)  # fmt: skip
def test_values_in_words(schema: Schema, expected: str):
    assert values(schema) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", '""'), ("auto", "auto"), ("true", '"true"'), ("22:00", '"22:00"'), (None, "null"),
        (True, "true"), (7.5, "7.5"), (25.0, "25.0"), ([], "[]"), (["glb"], "[glb]"),
    ],
)  # fmt: skip
def test_a_default_is_written_as_in_yaml(value: object, expected: str):
    assert default({"default": value}) == expected


def test_a_default_that_depends_on_others_is_described():
    schema = {"type": ["number", "null"], "default": None, "default_words": "5, or 3600"}
    assert (
        sentence({**schema, "description": "wait"}) == "wait. Values: number. Default: 5, or 3600."
    )
