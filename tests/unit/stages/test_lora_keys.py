"""Keys of a parameter that is a mapping, as a table's columns and axes of a matrix."""

from __future__ import annotations

from typing import Any

import pytest

from dna_pipeline.base.errors import ConfigError, SidecarInvalid
from dna_pipeline.config.batch import combinations, rows_of_table
from dna_pipeline.config.schema import Pipeline, StageSpec
from dna_pipeline.config.tables import parse_table
from dna_pipeline.config.yaml12 import loads
from dna_pipeline.operations.submit import document_from_options

PIPELINES = {"restyle": Pipeline("restyle", (StageSpec("img2img", "img2img", {"model": "sd"}),))}


def rows(name: str, text: str, beside: str = "{}") -> list[dict[str, Any]]:
    table = parse_table(PIPELINES, name, text.encode())
    found = rows_of_table(table.rows, loads(beside.encode()))
    assert [row.error for row in found] == [None] * len(found)
    return [row.document.value["img2img"] for row in found]


def test_a_column_for_a_lora() -> None:
    text = "image,img2img.loras.clay,IMG2IMG.Loras.wax.v2\na.png,0.8,\nb.png,1,-0.5\n"
    assert rows("t.csv", text) == [
        {"loras": {"clay": 0.8}},
        {"loras": {"clay": 1, "wax.v2": -0.5}},
    ]


def test_a_decimal_comma_in_a_column_for_a_lora() -> None:
    assert rows("t.csv", "image;img2img.loras.clay\na.png;0,8\n") == [{"loras": {"clay": 0.8}}]


def test_the_file_beside_a_table_gives_the_other_loras() -> None:
    beside = "img2img: {steps: 4, loras: {clay: 0.3, wax: 1}}"
    expected = [{"steps": 4, "loras": {"clay": 0.8, "wax": 1}}]
    assert rows("t.csv", "image,img2img.loras.clay\na.png,0.8\n", beside) == expected
    line = '{"image": "a.png", "img2img.loras.clay": 0.8}\n'
    assert rows("t.jsonl", line, beside) == expected


def test_an_axis_for_a_lora() -> None:
    text = b"img2img: {loras: {wax: 1}}\nmatrix: {img2img.loras.clay: [0, 0.5]}\n"
    documents = combinations(loads(text))
    assert [document.value["img2img"]["loras"] for document in documents] == [
        {"wax": 1, "clay": 0},
        {"wax": 1, "clay": 0.5},
    ]
    assert documents[0].line(("img2img", "loras", "clay")) == 2
    twice = b"img2img: {loras: {clay: 1}}\nmatrix: {img2img.loras.clay: [0, 0.5]}\n"
    with pytest.raises(SidecarInvalid, match="keep one"):
        combinations(loads(twice))


def test_a_setting_for_a_lora() -> None:
    settings = ["img2img.loras.clay=0.8", "img2img.loras.wax=1", "meta.a.b=x"]
    document = document_from_options(None, settings)
    assert document.value == {
        "img2img": {"loras": {"clay": 0.8, "wax": 1}},
        "meta": {"a.b": "x"},
    }
    with pytest.raises(ConfigError, match="steps is set as a whole, too; keep one"):
        document_from_options(None, ["img2img.steps=3", "img2img.steps.x=1"])
