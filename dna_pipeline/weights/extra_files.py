"""The kinds of files in the data folder that change a model for the jobs that name them.

An extra file of a job is named `<kind>:<name>`, such as `lora:clay`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dna_pipeline.base.errors import WeightsMissing
from dna_pipeline.weights import embeddings, loras, slots
from dna_pipeline.weights.recognise import recognise
from dna_pipeline.weights.trigger_words import trigger_words

LORA, EMBEDDING = "lora:", "embedding:"
"""Starts of the names of extra files."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file that jobs may name.

    Attributes:
        kind: `lora` or `embedding`.
        name: path below its folder, without the ending.
        fits: the family of models that it changes; None if it does not tell.
        mismatch: a sentence if it is none for a Stable Diffusion 1.5; else None.
        trigger_words: of a LoRA; see `trigger_words`.
    """

    kind: str
    name: str
    path: Path
    fits: str | None
    mismatch: str | None
    trigger_words: list[str]


def entries(data: Path) -> Iterator[Entry]:
    """All LoRAs, then all textual inversions in the data folder, by their names."""
    places = {
        "lora": (data / loras.FOLDER, loras.LoraFolder(data).files(), slots.LORA),
        "embedding": (
            data / embeddings.FOLDER, embeddings.files(data / embeddings.FOLDER), slots.EMBEDDING,
        ),
    }  # fmt: skip
    for kind, (folder, paths, slot) in places.items():
        for path in sorted(paths):
            name = path.relative_to(folder).with_suffix("").as_posix()
            words = trigger_words(path) if kind == "lora" else []
            yield Entry(kind, name, path, _family(path), slots.mismatch(path, slot), words)


def _family(path: Path) -> str | None:
    try:
        return recognise(path).architecture or None
    except OSError:
        return None


def problems(data: Path, name: str) -> tuple[str | None, str | None]:
    """Two sentences about an extra file by its name, each None if there is nothing to say: that it
    is not there, and that it is another file than is needed."""
    if not name.startswith(LORA):
        return None, None
    own = name.removeprefix(LORA)
    try:
        path = loras.LoraFolder(data).find([own])[own]
    except WeightsMissing as error:
        return str(error), None
    return None, slots.mismatch(path, slots.LORA)
