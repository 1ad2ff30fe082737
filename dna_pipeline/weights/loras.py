"""The folder of LoRAs: `models/loras` below the data folder.

A LoRA is found by its name without the ending, at any depth, as people find it in other programs. A
path below the folder is a name too, for files whose names are equal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from dna_pipeline.base.errors import WeightsMissing
from dna_pipeline.base.files import sha256_file
from dna_pipeline.weights.slots import LORA, mismatch

FOLDER = "models/loras"
"""Path of the folder, below the data folder."""

SUFFIX = ".safetensors"


@dataclass(frozen=True, slots=True)
class Lora:
    """A LoRA for one picture.

    Attributes:
        name: as people wrote it.
        weight: factor of its change to the model; negative turns the change round.
    """

    name: str
    path: Path
    weight: float


class LoraFolder:
    """The LoRAs of a data folder. It is looked at when a LoRA is asked for, so that a file that is
    put there later is found by a daemon that runs.

    Args:
        data: the data folder.
        sha256: returns the hash of a file; by default it is computed at each call.
    """

    def __init__(self, data: Path, sha256: Callable[[Path], str] = sha256_file) -> None:
        self.folder = data / FOLDER
        self._sha256 = sha256

    def missing(self, names: Iterable[str]) -> str | None:
        """A sentence about the first of these LoRAs that is not there, or that several files are;
        None if each is one file."""
        return next((why for name in names if (why := self._lack(name)) is not None), None)

    def mismatch(self, name: str) -> str | None:
        """A sentence about a file that is no LoRA for Stable Diffusion 1.5; None if it may be one,
        or is not there."""
        paths = self._named(name)
        return mismatch(paths[0], LORA) if len(paths) == 1 else None

    def get(self, weights: Mapping[str, float]) -> list[Lora]:
        """The LoRAs of these names, in the order of their names. One of weight 0 changes nothing
        and is left out.

        Raises:
            WeightsMissing: one is not there, or its name means several files.
        """
        used = sorted(name for name, weight in weights.items() if weight != 0)
        if (why := self.missing(used)) is not None:
            raise WeightsMissing(why)
        return [Lora(name, self._named(name)[0], weights[name]) for name in used]

    def facts(self, weights: Mapping[str, float]) -> list[dict[str, Any]]:
        """Name, SHA-256 and weight of each LoRA that `get` gives. Raises as `get` does, and
        OSError if a file cannot be read."""
        return [
            {"name": lora.name, "sha256": self._sha256(lora.path), "weight": lora.weight}
            for lora in self.get(weights)
        ]

    def hashes(self, names: Iterable[str]) -> dict[str, str | None]:
        """The SHA-256 of each of these LoRAs; None for one that is not there or not readable."""
        files = {name: self._named(name) for name in sorted(names)}
        return {
            name: self._readable(paths[0]) if len(paths) == 1 else None
            for name, paths in files.items()
        }

    def _readable(self, path: Path) -> str | None:
        try:
            return self._sha256(path)
        except OSError:
            return None

    def _lack(self, name: str) -> str | None:
        paths = self._named(name)
        if len(paths) == 1:
            return None
        if paths:
            names = " and ".join(path.relative_to(self.folder).as_posix() for path in paths)
            return (
                f"LoRA {name!r}: {names} in {self.folder} have that name; write its path below "
                "the folder, or rename one"
            )
        names = sorted({path.stem for path in self._files()})
        near = get_close_matches(name, names, n=1)
        mend = f"did you mean {near[0]!r}?" if near else f"put {name}{SUFFIX} there"
        return f"LoRA {name!r} is not in {self.folder}; {mend}"

    def _named(self, name: str) -> list[Path]:
        """The files of that name; one whose path below the folder it is comes before all others."""
        plain = name.removesuffix(SUFFIX)
        files = list(self._files())
        exact = [
            path
            for path in files
            if path.relative_to(self.folder).as_posix() == f"{plain}{path.suffix}"
        ]
        return exact or [path for path in files if path.stem == plain]

    def _files(self) -> Iterator[Path]:
        """All files in the folder that are LoRAs by their endings."""
        try:
            paths = sorted(self.folder.rglob("*"))
        except OSError:
            return
        for path in paths:
            inner = path.relative_to(self.folder).parts
            is_hidden = any(part.startswith(".") for part in inner)
            if path.suffix.lower() == SUFFIX and not is_hidden and path.is_file():
                yield path


def short_hash(path: Path) -> str:
    """The hash by which AUTOMATIC1111's web UI and model sites know a LoRA: of its tensors alone.

    Twelve characters: of the hash that its trainer wrote into the header, else of the SHA-256 of
    all bytes behind the header, so that a change of the header's texts does not change it.
    """
    with path.open("rb") as file:
        header = file.read(int.from_bytes(file.read(8), "little"))
        if own := _trained_hash(header):
            return own[:12]
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:12]


def _trained_hash(header: bytes) -> str:
    try:
        return str(json.loads(header)["__metadata__"]["sshs_model_hash"])
    except (ValueError, TypeError, LookupError):
        return ""
