"""The models of pipeline.yaml, and those in a folder of checkpoints.

`models: {"*": models/checkpoints/}` makes each file in that folder a model by its name without the
ending. The folder is looked at when a model is asked for, so that a file that is put there later is
found by a daemon that runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from dna_pipeline.providers.base import Provider
from dna_pipeline.providers.stable_diffusion.folder import INDEX
from dna_pipeline.providers.stable_diffusion.provider import CHECKPOINT_SUFFIXES, Diffusers

ANY_NAME = "*"
"""The key under `models:` that names the folder."""

MANY = 100
"""Number of checkpoints above which commands read the headers of those alone that are in use. A
header takes some milliseconds, and a folder may hold thousands."""

STAGES = Diffusers.stages
"""Types of the stages that can use a checkpoint."""


class Models(Mapping[str, Provider]):
    """All models by their names: those that are declared, then those of the folder.

    A declared model hides a file of its name. Two files of one name are no model, since nothing
    says which of them is meant.

    Attributes:
        declared: the entries of pipeline.yaml.
        folder: absolute path of the folder of checkpoints; None if there is none.
    """

    def __init__(self, declared: Mapping[str, Provider], folder: Path | None = None) -> None:
        self.declared = declared
        self.folder = folder

    def __getitem__(self, name: str) -> Provider:
        if name in self.declared:
            return self.declared[name]
        paths = self._named(name)
        if len(paths) != 1:
            raise KeyError(name)
        return Diffusers.model_validate({"path": paths[0]})

    def __iter__(self) -> Iterator[str]:
        yield from self.declared
        counts: dict[str, int] = {}
        for path in self._entries():
            counts[_name(path)] = counts.get(_name(path), 0) + 1
        yield from sorted(
            name for name, count in counts.items() if count == 1 and name not in self.declared
        )

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def is_in_folder(self, name: str) -> bool:
        """True if the model of that name is a checkpoint of the folder."""
        return name not in self.declared and len(self._named(name)) == 1

    def ambiguity(self, name: str) -> str | None:
        """A sentence about several files of that name; None if there are not several."""
        paths = self._named(name) if name not in self.declared else []
        if len(paths) < 2:
            return None
        names = " and ".join(path.name for path in paths)
        return f"{names} in {self.folder} have one name; rename one or move it away"

    def problems(self, names: Iterable[str] | None = None) -> dict[str, str]:
        """Sentences about what is wrong with the folder: by `ANY_NAME` if it is no folder, else by
        each name that several files have.

        Args:
            names: the names to look at; None for all.
        """
        if (problem := self._folder_problem()) is not None:
            return {ANY_NAME: problem}
        if names is None:
            names = sorted({_name(path) for path in self._entries()})
        return {name: text for name in names if (text := self.ambiguity(name)) is not None}

    def to_examine(self, used: Iterable[str]) -> set[str]:
        """The names of the models whose headers a command reads: all, but of a folder of more than
        `MANY` checkpoints only those in `used`."""
        names = set(self)
        declared = self.declared.keys()
        return names if len(names - declared) <= MANY else names & {*declared, *used}

    def _folder_problem(self) -> str | None:
        if self.folder is None or self.folder.is_dir():
            return None
        if self.folder.exists():
            return (
                f"{self.folder} is a file, and `{ANY_NAME}` takes a folder of checkpoints; name "
                "the folder that the file is in, or give the file a name of its own under `models:`"
            )
        return f"{self.folder} is not there; make it, and put checkpoints into it"

    def _named(self, name: str) -> list[Path]:
        """The files and folders of that name; none if it is not the plain name of a file."""
        if self.folder is None or not name or name.startswith(".") or Path(name).name != name:
            return []
        paths = [self.folder / f"{name}{suffix}" for suffix in CHECKPOINT_SUFFIXES]
        paths = [path for path in paths if path.is_file()]
        is_folder = (self.folder / name / INDEX).is_file()
        return [*paths, self.folder / name] if is_folder else paths

    def _entries(self) -> list[Path]:
        """Everything in the folder that is a checkpoint by its name; none if it is not there."""
        if self.folder is None:
            return []
        try:
            paths = [path for path in self.folder.iterdir() if not path.name.startswith(".")]
        except OSError:
            return []
        return [
            path
            for path in paths
            if (path.suffix in CHECKPOINT_SUFFIXES and path.is_file()) or (path / INDEX).is_file()
        ]


def _name(path: Path) -> str:
    return path.name if (path / INDEX).is_file() else path.stem
