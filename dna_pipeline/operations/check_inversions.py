"""Find prompts that name a textual inversion which does not fit, without a loaded model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from dna_pipeline.weights import embeddings, slots
from dna_pipeline.weights.extra_files import EMBEDDING


class WrongInversions:
    """Textual inversions of a data folder that fail the jobs whose prompts name them."""

    def __init__(self, data: Path) -> None:
        self._data = data

    @cached_property
    def mismatches(self) -> dict[str, str]:
        """By their names as extra files, a sentence about each."""
        folder = self._data / embeddings.FOLDER
        every = embeddings.possibly_named(folder, [path.stem for path in embeddings.files(folder)])
        sentences = {name: slots.mismatch(path, slots.EMBEDDING) for name, path in every.items()}
        return {f"{EMBEDDING}{name}": text for name, text in sentences.items() if text is not None}

    def named_by(self, stages: Iterable[Mapping[str, Any]]) -> list[str]:
        """The wrong inversions that prompts of stages, as `jobs.stages` has them, hold as words.

        The tokens of a prompt may name others, which only a loaded model tells.
        """
        texts = [
            str(stage["params"].get(key, ""))
            for stage in stages
            if stage["params"].get("prompt_syntax") == "a1111"
            for key in ("prompt", "negative_prompt")
        ]
        return [name for name in self.mismatches if any(_has_word(t, name) for t in texts)]


def _has_word(text: str, name: str) -> bool:
    word = re.escape(name.removeprefix(EMBEDDING))
    return re.search(rf"(?<!\w){word}(?!\w)", text, re.IGNORECASE) is not None
