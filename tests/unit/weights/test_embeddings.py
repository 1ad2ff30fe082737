"""Files of textual inversions that a prompt may name."""

from __future__ import annotations

from pathlib import Path

import pytest

from dna_pipeline.weights.embeddings import possibly_named


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (
        "easynegative.safetensors", "old/EasyNegative.txt", "bad-hands-5.pt", "sub/ink style.bin",
        "two.pt", "sub/two.safetensors",
    ):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        (["a hat", ""], []),
        (["", "(EasyNegative:1.2), lowres"], ["easynegative"]),
        (["bad - hands - 5"], ["bad-hands-5"]),
        (["[Ink  Style], two"], ["ink style", "two"]),
    ],
)
def test_files_are_taken_by_the_words_of_the_texts(
    folder: Path, texts: list[str], names: list[str]
) -> None:
    assert list(possibly_named(folder, texts)) == names


def test_safetensors_come_before_pickles_of_the_same_name(folder: Path) -> None:
    assert possibly_named(folder, ["two"]) == {"two": folder / "sub/two.safetensors"}


def test_no_folder_is_no_error(tmp_path: Path) -> None:
    assert possibly_named(tmp_path / "none", ["two"]) == {}
