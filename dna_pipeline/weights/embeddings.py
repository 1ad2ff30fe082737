"""Files of textual inversions, which prompts use by the name of the file without its ending."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from dna_pipeline.weights.visible_files import visible_files

FOLDER = "models/embeddings"
"""Folder of the files below the data folder."""

SUFFIXES = (".safetensors", ".pt", ".bin")
"""Endings of the files. Of several files with one name, the first of these counts."""


def possibly_named(folder: Path, texts: Iterable[str]) -> dict[str, Path]:
    """Files below the folder whose names the texts may hold, by name, in the order of the names.

    It compares letters and digits alone, so it gives some that the texts only seem to name, and
    misses none. Only the tokens of a text tell the two apart, and they need a loaded model.
    """
    prompts = [_letters(text) for text in texts]
    result: dict[str, Path] = {}
    for path in sorted(files(folder), key=_order):
        letters = _letters(path.stem)
        if any(letters in prompt for prompt in prompts):
            result.setdefault(path.stem, path)
    return dict(sorted(result.items()))


def files(folder: Path) -> Iterator[Path]:
    """All files below the folder that are textual inversions by their endings."""
    return visible_files(folder, SUFFIXES)


def _order(path: Path) -> tuple[int, str]:
    return SUFFIXES.index(path.suffix.lower()), path.as_posix()


def _letters(text: str) -> str:
    return re.sub(r"[\W_]+", "", text.casefold())
