"""Names of result folders from templates."""

from __future__ import annotations

import pytest

from dna_pipeline.config import result_names
from dna_pipeline.config.templates import TemplateError

VALUES = {
    "stem": "cat", "row": "3", "img2img.strength": 0.4, "img2img.seed": 7,
    "img2img.prompt": "a very long prompt about a clay figurine on a table, in soft light",
    "triposr.bake_texture": True, "img2img.loras": {"clay": 0.5},
    "img2img": {"loras": {"clay": 0.5}},
    "meta": {"asset": "chair/01", "shot": {"take": 2}}, "seed": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{stem}-{img2img.strength}-{img2img.seed}", "cat-0.4-7"),
        ("{ stem } {row}", "cat 3"),
        ("{meta.asset}_{meta.shot.take}", "chair_01_2"),
        ("{triposr.bake_texture}", "true"),
        ("{{{stem}}}", "{cat}"),
        ("con", "_con"),
        ("..{stem}. ", "cat"),
        ("{stem}-{img2img.prompt}", "cat-a very long prompt about a clay figurine"),
    ],
)
def test_a_template_is_filled_in(template: str, name: str) -> None:
    result_names.check_text(template)
    assert result_names.fill(template, VALUES, strict=True) == name


@pytest.mark.parametrize("name", ["seed", "meta.none", "img2img.loras", "img2img.sampler"])
def test_a_placeholder_without_one_value(name: str) -> None:
    with pytest.raises(TemplateError, match="has no value here"):
        result_names.fill(f"{{stem}}-{{{name}}}", VALUES, strict=True)
    assert result_names.fill(f"{{stem}}-{{{name}}}-b", VALUES, strict=False) == "cat-b"


def test_nothing_is_left_of_signs_alone() -> None:
    assert result_names.fill("-{meta.none}_", VALUES, strict=False) == ""


def test_a_name_fits_into_every_file_system() -> None:
    name = result_names.fill("{stem}" * 80, VALUES | {"stem": "ü" * 100}, strict=True)
    assert len(name.encode()) <= 120


@pytest.mark.parametrize(
    "template", ["{stem", "stem}", "{}", "{ }", "a{b{c}}", "", "  ", "x" * 501]
)
def test_a_wrong_template_is_refused(template: str) -> None:
    with pytest.raises(ValueError):
        result_names.check_text(template)


@pytest.mark.parametrize(
    ("template", "advice"),
    [
        ("{stme}", r"unknown placeholder {stme}; did you mean 'stem'\?"),
        ("{strength}", r"did you mean {img2img.strength}\?"),
        ("{img2img.strenght}", r"did you mean 'img2img.strength'\?"),
    ],
)
def test_an_unknown_placeholder(template: str, advice: str) -> None:
    with pytest.raises(TemplateError, match=advice):
        result_names.check_fields(template, ["img2img.strength", "img2img.seed"])


def test_the_template_of_a_matrix_names_its_axes() -> None:
    keys = ["img2img.strength", "img2img.seed"]
    assert result_names.of_axes(keys, has_count=True) == "{stem}-{img2img.strength}-{img2img.seed}"
    assert result_names.of_axes([], has_count=True) == "{stem}-{seed}"
    nested = result_names.of_axes(["img2img.loras.clay"], has_count=False)
    assert result_names.fill(nested, VALUES, strict=False) == "cat-0.5"
