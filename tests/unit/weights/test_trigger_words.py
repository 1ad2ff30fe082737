"""Trigger words of LoRAs, from the files of other programs beside them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dna_pipeline.weights.trigger_words import MOST_WORDS, has_any, trigger_words


def beside(tmp_path: Path, **files: object) -> list[str]:
    """The words of `clay.v2.safetensors` with these files beside it, by their endings."""
    for ending, content in files.items():
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        (tmp_path / f"clay.v2.{ending.replace('_', '.')}").write_bytes(data)
    return trigger_words(tmp_path / "clay.v2.safetensors")


def test_the_words_of_both_programs(tmp_path: Path) -> None:
    assert beside(tmp_path) == []
    civitai = {"id": 5, "trainedWords": ["claymation style, stop  motion", "Clay", 7]}
    assert beside(tmp_path, civitai_info=civitai) == ["claymation style", "stop motion", "Clay"]
    own = {"description": "x", "activation text": "clay, plasticine", "preferred weight": 0.8}
    assert beside(tmp_path, json=own) == ["claymation style", "stop motion", "clay", "plasticine"]


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"null", b"\xff\xfe\x00", b"[" * 100_000, b'{"trainedWords": "',
        {"trainedWords": None, "activation text": None},
        {"trainedWords": {"a": "b"}, "activation text": ["a"]},
        {"trainedWords": [None, {}, [], 1e400], "activation text": 3},
        {"trainedWords": [" , ,", "x" * 1000, "<>", "a\u0007b"], "activation text": "\n"},
        b'{"activation text": "a", "x": "' + b"y" * (1 << 20) + b'"}',
    ],
)  # fmt: skip
def test_a_file_that_is_wrong_in_any_way_has_no_words(tmp_path: Path, content: object) -> None:
    assert beside(tmp_path, json=content, civitai_info=content) == []


def test_a_folder_of_that_name_and_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "clay.v2.civitai.info").mkdir()
    assert beside(tmp_path, json=b'\xef\xbb\xbf{"activation text": "clay"}') == ["clay"]


def test_a_few_words_are_enough(tmp_path: Path) -> None:
    many = {"trainedWords": [f"word{number}" for number in range(1000)]}
    assert len(beside(tmp_path, civitai_info=many)) == MOST_WORDS


@pytest.mark.parametrize(
    ("prompt", "word", "is_there"),
    [
        ("a CLAY (figurine:1.2)", "clay figurine", True),
        ("a clay, figurine", "clay_figurine", True),
        ("claymation", "clay", False),
        ("", "clay", False),
        ("粘土の椅子", "粘土", True),
        ("(clay_v2:1.1)", "clay v2", True),
    ],
)
def test_case_and_brackets_do_not_matter(prompt: str, word: str, is_there: bool) -> None:
    assert has_any(prompt, ["never", word]) is is_there
