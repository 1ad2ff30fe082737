"""The models of a job, by their names and as the text that groups jobs."""

from __future__ import annotations

from itertools import combinations

import pytest

from dna_pipeline.ledger.model_sets import names_in, names_of, text_of

NAMES = ["a", "b", "a,b", "a, b", "", "[", '["a"]', '["a", "b"]', '["", "a"]', "a\nb", "ü", ","]


@pytest.mark.parametrize(("names", "text"), [([], ""), (["key"], "key"), (["b", "a", "b"], "a,b")])
def test_plain_names_are_joined_as_they_always_were(names: list[str], text: str):
    assert text_of(names) == text


def test_different_sets_have_different_texts():
    sets = [names for size in range(4) for names in combinations(NAMES, size)]
    assert len({text_of(names) for names in sets}) == len(sets)


@pytest.mark.parametrize(
    ("names", "files", "text"),
    [
        (["sd"], ["lora:wax", "lora:clay"], "sd,lora:clay,lora:wax"),
        (["sd"], ["lora:a,b"], '[["sd"], ["lora:a,b"]]'),
        (["lora:a"], [], '["lora:a"]'),
        (["lora:a"], ["lora:b"], '[["lora:a"], ["lora:b"]]'),
    ],
)
def test_extra_files_follow_the_models(names: list[str], files: list[str], text: str):
    assert text_of(names, files) == text


@pytest.mark.parametrize("files", [[], ["lora:wax"], ["lora:a,b"]])
def test_names_are_read_from_the_text(files: list[str]):
    sets = [names for size in range(4) for names in combinations([*NAMES, "lora:a"], size)]
    for names in sets:
        assert names_of(text_of(names, files)) == set(names)


def test_names_are_read_from_the_stages():
    models = ["b,c", None, "", "a", "b,c"]
    stages = [{"id": "s", "type": "t", "params": {"model": model}} for model in models]
    assert names_in([*stages, {"id": "s", "type": "t", "params": {}}]) == ["", "a", "b,c"]
