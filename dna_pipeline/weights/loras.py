"""The folder of LoRAs: `models/loras` below the data folder.

A LoRA is found by its name without the ending, at any depth, as people find it in other programs. A
path below the folder is a name too, for files whose names are equal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path

from dna_pipeline.base.errors import WeightsMissing
from dna_pipeline.base.naming import folded
from dna_pipeline.weights.fingerprint import file_identity
from dna_pipeline.weights.visible_files import visible_files

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
    put there later is found by a daemon that runs."""

    def __init__(self, data: Path) -> None:
        self.folder = data / FOLDER

    def find(self, names: Iterable[str]) -> dict[str, Path]:
        """The files of these names.

        Raises:
            WeightsMissing: one is not there, or its name means several files.
        """
        unique = list(dict.fromkeys(names))
        files = list(self.files()) if unique else []
        result: dict[str, Path] = {}
        for name in unique:
            paths = self._named(name, files)
            if len(paths) != 1:
                raise WeightsMissing(self._lack(name, paths, files))
            result[name] = paths[0]
        return result

    def _lack(self, name: str, paths: Sequence[Path], files: Iterable[Path]) -> str:
        """A sentence about a name that means no file, or several."""
        if paths:
            names = " and ".join(path.relative_to(self.folder).as_posix() for path in paths)
            return (
                f"LoRA {name!r}: {names} in {self.folder} have that name; write its path below "
                "the folder, or rename one"
            )
        below = {path.relative_to(self.folder).with_suffix("").as_posix() for path in files}
        near = get_close_matches(name, sorted(below | {path.stem for path in files}), n=1)
        mend = f"did you mean {near[0]!r}?" if near else f"put {name}{SUFFIX} there"
        return f"LoRA {name!r} is not in {self.folder}; {mend}"

    def _named(self, name: str, files: Iterable[Path]) -> list[Path]:
        """The files of that name; one whose path below the folder it is comes before all others,
        and one of another case only where there is no other."""
        plain = name.replace("\\", "/").removesuffix(SUFFIX)
        below = {path: path.relative_to(self.folder).with_suffix("").as_posix() for path in files}
        for spelling in (str, folded):
            name = spelling(plain)
            exact = [path for path, inner in below.items() if spelling(inner) == name]
            if same := exact or [path for path in below if spelling(path.stem) == name]:
                return same
        return []

    def files(self) -> Iterator[Path]:
        """All files in the folder that are LoRAs by their endings."""
        return visible_files(self.folder, (SUFFIX,))


def short_hash(path: Path) -> str:
    """The hash by which AUTOMATIC1111's web UI and model sites know a LoRA: of its tensors alone.

    Twelve characters: of the hash that its trainer wrote into the header, else of the SHA-256 of
    all bytes behind the header, so that a change of the header's texts does not change it. Computed
    once in a process for each version of a file. Raises OSError.
    """
    return _short_hash(path, file_identity(path))


@lru_cache(maxsize=1024)
def _short_hash(path: Path, identity: str) -> str:  # noqa: ARG001 - the identity is for the cache
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
